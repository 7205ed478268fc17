"""A worker as a process: Celery with a pool of one child per place, the reaper beside it."""

import logging
import multiprocessing
import os
import signal
import socket
import threading
import time
import warnings
from collections.abc import Callable, Sequence

from celery import Celery
from celery.platforms import SecurityWarning
from celery.signals import worker_process_init, worker_ready, worker_shutting_down

from service.jobs.states import Stage
from service.worker.celery_app import task_name
from service.worker.lifecycle import StageRunner
from service.worker.reaper import Reaper

log = logging.getLogger(__name__)

PARENT_CHECK_S = 0.5


def worker_name() -> str:
    """Name of this process among all workers."""
    return f"{socket.gethostname()}:{os.getpid()}"


def when_parent_dies(parent: int, act: Callable[[], None]) -> None:
    """Act as soon as this process has another parent than the given one, however that ended.

    Polled rather than left to ``prctl``, which knows threads instead of processes and Linux only.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_CHECK_S)
        act()

    threading.Thread(target=watch, name="parent", daemon=True).start()


def run_worker(
    app: Celery,
    *,
    make_runner: Callable[[Callable[[], bool]], StageRunner],
    make_reaper: Callable[[], Reaper],
    stages: tuple[Stage, ...],
    concurrency: int,
    log_level: str,
) -> None:
    """Work until asked to stop.

    Parameters
    ----------
    make_runner
        Called in every child of the pool, after the fork, with the question whether the worker is stopping.
    make_reaper
        Called in the main process.
    stages
        Whose queues to serve.
    """
    stopping = multiprocessing.get_context("fork").Event()
    runners: list[StageRunner] = []
    main = os.getpid()

    def begin_child(**_: object) -> None:
        when_parent_dies(main, lambda: os._exit(1))
        runners.append(make_runner(stopping.is_set))

    def begin_reaper(**_: object) -> None:
        make_reaper().start()

    def begin_stop(**_: object) -> None:
        stopping.set()

    worker_process_init.connect(begin_child, weak=False)
    worker_ready.connect(begin_reaper, weak=False)
    worker_shutting_down.connect(begin_stop, weak=False)
    for stage in stages:
        _add_task(app, stage, runners)
    # Celery warns of root for the sake of pickled messages; ours are JSON without content
    warnings.simplefilter("ignore", SecurityWarning)
    app.worker_main(
        [
            "--quiet",
            "worker",
            *("--pool", "prefork", "--concurrency", str(concurrency)),
            *("--queues", ",".join(stages), "--loglevel", log_level),
            *("--without-gossip", "--without-mingle", "--without-heartbeat"),
        ]
    )


def _add_task(app: Celery, stage: Stage, runners: Sequence[StageRunner]) -> None:
    def work() -> None:
        try:
            runners[0].run(stage)
        except Exception:
            # Celery would log its message, which may quote values
            log.exception("a stage ended without an answer, its lease will run out")

    app.task(work, name=task_name(stage))


def follow_parent() -> None:
    """Make this process stop when the one that started it is gone."""
    when_parent_dies(os.getppid(), lambda: os.kill(os.getpid(), signal.SIGTERM))
