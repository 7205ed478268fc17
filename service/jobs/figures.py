"""Figures of the service that outlive its processes.

What is counted is counted in the transaction that makes it true, so that nothing is counted twice or lost with a
worker. What can be seen of the jobs as they are is read when it is asked for.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import case, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from service.jobs.states import FINAL, STAGE_OF, Stage, State
from service.jobs.tables import JobRow, TallyRow, WorkerRow


class Tally(StrEnum):
    """What is counted."""

    ENDED = "ended"
    """Jobs that came to an end, by state."""
    FAILED = "failed"
    """Jobs that failed, by code."""
    LEASE_LOST = "lease-lost"
    """Leases that ran out, by stage: workers that were killed or cut off."""
    GIVEN_BACK = "given-back"
    """Attempts that ended with an error of the machine, by stage."""
    STAGE_SECONDS = "stage-seconds"
    """Times of stages that ended well, by stage."""
    JOB_SECONDS = "job-seconds"
    """Times from the post, or from a requeue, to the end of jobs that succeeded."""


BOUNDS_S = (1, 2.5, 5, 10, 20, 40, 60, 120, 300, 600, 1200, 3600)
"""Upper bounds of the classes into which times are counted."""
BEYOND, SUM = "+Inf", "sum"

Counted = Mapping[tuple[Tally, str], Mapping[str, float]]
"""Tally and label → part → value. The part of a plain count is empty; those of times are bounds and their sum."""


@dataclass(frozen=True)
class Queue:
    """The jobs of one stage: those that wait, for how long the first of them does, and those in work."""

    waiting: int
    oldest_s: float
    working: int


@dataclass(frozen=True)
class Gpu:
    """The memory of a GPU of a worker, with that of all programs on it."""

    uuid: str
    used_bytes: int
    total_bytes: int


@dataclass(frozen=True)
class Figures:
    """What there is to see at a moment; `workers` are those that serve a stage."""

    jobs: Mapping[State, int]
    queues: Mapping[Stage, Queue]
    workers: Mapping[Stage, int]
    gpus: tuple[Gpu, ...]
    counted: Counted


def count(session: Session, tally: Tally, label: str, *, part: str = "", by: float = 1.0) -> None:
    """Count something when the transaction ends."""
    session.info.setdefault("tallies", Counter())[tally, str(label), part] += by


def count_time(session: Session, tally: Tally, label: str, seconds: float) -> None:
    """Count a time into its class when the transaction ends."""
    place = bisect_left(BOUNDS_S, seconds)
    count(session, tally, label, part=BEYOND if place == len(BOUNDS_S) else str(BOUNDS_S[place]))
    count(session, tally, label, part=SUM, by=seconds)


def write_counts(session: Session) -> None:
    """Write what was counted; always in the same order, so that no two transactions wait for each other."""
    counted: Counter[tuple[Tally, str, str]] = session.info.pop("tallies", Counter())
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    for (tally, label, part), by in sorted(counted.items()):
        row = insert(TallyRow).values(name=tally.value, label=label, part=part, value=by)
        added = {"value": TallyRow.value + row.excluded.value}
        session.execute(
            row.on_conflict_do_update(index_elements=[TallyRow.name, TallyRow.label, TallyRow.part], set_=added)
        )


def read_figures(session: Session, now: datetime, silent: timedelta) -> Figures:
    """Return the figures of this moment; workers not heard of for so long are left out."""
    jobs = dict.fromkeys(State, 0)
    states = select(JobRow.state, func.count()).where(JobRow.purged_at.is_(None)).group_by(JobRow.state)
    jobs.update({State(state): number for state, number in session.execute(states)})
    alive = session.scalars(
        select(WorkerRow).where(WorkerRow.seen_at >= now - silent).order_by(WorkerRow.seen_at)
    ).all()
    gpus = {gpu["uuid"]: Gpu(**gpu) for worker in alive for gpu in worker.gpus}
    counted: dict[tuple[Tally, str], dict[str, float]] = {}
    for row in session.scalars(select(TallyRow)):
        counted.setdefault((Tally(row.name), row.label), {})[row.part] = row.value
    return Figures(
        jobs=jobs,
        queues=_queues(session, now),
        workers={stage: sum(stage in worker.stages for worker in alive) for stage in Stage},
        gpus=tuple(gpus.values()),
        counted=counted,
    )


def _queues(session: Session, now: datetime) -> Mapping[Stage, Queue]:
    in_work = case((JobRow.lease_expires_at >= now, 1), else_=0)
    query = select(JobRow.state, in_work, func.count(), func.min(JobRow.updated_at))
    query = query.where(JobRow.state.not_in(FINAL)).group_by(JobRow.state, in_work)
    waiting, working, since = Counter[Stage](), Counter[Stage](), dict.fromkeys(Stage, now)
    for state, works, number, first in session.execute(query):
        stage = STAGE_OF[State(state)]
        if works:
            working[stage] += number
        else:
            waiting[stage] += number
            since[stage] = min(since[stage], first)
    return {stage: Queue(waiting[stage], (now - since[stage]).total_seconds(), working[stage]) for stage in Stage}
