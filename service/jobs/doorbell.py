"""How workers learn that there is work."""

from typing import Protocol

from service.jobs.states import Stage


class Doorbell(Protocol):
    """Tells workers to look for a job that waits for a stage. It may be lost: the reaper rings again."""

    def ring(self, stage: Stage) -> None:
        """Ring; never raises."""

    def unheard(self, stage: Stage) -> int:
        """Return the number of rings that no worker has taken yet; 0 if nobody can tell. Never raises."""

    def check(self) -> None:
        """Raise OSError if nobody would hear it."""
