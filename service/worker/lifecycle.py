"""The life cycle of a stage: claim a job, keep its lease alive while working, report how it ended."""

import logging
import threading
import time
from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from types import TracebackType
from typing import Self, TypeVar

from sqlalchemy.exc import InterfaceError, OperationalError, SQLAlchemyError

from model.errors import Cancelled, DiffDPError
from service import logs
from service.errors import LeaseLost
from service.jobs.doorbell import Doorbell
from service.jobs.job import Fault, Job, Lease, Progress
from service.jobs.repository import JobRepository, Standing
from service.jobs.states import STAGE_OF, Stage, State
from service.pipeline.pipeline import Pipeline
from service.storage.layout import job_key, output_name, tidy

log = logging.getLogger(__name__)

T = TypeVar("T")

PASSING = (OSError, MemoryError, OperationalError)
"""Errors of the machine rather than of the job: another attempt, perhaps elsewhere, may succeed."""


class Watch:
    """Keeps a lease alive from a thread of its own, passes progress on and learns whether to stop.

    Parameters
    ----------
    stopping
        Whether the worker is being shut down.
    """

    def __init__(
        self, jobs: JobRepository, lease: Lease, *, heartbeat_s: float, lease_s: float, stopping: Callable[[], bool]
    ) -> None:
        self._jobs = jobs
        self._lease = lease
        self._heartbeat_s = heartbeat_s
        self._lease_s = lease_s
        self._stopping = stopping
        self._ended = threading.Event()
        # It logs as whoever makes it
        beat = partial(copy_context().run, self._beat)
        self._thread = threading.Thread(target=beat, name="lease", daemon=True)
        self._progress: Progress | None = None
        self.standing = Standing.HELD

    def __enter__(self) -> Self:
        """Begin to watch."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End; nothing is reported afterwards."""
        self._ended.set()
        self._thread.join()

    def progress(self, progress: Progress) -> None:
        """Note how far the stage is; the next heartbeat reports it."""
        self._progress = progress

    def must_stop(self) -> bool:
        """Whether to stop working, for whatever reason."""
        return self.standing is not Standing.HELD or self._stopping()

    def _beat(self) -> None:
        heard_at = time.monotonic()
        while not self._ended.wait(self._heartbeat_s) and self.standing is Standing.HELD:
            try:
                self.standing = self._jobs.report(self._lease, self._progress)
                heard_at = time.monotonic()
            except SQLAlchemyError as error:
                log.warning("the job database does not answer", exc_info=error)
                if time.monotonic() - heard_at > self._lease_s:
                    self.standing = Standing.LOST


class StageRunner:
    """Does the work on one job at a time; what happens to it afterwards is said in the database.

    Parameters
    ----------
    owner
        Name of this worker.
    stopping
        Whether it is being shut down; the job in work is then given back.
    """

    def __init__(
        self,
        jobs: JobRepository,
        pipeline: Pipeline,
        doorbell: Doorbell,
        *,
        owner: str,
        heartbeat_s: float,
        lease_s: float,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self._jobs = jobs
        self._pipeline = pipeline
        self._doorbell = doorbell
        self._owner = owner
        self._heartbeat_s = heartbeat_s
        self._lease_s = lease_s
        self._stopping = stopping

    def run(self, stage: Stage) -> None:
        """Do a stage of the most urgent job that waits for it, if there is one."""
        claimed = None if self._stopping() else self._jobs.claim(stage, self._owner)
        if claimed is None:
            return
        job, lease = claimed
        with logs.about(request=job.request_id, job=job.id, stage=stage.value, attempt=job.attempts):
            log.info("begun")
            begun = time.monotonic()
            try:
                outcome = self._work(stage, job, lease)
            except LeaseLost:
                outcome = "lease lost"
            log.info(outcome, extra={"seconds": round(time.monotonic() - begun, 3)})
            if self._jobs.is_purged(job.id):
                self._pipeline.storage.delete(job_key(job.id))

    def _work(self, stage: Stage, job: Job, lease: Lease) -> str:
        output = output_name(stage, lease.token)
        watch = Watch(self._jobs, lease, heartbeat_s=self._heartbeat_s, lease_s=self._lease_s, stopping=self._stopping)
        try:
            with watch:
                warnings = self._pipeline.run(stage, job, output, progress=watch.progress, cancelled=watch.must_stop)
        except Exception as error:  # noqa: BLE001 - every way in which a stage can end has its answer in `_settle`
            return self._settle(error, stage, job, lease, watch.standing)
        state = self._insist(lambda: self._jobs.advance(lease, stage, output=output, warnings=warnings))
        if state.is_final:
            keep = output if state is State.SUCCEEDED else None
            tidy(self._pipeline.storage, job.id, keep=keep, token=lease.token)
        else:
            self._doorbell.ring(STAGE_OF[state])
        return state

    def _settle(self, error: Exception, stage: Stage, job: Job, lease: Lease, standing: Standing) -> str:
        """Say in the database how a stage ended that did not end well."""
        if standing is Standing.LOST:
            raise LeaseLost("another worker has taken the job over") from error
        if standing is Standing.CANCEL:
            # A purged study is missed by whoever still reads it: the wish to stop explains any error
            self._jobs.stop(lease)
            tidy(self._pipeline.storage, job.id, keep=None, token=lease.token)
            return "cancelled"
        if isinstance(error, Cancelled):
            self._jobs.release(lease, "the worker was shut down", counts=False)
            return "given back"
        if isinstance(error, PASSING) or (isinstance(error, DiffDPError) and error.retry):
            log.warning("another attempt may succeed", exc_info=error)
            reason = error.message if isinstance(error, DiffDPError) else type(error).__name__
            self._jobs.release(lease, reason, counts=True)
            return "given back"
        if isinstance(error, DiffDPError):
            fault = Fault(code=error.rule, message=error.message, stage=stage.value, details=error.details)
        else:
            log.error("unexpected", exc_info=error)
            message = "an unexpected error; the log of the worker says where"
            fault = Fault(code="internal", message=message, stage=stage.value)
        self._insist(lambda: self._jobs.fail(lease, fault))
        tidy(self._pipeline.storage, job.id, keep=None, token=lease.token)
        return "failed"

    def _insist(self, act: Callable[[], T]) -> T:
        """Act again while the database does not answer and the lease may last: an hour's work would be lost with it.

        If only the answer was lost, acting again finds the lease gone; what was done then counts all the same.
        """
        deadline = time.monotonic() + self._lease_s
        while True:
            try:
                return act()
            except (OperationalError, InterfaceError) as error:
                if time.monotonic() > deadline:
                    raise
                log.warning("the job database does not answer", exc_info=error)
                time.sleep(self._heartbeat_s)
