"""Health check of a worker's container: fails unless its worker has reported to the job database lately."""

import sys
from datetime import UTC, datetime, timedelta
from socket import gethostname

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.jobs.tables import WorkerRow, connect
from service.settings import Settings

SILENT = timedelta(seconds=30)
"""Workers report every few seconds."""


def is_alive() -> bool:
    """Whether a worker of this machine was heard of."""
    since = datetime.now(UTC) - SILENT
    query = select(WorkerRow).where(WorkerRow.name.startswith(f"{gethostname()}:"), WorkerRow.seen_at >= since)
    with Session(connect(Settings.load().database)) as session:
        return session.scalars(query).first() is not None


sys.exit(0 if is_alive() else 1)
