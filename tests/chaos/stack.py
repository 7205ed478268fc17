"""The service as processes that can be killed, in the two forms in which it is run."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

import httpx

from service.settings import Settings
from tests.servers import Postgres, Redis, descendants, free_port, kill

ROOT = Path(__file__).resolve().parents[2]
WATCH_S = 0.5
STOP_S = 90.0


class Program:
    """A command that is started again whenever it has ended, as Docker or systemd would."""

    def __init__(self, name: str, command: list[str], environment: Mapping[str, str], log: Path) -> None:
        self.name = name
        self._command = command
        self._environment = dict(environment)
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._wanted = threading.Event()
        self._lock = threading.Lock()
        threading.Thread(target=self._watch, daemon=True).start()

    @property
    def pid(self) -> int:
        with self._lock:
            return -1 if self._process is None else self._process.pid

    def start(self) -> None:
        self._wanted.set()

    def stop(self) -> None:
        self._wanted.clear()
        with self._lock:
            process = self._process
        if process is not None:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            process.wait(STOP_S)

    def _watch(self) -> None:
        while True:
            self._wanted.wait()
            with self._lock:
                if self._wanted.is_set() and (self._process is None or self._process.poll() is not None):
                    with self._log.open("ab") as log:
                        self._process = subprocess.Popen(
                            self._command, env=self._environment, stdout=log, stderr=log, start_new_session=True
                        )
            time.sleep(WATCH_S)


class Stack:
    """A running service.

    Parameters
    ----------
    folder
        Of its data and its logs.
    """

    def __init__(self, folder: Path, chance: random.Random, **settings: object) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.chance = chance
        self.settings = Settings.load(data_dir=folder / "data", port=free_port(), **settings)
        self.programs: list[Program] = []
        self.faults: dict[str, Callable[[], bool]] = {}

    def program(self, name: str, *arguments: str) -> Program:
        environment = {**self.settings.environment(), "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "service.cli", *arguments]
        made = Program(name, command, environment, self.folder / f"{name}.log")
        self.programs.append(made)
        return made

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.settings.port}"

    def start(self) -> None:
        self.start_again()

    def start_again(self) -> None:
        """Start what was stopped, but not the servers of others, which run on."""
        for program in self.programs:
            program.start()

    def is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.address}/readyz").is_success
        except httpx.TransportError:
            return False

    def stop(self) -> None:
        with ExitStack() as stopping:  # the others stop even if one does not
            for program in reversed(self.programs):
                stopping.callback(program.stop)

    def close(self) -> None:
        self.stop()

    def survivors(self) -> list[int]:
        """Process ids of all that still run with this stack's data, however they came about."""
        mark = f"DIFFDP_DATA_DIR={self.settings.data_dir}".encode()
        found = []
        for place in Path("/proc").glob("[0-9]*/environ"):
            try:
                if mark in place.read_bytes() and int(place.parent.name) != os.getpid():
                    found.append(int(place.parent.name))
            except OSError:
                continue
        return found

    def one_below(self, *programs: Program) -> bool:
        """Kill one of the processes that programs have started."""
        below = [pid for program in programs if program.pid > 0 for pid in descendants(program.pid)]
        return bool(below) and kill(self.chance.choice(below))

    def broker_is_empty(self) -> bool:
        raise NotImplementedError


class Distributed(Stack):
    """API, two workers, Redis and PostgreSQL."""

    title = "Redis, PostgreSQL, two workers"

    def __init__(self, folder: Path, chance: random.Random, **settings: object) -> None:
        self.redis = Redis(folder / "redis")
        self.postgres = Postgres()
        super().__init__(
            folder, chance, broker_url=self.redis.url, database_url=self.postgres.url("diffdp"), **settings
        )
        self.api = self.program("api", "serve", "--no-worker")
        self.workers = [self.program(f"worker-{number}", "worker") for number in (1, 2)]
        self.faults = {
            "a worker": lambda: kill(self.chance.choice(self.workers).pid),
            "a process of a worker": lambda: self.one_below(*self.workers),
            "the API": lambda: kill(self.api.pid),
            "Redis": lambda: self._restart_redis(with_data=False),
            "Redis with its data": lambda: self._restart_redis(with_data=True),
            "PostgreSQL": self._restart_postgres,
        }

    def start(self) -> None:
        self.redis.start()
        self.postgres.start()
        self.postgres.execute("CREATE DATABASE diffdp")
        super().start()

    def close(self) -> None:
        with ExitStack() as closing:
            closing.callback(self.postgres.stop)
            closing.callback(self.redis.stop)
            closing.callback(super().close)

    def broker_is_empty(self) -> bool:
        import redis

        with redis.Redis.from_url(self.settings.broker_url) as client:
            return not any(client.llen(queue) for queue in ("prepare", "predict", "publish")) and not client.hlen(
                "unacked"
            )

    def _restart_redis(self, *, with_data: bool) -> bool:
        self.redis.kill(with_data=with_data)
        time.sleep(self.chance.uniform(0, 3))
        self.redis.start()
        return True

    def _restart_postgres(self) -> bool:
        self.postgres.kill()
        time.sleep(self.chance.uniform(0, 3))
        self.postgres.start()
        return True


class Embedded(Stack):
    """The one command that needs nothing else."""

    title = "`diffdp serve` alone: SQLite and a broker of files"

    def __init__(self, folder: Path, chance: random.Random, **settings: object) -> None:
        super().__init__(folder, chance, **settings)
        self.server = self.program("server", "serve")
        self.faults = {
            "the server": lambda: kill(self.server.pid),
            "a process of the worker": lambda: self.one_below(self.server),
        }

    def broker_is_empty(self) -> bool:
        return not any((self.settings.data_dir / "broker" / "messages").iterdir())
