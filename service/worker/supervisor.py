"""Keep a worker process running beside the API."""

import logging
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence

log = logging.getLogger(__name__)

SHORT_LIFE_S = 10.0
"""A process that ends sooner is taken to be ill, and is started again after a pause that doubles."""
LONGEST_PAUSE_S = 30.0
STOP_S = 20.0
"""Time that a process gets to give its job back before it is killed."""


class Supervisor:
    """Runs a command and starts it again whenever it ends, until it is stopped."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._command = list(command)
        self._environment = dict(environment)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="supervisor", daemon=True)
        self._process: subprocess.Popen[bytes] | None = None
        self._starting = threading.Lock()

    def start(self) -> None:
        """Start the process."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the process and wait for its end."""
        with self._starting:
            self._stopped.set()
            process = self._process
        if process is not None:
            process.terminate()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _watch(self) -> None:
        pause_s = 1.0
        while True:
            with self._starting:
                if self._stopped.is_set():
                    return
                # A session of its own: Ctrl-C in the terminal must reach the worker through `stop` only
                self._process = subprocess.Popen(  # noqa: S603 - the command is our own
                    self._command, env=self._environment, start_new_session=True
                )
            begun = time.monotonic()
            code = self._process.wait()
            if self._stopped.is_set():
                return
            log.error("the worker ended with %d and is started again", code)
            pause_s = 1.0 if time.monotonic() - begun > SHORT_LIFE_S else min(2 * pause_s, LONGEST_PAUSE_S)
            self._stopped.wait(pause_s)
