import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

Program = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def external_program() -> Callable[[str], Program]:
    """Find a program that others wrote; where it is absent, skip, but fail in CI."""

    def find(name: str) -> Program:
        path = shutil.which(name)
        if path is None:
            reason = f"{name} is not installed (Debian packages dicom3tools, dcmtk, plastimatch)"
            if os.environ.get("CI"):
                pytest.fail(reason)
            pytest.skip(reason)

        def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
            command: Sequence[str] = [path, *map(str, arguments)]
            return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

        return run

    return find
