"""Storage as the service sees it, and its local form.

What is stored are folders of files, each under a key such as ``jobs/<id>/study``. A folder appears whole or not at
all, and is never changed afterwards.
"""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Protocol
from uuid import uuid4


class StorageError(OSError):
    """Storage that is not on a disk cannot do what a disk would."""


class Storage(Protocol):
    """Stores folders of files."""

    def writing(self, key: str) -> AbstractContextManager[Path]:
        """Give an empty local folder; when the context ends without an error, it is stored under the key."""

    def reading(self, key: str, *names: str) -> AbstractContextManager[Path]:
        """Give a local folder with the files stored under a key; FileNotFoundError if nothing is.

        Names say which of them are wanted, so that others need not come along.
        """

    def children(self, key: str, *, older_than_s: float = 0.0) -> list[str]:
        """Return the names below a key, sorted; only of what has not changed for so long."""

    def delete(self, key: str) -> None:
        """Delete all that is stored under a key or below it; nothing happens if there is nothing."""

    def sweep(self, older_than_s: float) -> None:
        """Delete what writers that were killed have left half-written."""

    def check(self) -> None:
        """Raise OSError if nothing can be written."""

    def free_bytes(self) -> int:
        """Return how much more can be stored."""

    def room_bytes(self) -> int:
        """Return how large a folder can be written now."""


class LocalStorage:
    """Storage in a folder of a local or shared file system.

    Folders are written beside their place and renamed into it, so that a reader never sees half of one.

    Parameters
    ----------
    root
        Where to store; is made if it is not there.
    """

    def __init__(self, root: Path, clock: Callable[[], float] = time.time) -> None:
        self._root = root
        self._unfinished = root / "unfinished"
        self._clock = clock
        self._unfinished.mkdir(parents=True, exist_ok=True, mode=0o700)

    @contextmanager
    def writing(self, key: str) -> Iterator[Path]:
        """Give an empty folder; when the context ends without an error, it is stored under the key."""
        folder = self._unfinished / uuid4().hex
        folder.mkdir(mode=0o700)
        try:
            yield folder
            for path in (*folder.iterdir(), folder):
                _flush(path)
            target = self._path(key)
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            folder.rename(target)
            _flush(target.parent)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def reading(self, key: str, *_names: str) -> Iterator[Path]:
        """Give the folder stored under a key."""
        path = self._path(key)
        if not path.is_dir():
            raise FileNotFoundError(f"nothing is stored under {key}")
        yield path

    def children(self, key: str, *, older_than_s: float = 0.0) -> list[str]:
        """Return the names below a key, sorted; only of what has not changed for so long."""
        path = self._path(key)
        return sorted(child.name for child in _older(path, self._clock() - older_than_s)) if path.is_dir() else []

    def delete(self, key: str) -> None:
        """Delete all that is stored under a key or below it."""
        doomed = self._unfinished / uuid4().hex
        # Two may delete at once
        with suppress(FileNotFoundError):
            # Out of sight first: a reader must not see half of a folder
            self._path(key).rename(doomed)
            shutil.rmtree(doomed, ignore_errors=True)

    def sweep(self, older_than_s: float) -> None:
        """Delete what writers that were killed have left half-written."""
        moment = self._clock() - older_than_s
        for folder in _older(self._unfinished, moment):
            with suppress(FileNotFoundError, NotADirectoryError):
                # A folder does not change while a large file in it grows
                if all(path.stat().st_mtime <= moment for path in folder.iterdir()):
                    shutil.rmtree(folder, ignore_errors=True)

    def check(self) -> None:
        """Raise OSError if nothing can be written."""
        probe = self._unfinished / uuid4().hex
        probe.touch()
        probe.unlink()

    def free_bytes(self) -> int:
        """Return how much more can be stored."""
        return shutil.disk_usage(self._root).free

    room_bytes = free_bytes

    def _path(self, key: str) -> Path:
        check_key(key)
        return self._root / key


def check_key(key: str) -> None:
    """Pass if a key is made of names; else raise ValueError."""
    if any(part in {"", ".", ".."} for part in key.split("/")):
        raise ValueError(f"{key!r} is no key")


def _older(folder: Path, moment: float) -> Iterator[Path]:
    """Children of a folder that have not changed since a moment; others may come and go meanwhile."""
    for child in folder.iterdir():
        with suppress(FileNotFoundError):
            if child.stat().st_mtime <= moment:
                yield child


def _flush(path: Path) -> None:
    """Make sure that a file or folder survives a loss of power."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
