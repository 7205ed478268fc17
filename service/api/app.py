"""The application: routes, errors, security headers."""

from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from fastapi import Depends, FastAPI

from model.checkpoint.manifest import Manifest
from service.about import software_version
from service.access.audit import AuditLog
from service.access.keys import KeyStore
from service.access.rates import Rates
from service.access.tokens import TokenCheck
from service.api import figures, health, job_routes, model_routes, page, problems, submission, viewer_routes
from service.api.auditing import Auditing
from service.api.context import Service
from service.api.gate import Gate, caller_of
from service.api.headers import SecurityHeaders
from service.api.observation import ObservedApp
from service.api.together import Together
from service.intake.examiner import Examiner
from service.jobs.doorbell import Doorbell
from service.jobs.outbox import Outbox
from service.jobs.repository import JobRepository
from service.settings import Settings
from service.storage.folders import Storage

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
    keys: KeyStore,
    audit: AuditLog,
) -> FastAPI:
    """Return the application that works with these parts."""
    gate = Gate(settings, keys, TokenCheck.of(settings), Rates.of(settings))
    looks = Together(jobs.look)
    service = Service(settings, jobs, outbox, storage, doorbell, examiner, manifests, keys, audit, gate, looks)

    @asynccontextmanager
    async def life(_app: FastAPI) -> AsyncIterator[None]:
        yield
        service.close()

    app = ObservedApp(
        title="DiffDP",
        version=software_version(),
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        lifespan=life,
    )
    app.state.service = service
    app.state.looks = {}
    app.state.streams = Counter()
    figures.install(
        app.registry,
        figures.ServiceCollector(service, lambda: health.passing(service), silent_s=health.WORKER_SILENT_S),
    )
    for router in (submission.router, job_routes.router, viewer_routes.router, model_routes.router):
        app.include_router(router, dependencies=[Depends(caller_of)], responses=problems.DESCRIBED)
    app.include_router(health.router, responses=problems.DESCRIBED)
    app.include_router(page.router)
    problems.install(app)

    app.add_middleware(Auditing, audit=audit)
    app.add_middleware(SecurityHeaders, hsts_s=settings.hsts_s)
    return app
