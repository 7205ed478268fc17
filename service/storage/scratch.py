"""Folders of one process on the local disk, gone with it however it ends."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from uuid import uuid4


class Scratch:
    """A place for folders that live briefly; processes that share it do not meet.

    Every process holds a lock on a folder of its own below the root. The system frees it when the process ends, so what
    nobody holds is what somebody was killed over.

    Parameters
    ----------
    root
        Is made if it is not there.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._root.mkdir(parents=True, exist_ok=True, mode=0o700)

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """Give an empty folder, and delete it afterwards."""
        folder = self._own / uuid4().hex
        folder.mkdir(mode=0o700)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def sweep(self) -> None:
        """Delete what processes have left that are no more."""
        for folder in self._root.iterdir():
            with suppress(FileNotFoundError, BlockingIOError):
                descriptor = os.open(folder, os.O_RDONLY)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(folder, ignore_errors=True)
                finally:
                    os.close(descriptor)

    def free_bytes(self) -> int:
        """Return the free space of its disk."""
        return shutil.disk_usage(self._own).free

    @cached_property
    def _own(self) -> Path:
        self.sweep()
        while True:
            own = self._root / uuid4().hex
            own.mkdir(mode=0o700)
            with suppress(FileNotFoundError):
                # Never closed: the lock is held as long as the process lives
                fcntl.flock(os.open(own, os.O_RDONLY), fcntl.LOCK_EX)
                # Another one may have swept it away before it was locked
                if own.is_dir():
                    return own
