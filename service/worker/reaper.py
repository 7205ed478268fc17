"""The reaper: sees to it that no job is forgotten, whatever was killed, and that nothing is left behind."""

import logging
import threading
import time

from sqlalchemy.exc import OperationalError

from service.jobs.doorbell import Doorbell
from service.jobs.repository import JobRepository
from service.storage.folders import Storage
from service.storage.layout import job_key, tidy

log = logging.getLogger(__name__)

SWEEP_S = 600.0
"""Time between two searches for files without a job."""


class Reaper:
    """Looks regularly for jobs that nobody works on; any number of reapers may do so.

    Parameters
    ----------
    worker
        Name of the worker in which it runs; noted as alive.
    every_s
        Time between two looks.
    ring_again_s
        Time after which a waiting job is announced again.
    abandoned_s
        Age at which half-written files can have no writer any more.
    """

    def __init__(
        self,
        jobs: JobRepository,
        storage: Storage,
        doorbell: Doorbell,
        *,
        worker: str,
        every_s: float,
        ring_again_s: float,
        abandoned_s: float,
    ) -> None:
        self._jobs = jobs
        self._storage = storage
        self._doorbell = doorbell
        self._worker = worker
        self._every_s = every_s
        self._ring_again_s = ring_again_s
        self._abandoned_s = abandoned_s

    def start(self) -> None:
        """Begin in a thread; the first look rings for every waiting job, as their bells may be lost."""
        threading.Thread(target=self._loop, name="reaper", daemon=True).start()

    def look(self, *, ring_again_s: float) -> None:
        """Look once."""
        self._jobs.hear(self._worker)
        reaped = self._jobs.reap(ring_again_s=ring_again_s)
        for stage in reaped.bells:
            self._doorbell.ring(stage)
        for job_id in reaped.quarantined:
            log.error("quarantined", extra={"job": job_id})

    def sweep(self) -> None:
        """Delete files that no job needs, left by processes that were killed before they could."""
        self._storage.sweep(self._abandoned_s)
        stored = self._storage.children("jobs", older_than_s=self._abandoned_s)
        for job_id in self._jobs.forgotten(stored):
            self._storage.delete(job_key(job_id))
        for job_id, output in self._jobs.finished(stored).items():
            tidy(self._storage, job_id, keep=output)

    def _loop(self) -> None:
        ring_again_s = 0.0
        swept_at = float("-inf")
        while True:
            try:
                self.look(ring_again_s=ring_again_s)
                ring_again_s = self._ring_again_s
                if time.monotonic() - swept_at > SWEEP_S:
                    self.sweep()
                    swept_at = time.monotonic()
            except (OperationalError, OSError) as error:
                log.warning("the reaper could not look", exc_info=error)
            time.sleep(self._every_s)
