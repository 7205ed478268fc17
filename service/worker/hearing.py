"""Whether a worker still hears the bell: one that is deaf must be replaced, whatever has made it so."""

import threading
import time
from collections.abc import Callable, Sequence
from multiprocessing.sharedctypes import RawValue

from celery.worker import state

from service.jobs.doorbell import Doorbell
from service.jobs.states import Stage

NOTE_S = 1.0
DEAF_S = 120.0
"""Longer than Celery waits before it tries again to reach a broker that was away."""


class WorkerDeaf(Exception):
    """A worker without work has not come for the work that it was rung for."""


class Pulse:
    """Notes in the main process of a worker when it was last at work, for its caretaker to see."""

    def __init__(self) -> None:
        self._at_work = RawValue("d", time.monotonic())

    def start(self) -> None:
        """Begin to note, in a thread of the main process."""
        threading.Thread(target=self._note, name="pulse", daemon=True).start()

    def idle_s(self) -> float:
        """Time since the worker was at work; in any of its processes."""
        return time.monotonic() - float(self._at_work.value)

    def _note(self) -> None:
        accepted = -1
        while True:
            if state.active_requests or state.all_total_count[0] != accepted:
                accepted = state.all_total_count[0]
                self._at_work.value = time.monotonic()
            time.sleep(NOTE_S)


class Hearing:
    """Looks whether rings wait while a worker has nothing to do.

    Parameters
    ----------
    stages
        Which the worker serves.
    idle_s
        How long it has had no work.
    deaf_s
        Time after which it must have heard.
    """

    def __init__(
        self, doorbell: Doorbell, stages: Sequence[Stage], idle_s: Callable[[], float], *, deaf_s: float = DEAF_S
    ) -> None:
        self._doorbell = doorbell
        self._stages = stages
        self._idle_s = idle_s
        self._deaf_s = deaf_s
        self._rung_at: float | None = None

    def look(self) -> None:
        """Look once.

        Raises
        ------
        WorkerDeaf
        """
        if not any(map(self._doorbell.unheard, self._stages)):
            self._rung_at = None
            return
        now = time.monotonic()
        self._rung_at = now if self._rung_at is None else self._rung_at
        if min(self._idle_s(), now - self._rung_at) > self._deaf_s:
            raise WorkerDeaf(f"rung for, and without work for {self._deaf_s:.0f} s")
