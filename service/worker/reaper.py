"""The reaper: sees to it that no job is forgotten, whatever was killed, and that nothing is left behind."""

import logging
from collections import Counter
from collections.abc import Sequence

from service.jobs.doorbell import Doorbell
from service.jobs.repository import JobRepository
from service.jobs.states import Stage
from service.storage.folders import Storage
from service.storage.layout import job_key, tidy
from service.worker.gpus import seen_gpus

log = logging.getLogger(__name__)


class Reaper:
    """Looks regularly for jobs that nobody works on; any number of reapers may do so.

    Parameters
    ----------
    worker
        Name of the worker in which it runs; noted as alive.
    stages
        Which it serves.
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
        stages: Sequence[Stage],
        ring_again_s: float,
        abandoned_s: float,
    ) -> None:
        self._jobs = jobs
        self._storage = storage
        self._doorbell = doorbell
        self._worker = worker
        self._stages = stages
        self._ring_again_s = ring_again_s
        self._abandoned_s = abandoned_s
        self._is_first = True

    def look(self) -> None:
        """Look once; the first look rings for every waiting job, as the bells before this worker's time may be lost."""
        self._jobs.hear(self._worker, stages=self._stages, gpus=seen_gpus())
        reaped = self._jobs.reap(ring_again_s=0.0 if self._is_first else self._ring_again_s)
        self._is_first = False
        for stage, announced in Counter(reaped.bells).items():
            # Rings that nobody has heard yet are as good: while workers are busy they would pile up
            for _ in range(min(announced, reaped.waiting[stage] - self._doorbell.unheard(stage))):
                self._doorbell.ring(stage)
        for job_id in reaped.quarantined:
            log.error("quarantined", extra={"job": job_id})

    def sweep(self) -> None:
        """Delete files that no job needs, left by processes that were killed before they could."""
        self._storage.sweep(self._abandoned_s)
        stored = self._storage.children("jobs", older_than_s=self._abandoned_s)
        for job_id in self._jobs.forgotten(stored):
            self._storage.delete(job_key(job_id))
        for job_id, ended in self._jobs.finished(stored).items():
            tidy(self._storage, job_id, keep=ended.output, token=ended.token)
