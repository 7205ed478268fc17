"""Ended jobs are not kept for ever."""

import logging
from datetime import timedelta

from service.access.audit import Act, AuditLog
from service.jobs.repository import JobRepository
from service.storage.folders import Storage
from service.storage.layout import job_key

log = logging.getLogger(__name__)

AT_ONCE = 100


class Retention:
    """Deletes ended jobs that are too old, and the eldest where space runs out.

    Parameters
    ----------
    days
        Age, counted from its end, at which a job is deleted; 0: never.
    min_free_bytes
        Space that shall be left in storage; 0: whatever is.
    """

    def __init__(
        self, jobs: JobRepository, storage: Storage, audit: AuditLog, *, days: float, min_free_bytes: int
    ) -> None:
        self._jobs = jobs
        self._audit = audit
        self._storage = storage
        self._days = days
        self._min_free_bytes = min_free_bytes

    def look(self) -> None:
        """Delete what need not stay."""
        if self._days:
            before = self._jobs.now() - timedelta(days=self._days)
            while doomed := self._jobs.eldest_ended(before=before, limit=AT_ONCE):
                for job_id in doomed:
                    self._retire(job_id, "old")
        if self._min_free_bytes:
            # One after the other: each may bring enough
            while self._storage.free_bytes() < self._min_free_bytes and (doomed := self._jobs.eldest_ended(limit=1)):
                self._retire(doomed[0], "space is short")
        self._jobs.compact()

    def _retire(self, job_id: str, why: str) -> None:
        tenant = self._jobs.retire(job_id)
        if tenant is not None:
            # First: where storage fails, a sweep deletes later, and does not know whose job it was
            self._audit.record(Act("service", "retire_job", tenant, job_id))
            self._storage.delete(job_key(job_id))
            log.info("deleted: %s", why, extra={"job": job_id})
