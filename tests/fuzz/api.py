"""The real API in a process of its own, and what can be seen of it from outside."""

import contextlib
import http.client
import io
import json
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from service.settings import Settings
from tests.servers import answers, descendants, free_port

ROOT = Path(__file__).resolve().parents[2]
START_S = 60.0
ANSWER_S = 150.0
"""After so long an answer is given up; what is allowed is shorter."""
LOCALHOST = "127.0.0.1"
DATABASE = "diffdp.sqlite"


class Dropped(Exception):
    """The connection ended without an answer."""


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def is_problem(self) -> bool:
        """Whether it says of itself that it is a problem of RFC 9457."""
        return self.headers.get("content-type") == "application/problem+json"

    def json(self) -> Any:
        """Return its body as JSON."""
        return json.loads(self.body)


class Api:
    """`diffdp serve` without a worker, with all its folders below one that is empty."""

    def __init__(self, folder: Path) -> None:
        self._data, self._temporary, self._working = folder / "data", folder / "tmp", folder / "cwd"
        self.settings = Settings.load(data_dir=self._data, port=free_port(), submissions_per_minute=0, log_level="INFO")
        self.host = f"{LOCALHOST}:{self.settings.port}"
        for path in (self._temporary, self._working):
            path.mkdir()
        self._log = folder / "api.log"
        self._log_read = 0
        environment = {**self.settings.environment(), "PYTHONPATH": str(ROOT), "TMPDIR": str(self._temporary)}
        command = [sys.executable, "-m", "service.cli", "serve", "--no-worker", "--data-dir", str(self._data)]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command, cwd=self._working, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + START_S
        while not answers(self.settings.port):
            if not self.is_alive() or time.monotonic() > deadline:
                raise RuntimeError(f"the API does not start: {self._log.read_text()}")
            time.sleep(0.1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def send(self, request: bytes, *, leaves: bool = False) -> Answer:
        """Send bytes and read the answer.

        Raises
        ------
        Dropped
            If there is none.
        """
        with socket.create_connection((LOCALHOST, self.settings.port), timeout=ANSWER_S) as connection:
            # An answer may come before the end of the request, which then need not be read
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.sendall(request)
                if leaves:
                    connection.shutdown(socket.SHUT_WR)
            answer = b""
            # Who closes a connection before everything was read resets it, after the answer
            with contextlib.suppress(ConnectionResetError, TimeoutError):
                while block := connection.recv(2**16):
                    answer += block
        return _parse(answer)

    def call(self, method: str, path: str) -> Answer:
        """Make a plain request."""
        return self.send(f"{method} {path} HTTP/1.1\r\nHost: {self.host}\r\nConnection: close\r\n\r\n".encode())

    def is_alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    def resident_mib(self, field: str = "VmRSS") -> int:
        """Memory of the API process."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(next(line.split()[1] for line in status.splitlines() if line.startswith(field))) // 1024

    def open_files(self) -> int:
        """Count file descriptors of the API process."""
        return len(list(Path(f"/proc/{self._process.pid}/fd").iterdir()))

    def processes(self) -> int:
        """Count processes below the API's."""
        return len(descendants(self._process.pid))

    def jobs(self) -> int:
        """Count jobs that were not purged."""
        with contextlib.closing(sqlite3.connect(self._data / DATABASE, timeout=30)) as database:
            return int(database.execute("SELECT count(*) FROM jobs WHERE purged_at IS NULL").fetchone()[0])

    def database(self) -> bytes:
        """Return the job database as it lies on the disk."""
        return b"".join(path.read_bytes() for path in self._data.glob(f"{DATABASE}*"))

    def leftovers(self) -> list[str]:
        """Return what lies where nothing may lie once no job is there."""
        storage = self._data / "storage"
        usual = {storage, storage / "jobs", storage / "unfinished", self._data / "broker"}
        usual |= {self._data / f"{DATABASE}{suffix}" for suffix in ("", "-wal", "-shm")}
        found = {path for folder in (storage, self._temporary, self._working) for path in folder.rglob("*")}
        return [str(path.relative_to(self._data.parent)) for path in (found | {*self._data.iterdir()}) - usual]

    def new_log_lines(self) -> list[str]:
        """Return the lines that were logged since the last call."""
        with self._log.open("rb") as log:
            log.seek(self._log_read)
            lines = log.read()
        self._log_read += len(lines)
        return lines.decode("utf-8", "replace").splitlines()


class _Received:
    """Stands for a socket where bytes were already received."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def makefile(self, _mode: str) -> io.BytesIO:
        """Return the bytes."""
        return io.BytesIO(self._content)


def _parse(content: bytes) -> Answer:
    response = http.client.HTTPResponse(_Received(content), method="POST")  # type: ignore[arg-type]
    try:
        response.begin()
        body = response.read()
    except http.client.HTTPException as error:
        raise Dropped(f"{type(error).__name__} in {content[:200]!r}") from error
    return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, body)
