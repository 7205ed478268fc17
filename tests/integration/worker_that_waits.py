"""A real worker whose stage only waits for a file: ``python worker_that_waits.py FOLDER``."""

import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from service.jobs.states import Stage
from service.settings import Settings
from service.worker.celery_app import create_celery
from service.worker.process import run_worker

FOLDER = Path(sys.argv[1])


class Waiting:
    """Tells that a stage has begun, and ends it when it is told to."""

    def __init__(self, stopping: Callable[[], bool]) -> None:
        self._number = 0

    def run(self, stage: Stage) -> None:
        """Wait for the file ``end-N``."""
        self._number += 1
        (FOLDER / f"begun-{self._number}").touch()
        while not (FOLDER / f"end-{self._number}").exists():
            time.sleep(0.05)


if __name__ == "__main__":
    run_worker(
        create_celery(Settings.load()),
        make_runner=Waiting,
        care=threading.Event().wait,
        stages=(Stage.PREDICT,),
        concurrency=1,
        log_level="WARNING",
    )
