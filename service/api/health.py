"""Whether the service lives, whether it can work, and its figures."""

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from http import HTTPStatus
from typing import TypeVar

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy.exc import SQLAlchemyError

from service.access.caller import Scope
from service.api.context import Service, ServiceOf
from service.api.problems import RETRY_AFTER_S
from service.api.schemas import Health

T = TypeVar("T")

WORKER_SILENT_S = 30.0
"""A worker not heard of for so long counts as gone; they report every few seconds."""

router = APIRouter(tags=["operation"])


@router.get("/healthz", summary="Liveness")
async def healthz() -> Health:
    """Answer while the process lives, also when all its threads wait for database or storage."""
    return Health(status="ok", checks={})


@router.get("/readyz", summary="Readiness", responses={503: {"model": Health}})
async def readyz(request: Request, service: ServiceOf, response: Response) -> Health:
    """Check database, broker, storage and its space, workers of every stage, and models."""
    checks = await _shared(request, partial(check_all, service))
    ready = all(outcome == "ok" for outcome in checks.values())
    if not ready:
        response.status_code = HTTPStatus.SERVICE_UNAVAILABLE
        response.headers["Retry-After"] = str(RETRY_AFTER_S[HTTPStatus.SERVICE_UNAVAILABLE])
    return Health(status="ok" if ready else "unavailable", checks=checks)


@router.get("/metrics", summary="Prometheus figures", response_class=PlainTextResponse)
async def metrics(request: Request, service: ServiceOf) -> Response:
    """Return the figures of this moment."""
    if service.settings.metrics_need_key:
        await service.gate.admit(request, Scope.METRICS)
    else:
        await service.gate.check_host(request)
    figures = await _shared(request, partial(generate_latest, request.app.registry))
    return Response(figures, media_type=CONTENT_TYPE_LATEST)


async def _shared(request: Request, look: Callable[[], T]) -> T:
    """Look, or wait for whoever does already: anybody may ask, and each look holds a thread and asks the storage."""
    running: dict[str, asyncio.Task[T]] = request.app.state.looks
    path = request.url.path
    if path not in running or running[path].done():
        running[path] = asyncio.create_task(run_in_threadpool(look))
    return await asyncio.shield(running[path])


def _database(service: Service) -> str:
    service.jobs.counts()
    return "ok"


def _broker(service: Service) -> str:
    service.doorbell.check()
    return "ok"


def _storage(service: Service) -> str:
    service.storage.check()
    return "ok"


def _space(service: Service) -> str:
    """Whether the largest study that may come would find room."""
    return "ok" if service.storage.room_bytes() >= service.settings.max_body_bytes else "no room for a study"


def _workers(service: Service) -> str:
    workers = service.jobs.figures(silent_s=WORKER_SILENT_S).workers
    missing = [str(stage) for stage, number in workers.items() if not number]
    return f"no worker for {', '.join(missing)}" if missing else "ok"


def _models(service: Service) -> str:
    # Their hashes were checked before this process began to answer
    return "ok" if service.manifests else "no model"


CHECKS: Mapping[str, Callable[[Service], str]] = {
    "database": _database,
    "broker": _broker,
    "storage": _storage,
    "space": _space,
    "workers": _workers,
    "models": _models,
}


def check_all(service: Service) -> Mapping[str, str]:
    """Return what each check says, ``ok`` or what is amiss."""
    return {name: _outcome(check, service) for name, check in CHECKS.items()}


def passing(service: Service) -> Mapping[str, bool]:
    """Return which checks pass."""
    return {name: outcome == "ok" for name, outcome in check_all(service).items()}


def _outcome(check: Callable[[Service], str], service: Service) -> str:
    try:
        return check(service)
    except (SQLAlchemyError, OSError) as error:
        return type(error).__name__
