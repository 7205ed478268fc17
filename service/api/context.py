"""What the routes work with."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated

from fastapi import Depends, Path, Request

from model.checkpoint.manifest import Manifest
from model.errors import DiffDPError
from service.access.audit import AuditLog
from service.access.keys import KeyStore
from service.api.gate import CallerOf, Gate
from service.api.together import Together
from service.intake.examiner import Examiner
from service.jobs.doorbell import Doorbell
from service.jobs.job import Job
from service.jobs.outbox import Outbox
from service.jobs.repository import Asked, JobRepository, TenantJobs
from service.settings import Settings
from service.storage.folders import Storage


@dataclass(frozen=True)
class Service:
    """The parts of the service that the API uses, put together elsewhere."""

    settings: Settings
    jobs: JobRepository
    outbox: Outbox
    storage: Storage
    doorbell: Doorbell
    examiner: Examiner
    manifests: Mapping[str, Manifest]
    keys: KeyStore
    audit: AuditLog
    gate: Gate
    looks: Together[Asked, Job | DiffDPError]

    def close(self) -> None:
        """Close all connections to the job database."""
        for part in (self.jobs, self.outbox, self.keys, self.audit):
            part.close()


@dataclass(frozen=True)
class Parts:
    """What of it a caller's request may reach: of the jobs, those of its tenant.

    Parameters
    ----------
    look
        Returns a job as `jobs.get` does, and costs little when many ask.
    """

    tenant: str
    settings: Settings
    jobs: TenantJobs
    look: Callable[[str], Awaitable[Job]]
    storage: Storage
    doorbell: Doorbell
    examiner: Examiner
    manifests: Mapping[str, Manifest]


async def service_of(request: Request) -> Service:
    """Return the parts of the application that serves a request; not for the jobs of callers."""
    service: Service = request.app.state.service
    return service


async def parts_of(request: Request, caller: CallerOf) -> Parts:
    """Return what the caller of a request may reach."""
    service: Service = request.app.state.service
    return Parts(
        tenant=caller.tenant,
        settings=service.settings,
        jobs=TenantJobs(service.jobs, caller.tenant),
        look=partial(_look, service, caller.tenant),
        storage=service.storage,
        doorbell=service.doorbell,
        examiner=service.examiner,
        manifests=service.manifests,
    )


async def _look(service: Service, tenant: str, job_id: str) -> Job:
    found = await service.looks.ask((job_id, tenant))
    if isinstance(found, DiffDPError):
        raise found
    return found


ServiceOf = Annotated[Service, Depends(service_of)]
PartsOf = Annotated[Parts, Depends(parts_of)]
JobId = Annotated[str, Path(pattern="^[0-9A-Za-z]{1,64}$")]
"""What could be the identifier of a job; PostgreSQL would take offence at a NUL in a question."""
