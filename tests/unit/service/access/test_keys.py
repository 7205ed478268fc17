"""API keys: their life, what the database holds of them, and the command that makes them."""

import asyncio
import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, text
from typer.testing import CliRunner, Result

from service.access.caller import Scope
from service.access.keys import ApiKey, KeyStore
from service.cli.main import app
from service.errors import KeyNotFound
from service.jobs.repository import JobRepository
from service.settings import Settings, SettingsError
from service.wiring import build_api, open_keys
from tests.problems import problem


def find(keys: KeyStore, shown: str) -> ApiKey | None:
    return keys.find([shown])[shown]


@pytest.mark.every_database
def test_a_key_opens_until_it_is_revoked_or_expired(keys: KeyStore, clock) -> None:
    assert keys.is_empty()
    shown, made = keys.create("planning", "clinic", {Scope.READ}, lasts=timedelta(days=1))
    found = find(keys, shown)
    assert found == made
    assert (found.caller.tenant, found.caller.name, found.caller.scopes) == ("clinic", f"key:{made.id}", {Scope.READ})
    clock.advance(86_401)
    assert find(keys, shown) is None
    lasting, other = keys.create("script", "clinic", {Scope.READ, Scope.SUBMIT})
    assert find(keys, lasting) == other
    assert keys.revoke(other.id).revoked_at == clock.now
    assert find(keys, lasting) is None
    assert [key.id for key in keys.all()] == [made.id, other.id]
    assert not keys.is_empty()
    with pytest.raises(KeyNotFound):
        keys.revoke("none")


def test_only_the_whole_key_opens(keys: KeyStore) -> None:
    shown, made = keys.create("planning", "clinic", {Scope.READ})
    other, _ = keys.create("planning", "clinic", {Scope.READ})
    secret = shown.rpartition("_")[2] if shown.count("_") == 2 else shown.split("_", 2)[2]
    for wrong in (
        shown[:-1],
        shown + "x",
        secret,
        f"diffdp_{made.id}_",
        f"diffdp_{made.id}_{other.split('_', 2)[2]}",
        "",
    ):
        assert find(keys, wrong) is None


def test_the_database_holds_no_key(keys: KeyStore, engine: Engine) -> None:
    shown, _ = keys.create("planning", "clinic", {Scope.READ})
    with engine.connect() as connection:
        (row,) = connection.execute(text("SELECT * FROM api_keys")).all()
    assert shown.split("_", 2)[2] not in repr(row)


def test_the_first_key_closes_the_service_and_revoking_it_does_not_open_it(make_client, keys, monkeypatch) -> None:
    monkeypatch.setattr("service.api.gate.RECENT_S", 0.0)
    client = make_client()
    assert client.get("/v1/jobs").status_code == 200
    shown, made = keys.create("planning", "clinic", {Scope.READ})
    problem(client.get("/v1/jobs"), 401, "unauthorised")
    headers = {"Authorization": f"Bearer {shown}"}
    assert client.get("/v1/jobs", headers={**headers, "Host": "dose.example"}).status_code == 200
    keys.revoke(made.id)
    problem(client.get("/v1/jobs", headers=headers), 401, "unauthorised")
    problem(make_client().get("/v1/jobs"), 401, "unauthorised")


def test_what_others_reach_does_not_open_when_the_keys_are_lost(make_client) -> None:
    client = make_client(host="0.0.0.0")
    problem(client.get("/v1/jobs"), 401, "unauthorised")


def test_a_stream_of_events_ends_when_its_key_is_revoked(make_client, keys, jobs, add_job, monkeypatch) -> None:
    monkeypatch.setattr("service.api.gate.RECENT_S", 0.0)
    monkeypatch.setattr("service.api.job_routes.EVENT_POLL_S", 0.01)
    shown, made = keys.create("planning", "default", {Scope.READ})
    really, looks = JobRepository.look, []

    def look(*given: object, **named: object) -> object:
        looks.append(0)
        if len(looks) == 3:
            keys.revoke(made.id)
        if len(looks) == 6:
            jobs.request_cancel(job.id)
        return really(*given, **named)

    monkeypatch.setattr(JobRepository, "look", look)
    job = add_job()
    answer = make_client().get(f"/v1/jobs/{job.id}/events", headers={"Authorization": f"Bearer {shown}"})
    assert len(looks) == 3
    assert "queued" in answer.text
    assert "cancelled" not in answer.text


def test_however_many_try_keys_the_database_is_asked_a_few_times(make_client, keys, monkeypatch) -> None:
    monkeypatch.setattr("service.api.together.PAUSE_S", 0.5)
    really, questions = KeyStore.find, []
    monkeypatch.setattr(KeyStore, "find", lambda self, shown: questions.append(shown) or really(self, shown))
    good, _ = keys.create("planning", "clinic", {Scope.READ})
    tried = [good, *(good[:-4] + f"{number:04}" for number in range(20))]
    app = make_client().app

    async def attempt() -> list[int]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as other:
            asked = [other.get("/v1/models", headers={"Authorization": f"Bearer {key}"}) for key in tried]
            return [answer.status_code for answer in await asyncio.gather(*asked)]

    assert asyncio.run(attempt()) == [200] + 20 * [401]
    assert set().union(*questions) == set(tried)
    assert len(questions) <= 3


def test_a_key_lets_the_service_be_reached_from_elsewhere(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, host="0.0.0.0")
    with pytest.raises(SettingsError, match="at least one key"):
        build_api(settings)
    keys = open_keys(settings)
    keys.create("planning", "clinic", {Scope.READ})
    keys.close()
    built = build_api(settings)
    problem(TestClient(built).get("/v1/jobs"), 401, "unauthorised")
    built.state.service.close()


@pytest.fixture
def diffdp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.setenv("DIFFDP_DATA_DIR", str(tmp_path))
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_commands(diffdp, tmp_path: Path) -> None:
    made = json.loads(diffdp("keys", "create", "planning", "--tenant", "clinic", "--scope", "read", "--json").stdout)
    plain = diffdp("keys", "create", "script", "--days", 7)
    assert plain.stdout.startswith("diffdp_")
    assert plain.stdout.count("\n") == 1
    assert diffdp("keys", "create", "planning", "--tenant", "a clinic").exit_code == 2
    listed = json.loads(diffdp("keys", "list", "--json").stdout)
    assert [(key["name"], key["tenant"], key["scopes"]) for key in listed] == [
        ("planning", "clinic", ["read"]),
        ("script", "default", ["read", "submit"]),
    ]
    assert made["key"] not in diffdp("keys", "list").stdout + json.dumps(listed)
    assert diffdp("keys", "revoke", made["id"]).exit_code == 0
    assert "revoked" in diffdp("keys", "list").stdout
    assert isinstance(diffdp("keys", "revoke", "none").exception, KeyNotFound)

    entries = [json.loads(line) for line in diffdp("audit", "show", "--json").stdout.splitlines()]
    assert [entry["action"] for entry in entries] == ["create_key", "create_key", "revoke_key"]
    assert entries[2]["subject"] == made["id"]
    assert diffdp("audit", "show", "--job", made["id"]).stdout.count("\n") == 2
    head = f"{entries[2]['number']}:{entries[2]['digest']}"
    assert head in diffdp("audit", "verify").stdout
    assert diffdp("audit", "verify", "--known", head).exit_code == 0
    assert diffdp("audit", "verify", "--known", "3:0000").exit_code == 1
    assert diffdp("audit", "verify", "--known", "x").exit_code == 2
