"""Run the examination where a crash, a memory bomb or an endless loop cannot hurt the caller."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from pydantic import ValidationError

from service.errors import StudyUnreadable
from service.intake.limits import Limits
from service.intake.messages import PID_BYTES, Answer, KnownModel, Request
from service.jobs.job import DEFAULT_TENANT, Examination, Parameters

GRACE_S = 5
"""What the examining process gets beyond its own time limit before it is killed from outside."""

START_S = 60
"""Longest wait for a new process: its first one loads all libraries, on a machine that may be busy."""


MAX_ANSWER_BYTES = 4 * 2**20
"""More than enough for the names of thousands of ROIs; they come back to the caller and stay in the job database."""


class Examiner(Protocol):
    """Examines the folder of an upload."""

    async def __call__(self, folder: Path, parameters: Parameters, *, tenant: str = DEFAULT_TENANT) -> Examination:
        """Leave only the files of the study in the folder and say how it can be predicted, or raise `DiffDPError`."""


class SubprocessExaminer:
    """Examines every study in a process of its own, forked from `service.intake.examine`.

    Parameters
    ----------
    models
        What must be known of each model.
    limits
        What the upload may expand to, and what the process may use.
    at_once
        How many examinations may run side by side; more wait, in one line in which no tenant stands more than so often.
        So whoever posts many studies at once does not keep others waiting until they all are examined.
    """

    def __init__(self, models: Mapping[str, KnownModel], limits: Limits, at_once: int = 2) -> None:
        self._models = dict(models)
        self._limits = limits
        self._at_once = at_once
        self._turn = asyncio.Semaphore(at_once)
        self._tenants: weakref.WeakValueDictionary[str, asyncio.Semaphore] = weakref.WeakValueDictionary()
        self._template = Template()

    async def __call__(self, folder: Path, parameters: Parameters, *, tenant: str = DEFAULT_TENANT) -> Examination:
        """Examine one upload."""
        request = Request(folder=folder, parameters=parameters, models=self._models, limits=self._limits)
        of_tenant = self._tenants.setdefault(tenant, asyncio.Semaphore(self._at_once))
        async with of_tenant, self._turn:
            output = await self._exchange(request.model_dump_json().encode())
        try:
            answer = Answer.model_validate_json(output)
        except ValidationError:
            message = "the study cannot be read: it takes too much time or memory, or breaks the reader"
            raise StudyUnreadable(message) from None
        if answer.refusal is not None:
            raise answer.refusal.error()
        if answer.fault is not None:
            raise OSError(answer.fault, os.strerror(answer.fault))
        if answer.examination is None:
            raise StudyUnreadable("the study cannot be read")
        return answer.examination

    async def _exchange(self, request: bytes) -> bytes:
        """Send a request to a new process and return all that it writes; nothing if it dies of the request."""
        pid, connection = await asyncio.to_thread(self._template.fork)
        has_ended = False
        try:
            async with asyncio.timeout(self._limits.timeout_s + GRACE_S):
                output = await _converse(connection, request)
            has_ended = True
        except TimeoutError:
            raise StudyUnreadable("reading the study took too long") from None
        finally:
            if not has_ended:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        return output


async def _converse(connection: socket.socket, request: bytes) -> bytes:
    """Write a request to a socket and return all that comes back until its other end is closed."""
    with connection:
        reader, writer = await asyncio.open_unix_connection(sock=connection)
        try:
            writer.write(request)
            writer.write_eof()
            await reader.readexactly(MAX_ANSWER_BYTES + 1)
        except asyncio.IncompleteReadError as ended:
            return ended.partial
        except ConnectionError:
            return b""
        finally:
            writer.transport.abort()
    raise StudyUnreadable(f"what must be said of the study is longer than {MAX_ANSWER_BYTES} bytes")


class Template:
    """A process that has loaded what an examination needs, and from which examinations are forked.

    It saves each of them the better part of a second. It never sees a study, so what its children have in common is
    the memory of a process that has only been started.
    """

    def __init__(self) -> None:
        self._one_at_a_time = threading.Lock()
        self._control: socket.socket | None = None
        self._stop: Callable[[], object] = lambda: None

    def fork(self) -> tuple[int, socket.socket]:
        """Return the identifier of a new process, and a socket to it.

        Raises
        ------
        OSError
            If none can be made.
        """
        with self._one_at_a_time:
            try:
                return self._fork()
            except OSError:
                # The template, too, can be killed, and is then started anew
                return self._fork()

    def _fork(self) -> tuple[int, socket.socket]:
        if self._control is None:
            self._control = self._start()
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                socket.send_fds(self._control, [b"."], [theirs.fileno()])
                pid = self._control.recv(PID_BYTES)
            if len(pid) < PID_BYTES:
                raise ConnectionError("the process that examinations are forked from has ended")
        except OSError:
            ours.close()
            self._control = None
            self._stop()
            raise
        return int.from_bytes(pid), ours

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        ours.settimeout(START_S)
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-m", "service.intake.examine"],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                # Every thread of a linear algebra library reserves address space, which is limited
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
            )
        self._stop = weakref.finalize(self, _stop, process, ours)
        return ours


def _stop(process: "subprocess.Popen[bytes]", control: socket.socket) -> None:
    control.close()
    process.kill()
    process.wait()
