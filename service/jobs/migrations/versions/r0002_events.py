"""Events of jobs, calls back about them, and what tells whether a job was posted before."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add two tables and two columns."""
    op.add_column("jobs", sa.Column("fingerprint", sa.String(64), nullable=False, server_default=""))
    op.add_column("jobs", sa.Column("duplicate_of", sa.String(32)))
    op.create_index("jobs_by_fingerprint", "jobs", ["fingerprint"])
    op.create_table(
        "job_events",
        sa.Column("job_id", sa.String(32), primary_key=True),
        sa.Column("revision", sa.Integer, primary_key=True),
        sa.Column("happened_at", sa.DateTime, nullable=False),
        sa.Column("snapshot", sa.JSON, nullable=False),
    )
    op.create_table(
        "deliveries",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("job_id", sa.String(32), nullable=False),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("state", sa.String(10), nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("last_reason", sa.String(200), nullable=False),
        sa.Column("created_at", sa.DateTime, nullable=False),
        sa.Column("due_at", sa.DateTime, nullable=False),
        sa.Column("settled_at", sa.DateTime),
    )
    op.create_index("deliveries_by_job", "deliveries", ["job_id"])
    op.create_index("deliveries_by_state", "deliveries", ["state", "due_at"])
