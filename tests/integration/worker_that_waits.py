"""A real worker whose stage only waits for a file: ``python worker_that_waits.py FOLDER [quick] [loopless]``.

Quick: it is taken for deaf soon. Loopless: it watches the folder of messages without an event loop, as Celery does, so
that it is deaf once an idle child was killed.
"""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from service.jobs.states import Stage
from service.settings import Settings
from service.worker import process
from service.worker.celery_app import CeleryDoorbell, create_celery
from service.worker.hearing import DEAF_S, Hearing, Pulse
from service.worker.rounds import Round, go_for_ever

FOLDER = Path(sys.argv[1])
QUICK_S = 2.0
STAGES = (Stage.PREDICT,)


class Waiting:
    """Tells that a stage has begun and ended, and in which process, and ends it when it is told to."""

    def __init__(self, stopping: Callable[[], bool]) -> None:
        self._number = 0

    def run(self, stage: Stage) -> None:
        """Wait for the file ``end-N``."""
        self._number += 1
        self._tell("begun")
        while not (FOLDER / f"end-{self._number}").exists():
            time.sleep(0.05)
        self._tell("ended")

    def _tell(self, what: str) -> None:
        whole = FOLDER / f"{what}-{self._number}"
        whole.with_suffix(".part").write_text(str(os.getpid()))
        whole.with_suffix(".part").rename(whole)


def care(pulse: Pulse) -> None:
    """Look at nothing but the worker's hearing."""
    deaf_s = QUICK_S if "quick" in sys.argv else DEAF_S
    hearing = Hearing(CeleryDoorbell(Settings.load()), STAGES, pulse.idle_s, deaf_s=deaf_s)
    go_for_ever([Round(hearing.look, 0.2)])


if __name__ == "__main__":
    app = create_celery(Settings.load())
    if "loopless" in sys.argv:
        app.conf.broker_transport = "filesystem"
        process.STOP_S = 1.0
    process.run_worker(
        app,
        make_runner=Waiting,
        care=care,
        stages=STAGES,
        concurrency=1,
        log_level="WARNING",
    )
