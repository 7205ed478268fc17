"""Redis goes away while a worker works, and comes back."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.jobs.states import Stage
from service.settings import Settings
from service.worker.celery_app import CeleryDoorbell
from tests.servers import Redis

PATIENCE_S = 60.0
WORKER = Path(__file__).with_name("worker_that_waits.py")


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    server = Redis(tmp_path / "redis")
    server.start()
    yield server
    server.stop()


def wait_for(path: Path, text: str = "") -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not (path.exists() and text in path.read_text()):
        assert time.monotonic() < deadline, f"waited in vain for {path.name} {text}"
        time.sleep(0.1)


@pytest.mark.parametrize("with_data", [False, True])
def test_a_worker_hears_again_after_its_task_ended_without_redis(redis: Redis, tmp_path: Path, with_data) -> None:
    settings = Settings(data_dir=tmp_path / "data", broker_url=redis.url)
    doorbell, log = CeleryDoorbell(settings), tmp_path / "log"
    environment = {"DIFFDP_DATA_DIR": str(settings.data_dir), "DIFFDP_BROKER_URL": redis.url}
    with log.open("wb") as output:
        worker = subprocess.Popen(
            [sys.executable, WORKER, tmp_path], env={**environment, "PYTHONPATH": ":".join(sys.path)}, stderr=output
        )
    try:
        doorbell.ring(Stage.PREDICT)
        wait_for(tmp_path / "begun-1")
        redis.kill(with_data=with_data)
        (tmp_path / "end-1").touch()
        wait_for(log, "Couldn't ack")
        (tmp_path / "end-2").touch()
        redis.start()
        doorbell.ring(Stage.PREDICT)
        wait_for(tmp_path / "begun-2")
    finally:
        worker.terminate()
        worker.wait()
