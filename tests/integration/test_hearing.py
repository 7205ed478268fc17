"""A worker goes on hearing the bell, whatever is killed around it."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from service.jobs.states import Stage
from service.settings import Settings
from service.worker.celery_app import CeleryDoorbell
from tests.servers import Redis, kill

PATIENCE_S = 60.0
WORKER = Path(__file__).with_name("worker_that_waits.py")


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    server = Redis(tmp_path / "redis")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def start_worker(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start a worker that writes its log into ``log``."""
    workers = []

    def start(settings: Settings, *arguments: str) -> subprocess.Popen[bytes]:
        environment = {**settings.environment(), "PYTHONPATH": ":".join(sys.path)}
        command = [sys.executable, WORKER, tmp_path, *arguments]
        with (tmp_path / "log").open("wb") as log:
            workers.append(subprocess.Popen(command, env=environment, stderr=log))
        return workers[-1]

    yield start
    for worker in workers:
        worker.terminate()
        try:
            worker.wait(PATIENCE_S)
        finally:
            worker.kill()


def wait_for(path: Path, text: str = "") -> str:
    deadline = time.monotonic() + PATIENCE_S
    while not (path.exists() and text in (found := path.read_text())):
        assert time.monotonic() < deadline, f"waited in vain for {path.name} {text}"
        time.sleep(0.1)
    return found


@pytest.mark.parametrize("with_data", [False, True])
def test_a_worker_hears_again_after_its_task_ended_without_redis(
    redis: Redis, tmp_path: Path, start_worker, with_data
) -> None:
    settings = Settings(data_dir=tmp_path / "data", broker_url=redis.url)
    doorbell = CeleryDoorbell(settings)
    start_worker(settings)
    doorbell.ring(Stage.PREDICT)
    wait_for(tmp_path / "begun-1")
    redis.kill(with_data=with_data)
    (tmp_path / "end-1").touch()
    wait_for(tmp_path / "log", "Couldn't ack")
    (tmp_path / "end-2").touch()
    redis.start()
    doorbell.ring(Stage.PREDICT)
    wait_for(tmp_path / "begun-2")


def kill_idle_child(folder: Path, doorbell: CeleryDoorbell) -> int:
    """Let a worker do something, kill its child when it waits for more, and ring; returns who it was."""
    (folder / "end-1").touch()
    doorbell.ring(Stage.PREDICT)
    child = int(wait_for(folder / "ended-1"))
    # In the pool that Celery uses without an event loop it holds a lock from now on
    time.sleep(0.5)
    (folder / "begun-1").unlink()
    kill(child)
    doorbell.ring(Stage.PREDICT)
    return child


def test_an_embedded_worker_hears_again_after_its_idle_child_was_killed(tmp_path: Path, start_worker) -> None:
    settings = Settings(data_dir=tmp_path / "data")
    start_worker(settings)
    child = kill_idle_child(tmp_path, CeleryDoorbell(settings))
    assert int(wait_for(tmp_path / "begun-1")) != child


def test_a_worker_that_is_deaf_ends_even_if_its_pool_cannot(tmp_path: Path, start_worker) -> None:
    settings = Settings(data_dir=tmp_path / "data")
    doorbell = CeleryDoorbell(settings)
    worker = start_worker(settings, "quick", "loopless")
    kill_idle_child(tmp_path, doorbell)
    # The first is taken from the folder and lost in the pool
    doorbell.ring(Stage.PREDICT)
    assert worker.wait(PATIENCE_S) == 1
    assert "WorkerDeaf" in wait_for(tmp_path / "log")


def test_a_worker_at_work_is_not_deaf(tmp_path: Path, start_worker) -> None:
    settings = Settings(data_dir=tmp_path / "data")
    doorbell = CeleryDoorbell(settings)
    start_worker(settings, "quick")
    doorbell.ring(Stage.PREDICT)
    wait_for(tmp_path / "begun-1")
    doorbell.ring(Stage.PREDICT)
    # As long as the worker may be deaf, and a moment
    time.sleep(3.0)
    (tmp_path / "end-1").touch()
    (tmp_path / "end-2").touch()
    wait_for(tmp_path / "begun-2")
    assert "WorkerDeaf" not in (tmp_path / "log").read_text()


def test_a_worker_that_cannot_stop_does_not_outlive_its_parent(tmp_path: Path, processes) -> None:
    code = f"""
import os, signal, sys, time
from pathlib import Path
from service.worker import process

if os.fork():
    os.wait()
signal.signal(signal.SIGTERM, lambda *_: Path({str(tmp_path / "asked")!r}).touch())
process.STOP_S = 0.5
process.follow_parent()
Path({str(tmp_path / "worker")!r}).write_text(f"pid {{os.getpid()}}")
time.sleep(600)
"""
    parent = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": ":".join(sys.path)})
    worker = int(wait_for(tmp_path / "worker", "pid ").removeprefix("pid "))
    parent.kill()
    parent.wait()
    processes.wait_until(lambda: not processes.alive(worker), "the end of the worker")
    assert (tmp_path / "asked").exists()


@pytest.mark.parametrize("with_redis", [False, True])
def test_rings_that_nobody_has_heard_are_counted(tmp_path: Path, request, with_redis) -> None:
    broker_url = request.getfixturevalue("redis").url if with_redis else None
    doorbell = CeleryDoorbell(Settings.load(data_dir=tmp_path / "data", broker_url=broker_url))
    assert doorbell.unheard(Stage.PREDICT) == 0
    for stage in (Stage.PREDICT, Stage.PREPARE, Stage.PREDICT):
        doorbell.ring(stage)
    assert [doorbell.unheard(stage) for stage in Stage] == [1, 2, 0]


def test_nothing_is_counted_without_redis(redis: Redis, tmp_path: Path) -> None:
    doorbell = CeleryDoorbell(Settings(data_dir=tmp_path, broker_url=redis.url))
    doorbell.ring(Stage.PREDICT)
    redis.kill()
    assert doorbell.unheard(Stage.PREDICT) == 0


def test_a_torn_message_is_a_lost_one(tmp_path: Path, start_worker) -> None:
    settings = Settings(data_dir=tmp_path / "data")
    doorbell = CeleryDoorbell(settings)
    doorbell.ring(Stage.PREDICT)
    next((settings.data_dir / "broker" / "messages").iterdir()).write_bytes(b"")
    doorbell.ring(Stage.PREDICT)
    start_worker(settings)
    wait_for(tmp_path / "begun-1")
    (tmp_path / "end-1").touch()
