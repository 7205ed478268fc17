"""Folders as people keep their studies in."""

import os
from pathlib import Path


def files_below(folder: Path) -> list[Path]:
    """Return the regular files of a folder and of all folders below it, sorted; links to folders are followed once."""
    seen: set[str] = set()
    files: list[Path] = []
    for directory, below, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(directory)
        if real in seen:  # such as a link to a folder that it lies in
            below.clear()
            continue
        seen.add(real)
        files += [path for name in names if (path := Path(directory, name)).is_file()]
    return sorted(files)
