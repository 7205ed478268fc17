"""How workers learn that there is work."""

from typing import Protocol

from service.jobs.states import Stage


class Doorbell(Protocol):
    """Tells workers to look for a job that waits for a stage. It may be lost: the reaper rings again."""

    def ring(self, stage: Stage) -> None:
        """Ring; never raises."""

    def check(self) -> None:
        """Raise OSError if nobody would hear it."""
