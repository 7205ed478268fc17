"""A worker as processes: Celery with a pool of one child per place, and a caretaker beside it.

The main process never opens the job database: SQLite's locks do not survive a fork, and the pool forks whenever it
replaces a child. So what looks after jobs that nobody works on has a process of its own, forked before the pool.
"""

import logging
import multiprocessing
import os
import signal
import socket
import threading
import time
import warnings
from collections.abc import Callable
from multiprocessing.synchronize import Event

from celery import Celery
from celery.platforms import SecurityWarning
from celery.signals import worker_process_init, worker_ready, worker_shutting_down

from service.jobs.states import Stage
from service.worker.celery_app import task_name
from service.worker.hearing import Pulse
from service.worker.lifecycle import StageRunner
from service.worker.supervisor import STOP_S

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
    care: Callable[[Pulse], None],
    stages: tuple[Stage, ...],
    concurrency: int,
    log_level: str,
) -> None:
    """Work until asked to stop.

    Parameters
    ----------
    make_runner
        Called in every child of the pool, after the fork, with the question whether the worker is stopping.
    care
        Called with the worker's pulse in a process of its own once the pool is ready; never returns.
    stages
        Whose queues to serve.
    """
    context = multiprocessing.get_context("fork")
    stopping, ready = context.Event(), context.Event()
    pulse, main = Pulse(), os.getpid()
    caretaker = context.Process(
        target=_take_care, args=(main, ready, lambda: care(pulse)), name="caretaker", daemon=True
    )
    caretaker.start()

    def without_caretaker() -> None:
        caretaker.join()
        if not stopping.is_set():
            log.error("the caretaker ended with %s, so the worker ends too", caretaker.exitcode)
            _end()

    def begin_child(**_: object) -> None:
        when_parent_dies(main, lambda: os._exit(1))

    def begin_care(**_: object) -> None:
        pulse.start()
        ready.set()

    def begin_stop(**_: object) -> None:
        stopping.set()

    worker_process_init.connect(begin_child, weak=False)
    worker_ready.connect(begin_care, weak=False)
    worker_shutting_down.connect(begin_stop, weak=False)
    threading.Thread(target=without_caretaker, name="caretaker", daemon=True).start()
    runner = _Once(lambda: make_runner(stopping.is_set))
    for stage in stages:
        _add_task(app, stage, runner)
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


class _Once:
    """Makes a runner with the first task of a child, so that one that cannot be made now is made with the next."""

    def __init__(self, make: Callable[[], StageRunner]) -> None:
        self._make = make
        self._made: StageRunner | None = None

    def __call__(self) -> StageRunner:
        if self._made is None:
            self._made = self._make()
        return self._made


def _take_care(main: int, ready: Event, care: Callable[[], None]) -> None:
    # Ctrl-C in a terminal reaches all processes; this one ends with the main one
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    when_parent_dies(main, lambda: os._exit(1))
    ready.wait()
    try:
        care()
    except Exception:
        log.exception("the caretaker cannot go on")
        raise SystemExit(1) from None


def _add_task(app: Celery, stage: Stage, runner: _Once) -> None:
    def work() -> None:
        try:
            runner().run(stage)
        except Exception:
            # Celery would log its message, which may quote values
            log.exception("a stage ended without an answer, its lease will run out")

    app.task(work, name=task_name(stage))


def follow_parent() -> None:
    """Make this process stop when the one that started it is gone."""
    when_parent_dies(os.getppid(), _end)


def _end() -> None:
    """Ask this process to stop, and end it if it does not: whatever holds it up, its children wait for its end."""
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(STOP_S)
    log.error("the worker does not stop and is ended")
    os._exit(1)
