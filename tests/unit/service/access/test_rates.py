"""Rates: who is turned away, what is told, and where it is counted."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.access.rates import Rates
from service.errors import TooManyRequests
from service.settings import Settings
from tests.problems import problem
from tests.servers import Redis

ZIP = {"Content-Type": "application/zip"}


def test_a_caller_that_calls_too_often_is_told_when_to_come_again(make_caller) -> None:
    client = make_caller("clinic", calls_per_minute=3)
    for _ in range(3):
        assert client.get("/v1/jobs").status_code == 200
    answer = client.get("/v1/jobs")
    told = problem(answer, 429, "rate-limited")
    assert 1 <= int(answer.headers["Retry-After"]) == told["details"]["retry_after_s"] <= 60
    # Others are none the worse for it, of the same tenant either
    other = make_caller("clinic")
    client.headers["Authorization"] = other.headers["Authorization"]
    assert client.get("/v1/jobs").status_code == 200


def test_studies_are_counted_by_tenant(make_caller) -> None:
    client = make_caller("clinic", submissions_per_minute=1)
    assert client.post("/v1/jobs", content=b"study", headers=ZIP).status_code == 202
    client.headers["Authorization"] = make_caller("clinic").headers["Authorization"]
    problem(client.post("/v1/jobs", content=b"study", headers=ZIP), 429, "rate-limited")
    assert client.get("/v1/jobs").status_code == 200


def test_who_has_no_key_is_turned_away_at_some_time_and_whoever_has_one_is_not(make_caller, monkeypatch) -> None:
    monkeypatch.setattr("service.access.rates.LOST_KEYS_PER_MINUTE", 2)
    client = make_caller("clinic")
    wrong = {"Authorization": "Bearer wrong"}
    assert [client.get("/v1/jobs", headers=wrong).status_code for _ in range(4)] == [401, 401, 429, 429]
    assert client.get("/v1/jobs").status_code == 200


def test_no_limit() -> None:
    rates = Rates(calls_per_minute=0, submissions_per_minute=1)
    for _ in range(1000):
        rates.call("a")


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    if not shutil.which("redis-server"):
        pytest.skip("Redis is not installed")
    server = Redis(tmp_path / "redis")
    server.start()
    yield server
    server.stop()


def test_processes_count_together_in_redis_and_each_for_itself_without_it(redis: Redis, tmp_path: Path, caplog) -> None:
    settings = Settings(data_dir=tmp_path, broker_url=redis.url, calls_per_minute=5)
    one, other = Rates.of(settings), Rates.of(settings)
    assert one.is_shared
    for rates in (one, other, one, other, one):
        rates.call("key:a")
    for rates in (one, other):
        with pytest.raises(TooManyRequests):
            rates.call("key:a")
    redis.kill()
    begun = time.monotonic()
    for _ in range(5):
        other.call("key:a")
    with pytest.raises(TooManyRequests):
        other.call("key:a")
    # Asked once, then left alone for a while
    assert len([record for record in caplog.records if "Redis" in record.message]) == 1
    assert time.monotonic() - begun < 30
