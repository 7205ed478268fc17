"""What the routes work with."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from model.checkpoint.manifest import Manifest
from service.intake.examiner import Examiner
from service.jobs.doorbell import Doorbell
from service.jobs.outbox import Outbox
from service.jobs.repository import JobRepository
from service.settings import Settings
from service.storage.folders import Storage


@dataclass(frozen=True)
class Parts:
    """The parts of the service that the API uses, put together elsewhere."""

    settings: Settings
    jobs: JobRepository
    outbox: Outbox
    storage: Storage
    doorbell: Doorbell
    examiner: Examiner
    manifests: Mapping[str, Manifest]


def parts_of(request: Request) -> Parts:
    """Return the parts of the application that serves a request."""
    parts: Parts = request.app.state.parts
    return parts


PartsOf = Annotated[Parts, Depends(parts_of)]
