"""The application: routes, errors, security headers."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

from fastapi import Depends, FastAPI, Request, Response

from model.checkpoint.manifest import Manifest
from service.about import software_version
from service.api import figures, health, job_routes, model_routes, page, problems, submission, viewer_routes
from service.api.context import Parts
from service.api.observation import ObservedApp
from service.api.security import KeyCheck
from service.intake.examiner import Examiner
from service.jobs.doorbell import Doorbell
from service.jobs.outbox import Outbox
from service.jobs.repository import JobRepository
from service.settings import Settings
from service.storage.folders import Storage

LOCAL_HOST = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:\d+)?", re.IGNORECASE)
"""Without keys only these names are answered: a web page elsewhere could have its name resolve to this machine."""

SECURITY_HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

DESCRIPTION = (
    "Predicts the dose of a radiotherapy plan from CT, structures and prescription. "
    "Predicted doses are not for treatment decisions."
)


def create_app(
    *,
    settings: Settings,
    jobs: JobRepository,
    outbox: Outbox,
    storage: Storage,
    doorbell: Doorbell,
    examiner: Examiner,
    manifests: Mapping[str, Manifest],
) -> FastAPI:
    """Return the application that works with these parts."""
    failures: dict[int | str, dict[str, Any]] = {"4XX": {"model": problems.Problem}, "5XX": {"model": problems.Problem}}

    @asynccontextmanager
    async def life(_app: FastAPI) -> AsyncIterator[None]:
        yield
        jobs.close()
        outbox.close()

    app = ObservedApp(
        title="DiffDP", version=software_version(), description=DESCRIPTION, redoc_url=None, lifespan=life
    )
    app.state.parts = parts = Parts(settings, jobs, outbox, storage, doorbell, examiner, manifests)
    figures.install(
        app.registry, figures.ServiceCollector(parts, lambda: health.passing(parts), silent_s=health.WORKER_SILENT_S)
    )
    needs_key = [Depends(KeyCheck(settings.api_keys))]
    for router in (submission.router, job_routes.router, viewer_routes.router, model_routes.router):
        app.include_router(router, dependencies=needs_key, responses=failures)
    app.include_router(health.router)
    app.include_router(page.router)
    problems.install(app)

    @app.middleware("http")
    async def secure(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        if settings.api_keys or LOCAL_HOST.fullmatch(request.headers.get("Host", "")):
            response = await call_next(request)
        else:
            detail = "without API keys only callers that name this machine as local are answered"
            response = problems.answer(problems.problem(HTTPStatus.BAD_REQUEST, "host-unknown", detail))
        for name, value in SECURITY_HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    return app
