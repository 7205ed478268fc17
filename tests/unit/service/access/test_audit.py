"""The audit log: what is recorded, and that a change of it is found out."""

import threading
from collections.abc import Callable

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import OperationalError

from service.access.audit import Act, AuditLog
from service.access.caller import Scope
from service.errors import AuditBroken
from service.worker.retention import Retention
from tests.problems import problem

ZIP = {"Content-Type": "application/zip"}


@pytest.fixture
def acts(audit: AuditLog) -> Callable[[], list[tuple[object, ...]]]:
    def read() -> list[tuple[object, ...]]:
        found = [entry.act for entry in audit.entries()]
        return [(act.tenant, act.caller.partition(":")[0], act.action, act.subject, act.status) for act in found]

    return read


def test_acts_are_recorded_with_who_and_how_they_ended(make_caller, make_client, acts, audit, finish) -> None:
    client = make_caller("clinic")
    job_id = client.post("/v1/jobs", content=b"study", headers=ZIP).json()["id"]
    client.post("/v1/jobs", content=b"refuse", headers=ZIP)
    client.post("/v1/jobs", content=b"break", headers=ZIP)
    for path in ("", f"/{job_id}", f"/{job_id}/dose", f"/{job_id}/viewer"):
        client.get(f"/v1/jobs{path}")
    finish()
    client.get(f"/v1/jobs/{job_id}/dose")
    make_caller("clinic", (Scope.READ,)).delete(f"/v1/jobs/{job_id}")
    make_client().get(f"/v1/jobs/{job_id}")
    make_caller("other").delete(f"/v1/jobs/{job_id}")
    client.delete(f"/v1/jobs/{job_id}")
    client.delete("/v1/jobs/DOE")
    assert acts() == [
        ("clinic", "key", "post_job", job_id, 202),
        ("clinic", "key", "post_job", None, 422),
        ("clinic", "key", "post_job", None, 500),
        ("clinic", "key", "get_dose", job_id, 200),
        ("clinic", "key", "delete_job", job_id, 403),
        (None, "unknown", "get_job", job_id, 401),
        ("other", "key", "delete_job", job_id, 404),
        ("clinic", "key", "delete_job", job_id, 204),
        ("clinic", "key", "delete_job", None, 404),
    ]
    assert {entry.act.address for entry in audit.entries()} == {"testclient"}
    assert audit.verify()[0] == 9
    assert [entry.number for entry in audit.entries(subject=job_id, tenant="other")] == [7]


def test_what_cannot_be_recorded_is_not_answered(make_caller, monkeypatch, finish) -> None:
    client = make_caller("clinic")
    job_id = client.post("/v1/jobs", content=b"study", headers=ZIP).json()["id"]
    finish()

    def fail(*_: object) -> None:
        raise OperationalError("", {}, Exception())

    monkeypatch.setattr("service.access.audit.AuditLog.record", fail)
    answer = client.get(f"/v1/jobs/{job_id}/dose")
    problem(answer, 503, "database-unavailable")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_deletions_by_age_are_recorded_though_storage_is_away(
    jobs, storage, audit, add_job, clock, acts, monkeypatch
) -> None:
    job_id = jobs.request_cancel(add_job().id).id
    clock.advance(86_401)

    def fail(_key: str) -> None:
        raise OSError("away")

    monkeypatch.setattr(storage, "delete", fail)
    with pytest.raises(OSError, match="away"):
        Retention(jobs, storage, audit, days=1, min_free_bytes=0).look()
    assert acts() == [("default", "service", "retire_job", job_id, None)]


@pytest.mark.every_database
def test_entries_of_many_at_once_are_one_chain(audit: AuditLog) -> None:
    threads = [threading.Thread(target=audit.record, args=(Act("local", f"act {n}"),)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    number, digest = audit.verify()
    assert number == 8
    assert audit.verify((number, digest)) == (number, digest)


@pytest.mark.every_database
@pytest.mark.parametrize(
    "change",
    [
        "UPDATE audit_log SET caller = 'somebody' WHERE number = 2",
        "UPDATE audit_log SET status = NULL WHERE number = 2",
        "UPDATE audit_log SET happened_at = '2020-01-01 00:00:00' WHERE number = 2",
        "DELETE FROM audit_log WHERE number = 2",
        "DELETE FROM audit_log WHERE number = 1",
        "DELETE FROM audit_log WHERE number = 3",
        "DELETE FROM audit_log",
    ],
)
def test_a_change_is_found_out(audit: AuditLog, engine: Engine, change: str) -> None:
    for number in range(3):
        audit.record(Act("local", "delete_job", "clinic", f"{number:032x}", "::1", 204))
    noted = audit.verify()
    with engine.begin() as connection:
        connection.execute(text(change))
    with pytest.raises(AuditBroken):
        audit.verify(noted)


def test_a_log_that_was_written_anew_is_told_by_the_entry_that_was_noted(audit: AuditLog, engine: Engine) -> None:
    audit.record(Act("local", "delete_job"))
    noted = audit.verify()
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM audit_log"))
    audit.record(Act("local", "get_dose"))
    assert audit.verify()[0] == 1
    with pytest.raises(AuditBroken, match="noted"):
        audit.verify(noted)
