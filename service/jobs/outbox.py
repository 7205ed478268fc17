"""Calls back about ended jobs, kept in the database until they are delivered or given up.

A call is written in the transaction that ends its job, so that there is one for every end and none for an end that did
not happen. It is delivered at least once: a courier that is killed after the receiver has answered calls again.
"""

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from uuid import uuid4

from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from service.jobs.tables import DeliveryRow, JobRow, writing

LONGEST_PAUSE = timedelta(hours=1)
MOST_DOUBLINGS = 20
"""Beyond these any pause is at its longest."""


class DeliveryState(StrEnum):
    """Where a call back is."""

    PENDING = "pending"
    DELIVERED = "delivered"
    GIVEN_UP = "given-up"


@dataclass(frozen=True)
class Delivery:
    """A call back that is to be tried now.

    Parameters
    ----------
    id
        The same in every attempt, so that a receiver can tell a repetition.
    attempt
        Which attempt this is, from 1.
    """

    id: str
    job_id: str
    url: str
    body: str
    attempt: int


def about_end(row: JobRow, url: str, public_url: str) -> DeliveryRow:
    """Return the call back about a job that has just ended: which, how and when, and nothing about a patient."""
    assert row.finished_at is not None  # noqa: S101 - the caller has just set it
    base = f"{public_url.rstrip('/')}/v1/jobs/{row.id}"
    names = ("dose", "plan", "report", "archive") if row.state == "succeeded" else ()
    data = {
        "id": row.id,
        "state": str(row.state),
        "created_at": _text(row.created_at),
        "started_at": None if row.started_at is None else _text(row.started_at),
        "finished_at": _text(row.finished_at),
        "links": {"self": base, **{name: f"{base}/{name}" for name in names}},
    }
    body = {"type": f"job.{row.state}", "timestamp": _text(row.finished_at), "data": data}
    return DeliveryRow(
        id=f"msg_{uuid4().hex}",
        job_id=row.id,
        url=url,
        body=json.dumps(body, separators=(",", ":")),
        state=DeliveryState.PENDING,
        created_at=row.finished_at,
        due_at=row.finished_at,
    )


class Outbox:
    """The calls back that wait.

    Parameters
    ----------
    engine
        Of the job database.
    max_attempts
        Attempts before a call is given up.
    pause_s
        Time before the second attempt; it doubles with each, up to an hour.
    attempt_s
        Longest time of one attempt; a courier that is silent for longer is taken to be dead.
    clock
        Tells the time, aware, in UTC.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        max_attempts: int,
        pause_s: float,
        attempt_s: float,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._engine = engine
        self._writing = writing(engine)
        self._max_attempts = max_attempts
        self._pause = timedelta(seconds=pause_s)
        self._attempt = timedelta(seconds=attempt_s)
        self._clock = clock

    def close(self) -> None:
        """Close all connections to the database."""
        self._engine.dispose()

    def take(self) -> Delivery | None:
        """Return the call back that is due for longest, None if none is; nobody else gets it during an attempt."""
        now = self._clock()
        query = (
            select(DeliveryRow)
            .where(DeliveryRow.state == DeliveryState.PENDING, DeliveryRow.due_at <= now)
            .order_by(DeliveryRow.due_at)
            .limit(1)
            .with_for_update(skip_locked=True)
        )
        with Session(self._engine) as session:
            # A look must not keep others from writing
            if session.scalars(query.with_only_columns(DeliveryRow.id)).first() is None:
                return None
        with Session(self._writing) as session, session.begin():
            row = session.scalars(query).one_or_none()
            if row is None:
                return None
            row.attempts += 1
            # Counts before it is made: an attempt that kills its courier must not be made for ever
            row.due_at = now + self._attempt + self._pause_after(row.attempts)
            if row.attempts > self._max_attempts:
                row.state, row.settled_at = DeliveryState.GIVEN_UP, now
                return None
            return Delivery(row.id, row.job_id, row.url, row.body, row.attempts)

    def delivered(self, delivery: Delivery) -> None:
        """Note that the receiver has taken a call."""
        with Session(self._writing) as session, session.begin():
            row = session.get(DeliveryRow, delivery.id, with_for_update=True)
            if row is not None:
                row.state, row.settled_at = DeliveryState.DELIVERED, self._clock()

    def failed(self, delivery: Delivery, reason: str, *, final: bool) -> bool:
        """Note why an attempt failed; `final` says that no other can succeed.

        Returns
        -------
        Whether the call is given up.
        """
        now = self._clock()
        with Session(self._writing) as session, session.begin():
            row = session.get(DeliveryRow, delivery.id, with_for_update=True)
            if row is None or row.state != DeliveryState.PENDING or row.attempts != delivery.attempt:
                return False
            row.last_reason = reason[:200]
            row.due_at = now + self._pause_after(row.attempts)
            if final or row.attempts >= self._max_attempts:
                row.state, row.settled_at = DeliveryState.GIVEN_UP, now
                return True
            return False

    def counts(self) -> Mapping[DeliveryState, int]:
        """Return the number of calls back in each state."""
        query = select(DeliveryRow.state, func.count()).group_by(DeliveryRow.state)
        with Session(self._engine) as session:
            found = {DeliveryState(state): number for state, number in session.execute(query)}
        return dict.fromkeys(DeliveryState, 0) | found

    def _pause_after(self, attempts: int) -> timedelta:
        """Return a pause that doubles with every attempt; half is left to chance, lest calls come in waves."""
        doublings = min(attempts - 1, MOST_DOUBLINGS)
        pause: timedelta = min(self._pause * 2**doublings, LONGEST_PAUSE)
        return pause * random.uniform(0.5, 1.0)


def _text(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
