"""What workers tell of themselves, figures that outlive processes, and the request that a job came with."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add a table and three columns."""
    op.add_column("jobs", sa.Column("request_id", sa.String(64)))
    op.add_column("workers", sa.Column("stages", sa.JSON, nullable=False, server_default="[]"))
    op.add_column("workers", sa.Column("gpus", sa.JSON, nullable=False, server_default="[]"))
    op.create_table(
        "tallies",
        sa.Column("name", sa.String(20), primary_key=True),
        sa.Column("label", sa.String(100), primary_key=True),
        sa.Column("part", sa.String(10), primary_key=True),
        sa.Column("value", sa.Double, nullable=False),
    )
