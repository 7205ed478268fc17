"""The job database: tables, and how connections to it are made."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import (
    JSON,
    Connection,
    DateTime,
    Dialect,
    Engine,
    Index,
    String,
    Text,
    TypeDecorator,
    create_engine,
    event,
    make_url,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from service.jobs.job import DEFAULT_TENANT
from service.jobs.schema import upgrade
from service.jobs.states import State

BUSY_TIMEOUT_S = 30
"""Time that a writer waits for another on SQLite, where only one can write at a time; a write takes milliseconds."""

TRUNCATE_TIMEOUT_S = 1
"""Time that emptying the log waits for readers; the next sweep tries again."""

POOL_SIZE, POOL_OVERFLOW = 5, 35
"""Connections to PostgreSQL that a process keeps, and how many more it may open: the API has as many threads."""

KEEP_ALIVE = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 20_000}
"""A PostgreSQL whose machine is gone is noticed within a lease, see libpq's connection parameters."""


class UtcDateTime(TypeDecorator[datetime]):
    """Aware moments in UTC; SQLite itself keeps no time zone."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Drop the zone after conversion to UTC."""
        return None if value is None else value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Put the zone back."""
        return None if value is None else value.replace(tzinfo=UTC)


class Base(DeclarativeBase):
    """All tables."""

    type_annotation_map = {datetime: UtcDateTime, dict[str, Any]: JSON, list[str]: JSON, list[dict[str, Any]]: JSON}  # noqa: RUF012


class WorkerRow(Base):
    """A worker, when it was last heard of, the stages that it serves and the memory of its GPUs."""

    __tablename__ = "workers"
    name: Mapped[str] = mapped_column(String(200), primary_key=True)
    seen_at: Mapped[datetime]
    stages: Mapped[list[str]] = mapped_column(server_default="[]")
    gpus: Mapped[list[dict[str, Any]]] = mapped_column(server_default="[]")


class JobRow(Base):
    """A job. A purged one keeps only its identifier, its tenant and its times.

    The idempotency key is a digest of tenant and key, so that it is unique per tenant, whatever a caller puts into it.
    """

    __tablename__ = "jobs"
    __table_args__ = (
        Index("jobs_by_age", "created_at", "id"),
        Index("jobs_by_state", "state", "created_at"),
        Index("jobs_by_fingerprint", "fingerprint"),
        Index("jobs_by_tenant", "tenant", "created_at", "id"),
    )

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    request_id: Mapped[str | None] = mapped_column(String(64))
    tenant: Mapped[str] = mapped_column(String(64), server_default=DEFAULT_TENANT)
    revision: Mapped[int] = mapped_column(default=1)
    state: Mapped[State] = mapped_column(String(20))
    priority: Mapped[int]
    parameters: Mapped[dict[str, Any]]
    examination: Mapped[dict[str, Any]]
    warnings: Mapped[list[str]]
    content_sha256: Mapped[str] = mapped_column(String(64))
    idempotency_key: Mapped[str | None] = mapped_column(String(255), unique=True)
    fingerprint: Mapped[str] = mapped_column(String(64), server_default="")
    duplicate_of: Mapped[str | None] = mapped_column(String(32))

    fraction: Mapped[float] = mapped_column(default=0.0)
    slices_done: Mapped[int] = mapped_column(default=0)
    slices_total: Mapped[int] = mapped_column(default=0)
    outputs: Mapped[dict[str, Any]]
    error: Mapped[dict[str, Any] | None]

    attempts: Mapped[int] = mapped_column(default=0)
    last_reason: Mapped[str] = mapped_column(String(200), default="")
    cancel_requested: Mapped[bool] = mapped_column(default=False)
    lease_owner: Mapped[str | None] = mapped_column(String(200))
    lease_token: Mapped[int] = mapped_column(default=0)
    lease_expires_at: Mapped[datetime | None]
    rung_at: Mapped[datetime]

    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    stage_started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    purged_at: Mapped[datetime | None]


class EventRow(Base):
    """What callers could see of a job after one of its changes; never changed, deleted with the job."""

    __tablename__ = "job_events"
    job_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    revision: Mapped[int] = mapped_column(primary_key=True)
    happened_at: Mapped[datetime]
    snapshot: Mapped[dict[str, Any]]


class TallyRow(Base):
    """Something that is counted, see `service.jobs.figures`."""

    __tablename__ = "tallies"
    name: Mapped[str] = mapped_column(String(20), primary_key=True)
    label: Mapped[str] = mapped_column(String(100), primary_key=True)
    part: Mapped[str] = mapped_column(String(10), primary_key=True)
    value: Mapped[float]


class DeliveryRow(Base):
    """A call back about the end of a job."""

    __tablename__ = "deliveries"
    __table_args__ = (Index("deliveries_by_job", "job_id"), Index("deliveries_by_state", "state", "due_at"))
    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    job_id: Mapped[str] = mapped_column(String(32))
    url: Mapped[str] = mapped_column(Text)
    body: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(String(10))
    attempts: Mapped[int] = mapped_column(default=0)
    last_reason: Mapped[str] = mapped_column(String(200), default="")
    created_at: Mapped[datetime]
    due_at: Mapped[datetime]
    settled_at: Mapped[datetime | None]


class ApiKeyRow(Base):
    """A key to the API, of which only a digest is kept; revoked ones stay, so that the audit log can be read."""

    __tablename__ = "api_keys"
    id: Mapped[str] = mapped_column(String(16), primary_key=True)
    digest: Mapped[str] = mapped_column(String(64))
    name: Mapped[str] = mapped_column(String(100))
    tenant: Mapped[str] = mapped_column(String(64))
    scopes: Mapped[list[str]]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class AuditRow(Base):
    """Who did what; each entry holds a digest of itself and of the one before, see `service.access.audit`."""

    __tablename__ = "audit_log"
    __table_args__ = (Index("audit_by_subject", "subject", "number"),)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    happened_at: Mapped[datetime]
    tenant: Mapped[str | None] = mapped_column(String(64))
    caller: Mapped[str] = mapped_column(String(300))
    action: Mapped[str] = mapped_column(String(40))
    subject: Mapped[str | None] = mapped_column(String(40))
    address: Mapped[str] = mapped_column(String(64))
    status: Mapped[int | None]
    digest: Mapped[str] = mapped_column(String(64))


def connect(url: str) -> Engine:
    """Open the database, making it first if it is not there, and bring it to the newest schema.

    Parameters
    ----------
    url
        ``sqlite:///PATH`` or ``postgresql://USER:PASSWORD@HOST/DATABASE``.

    Raises
    ------
    SchemaError
        If it has a schema that this program does not know.
    """
    place = make_url(url)
    if place.get_backend_name() == "sqlite":
        Path(place.database or "").parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        engine = create_engine(place, hide_parameters=True, connect_args={"timeout": BUSY_TIMEOUT_S})
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    else:
        engine = create_engine(
            place.set(drivername="postgresql+psycopg"),
            hide_parameters=True,
            pool_pre_ping=True,
            pool_size=POOL_SIZE,
            max_overflow=POOL_OVERFLOW,
            connect_args={"connect_timeout": 5, "options": f"-c lock_timeout={BUSY_TIMEOUT_S}s", **KEEP_ALIVE},
        )
    upgrade(engine, writing(engine))
    return engine


def writing(engine: Engine) -> Engine:
    """Return the engine for transactions that write.

    SQLite must take the write lock at their start: a transaction that has read and then wants to write fails at once
    if another one wrote in between.
    """
    return engine.execution_options(sqlite_begin="BEGIN IMMEDIATE")


def reading(engine: Engine) -> Engine:
    """Return the engine for single questions: on PostgreSQL they need no transaction, whose ends are questions, too."""
    return engine.execution_options(isolation_level="AUTOCOMMIT") if engine.dialect.name == "postgresql" else engine


def truncate_log(engine: Engine) -> None:
    """Empty SQLite's write-ahead log, which keeps copies of what was deleted; put off while others read."""
    if engine.dialect.name != "sqlite":
        return
    with engine.connect() as connection:
        cursor = connection.connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout={TRUNCATE_TIMEOUT_S * 1000}")
        cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_S * 1000}")


def _prepare_sqlite(connection: Any, _record: object) -> None:
    # The driver's own transaction handling would begin them too late, see `writing`
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA secure_delete=ON")


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get("sqlite_begin", "BEGIN"))
