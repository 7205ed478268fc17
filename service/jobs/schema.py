"""Bringing a job database to the schema that this program needs: forwards only, and by one process at a time."""

import logging
from pathlib import Path

from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.runtime.migration import MigrationStep
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, inspect, text

log = logging.getLogger(__name__)

MIGRATIONS = Path(__file__).with_name("migrations")

UPGRADE_LOCK = 0x_D1FF_D9
"""Number of the advisory lock on PostgreSQL under which a schema is changed."""

ADOPTED = 1
"""Number of the one schema before Alembic, kept in a table ``schema_version``."""


class SchemaError(RuntimeError):
    """The database was made by a newer version of this program, or by something else."""


def upgrade(reading: Engine, writing: Engine) -> None:
    """Bring a database to the newest schema, making all tables if there are none.

    A process that comes while another upgrades waits for it. A step that fails leaves the database as it was.

    Parameters
    ----------
    reading, writing
        Engines for transactions of the two kinds, see `service.jobs.tables.writing`.

    Raises
    ------
    SchemaError
        If the database has a schema that this program does not know.
    """
    script = ScriptDirectory(str(MIGRATIONS))
    with reading.connect() as connection:
        if _revision(connection, script) == script.get_current_head():
            return
    with writing.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": UPGRADE_LOCK})
        # Another process may have done it meanwhile
        revision = _revision(connection, script)
        if revision != script.get_current_head():
            _step_up(connection, script, revision)
            log.info("the job database has now schema %s", script.get_current_head())


def _step_up(connection: Connection, script: ScriptDirectory, revision: str | None) -> None:
    """Do all steps from a revision to the newest, in the transaction of the connection."""

    def steps(_revision: object, _context: MigrationContext) -> list[MigrationStep]:
        missing = script.iterate_revisions("head", revision or "base")
        return [MigrationStep.upgrade_from_script(script.revision_map, step) for step in reversed(list(missing))]

    context = MigrationContext.configure(connection, opts={"fn": steps, "transactional_ddl": True})
    with Operations.context(context):
        context.run_migrations()


def _revision(connection: Connection, script: ScriptDirectory) -> str | None:
    """Return the revision of a database, None before the first.

    Raises
    ------
    SchemaError
        If this program does not know it.
    """
    revision = MigrationContext.configure(connection).get_current_revision()
    if revision is None and inspect(connection).has_table("schema_version"):
        first = connection.scalar(text("SELECT version FROM schema_version"))
        if first != ADOPTED:
            raise SchemaError(f"the job database has schema {first}, this program knows {ADOPTED}")
    known = {step.revision for step in script.walk_revisions()}
    if revision is not None and revision not in known:
        newest = script.get_current_head()
        raise SchemaError(
            f"the job database has schema {revision}, this program knows only up to {newest}: "
            "it was upgraded by a newer version, which must be used"
        )
    return revision
