"""The schema of the job database: what the migrations make, and what is refused."""

import threading
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, create_engine, inspect, text

from service.jobs.job import DEFAULT_TENANT
from service.jobs.repository import JobRepository
from service.jobs.schema import SchemaError
from service.jobs.states import State
from service.jobs.tables import Base, connect

FIRST_VERSION = Path(__file__).with_name("schema_1.sql")
"""A database of the first version with one job, as ``.dump`` of sqlite3 writes it."""


@pytest.fixture
def old(tmp_path: Path) -> str:
    """A database that the first version has made."""
    url = f"sqlite:///{tmp_path / 'old.sqlite'}"
    engine = create_engine(url)
    with engine.begin() as connection:
        for statement in FIRST_VERSION.read_text(encoding="utf-8").split(";\n"):
            connection.exec_driver_sql(statement)
    engine.dispose()
    return url


@pytest.mark.every_database
def test_the_migrations_make_the_tables_that_the_code_uses(engine: Engine) -> None:
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []


def test_jobs_of_the_first_version_are_kept(old: str) -> None:
    made = create_engine(old)
    with made.begin() as connection:
        connection.execute(text("UPDATE jobs SET idempotency_key = 'by hand'"))
    made.dispose()
    engine = connect(old)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
    jobs = JobRepository(engine)
    (job,), _ = jobs.page(state=None, limit=9, cursor=None, tenant=DEFAULT_TENANT)
    assert (job.state, job.duplicate_of) == (State.SUCCEEDED, None)
    # An idempotency key of before still leads to its job, though it is not kept as it was
    again = jobs.add("b" * 32, job.parameters, job.examination, content_sha256="0" * 64, idempotency_key="by hand")
    assert again.id == job.id
    with engine.connect() as connection:
        assert "hand" not in connection.scalar(text("SELECT idempotency_key FROM jobs"))
    engine.dispose()
    connect(old).dispose()


def test_a_first_version_of_another_number_is_refused(old: str) -> None:
    engine = create_engine(old)
    with engine.begin() as connection:
        connection.execute(text("UPDATE schema_version SET version = 0"))
    engine.dispose()
    with pytest.raises(SchemaError, match="schema 0"):
        connect(old)


def test_a_schema_newer_than_the_program_is_refused_and_left_alone(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'new.sqlite'}"
    engine = connect(url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    with pytest.raises(SchemaError, match="9999"):
        connect(url)
    engine = create_engine(url)
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT version_num FROM alembic_version")) == "9999"
    engine.dispose()


@pytest.mark.every_database
def test_several_processes_may_start_at_once(database: str, request, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'fresh.sqlite'}"
    if database == "postgresql":
        server = request.getfixturevalue("postgres")
        server.execute("CREATE DATABASE fresh")
        url = server.url("fresh")
    failed: list[Exception] = []

    def start() -> None:
        try:
            connect(url).dispose()
        except Exception as error:  # noqa: BLE001 - a thread must hand it on
            failed.append(error)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    engine = connect(url)
    assert set(inspect(engine).get_table_names()) == {*Base.metadata.tables, "alembic_version"}
    engine.dispose()
