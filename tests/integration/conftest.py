"""A whole service: real API, database, storage, examination, broker and worker processes."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from model.cohort.neck import simulated_neck
from model.dicom.export import write_study
from service.intake.archive import pack
from service.settings import Settings
from service.wiring import build_api
from tests.servers import S3, Postgres, Redis, descendants, free_port

ROOT = Path(__file__).resolve().parents[2]
BROKERS = ("embedded", "redis") if shutil.which("redis-server") else ("embedded",)
"""Redis is tried wherever it is installed, as it is in CI."""

PATIENCE_S = 90.0
"""Longest wait for anything; the machine may be busy."""


def wait_until(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + PATIENCE_S
    while not (result := condition()):
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.1)
    return result


def environment(settings: Settings) -> dict[str, str]:
    return {**settings.environment(), "PYTHONPATH": str(ROOT)}


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Zip archive of a simulated patient."""
    folder = tmp_path_factory.mktemp("study")
    write_study(simulated_neck(1), folder / "dicom")
    pack({path.name: path for path in sorted((folder / "dicom").iterdir())}, folder / "study.zip")
    return folder / "study.zip"


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    server = Redis(tmp_path_factory.mktemp("redis"))
    try:
        server.start()
        yield server.url
    finally:
        server.stop()


@pytest.fixture
def database_url(database: str, request: pytest.FixtureRequest) -> Iterator[str | None]:
    """Address of a job database of the test's own, None for SQLite in the data directory."""
    if database == "sqlite":
        yield None
        return
    server: Postgres = request.getfixturevalue("postgres")
    server.execute("DROP DATABASE IF EXISTS service WITH (FORCE)")
    server.execute("CREATE DATABASE service")
    yield server.url("service")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "every_broker: the test depends on the broker, so it runs on each")
    config.addinivalue_line("markers", "in_bucket: storage is a bucket, one that keeps old versions")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "broker" in metafunc.fixturenames:
        metafunc.parametrize(
            "broker", BROKERS if metafunc.definition.get_closest_marker("every_broker") else BROKERS[:1]
        )


@pytest.fixture
def settings(
    broker: str, database_url: str | None, request: pytest.FixtureRequest, tmp_path: Path, tiny_models: Path
) -> Settings:
    """Settings under which everything that waits, waits briefly."""
    broker_url = request.getfixturevalue("redis_url") if broker == "redis" else None
    storage: dict[str, object] = {}
    if request.node.get_closest_marker("in_bucket"):
        s3: S3 = request.getfixturevalue("s3")
        bucket = s3.make_bucket(versions=True)
        storage = {"storage_url": f"s3://{bucket}/diffdp", "s3_endpoint": s3.url, "s3_region": "eu-central-1"}
        storage |= {"s3_access_key_id": s3.KEY, "s3_secret_access_key": s3.KEY}
    return Settings.load(
        data_dir=tmp_path / "data",
        broker_url=broker_url,
        database_url=database_url,
        model_dirs=(tiny_models,),
        device="cpu",
        lease_s=6,
        heartbeat_s=0.2,
        reap_s=0.5,
        ring_again_s=5,
        **storage,
    )


class Service:
    """The service as its clients and its operators see it."""

    def __init__(self, settings: Settings, study: Path) -> None:
        self.settings = settings
        self.study = study
        self.http = TestClient(build_api(settings), base_url="http://localhost")
        self.workers: list[subprocess.Popen[bytes]] = []

    def start_worker(self, seconds: float) -> subprocess.Popen[bytes]:
        script = Path(__file__).with_name("worker_with_fake_network.py")
        worker = subprocess.Popen([sys.executable, str(script), str(seconds)], env=environment(self.settings))
        self.workers.append(worker)
        return worker

    def post(self, **parameters: object) -> str:
        answer = self.http.post(
            "/v1/jobs",
            content=self.study.read_bytes(),
            headers={"Content-Type": "application/zip"},
            params={"model": "tiny", **parameters},
        )
        assert answer.status_code == 202, answer.text
        return answer.json()["id"]

    def job(self, job_id: str) -> dict[str, Any]:
        return self.http.get(f"/v1/jobs/{job_id}").json()

    def wait_for(self, job_id: str, *states: str) -> dict[str, Any]:
        def arrived() -> dict[str, Any] | None:
            job = self.job(job_id)
            return job if job["state"] in states else None

        return wait_until(arrived, f"{states}")

    def wait_until_predicting(self, job_id: str) -> None:
        wait_until(lambda: self.job(job_id)["progress"]["slices_done"] > 0, "progress")

    def folders(self, job_id: str) -> list[str]:
        folder = self.settings.data_dir / "storage" / "jobs" / job_id
        return sorted(path.name for path in folder.iterdir()) if folder.exists() else []

    def stop(self) -> None:
        for worker in self.workers:
            if worker.poll() is None:
                worker.send_signal(signal.SIGTERM)
        for worker in self.workers:
            worker.wait(PATIENCE_S)
        self.http.app.state.service.close()


@pytest.fixture
def service(settings: Settings, study: Path) -> Iterator[Service]:
    running = Service(settings, study)
    try:
        yield running
    finally:
        running.stop()


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A dead process whose parent has not asked for its end still answers
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rsplit(")", 1)[1].split()[0] != "Z"


@pytest.fixture
def processes() -> Any:
    """Functions on processes, for tests that kill."""

    class Processes:
        descendants = staticmethod(descendants)
        alive = staticmethod(is_alive)
        wait_until = staticmethod(wait_until)
        free_port = staticmethod(free_port)
        environment = staticmethod(environment)

    return Processes
