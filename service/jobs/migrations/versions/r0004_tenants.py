"""Tenants, their keys to the API, and the audit log."""

import sqlalchemy as sa
from alembic import op

from service.jobs.repository import tenant_key

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add two tables and a column, and turn idempotency keys into digests."""
    op.add_column("jobs", sa.Column("tenant", sa.String(64), nullable=False, server_default="default"))
    op.create_index("jobs_by_tenant", "jobs", ["tenant", "created_at", "id"])
    _digest_keys()
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(16), primary_key=True),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("scopes", sa.JSON, nullable=False),
        sa.Column("created_at", sa.DateTime, nullable=False),
        sa.Column("expires_at", sa.DateTime),
        sa.Column("revoked_at", sa.DateTime),
    )
    op.create_table(
        "audit_log",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("happened_at", sa.DateTime, nullable=False),
        sa.Column("tenant", sa.String(64)),
        sa.Column("caller", sa.String(300), nullable=False),
        sa.Column("action", sa.String(40), nullable=False),
        sa.Column("subject", sa.String(40)),
        sa.Column("address", sa.String(64), nullable=False),
        sa.Column("status", sa.Integer),
        sa.Column("digest", sa.String(64), nullable=False),
    )
    op.create_index("audit_by_subject", "audit_log", ["subject", "number"])


def _digest_keys() -> None:
    jobs = sa.table("jobs", sa.column("id", sa.String), sa.column("idempotency_key", sa.String))
    connection = op.get_bind()
    found = connection.execute(sa.select(jobs.c.id, jobs.c.idempotency_key).where(jobs.c.idempotency_key.is_not(None)))
    for job_id, key in found.all():
        change = sa.update(jobs).where(jobs.c.id == job_id).values(idempotency_key=tenant_key("default", key))
        connection.execute(change)
