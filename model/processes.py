"""Processes beside this one for work that takes all processors."""

import multiprocessing
import os
import threading
from concurrent.futures import ProcessPoolExecutor


def process_pool(workers: int) -> ProcessPoolExecutor:
    """Return a pool whose processes end with this one, even if it is killed.

    They are spawned, not forked: CUDA may have been touched. Threads would wait for each other where numpy works.
    """
    return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_end_with_parent)


def _end_with_parent() -> None:
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None  # noqa: S101 - it is a pool's process
    parent.join()
    os._exit(1)
