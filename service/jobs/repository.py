"""The jobs in the database. Every change is one transaction, and those of workers are guarded by their lease."""

import base64
import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import Enum, auto
from functools import partial
from typing import cast

from pydantic import BaseModel
from sqlalchemy import Engine, and_, bindparam, case, delete, func, or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, object_session

from model.errors import DiffDPError
from service.errors import JobNotFound, JobPurged, KeyReused, LeaseLost, ParametersError, RequeueRefused
from service.jobs.figures import Figures, Gpu, Tally, count, count_time, read_figures, write_counts
from service.jobs.job import DEFAULT_TENANT, Examination, Fault, Job, Lease, Parameters, Progress
from service.jobs.outbox import about_end
from service.jobs.states import DONE, FINAL, STAGE_OF, Event, Stage, State, after
from service.jobs.tables import DeliveryRow, EventRow, JobRow, WorkerRow, reading, truncate_log, writing

RINGS_AT_ONCE = 50
"""Most waiting jobs announced again in one go: the eldest are served first, so more would only fill the broker."""

EVENTS_AT_ONCE = 200
"""Most events of a job that are read in one go."""

WORKER_KEPT = timedelta(days=1)

Asked = tuple[str, str]
"""Identifier of a job, and the tenant who asks for it."""

BY_ID = select(JobRow.__table__).where(JobRow.id.in_(bindparam("job_ids", expanding=True)))


class Standing(Enum):
    """What a worker learns when it reports."""

    HELD = auto()
    CANCEL = auto()
    LOST = auto()


@dataclass(frozen=True)
class Reaped:
    """Result of a search for jobs that nobody works on.

    Parameters
    ----------
    bells
        Stages to ring for, one for each job that is announced again.
    waiting
        Jobs that wait for a stage, those among them that were rung for a moment ago.
    quarantined
        Jobs given up.
    """

    bells: tuple[Stage, ...]
    waiting: Mapping[Stage, int]
    quarantined: tuple[str, ...]


@dataclass(frozen=True)
class Ended:
    """What there is to know of an ended job in order to tidy its storage.

    Parameters
    ----------
    output
        Storage folder with its results, None if it has none.
    token
        Of its last lease; folders of later ones are none of its.
    """

    output: str | None
    token: int


class _Snapshot(BaseModel):
    """What changes of a job while it runs and callers can see."""

    state: State
    fraction: float
    slices_done: int
    slices_total: int
    cancel_requested: bool
    error: Fault | None
    started_at: datetime | None
    stage_started_at: datetime | None
    finished_at: datetime | None


def utc_now() -> datetime:
    """Return the time now, in UTC."""
    return datetime.now(UTC)


class JobRepository:
    """The jobs.

    Parameters
    ----------
    engine
        Of the database, see `service.jobs.tables.connect`.
    lease_s
        How long a worker may be silent before its job is given to another.
    max_attempts
        How often a stage is begun before its job is quarantined.
    clock
        Tells the time, aware, in UTC. Clocks of machines that share a database must agree within a fraction of the
        lease; if they do not, stages may run twice, but tokens still keep all but one from counting.
    public_url
        Address of the API as its callers know it, for the links in calls back.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        lease_s: float = 30.0,
        max_attempts: int = 3,
        clock: Callable[[], datetime] = utc_now,
        public_url: str = "",
    ) -> None:
        self._engine = engine
        self._reading = reading(engine)
        self._writing = writing(engine)
        self._lease = timedelta(seconds=lease_s)
        self._max_attempts = max_attempts
        self._clock = clock
        self._public_url = public_url

    def close(self) -> None:
        """Close all connections to the database."""
        self._engine.dispose()

    # What callers ask for

    def add(
        self,
        job_id: str,
        parameters: Parameters,
        examination: Examination,
        *,
        content_sha256: str,
        idempotency_key: str | None = None,
        fingerprint: str = "",
        request_id: str | None = None,
        tenant: str = DEFAULT_TENANT,
    ) -> Job:
        """Store a new job, or return the one that an earlier request with the same key and content has made.

        Parameters
        ----------
        tenant
            Whose job it is; idempotency keys and earlier jobs of others count for nothing.
        content_sha256
            Of all that the caller sent; must be the same when an idempotency key comes back.
        fingerprint
            Of all that the dose depends on; an earlier job with the same one is named, but does not stand in for this
            one. Empty: not known.
        request_id
            Of the request that brings it, for the logs of those who will work on it.

        Raises
        ------
        KeyReused
            If the idempotency key was used with another content.
        """
        now = self._clock()
        key = None if idempotency_key is None else tenant_key(tenant, idempotency_key)
        row = JobRow(
            id=job_id,
            request_id=request_id,
            tenant=tenant,
            revision=0,
            state=State.QUEUED,
            priority=parameters.priority,
            parameters=parameters.model_dump(mode="json"),
            examination=examination.model_dump(mode="json"),
            warnings=list(examination.warnings),
            content_sha256=content_sha256,
            idempotency_key=key,
            fingerprint=fingerprint,
            slices_total=examination.slices,
            outputs={},
            created_at=now,
            updated_at=now,
            rung_at=now,
        )
        try:
            with self._write() as session:
                row.duplicate_of = _twin(session, tenant, fingerprint)
                session.add(row)
                session.flush()
                self._touch(row)
                return _job(row)
        except IntegrityError:
            with Session(self._engine) as session:
                query = select(JobRow).where(JobRow.idempotency_key == key)
                earlier = session.scalars(query).one()
                if earlier.content_sha256 != content_sha256:
                    message = "the idempotency key was used for another study or with other parameters"
                    raise KeyReused(message) from None
                return _job(earlier)

    def get(self, job_id: str, *, tenant: str | None = None) -> Job:
        """Return a job. Here and below, another tenant's job is not there if a tenant is given.

        Raises
        ------
        JobNotFound, JobPurged
        """
        with Session(self._engine) as session:
            return _job(_known(session.get(JobRow, job_id), tenant))

    def look(self, asked: Collection[Asked]) -> Mapping[Asked, Job | DiffDPError]:
        """Return jobs by one question; in the place of one that is not there stands what `get` would raise."""
        # More often than anything else, and so without a session
        with self._reading.connect() as connection:
            found = connection.execute(BY_ID, {"job_ids": [job_id for job_id, _ in asked]})
            rows = {row.id: cast("JobRow", row) for row in found}
        return {(job_id, tenant): _job_or_error(rows.get(job_id), tenant) for job_id, tenant in asked}

    def page(
        self, *, state: State | None, limit: int, cursor: str | None, tenant: str | None = None
    ) -> tuple[list[Job], str | None]:
        """Return up to `limit` jobs, newest first, and the cursor of the next page if there is one.

        Raises
        ------
        ParametersError
            ``cursor-invalid``.
        """
        query = select(JobRow).where(JobRow.purged_at.is_(None))
        if tenant is not None:
            query = query.where(JobRow.tenant == tenant)
        if state is not None:
            query = query.where(JobRow.state == state)
        if cursor is not None:
            moment, last = _read_cursor(cursor)
            same_moment = and_(JobRow.created_at == moment, JobRow.id < last)
            query = query.where(or_(JobRow.created_at < moment, same_moment))
        query = query.order_by(JobRow.created_at.desc(), JobRow.id.desc()).limit(limit + 1)
        with Session(self._engine) as session:
            jobs = [_job(row) for row in session.scalars(query)]
        following = _write_cursor(jobs[limit - 1]) if len(jobs) > limit else None
        return jobs[:limit], following

    def events(self, job_id: str, after_revision: int | None, *, tenant: str | None = None) -> list[Job]:
        """Return a job as it was after each of its changes since a revision, the eldest first; not all of very many.

        Parameters
        ----------
        after_revision
            None: only the job as it is now.

        Raises
        ------
        JobNotFound, JobPurged
        """
        query = select(EventRow).where(EventRow.job_id == job_id)
        if after_revision is None:
            query = query.order_by(EventRow.revision.desc()).limit(1)
        else:
            query = query.where(EventRow.revision > after_revision).order_by(EventRow.revision).limit(EVENTS_AT_ONCE)
        with Session(self._engine) as session:
            # In this order: the job must not be older than its events
            rows = session.scalars(query).all()
            job = _job(_known(session.get(JobRow, job_id), tenant))
        if not rows and job.revision > (after_revision or 0):
            # It comes from a version that kept no events
            return [job]
        return [_as_it_was(job, row) for row in rows]

    def counts(self, *, tenant: str | None = None) -> Mapping[State, int]:
        """Return the number of jobs in each state."""
        query = select(JobRow.state, func.count()).where(JobRow.purged_at.is_(None)).group_by(JobRow.state)
        if tenant is not None:
            query = query.where(JobRow.tenant == tenant)
        with Session(self._engine) as session:
            return dict.fromkeys(State, 0) | {State(state): n for state, n in session.execute(query)}

    def request_cancel(self, job_id: str, *, tenant: str | None = None) -> Job:
        """Cancel a job that nobody works on, or ask its worker to stop; a finished job stays as it is."""
        with self._write() as session:
            row = _known(session.get(JobRow, job_id, with_for_update=True), tenant)
            self._cancel(row)
            return _job(row)

    def requeue(self, job_id: str, *, tenant: str | None = None) -> Job:
        """Let a failed job begin anew, with all its attempts.

        Raises
        ------
        JobNotFound, JobPurged
        RequeueRefused
            If it has not failed.
        """
        with self._write() as session:
            row = _known(session.get(JobRow, job_id, with_for_update=True), tenant)
            if row.state != State.FAILED:
                raise RequeueRefused(f"the job is {row.state}; only a failed one can be done again")
            self._apply(row, Event.REQUEUED)
            row.error = row.started_at = row.stage_started_at = row.finished_at = None
            row.outputs = {}
            row.warnings = list(Examination.model_validate(row.examination).warnings)
            row.attempts = row.slices_done = 0
            row.fraction = 0.0
            row.last_reason = ""
            row.cancel_requested = False
            row.rung_at = self._clock()
            return _job(row)

    def purge(self, job_id: str, *, tenant: str | None = None) -> None:
        """Forget all about a job but that there was one; its worker is asked to stop.

        The caller deletes the job's files; whoever still works on it does so again when it stops.

        Raises
        ------
        JobNotFound, JobPurged
        """
        with self._write() as session:
            row = _known(session.get(JobRow, job_id, with_for_update=True), tenant)
            self._cancel(row)
            self._purge(row)
        truncate_log(self._engine)

    def retire(self, job_id: str) -> str | None:
        """Purge a job if it has ended; return whose it was, None if it is not to be purged or has been."""
        with self._write() as session:
            row = session.get(JobRow, job_id, with_for_update=True)
            if row is None or row.purged_at is not None or row.state not in FINAL:
                return None
            self._purge(row)
            return row.tenant

    # What workers ask for

    def claim(self, stage: Stage, owner: str) -> tuple[Job, Lease] | None:
        """Give a worker the most urgent job that waits for a stage, None if there is none."""
        now = self._clock()
        states = [state for state, of in STAGE_OF.items() if of is stage]
        query = (
            select(JobRow)
            .where(
                JobRow.state.in_(states),
                JobRow.cancel_requested.is_(False),
                JobRow.attempts < self._max_attempts,
                or_(JobRow.lease_expires_at.is_(None), JobRow.lease_expires_at < now),
            )
            .order_by(JobRow.priority.desc(), JobRow.created_at)
            .limit(1)
            .with_for_update(skip_locked=True)
        )
        with self._write() as session:
            row = session.scalars(query).one_or_none()
            if row is None:
                return None
            if row.state == State.QUEUED:
                row.state = after(row.state, Event.STARTED)
                row.started_at = now
            if row.lease_expires_at is not None:
                count(session, Tally.LEASE_LOST, stage)
            row.attempts += 1
            row.lease_owner = owner
            row.lease_token += 1
            row.lease_expires_at = now + self._lease
            row.stage_started_at = now
            row.fraction = 0.0
            if stage is Stage.PREDICT:
                row.slices_done = 0
            self._touch(row)
            return _job(row), Lease(row.id, owner, row.lease_token)

    def report(self, lease: Lease, progress: Progress | None) -> Standing:
        """Renew a lease and store how far its stage is, if that is known."""
        try:
            with self._leased(lease) as row:
                row.lease_expires_at = self._clock() + self._lease
                known = Progress(row.fraction, row.slices_done, row.slices_total)
                if progress is not None and progress != known:
                    row.fraction, row.slices_done = progress.fraction, progress.slices_done
                    row.slices_total = progress.slices_total
                    self._touch(row)
                return Standing.CANCEL if row.cancel_requested else Standing.HELD
        except LeaseLost:
            return Standing.LOST

    def advance(self, lease: Lease, stage: Stage, *, output: str, warnings: Sequence[str] = ()) -> State:
        """Record what a stage made and hand the job to the next one, unless it was to be cancelled meanwhile.

        Raises
        ------
        LeaseLost
        """
        with self._leased(lease) as row:
            if row.cancel_requested:
                self._apply(row, Event.CANCELLED)
                return State.CANCELLED
            self._apply(row, DONE[stage])
            if row.stage_started_at is not None:
                count_time(
                    _session(row), Tally.STAGE_SECONDS, stage, (self._clock() - row.stage_started_at).total_seconds()
                )
            row.outputs = {**row.outputs, stage.value: output}
            row.warnings = [*row.warnings, *(w for w in warnings if w not in row.warnings)]
            row.attempts = 0
            row.fraction = 0.0
            if stage is Stage.PREDICT:
                row.slices_done = row.slices_total
            row.rung_at = self._clock()
            return State(row.state)

    def fail(self, lease: Lease, fault: Fault) -> None:
        """End a job with an error.

        Raises
        ------
        LeaseLost
        """
        with self._leased(lease) as row:
            self._fail(row, fault)

    def stop(self, lease: Lease) -> None:
        """End a job whose worker has stopped because it was asked to.

        Raises
        ------
        LeaseLost
        """
        with self._leased(lease) as row:
            self._apply(row, Event.CANCELLED)

    def release(self, lease: Lease, reason: str, *, counts: bool) -> None:
        """Give a job back unfinished: another attempt may succeed. `counts` says whether this one was an attempt.

        Raises
        ------
        LeaseLost
        """
        with self._leased(lease) as row:
            row.lease_owner = row.lease_expires_at = None
            row.last_reason = reason
            if counts:
                count(_session(row), Tally.GIVEN_BACK, STAGE_OF[row.state])
            else:
                row.attempts -= 1
            self._touch(row)

    def is_purged(self, job_id: str) -> bool:
        """Whether a job was deleted, or never was."""
        with Session(self._engine) as session:
            row = session.get(JobRow, job_id)
            return row is None or row.purged_at is not None

    # What the reaper asks for

    def forgotten(self, job_ids: Sequence[str]) -> list[str]:
        """Return those of the identifiers that belong to no job, or to a purged one."""
        with Session(self._engine) as session:
            kept = set(session.scalars(select(JobRow.id).where(JobRow.purged_at.is_(None))))
        return [job_id for job_id in job_ids if job_id not in kept]

    def finished(self, job_ids: Sequence[str]) -> Mapping[str, Ended]:
        """Return those of the jobs that have ended."""
        query = select(JobRow.id, JobRow.outputs, JobRow.lease_token)
        query = query.where(JobRow.state.in_(FINAL), JobRow.purged_at.is_(None))
        with Session(self._engine) as session:
            ended = {
                job_id: Ended(outputs.get(Stage.PUBLISH.value), token)
                for job_id, outputs, token in session.execute(query)
            }
        return {job_id: ended[job_id] for job_id in job_ids if job_id in ended}

    def eldest_ended(self, *, before: datetime | None = None, limit: int) -> list[str]:
        """Return the jobs that ended first, only those before a moment if it is given."""
        query = select(JobRow.id).where(JobRow.state.in_(FINAL), JobRow.purged_at.is_(None))
        if before is not None:
            query = query.where(JobRow.finished_at < before)
        with Session(self._engine) as session:
            return list(session.scalars(query.order_by(JobRow.finished_at).limit(limit)))

    def now(self) -> datetime:
        """Return the time by which jobs are aged."""
        return self._clock()

    def compact(self) -> None:
        """Let nothing of what was deleted stay in the database's log; only SQLite's can be emptied on demand."""
        truncate_log(self._engine)

    def reap(self, *, ring_again_s: float) -> Reaped:
        """Find unfinished jobs that nobody works on and settle or announce each.

        Jobs whose worker is lost are cancelled if that was wished, quarantined if they had all their attempts, and
        announced again otherwise; so are jobs that wait for longer than `ring_again_s`, whose bell may be lost.
        """
        now = self._clock()
        lost = and_(JobRow.lease_expires_at.is_not(None), JobRow.lease_expires_at < now)
        unheard = and_(JobRow.lease_expires_at.is_(None), JobRow.rung_at < now - timedelta(seconds=ring_again_s))
        spent = and_(JobRow.lease_expires_at.is_(None), JobRow.attempts >= self._max_attempts)
        query = (
            select(JobRow)
            .where(JobRow.state.not_in(FINAL), or_(lost, unheard, spent))
            .order_by(case((lost, 0), else_=1), JobRow.created_at)
            .limit(RINGS_AT_ONCE)
            .with_for_update(skip_locked=True)
        )
        bells, quarantined = [], []
        with self._write() as session:
            for row in session.scalars(query):
                if row.lease_expires_at is not None:
                    count(session, Tally.LEASE_LOST, STAGE_OF[row.state])
                    row.last_reason = "the worker was lost"
                    row.lease_owner = row.lease_expires_at = None
                if row.cancel_requested:
                    self._apply(row, Event.CANCELLED)
                elif row.attempts >= self._max_attempts:
                    stage = STAGE_OF[row.state]
                    message = f"given up after {row.attempts} attempts; the last one ended so: {row.last_reason}"
                    self._fail(row, Fault(code="quarantined", message=message, stage=stage))
                    quarantined.append(row.id)
                else:
                    row.rung_at = now
                    bells.append(STAGE_OF[row.state])
            waiting = _waiting(session) if bells else {}
        return Reaped(tuple(bells), waiting, tuple(quarantined))

    def hear(self, worker: str, *, stages: Sequence[Stage], gpus: Sequence[Gpu] = ()) -> None:
        """Note that a worker is alive, which stages it serves and with what; forget those long gone."""
        now = self._clock()
        with self._write() as session:
            known = [asdict(gpu) for gpu in gpus]
            session.merge(WorkerRow(name=worker, seen_at=now, stages=[*stages], gpus=known))
            session.execute(delete(WorkerRow).where(WorkerRow.seen_at < now - WORKER_KEPT))

    def figures(self, *, silent_s: float) -> Figures:
        """Return the figures of this moment; workers not heard of for so long are left out."""
        with Session(self._engine) as session:
            return read_figures(session, self._clock(), timedelta(seconds=silent_s))

    # How changes are made

    @contextmanager
    def _write(self) -> Iterator[Session]:
        with Session(self._writing, expire_on_commit=False) as session, session.begin():
            yield session
            write_counts(session)
            changed: dict[str, JobRow] = session.info.get("changed", {})
            session.add_all(_event(row) for row in changed.values() if row.purged_at is None)

    @contextmanager
    def _leased(self, lease: Lease) -> Iterator[JobRow]:
        with self._write() as session:
            row = session.get(JobRow, lease.job_id, with_for_update=True)
            if row is None or row.lease_owner != lease.owner or row.lease_token != lease.token:
                raise LeaseLost("another worker has taken the job over")
            yield row

    def _touch(self, row: JobRow) -> None:
        """Note a change that callers can see; what they see is recorded at the end of the transaction."""
        changed: dict[str, JobRow] = _session(row).info.setdefault("changed", {})
        if row.id not in changed:
            row.revision += 1
            changed[row.id] = row
        row.updated_at = self._clock()

    def _apply(self, row: JobRow, happened: Event) -> None:
        """Move a job on and free it; at its end, so that its worker's lease ends with it."""
        row.state = after(row.state, happened)
        row.lease_owner = row.lease_expires_at = None
        self._touch(row)
        if row.state in FINAL:
            row.finished_at = row.updated_at
            count(_session(row), Tally.ENDED, row.state)
            if row.state == State.SUCCEEDED:
                seconds = (row.finished_at - _queued_at(row)).total_seconds()
                count_time(_session(row), Tally.JOB_SECONDS, "", seconds)
            if callback_url := row.parameters.get("callback_url"):
                _session(row).add(about_end(row, callback_url, self._public_url))

    def _purge(self, row: JobRow) -> None:
        row.purged_at = self._clock()
        row.parameters = row.examination = row.outputs = {}
        row.warnings = []
        row.error = None
        row.last_reason = row.content_sha256 = row.fingerprint = ""
        row.idempotency_key = row.duplicate_of = None
        session = _session(row)
        session.flush()
        session.execute(delete(EventRow).where(EventRow.job_id == row.id))
        session.execute(delete(DeliveryRow).where(DeliveryRow.job_id == row.id))

    def _fail(self, row: JobRow, fault: Fault) -> None:
        self._apply(row, Event.FAILED)
        count(_session(row), Tally.FAILED, fault.code)
        row.error = None if row.purged_at else fault.model_dump(mode="json")

    def _cancel(self, row: JobRow) -> None:
        if row.state in FINAL or row.cancel_requested:
            return
        row.cancel_requested = True
        # An expired lease is left to the reaper: its worker may only be slow, and then the job still runs
        if row.lease_owner is None:
            self._apply(row, Event.CANCELLED)
        else:
            self._touch(row)


class TenantJobs:
    """The jobs as one tenant's callers see them: those of others are not there."""

    def __init__(self, jobs: JobRepository, tenant: str) -> None:
        self._jobs = jobs
        self._tenant = tenant
        self.add = partial(jobs.add, tenant=tenant)
        self.get = partial(jobs.get, tenant=tenant)
        self.page = partial(jobs.page, tenant=tenant)
        self.events = partial(jobs.events, tenant=tenant)
        self.request_cancel = partial(jobs.request_cancel, tenant=tenant)
        self.requeue = partial(jobs.requeue, tenant=tenant)
        self.purge = partial(jobs.purge, tenant=tenant)

    def unfinished(self) -> int:
        """Return the number of jobs of all tenants that wait or are worked on: they share the workers."""
        return _unfinished(self._jobs.counts())

    def unfinished_own(self) -> int:
        """Return the number of the tenant's jobs that wait or are worked on."""
        return _unfinished(self._jobs.counts(tenant=self._tenant))


def _unfinished(counts: Mapping[State, int]) -> int:
    return sum(count for state, count in counts.items() if not state.is_final)


def tenant_key(tenant: str, idempotency_key: str) -> str:
    """Return under what a tenant's idempotency key is kept."""
    return hashlib.sha256(f"{tenant}\n{idempotency_key}".encode()).hexdigest()


def _known(row: JobRow | None, tenant: str | None) -> JobRow:
    if row is None or tenant not in {None, row.tenant}:
        raise JobNotFound("there is no such job")
    if row.purged_at is not None:
        raise JobPurged("the job was deleted with all its data")
    return row


def _job_or_error(row: JobRow | None, tenant: str) -> Job | DiffDPError:
    try:
        return _job(_known(row, tenant))
    except (JobNotFound, JobPurged) as error:
        return error


def _session(row: JobRow) -> Session:
    session = object_session(row)
    assert session is not None  # noqa: S101 - rows are changed within `_write` only
    return session


def _waiting(session: Session) -> Mapping[Stage, int]:
    """Return how many jobs that nobody works on wait for each stage."""
    query = select(JobRow.state, func.count()).where(JobRow.state.not_in(FINAL), JobRow.lease_expires_at.is_(None))
    waiting: Counter[Stage] = Counter()
    for state, number in session.execute(query.group_by(JobRow.state)):
        waiting[STAGE_OF[State(state)]] += number
    return waiting


def _queued_at(row: JobRow) -> datetime:
    """Return when a job was posted, or let begin anew; its events tell, which one of an old version has not."""
    query = select(func.max(EventRow.happened_at))
    query = query.where(EventRow.job_id == row.id, EventRow.snapshot["state"].as_string() == State.QUEUED)
    return _session(row).scalar(query) or row.created_at


def _twin(session: Session, tenant: str, fingerprint: str) -> str | None:
    """Return a tenant's youngest job with a fingerprint that has a result or will have one."""
    if not fingerprint:
        return None
    query = (
        select(JobRow.id)
        .where(JobRow.fingerprint == fingerprint, JobRow.tenant == tenant)
        .where(JobRow.state.not_in({State.FAILED, State.CANCELLED}))
        .order_by(JobRow.created_at.desc())
        .limit(1)
    )
    return session.scalar(query)


def _event(row: JobRow) -> EventRow:
    snapshot = _Snapshot.model_validate(row, from_attributes=True).model_dump(mode="json")
    return EventRow(job_id=row.id, revision=row.revision, happened_at=row.updated_at, snapshot=snapshot)


def _as_it_was(job: Job, event: EventRow) -> Job:
    seen = _Snapshot.model_validate(event.snapshot)
    return replace(
        job,
        revision=event.revision,
        state=seen.state,
        progress=Progress(seen.fraction, seen.slices_done, seen.slices_total),
        cancel_requested=seen.cancel_requested,
        error=seen.error,
        updated_at=event.happened_at,
        started_at=seen.started_at,
        stage_started_at=seen.stage_started_at,
        finished_at=seen.finished_at,
    )


def _job(row: JobRow) -> Job:
    return Job(
        id=row.id,
        request_id=row.request_id,
        revision=row.revision,
        state=State(row.state),
        parameters=Parameters.model_validate(row.parameters),
        examination=Examination.model_validate(row.examination),
        warnings=tuple(row.warnings),
        progress=Progress(row.fraction, row.slices_done, row.slices_total),
        outputs={Stage(stage): folder for stage, folder in row.outputs.items()},
        attempts=row.attempts,
        cancel_requested=row.cancel_requested,
        error=None if row.error is None else Fault.model_validate(row.error),
        created_at=row.created_at,
        updated_at=row.updated_at,
        started_at=row.started_at,
        stage_started_at=row.stage_started_at,
        finished_at=row.finished_at,
        duplicate_of=row.duplicate_of,
    )


def _write_cursor(job: Job) -> str:
    return base64.urlsafe_b64encode(f"{job.created_at.isoformat()} {job.id}".encode()).decode()


def _read_cursor(cursor: str) -> tuple[datetime, str]:
    try:
        moment, job_id = base64.urlsafe_b64decode(cursor.encode()).decode().split(" ")
        if not job_id.isalnum():
            raise ValueError  # noqa: TRY301 - PostgreSQL would take offence at a NUL
        return datetime.fromisoformat(moment).astimezone(UTC), job_id
    except (ValueError, OverflowError):
        raise ParametersError("the cursor is not one that this service gave", code="cursor-invalid") from None
