import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.servers import free_port

Program = Callable[..., subprocess.CompletedProcess[str]]

SEARCHED = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin"))
"""Debian puts servers where only root's path leads."""

START_S = 60.0


def find_program(name: str) -> str:
    """Path of a program that others wrote; where it is absent, skip, but fail in CI."""
    path = shutil.which(name, path=SEARCHED)
    if path is None:
        reason = f"{name} is not installed (Debian packages dicom3tools, dcmtk, orthanc, plastimatch)"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return path


@pytest.fixture(scope="session")
def external_program() -> Callable[[str], Program]:
    """Find a program that others wrote, as something that can be called."""

    def find(name: str) -> Program:
        path = find_program(name)

        def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
            command: Sequence[str] = [path, *map(str, arguments)]
            return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

        return run

    return find


@dataclass(frozen=True)
class Orthanc:
    """A DICOM server that somebody else wrote."""

    http: httpx.Client
    dicom_port: int


@pytest.fixture
def orthanc(tmp_path: Path) -> Iterator[Orthanc]:
    """An empty server that answers this machine only."""
    program = find_program("Orthanc")
    http_port, dicom_port = free_port(), free_port()
    folder = tmp_path / "orthanc"
    folder.mkdir()
    settings = {
        "StorageDirectory": str(folder),
        "IndexDirectory": str(folder),
        "HttpPort": http_port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomPort": dicom_port,
        "DicomAet": "ORTHANC",
        "DicomCheckCalledAet": True,
        "DicomAlwaysAllowStore": False,
        "DicomCheckModalityHost": True,
        "DicomModalities": {"us": ["STORESCU", "127.0.0.1", free_port()]},
    }
    (folder / "orthanc.json").write_text(json.dumps(settings))
    with (folder / "log").open("w") as log:
        server = subprocess.Popen([program, folder / "orthanc.json"], stdout=log, stderr=log, cwd=folder)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{http_port}", timeout=60.0) as http:
            _wait(http, server, folder / "log")
            yield Orthanc(http, dicom_port)
    finally:
        server.terminate()
        server.wait(60)


def _wait(http: httpx.Client, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_S
    while True:
        assert server.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        try:
            if http.get("/system").is_success:
                return
        except httpx.TransportError:
            time.sleep(0.1)
