"""Whether the service lives, whether it can work, and its figures."""

from collections.abc import Callable
from http import HTTPStatus

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest
from sqlalchemy.exc import SQLAlchemyError

from service.api.context import Parts, PartsOf
from service.api.problems import RETRY_AFTER_S
from service.api.schemas import Health

WORKER_SILENT_S = 30.0
"""A worker not heard of for so long counts as gone; they report every few seconds."""

router = APIRouter(tags=["operation"])


@router.get("/healthz", summary="Liveness")
def healthz() -> Health:
    """Answer while the process lives."""
    return Health(status="ok", checks={})


@router.get("/readyz", summary="Readiness", responses={503: {"model": Health}})
def readyz(parts: PartsOf, response: Response) -> Health:
    """Check database, storage, workers and models."""
    checks = {name: _outcome(check, parts) for name, check in CHECKS.items()}
    ready = all(outcome == "ok" for outcome in checks.values())
    if not ready:
        response.status_code = HTTPStatus.SERVICE_UNAVAILABLE
        response.headers["Retry-After"] = str(RETRY_AFTER_S[HTTPStatus.SERVICE_UNAVAILABLE])
    return Health(status="ok" if ready else "unavailable", checks=checks)


@router.get("/metrics", summary="Prometheus figures", response_class=PlainTextResponse)
def metrics(parts: PartsOf) -> Response:
    """Return the figures of this moment; they come from the database, so any API process tells the same."""
    registry = CollectorRegistry()
    jobs = Gauge("diffdp_jobs", "Jobs by state.", ["state"], registry=registry)
    for state, count in parts.jobs.counts().items():
        jobs.labels(state.value).set(count)
    calls = Gauge("diffdp_callbacks", "Calls back by state.", ["state"], registry=registry)
    for delivery_state, count in parts.outbox.counts().items():
        calls.labels(delivery_state.value).set(count)
    workers = Gauge("diffdp_workers", "Workers heard of lately.", registry=registry)
    workers.set(parts.jobs.workers_alive(WORKER_SILENT_S))
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


def _database(parts: Parts) -> str:
    parts.jobs.counts()
    return "ok"


def _storage(parts: Parts) -> str:
    parts.storage.check()
    return "ok"


def _workers(parts: Parts) -> str:
    return "ok" if parts.jobs.workers_alive(WORKER_SILENT_S) else "no worker"


def _models(parts: Parts) -> str:
    # Their hashes were checked before this process began to answer
    return "ok" if parts.manifests else "no model"


CHECKS: dict[str, Callable[[Parts], str]] = {
    "database": _database,
    "storage": _storage,
    "workers": _workers,
    "models": _models,
}


def _outcome(check: Callable[[Parts], str], parts: Parts) -> str:
    try:
        return check(parts)
    except (SQLAlchemyError, OSError) as error:
        return type(error).__name__
