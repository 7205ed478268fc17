"""No tenant sees anything of another's, by whatever operation; a new operation is tried without being named here."""

from collections.abc import Callable, Iterator

import pytest
from fastapi.testclient import TestClient

from model.checkpoint.manifest import Manifest
from service.access.caller import Scope
from service.api.gate import SCOPES
from service.jobs.job import Fault
from service.jobs.states import Stage
from tests.problems import problem

ZIP = {"Content-Type": "application/zip"}
Operation = tuple[str, str]
Create = Callable[..., TestClient]


def operations(app) -> Iterator[Operation]:
    """Method and path of every operation on the contract's objects, with all parameters but the job filled in."""
    for path, methods in app.openapi()["paths"].items():
        for method, described in methods.items():
            for parameter in described.get("parameters", []):
                if parameter["in"] == "path" and parameter["name"] != "job_id":
                    value = parameter["schema"].get("enum", ["tiny"])[0]
                    path = path.replace(f"{{{parameter['name']}}}", value)  # noqa: PLW2901
            if path.startswith("/v1/"):
                yield method.upper(), path


@pytest.fixture
def all_operations(make_client) -> list[Operation]:
    return list(operations(make_client().app))


@pytest.fixture
def ours(make_caller) -> TestClient:
    return make_caller("ours")


@pytest.fixture
def theirs(make_caller) -> TestClient:
    return make_caller("theirs")


def post(client: TestClient, body: bytes = b"study", **headers: str) -> dict[str, object]:
    answer = client.post("/v1/jobs", content=body, headers={**ZIP, **headers})
    assert answer.status_code == 202, answer.text
    return answer.json()


def test_every_operation_on_a_job_is_closed_to_other_tenants(all_operations, ours, theirs, jobs, finish) -> None:
    on_jobs = [(method, path) for method, path in all_operations if "{job_id}" in path]
    assert len(on_jobs) >= 11
    finished = post(ours)["id"]
    finish()
    failed = post(ours)["id"]
    _, lease = jobs.claim(Stage.PREPARE, "w")
    jobs.fail(lease, Fault(code="internal", message="failed", stage="prepare"))
    for job_id in (finished, failed):
        before = ours.get(f"/v1/jobs/{job_id}").json()
        for method, path in on_jobs:
            seen = theirs.request(method, path.format(job_id=job_id))
            absent = theirs.request(method, path.format(job_id="0" * 32))
            problem(seen, 404, "job-not-found")
            assert seen.content == absent.content
        assert ours.get(f"/v1/jobs/{job_id}").json() == before
    # The same operations are there for its own tenant, the one that deletes it last
    for method, path in sorted(on_jobs, key=lambda one: (one[0] == "DELETE", one)):
        answer = ours.request(method, path.format(job_id=failed if "requeue" in path else finished))
        assert "job-not-found" not in answer.text
        assert answer.status_code not in {401, 403, 422}, (method, path)
    # That there was a job stays hidden, too
    problem(ours.get(f"/v1/jobs/{finished}"), 410, "job-purged")
    problem(theirs.get(f"/v1/jobs/{finished}"), 404, "job-not-found")


def test_every_operation_needs_a_key_and_the_scope_of_its_method(all_operations, make_caller, make_client) -> None:
    nobody, powerless = make_client(), make_caller("ours", ())
    assert len(all_operations) >= 15
    for method, path in all_operations:
        path = path.format(job_id="0" * 32)  # noqa: PLW2901
        problem(nobody.request(method, path), 401, "unauthorised")
        refused = powerless.request(method, path)
        assert problem(refused, 403, "forbidden")["details"] == {"scope": SCOPES[method].value}
        assert "insufficient_scope" in refused.headers["WWW-Authenticate"]
        allowed = make_caller("ours", (SCOPES[method],)).request(method, path)
        assert allowed.status_code not in {401, 403}, (method, path)


def test_one_tenant_cannot_fill_the_queue(make_caller, jobs) -> None:
    ours, theirs = (make_caller(tenant, tenant_queue_limit=1) for tenant in ("ours", "theirs"))
    first = post(ours)["id"]
    refused = ours.post("/v1/jobs", content=b"study", headers=ZIP)
    assert "1 of your jobs" in problem(refused, 429, "queue-full")["detail"]
    post(theirs)
    jobs.request_cancel(first)
    post(ours)


def test_lists_idempotency_keys_and_duplicates_are_a_tenant_s_own(ours, theirs) -> None:
    first = post(ours, **{"Idempotency-Key": "k"})
    other = post(theirs, **{"Idempotency-Key": "k"})
    assert first["id"] != other["id"]
    assert other["duplicate_of"] is None
    post(theirs, b"another study", **{"Idempotency-Key": "one more"})
    assert post(theirs)["duplicate_of"] == other["id"]
    assert [job["id"] for job in ours.get("/v1/jobs").json()["jobs"]] == [first["id"]]
    assert len(theirs.get("/v1/jobs").json()["jobs"]) == 3
    # A cursor is a place in time, not a way in
    cursor = theirs.get("/v1/jobs?limit=1").json()["next_cursor"]
    assert {job["id"] for job in ours.get("/v1/jobs", params={"cursor": cursor}).json()["jobs"]} <= {first["id"]}


def test_keys_of_the_settings_belong_to_the_default_tenant(make_client, ours, tiny_manifest: Manifest) -> None:
    post(ours)
    client = make_client(api_keys="a-key-of-enough-length")
    client.headers["Authorization"] = "Bearer a-key-of-enough-length"
    job = post(client)
    assert [one["id"] for one in client.get("/v1/jobs").json()["jobs"]] == [job["id"]]
    assert client.get("/v1/models").json()[0]["name"] == tiny_manifest.name
    assert client.delete(f"/v1/jobs/{job['id']}").status_code == 204


def test_figures_can_be_closed(make_client, make_caller) -> None:
    assert make_client().get("/metrics").status_code == 200
    problem(make_caller("ours", (Scope.READ,), metrics_need_key=True).get("/metrics"), 403, "forbidden")
    answer = make_caller("ours", (Scope.METRICS,), metrics_need_key=True).get("/metrics")
    assert "diffdp_jobs" in answer.text
    problem(make_client(metrics_need_key=True).get("/metrics"), 401, "unauthorised")
