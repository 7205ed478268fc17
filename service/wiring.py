"""The one place where the parts of the service are put together."""

from collections.abc import Mapping
from pathlib import Path

from fastapi import FastAPI

from model.checkpoint.store import SHIPPED, Checkpoint, find_checkpoints
from model.conditioning import head_and_neck
from model.dosimetry.goals import GoalSet, find_goals
from service.access.audit import AuditLog
from service.access.keys import KeyStore
from service.api.app import create_app
from service.intake.examiner import SubprocessExaminer
from service.intake.limits import Limits
from service.intake.messages import KnownModel
from service.jobs.outbox import Outbox
from service.jobs.repository import JobRepository
from service.jobs.tables import connect
from service.settings import PREFIX, Settings, SettingsError
from service.storage.folders import LocalStorage, Storage
from service.storage.scratch import Scratch
from service.worker.celery_app import CeleryDoorbell

SHIPPED_GOALS = Path(head_and_neck.__file__).with_name("goals")

RESOLVE_S = 30.0
"""Time that resolving the name of a receiver may take, over which its timeout has no power."""


def find_models(settings: Settings) -> dict[str, Checkpoint]:
    """Open all checkpoints; one that does not match its hash stops the program."""
    return find_checkpoints((SHIPPED, *settings.model_dirs))


def find_site_goals(settings: Settings) -> dict[str, GoalSet]:
    """Read the clinical goals of every site: the shipped ones, or those that a clinic has put in their place."""
    return find_goals((SHIPPED_GOALS, *(() if settings.goals_dir is None else (settings.goals_dir,))))


def known_models(checkpoints: Mapping[str, Checkpoint]) -> dict[str, KnownModel]:
    """Return what an examination must know of the models."""
    return {name: KnownModel.of(checkpoint.manifest) for name, checkpoint in checkpoints.items()}


def open_jobs(settings: Settings) -> JobRepository:
    """Open the job database."""
    return JobRepository(
        connect(settings.database),
        lease_s=settings.lease_s,
        max_attempts=settings.max_attempts,
        public_url=settings.public_url,
    )


def open_keys(settings: Settings) -> KeyStore:
    """Open the API keys in the job database."""
    return KeyStore(connect(settings.database))


def open_audit(settings: Settings) -> AuditLog:
    """Open the audit log in the job database."""
    return AuditLog(connect(settings.database))


def open_outbox(settings: Settings) -> Outbox:
    """Open the calls back in the job database."""
    return Outbox(
        connect(settings.database),
        max_attempts=settings.webhook_attempts,
        pause_s=settings.webhook_pause_s,
        attempt_s=2 * settings.webhook_timeout_s + RESOLVE_S,
    )


def open_storage(settings: Settings) -> Storage:
    """Open the storage of studies and results.

    Raises
    ------
    OSError
        If it cannot be used, with what is amiss.
    """
    if settings.bucket is None:
        return LocalStorage(settings.data_dir / "storage")
    # Its client takes its time to load, and most do without
    from service.storage.bucket import Bucket, BucketStorage  # noqa: PLC0415

    name, prefix = settings.bucket
    storage = BucketStorage(
        Bucket(
            name,
            prefix,
            endpoint=settings.s3_endpoint,
            region=settings.s3_region,
            access_key_id=settings.s3_access_key_id,
            secret_access_key=settings.s3_secret_access_key.get_secret_value(),
        ),
        Scratch(settings.data_dir / "scratch"),
        capacity_bytes=settings.s3_capacity_bytes,
    )
    storage.check_bucket()
    return storage


def build_api(settings: Settings) -> FastAPI:
    """Put the API together.

    Raises
    ------
    SettingsError
        If others than this machine could reach it, and it would need no key.
    """
    checkpoints = find_models(settings)
    keys = open_keys(settings)
    if not settings.is_local and not settings.api_keys and not settings.oidc_issuer and keys.is_empty():
        keys.close()
        raise SettingsError(
            f"serving on {settings.host} needs at least one key in {PREFIX}API_KEYS or of `diffdp keys create`, "
            f"or a {PREFIX}OIDC_ISSUER of tokens"
        )
    limits = Limits.of(settings)
    return create_app(
        settings=settings,
        jobs=open_jobs(settings),
        outbox=open_outbox(settings),
        storage=open_storage(settings),
        doorbell=CeleryDoorbell(settings),
        examiner=SubprocessExaminer(known_models(checkpoints), limits),
        manifests={name: checkpoint.manifest for name, checkpoint in checkpoints.items()},
        keys=keys,
        audit=open_audit(settings),
    )
