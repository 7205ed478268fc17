"""Rates: who is turned away, what is told, and where it is counted."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.access.rates import Counted, Rates
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
    assert 1 <= int(answer.headers["Retry-After"]) == told["details"]["retry_after_s"] <= 120
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


def allowed(rates: Rates, who: str = "key:a") -> bool:
    try:
        rates.count(Counted.CALLS, who)
    except TooManyRequests:
        return False
    return True


def test_no_limit() -> None:
    rates = Rates(calls_per_minute=0, submissions_per_minute=1)
    assert all(allowed(rates) for _ in range(1000))


def test_a_rate_is_that_of_the_last_minute_and_what_was_refused_does_not_count() -> None:
    now = [600.0]
    rates = Rates(calls_per_minute=60, submissions_per_minute=1, clock=lambda: now[0])
    assert sum(allowed(rates) for _ in range(100)) == 60
    with pytest.raises(TooManyRequests) as error:
        rates.count(Counted.CALLS, "key:a")
    now[0] += error.value.details["retry_after_s"] - 2
    assert not allowed(rates)
    now[0] += 2
    assert allowed(rates)
    # Half of them are more than a minute old by now
    now[0] = 690.0
    assert sum(allowed(rates) for _ in range(100)) in {28, 29, 30}
    with pytest.raises(TooManyRequests) as error:
        rates.count(Counted.CALLS, "key:a")
    now[0] += error.value.details["retry_after_s"]
    assert allowed(rates)
    now[0] = 900.0
    assert sum(allowed(rates) for _ in range(100)) == 60


def test_who_calls_no_more_is_forgotten() -> None:
    now = [0.0]
    rates = Rates(calls_per_minute=60, submissions_per_minute=1, clock=lambda: now[0])
    for number in range(100):
        now[0] += 10
        allowed(rates, f"key:{number}")
    assert len(rates._tallies) < 20


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    if not shutil.which("redis-server") and not os.environ.get("CI"):
        pytest.skip("Redis is not installed")
    server = Redis(tmp_path / "redis")
    server.start()
    yield server
    server.stop()


def test_processes_count_together_in_redis_and_each_for_itself_without_it(redis, tmp_path, caplog, monkeypatch) -> None:
    monkeypatch.setattr("service.access.rates.TELL_S", -1.0)
    settings = Settings(data_dir=tmp_path, broker_url=redis.url, calls_per_minute=6)
    one, other = Rates.of(settings), Rates.of(settings)
    # All within one minute
    one._clock = other._clock = lambda: 1000.0
    assert one.must_tell(Counted.CALLS, "key:a")
    # One of them may let a request more through, as it learns of the other's last one too late
    assert sum(allowed(rates) for rates in (one, other) * 10) in {6, 7}
    redis.kill()
    # Each knows what was counted until then, and asks once before it goes on alone
    assert not allowed(other)
    assert not other.must_tell(Counted.CALLS, "key:a")
    assert [allowed(other, "key:b") for _ in range(7)] == [True] * 6 + [False]
    assert len([record for record in caplog.records if "Redis" in record.message]) == 1
