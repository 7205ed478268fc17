"""The application: routes, errors, security headers."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from fastapi import Depends, FastAPI, Request, Response
from starlette.middleware.trustedhost import TrustedHostMiddleware

from model.checkpoint.manifest import Manifest
from service.about import software_version
from service.api import health, job_routes, model_routes, problems, submission
from service.api.context import Parts
from service.api.security import KeyCheck
from service.intake.examiner import Examiner
from service.jobs.doorbell import Doorbell
from service.jobs.repository import JobRepository
from service.settings import Settings
from service.storage.folders import Storage

LOCAL_HOSTS = ["127.0.0.1", "localhost", "[::1]"]
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
    storage: Storage,
    doorbell: Doorbell,
    examiner: Examiner,
    manifests: Mapping[str, Manifest],
) -> FastAPI:
    """Return the application that works with these parts."""
    failures: dict[int | str, dict[str, Any]] = {"4XX": {"model": problems.Problem}, "5XX": {"model": problems.Problem}}
    app = FastAPI(title="DiffDP", version=software_version(), description=DESCRIPTION, redoc_url=None)
    app.state.parts = Parts(settings, jobs, storage, doorbell, examiner, manifests)
    needs_key = [Depends(KeyCheck(settings.api_keys))]
    for router in (submission.router, job_routes.router, model_routes.router):
        app.include_router(router, prefix="/v1", dependencies=needs_key, responses=failures)
    app.include_router(health.router)
    problems.install(app)
    if not settings.api_keys:
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=LOCAL_HOSTS)

    @app.middleware("http")
    async def secure(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        response = await call_next(request)
        for name, value in SECURITY_HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    return app
