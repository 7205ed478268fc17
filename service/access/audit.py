"""The audit log: who did what to which job, when, from where, and how it was answered.

Entries are only ever added. Each holds a digest of itself and of the digest before it, so one that was changed, removed
or put between others later does not fit its neighbours. Whoever rewrites the whole log can still make it fit: the
digest of the last entry, noted elsewhere, tells that, too; every entry is also in the process's log.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from sqlalchemy import Engine, select, text
from sqlalchemy.orm import Session

from service.errors import AuditBroken
from service.jobs.tables import AuditRow, writing

log = logging.getLogger(__name__)

AUDIT_LOCK = 0x_D1FF_A0
"""Number of the advisory lock on PostgreSQL under which entries are added, one after the other."""

BEFORE_THE_FIRST = "0" * 64

AT_ONCE = 1000


@dataclass(frozen=True)
class Act:
    """What was done.

    Parameters
    ----------
    tenant
        None for who could not be told, and for the operator.
    caller
        See `service.access.caller.Caller`.
    action
        Name of the operation.
    subject
        Job, or key, that it was done to.
    address
        Where the request came from; empty for what the service or its operator does.
    status
        Of the HTTP answer; None where there is none.
    """

    caller: str
    action: str
    tenant: str | None = None
    subject: str | None = None
    address: str = ""
    status: int | None = None


@dataclass(frozen=True)
class Entry:
    """An act with its place in the log."""

    number: int
    happened_at: datetime
    act: Act
    digest: str


class AuditLog:
    """The log.

    Parameters
    ----------
    engine
        Of the job database.
    clock
        Tells the time, aware, in UTC.
    """

    def __init__(self, engine: Engine, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._engine = engine
        self._writing = writing(engine)
        self._clock = clock

    def close(self) -> None:
        """Close all connections to the database."""
        self._engine.dispose()

    def record(self, act: Act) -> None:
        """Add an entry."""
        with Session(self._writing) as session, session.begin():
            if self._engine.dialect.name == "postgresql":
                session.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": AUDIT_LOCK})
            last = session.scalars(select(AuditRow).order_by(AuditRow.number.desc()).limit(1)).one_or_none()
            number, before = (1, BEFORE_THE_FIRST) if last is None else (last.number + 1, last.digest)
            moment = self._clock()
            digest = _digest(before, number, moment, act)
            session.add(AuditRow(number=number, happened_at=moment, digest=digest, **asdict(act)))
        log.info("audit", extra={"audit": {"number": number, "digest": digest, **asdict(act)}})

    def entries(
        self, *, subject: str | None = None, tenant: str | None = None, since: datetime | None = None
    ) -> Iterator[Entry]:
        """Yield all entries, or those about a job or key, of a tenant, since a moment; the eldest first."""
        query = select(AuditRow).order_by(AuditRow.number)
        if subject is not None:
            query = query.where(AuditRow.subject == subject)
        if tenant is not None:
            query = query.where(AuditRow.tenant == tenant)
        if since is not None:
            query = query.where(AuditRow.happened_at >= since)
        last = 0
        while True:
            # Page by page, so that a slow reader holds nothing open
            with Session(self._engine) as session:
                rows = session.scalars(query.where(AuditRow.number > last).limit(AT_ONCE)).all()
            if not rows:
                return
            for row in rows:
                act = Act(row.caller, row.action, row.tenant, row.subject, row.address, row.status)
                yield Entry(row.number, row.happened_at, act, row.digest)
            last = rows[-1].number

    def verify(self, known: tuple[int, str] | None = None) -> tuple[int, str]:
        """Check that no entry was changed, removed or put in; return number and digest of the last one.

        Parameters
        ----------
        known
            Number and digest of an entry, as they were noted earlier.

        Raises
        ------
        AuditBroken
        """
        number, digest = 0, BEFORE_THE_FIRST
        for number, entry in enumerate(self.entries(), start=1):
            digest = _digest(digest, number, entry.happened_at, entry.act)
            if entry.number != number or entry.digest != digest:
                raise AuditBroken(f"entry {number} of the audit log was changed, removed or put in")
            if known is not None and known[0] == number and known[1] != digest:
                raise AuditBroken(f"entry {number} of the audit log is not the one that was noted")
        if known is not None and known[0] > number:
            raise AuditBroken(f"the audit log ends with entry {number}, before the one that was noted")
        return number, digest


def _digest(before: str, number: int, moment: datetime, act: Act) -> str:
    said = [before, number, moment.isoformat(), asdict(act)]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
