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
    TypeDecorator,
    create_engine,
    event,
    insert,
    make_url,
    select,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from service.jobs.states import State

SCHEMA_VERSION = 1
BUSY_TIMEOUT_S = 30
"""Time that a writer waits for another on SQLite, where only one can write at a time; a write takes milliseconds."""


class SchemaError(RuntimeError):
    """The database was made by another version of this program."""


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

    type_annotation_map = {datetime: UtcDateTime, dict[str, Any]: JSON, list[str]: JSON}  # noqa: RUF012 - as documented


class SchemaRow(Base):
    """One row: the version of the schema."""

    __tablename__ = "schema_version"
    version: Mapped[int] = mapped_column(primary_key=True)


class WorkerRow(Base):
    """A worker and when it was last heard of."""

    __tablename__ = "workers"
    name: Mapped[str] = mapped_column(String(200), primary_key=True)
    seen_at: Mapped[datetime]


class JobRow(Base):
    """A job. A purged one keeps only its identifier and its times."""

    __tablename__ = "jobs"
    __table_args__ = (Index("jobs_by_age", "created_at", "id"), Index("jobs_by_state", "state", "created_at"))

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    revision: Mapped[int] = mapped_column(default=1)
    state: Mapped[State] = mapped_column(String(20))
    priority: Mapped[int]
    parameters: Mapped[dict[str, Any]]
    examination: Mapped[dict[str, Any]]
    warnings: Mapped[list[str]]
    content_sha256: Mapped[str] = mapped_column(String(64))
    idempotency_key: Mapped[str | None] = mapped_column(String(255), unique=True)

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


def connect(url: str) -> Engine:
    """Open the database, making it first if it is not there.

    Raises
    ------
    SchemaError
        If it has another schema.
    """
    if make_url(url).get_backend_name() == "sqlite":
        database = make_url(url).database or ""
        Path(database).parent.mkdir(parents=True, exist_ok=True)
        engine = create_engine(url, hide_parameters=True, connect_args={"timeout": BUSY_TIMEOUT_S})
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    else:
        engine = create_engine(url, hide_parameters=True, pool_pre_ping=True)
    with writing(engine).begin() as connection:
        Base.metadata.create_all(connection)
        versions = connection.scalars(select(SchemaRow.version)).all()
        if not versions:
            connection.execute(insert(SchemaRow).values(version=SCHEMA_VERSION))
        elif list(versions) != [SCHEMA_VERSION]:
            raise SchemaError(f"the job database has schema {versions[0]}, this program needs {SCHEMA_VERSION}")
    return engine


def writing(engine: Engine) -> Engine:
    """Return the engine for transactions that write.

    SQLite must take the write lock at their start: a transaction that has read and then wants to write fails at once
    if another one wrote in between.
    """
    return engine.execution_options(sqlite_begin="BEGIN IMMEDIATE")


def _prepare_sqlite(connection: Any, _record: object) -> None:
    # The driver's own transaction handling would begin them too late, see `writing`
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA secure_delete=ON")


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get("sqlite_begin", "BEGIN"))
