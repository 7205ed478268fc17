"""The one place where the parts of the service are put together."""

from collections.abc import Mapping

from fastapi import FastAPI

from model.checkpoint.store import SHIPPED, Checkpoint, find_checkpoints
from service.api.app import create_app
from service.intake.examiner import SubprocessExaminer
from service.intake.limits import Limits
from service.intake.messages import KnownModel
from service.jobs.repository import JobRepository
from service.jobs.tables import connect
from service.settings import Settings
from service.storage.folders import LocalStorage, Storage
from service.worker.celery_app import CeleryDoorbell


def find_models(settings: Settings) -> dict[str, Checkpoint]:
    """Open all checkpoints; one that does not match its hash stops the program."""
    return find_checkpoints((SHIPPED, *settings.model_dirs))


def known_models(checkpoints: Mapping[str, Checkpoint]) -> dict[str, KnownModel]:
    """Return what an examination must know of the models."""
    return {name: KnownModel.of(checkpoint.manifest) for name, checkpoint in checkpoints.items()}


def open_jobs(settings: Settings) -> JobRepository:
    """Open the job database."""
    return JobRepository(connect(settings.database), lease_s=settings.lease_s, max_attempts=settings.max_attempts)


def open_storage(settings: Settings) -> Storage:
    """Open the storage of studies and results."""
    return LocalStorage(settings.data_dir / "storage")


def build_api(settings: Settings) -> FastAPI:
    """Put the API together."""
    checkpoints = find_models(settings)
    limits = Limits.of(settings)
    return create_app(
        settings=settings,
        jobs=open_jobs(settings),
        storage=open_storage(settings),
        doorbell=CeleryDoorbell(settings),
        examiner=SubprocessExaminer(known_models(checkpoints), limits),
        manifests={name: checkpoint.manifest for name, checkpoint in checkpoints.items()},
    )
