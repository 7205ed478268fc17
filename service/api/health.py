"""Whether the service lives, whether it can work, and its figures."""

from collections.abc import Callable, Mapping
from http import HTTPStatus

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
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
    """Check database, broker, storage and its space, workers of every stage, and models."""
    checks = check_all(parts)
    ready = all(outcome == "ok" for outcome in checks.values())
    if not ready:
        response.status_code = HTTPStatus.SERVICE_UNAVAILABLE
        response.headers["Retry-After"] = str(RETRY_AFTER_S[HTTPStatus.SERVICE_UNAVAILABLE])
    return Health(status="ok" if ready else "unavailable", checks=checks)


@router.get("/metrics", summary="Prometheus figures", response_class=PlainTextResponse)
def metrics(request: Request) -> Response:
    """Return the figures of this moment."""
    return Response(generate_latest(request.app.registry), media_type=CONTENT_TYPE_LATEST)


def _database(parts: Parts) -> str:
    parts.jobs.counts()
    return "ok"


def _broker(parts: Parts) -> str:
    parts.doorbell.check()
    return "ok"


def _storage(parts: Parts) -> str:
    parts.storage.check()
    return "ok"


def _space(parts: Parts) -> str:
    """Whether the largest study that may come would find room."""
    return "ok" if parts.storage.room_bytes() >= parts.settings.max_body_bytes else "no room for a study"


def _workers(parts: Parts) -> str:
    workers = parts.jobs.figures(silent_s=WORKER_SILENT_S).workers
    missing = [str(stage) for stage, number in workers.items() if not number]
    return f"no worker for {', '.join(missing)}" if missing else "ok"


def _models(parts: Parts) -> str:
    # Their hashes were checked before this process began to answer
    return "ok" if parts.manifests else "no model"


CHECKS: Mapping[str, Callable[[Parts], str]] = {
    "database": _database,
    "broker": _broker,
    "storage": _storage,
    "space": _space,
    "workers": _workers,
    "models": _models,
}


def check_all(parts: Parts) -> Mapping[str, str]:
    """Return what each check says, ``ok`` or what is amiss."""
    return {name: _outcome(check, parts) for name, check in CHECKS.items()}


def passing(parts: Parts) -> Mapping[str, bool]:
    """Return which checks pass."""
    return {name: outcome == "ok" for name, outcome in check_all(parts).items()}


def _outcome(check: Callable[[Parts], str], parts: Parts) -> str:
    try:
        return check(parts)
    except (SQLAlchemyError, OSError) as error:
        return type(error).__name__
