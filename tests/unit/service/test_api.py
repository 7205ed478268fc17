"""The HTTP contract, with a fake examination and no worker."""

import asyncio
import base64
import json
import re
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
from anyio import to_thread
from anyio.to_thread import current_default_thread_limiter
from fastapi.testclient import TestClient
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from service.api.job_routes import choose_media_type
from service.errors import NotAcceptable
from service.jobs.job import Fault, Parameters, Progress
from service.jobs.repository import JobRepository
from service.jobs.states import Stage
from service.storage.layout import VIEW, VIEW_ARRAYS, job_key
from tests.problems import problem

KEY = "a-key-of-enough-length"
PATIENCE_S = 10
ZIP = {"Content-Type": "application/zip"}


def post(client: TestClient, body: bytes = b"study", **more) -> dict[str, object]:
    answer = client.post("/v1/jobs", content=body, headers=ZIP, **more)
    assert answer.status_code == 202, answer.text
    return answer.json()


def stored_files(tmp_path: Path) -> list[Path]:
    return [path for path in (tmp_path / "storage").rglob("*") if path.is_file()]


def test_an_accepted_study_is_a_job(client: TestClient, bell, tmp_path: Path) -> None:
    answer = client.post("/v1/jobs", params={"seed": 3}, content=b"study", headers=ZIP)
    job = answer.json()
    assert answer.status_code == 202
    assert answer.headers["Location"] == job["links"]["self"] == f"/v1/jobs/{job['id']}"
    assert "Retry-After" in answer.headers
    assert job["state"] == "queued"
    assert job["progress"] == {
        "stage": "prepare",
        "fraction": 0.0,
        "slices_done": 0,
        "slices_total": 10,
        "eta_s": None,
    }
    assert job["structures"]["PTV_7000"] == "PTV_7000"
    assert job["parameters"]["prescription_gy"] == {"PTV_7000": 70.0}
    assert set(job["links"]) == {"self", "events", "cancel", "requeue", "dose", "plan", "report", "archive", "viewer"}
    assert bell.rung == [Stage.PREPARE]
    assert [path.read_bytes() for path in stored_files(tmp_path)] == [b"study"]


def test_a_form_holds_files_and_parameters(client: TestClient, jobs: JobRepository, tmp_path: Path) -> None:
    files = [("files", ("DOE^JOHN.dcm", b"one")), ("files", ("x", b"two"))]
    data = {"parameters": json.dumps({"seed": 4, "structures": {"Larynx": "larynx"}})}
    answer = client.post("/v1/jobs", files=files, data=data, params={"prescription_gy": "70"})
    assert answer.status_code == 202
    parameters = jobs.get(answer.json()["id"]).parameters
    assert (parameters.seed, parameters.prescription_gy, parameters.structures) == (4, 70.0, {"Larynx": "larynx"})
    assert sorted(path.read_bytes() for path in stored_files(tmp_path)) == [b"one", b"two"]
    assert not list(tmp_path.rglob("*DOE*"))


def test_the_dose_can_be_asked_for_in_another_form(client: TestClient) -> None:
    parameters = post(client, params={"dose_grid_mm": "2.5", "dvh_in_dose": "true"})["parameters"]
    assert (parameters["dose_grid_mm"], parameters["dvh_in_dose"]) == (2.5, True)
    parameters = post(client)["parameters"]
    assert (parameters["dose_grid_mm"], parameters["dvh_in_dose"]) == (None, False)


def test_maps_may_stand_in_the_query_as_json(client: TestClient, jobs: JobRepository) -> None:
    query = {"prescription_gy": '{"PTV_7000": 66}', "structures": '{"Larynx": "lx"}'}
    job_id = post(client, params=query)["id"]
    assert jobs.get(job_id).parameters.prescription_gy == {"PTV_7000": 66.0}


@pytest.mark.parametrize(
    ("query", "part"),
    [
        ({"unknown": "1"}, None),
        ({"seed": "x"}, None),
        ({"steps": "0"}, None),
        ({"prescription_gy": "-1"}, None),
        ({"structures": "not json"}, None),
        ({"sampler": "magic"}, None),
        ({"dose_grid_mm": "0.9"}, None),
        ({"dose_grid_mm": "10.1"}, None),
        ({"dose_grid_mm": "nan"}, None),
        ({"dvh_in_dose": "perhaps"}, None),
        ({"seed": "1"}, '{"seed": 1}'),
        ({}, "not json"),
        ({}, "[]"),
        ({}, "[" * 30_000),
        ({}, '{"structures": {"Larynx": "\\ud800"}}'),
        ({}, '{"\\ud800": 1}'),
        ({}, '{"prescription_gy": 1e999}'),
        ({}, '{"prescription_gy": {"PTV_7000": Infinity}}'),
        ({"prescription_gy": "inf"}, None),
        ({"prescription_gy": '{"PTV_7000": 1e999}'}, None),
    ],
)
def test_wrong_parameters_are_refused_and_nothing_stays(client, tmp_path, query, part) -> None:
    data = None if part is None else {"parameters": part}
    answer = client.post("/v1/jobs", files=[("files", ("a", b"study"))], data=data, params=query)
    problem(answer, 422, "parameters-invalid")
    assert stored_files(tmp_path) == []


@pytest.mark.parametrize(
    ("body", "content_type", "status", "code"),
    [
        (b"", "application/zip", 400, "body-empty"),
        (b"x" * 2000, "application/zip", 413, "body-too-large"),
        (b"study", "text/plain", 415, "media-type-unsupported"),
        (b"refuse", "application/zip", 422, "missing-slice"),
        (b"break", "application/zip", 500, "internal"),
        (b"--x--", "multipart/form-data; boundary=x", 400, "body-invalid"),
    ],
)
def test_refused_bodies_leave_nothing(make_client, jobs, bell, tmp_path, body, content_type, status, code) -> None:
    client = make_client(max_body_bytes=1000)
    answer = client.post("/v1/jobs", content=body, headers={"Content-Type": content_type})
    assert "DOE" not in json.dumps(problem(answer, status, code))
    assert stored_files(tmp_path) == []
    assert list((tmp_path / "storage" / "unfinished").iterdir()) == []
    assert jobs.page(state=None, limit=9, cursor=None) == ([], None)
    assert bell.rung == []


def test_a_body_of_undeclared_length_is_counted(make_client, tmp_path: Path) -> None:
    client = make_client(max_body_bytes=1000)

    def endless() -> Iterator[bytes]:
        for _ in range(100):
            yield b"x" * 2**16

    problem(client.post("/v1/jobs", content=endless(), headers=ZIP), 413, "body-too-large")
    assert stored_files(tmp_path) == []


def test_a_body_that_does_not_come_on_is_given_up(make_client, tmp_path: Path) -> None:
    app = make_client(body_timeout_s=0.05).app

    async def trickle() -> AsyncIterator[bytes]:
        while True:
            yield b"x"
            await asyncio.sleep(0.01)

    async def submit() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.post("/v1/jobs", content=trickle(), headers=ZIP)

    problem(asyncio.run(submit()), 408, "body-too-slow")
    assert list((tmp_path / "storage").rglob("*")) == [tmp_path / "storage" / "unfinished"]


def test_an_idempotency_key_makes_one_job(client: TestClient, tmp_path: Path) -> None:
    headers = {**ZIP, "Idempotency-Key": "k"}
    first = client.post("/v1/jobs", content=b"study", headers=headers)
    again = client.post("/v1/jobs", content=b"study", headers=headers)
    assert again.status_code == 202
    assert again.json()["id"] == first.json()["id"]
    problem(client.post("/v1/jobs", content=b"other", headers=headers), 422, "idempotency-key-reused")
    problem(client.post("/v1/jobs?seed=1", content=b"study", headers=headers), 422, "idempotency-key-reused")
    assert len(stored_files(tmp_path)) == 1


def test_a_job_of_which_only_the_answer_was_lost_keeps_its_study(client, jobs, tmp_path: Path, monkeypatch) -> None:
    add = JobRepository.add

    def add_unheard(*given: object, **named: object) -> None:
        add(*given, **named)
        raise OperationalError("COMMIT", {}, ConnectionError())

    headers = {**ZIP, "Idempotency-Key": "k"}
    with monkeypatch.context() as broken:
        broken.setattr(JobRepository, "add", add_unheard)
        problem(client.post("/v1/jobs", content=b"study", headers=headers), 503, "database-unavailable")
    again = client.post("/v1/jobs", content=b"study", headers=headers).json()
    assert [path.parent.parent.name for path in stored_files(tmp_path)] == [again["id"]]


def test_a_full_queue_turns_jobs_away(make_client) -> None:
    client = make_client(queue_limit=1)
    post(client)
    answer = client.post("/v1/jobs", content=b"study", headers=ZIP)
    problem(answer, 429, "queue-full")
    assert int(answer.headers["Retry-After"]) > 0


def test_a_queue_that_fills_while_a_study_comes_turns_it_away(make_client, add_job, tmp_path: Path) -> None:
    def slow() -> Iterator[bytes]:
        yield b"st"
        add_job()
        yield b"udy"

    problem(make_client(queue_limit=1).post("/v1/jobs", content=slow(), headers=ZIP), 429, "queue-full")
    assert stored_files(tmp_path) == []


def test_a_running_job_says_when_to_ask_again(client: TestClient, jobs: JobRepository, finish) -> None:
    url = post(client)["links"]["self"]
    assert int(client.get(url).headers["Retry-After"]) > 0
    finish()
    done = client.get(url)
    assert "Retry-After" not in done.headers
    assert (done.json()["state"], done.json()["progress"]["fraction"]) == ("succeeded", 1.0)


def test_results(client: TestClient, finish) -> None:
    links = post(client)["links"]
    for name in ("dose", "plan", "report", "archive"):
        problem(client.get(links[name]), 409, "results-not-ready")
    finish()
    for name, text, media_type in (
        ("dose", "dose.dcm", "application/dicom"),
        ("plan", "plan.dcm", "application/dicom"),
        ("archive", "archive.zip", "application/zip"),
    ):
        answer = client.get(links[name])
        assert (answer.text, answer.headers["Content-Type"]) == (text, media_type)
    for accept, text in (
        ("application/json", "report.json"),
        ("text/html", "report.html"),
        ("application/pdf", "report.pdf"),
        ("text/csv", "report.csv"),
    ):
        answer = client.get(links["report"], headers={"Accept": accept})
        assert (answer.text, answer.headers["Content-Type"].split(";")[0]) == (text, accept)
    problem(client.get(links["report"], headers={"Accept": "image/png"}), 406, "not-acceptable")


def test_the_viewer_s_arrays(client: TestClient, finish, tmp_path: Path) -> None:
    job = post(client)
    viewer = job["links"]["viewer"]
    problem(client.get(viewer), 409, "results-not-ready")
    finish()
    # Results of an earlier version have no view, and studies without a dose no reference
    problem(client.get(viewer), 404, "result-absent")
    problem(client.get(f"{viewer}/reference"), 404, "result-absent")
    problem(client.get(f"{viewer}/report"), 422, "parameters-invalid")
    folder = next((tmp_path / "storage" / job_key(job["id"])).glob("publish-*"))
    (folder / VIEW).write_text("{}")
    (folder / VIEW_ARRAYS["ct"]).write_bytes(b"ct")
    assert client.get(viewer).json() == {}
    answer = client.get(f"{viewer}/ct")
    assert (answer.content, answer.headers["Content-Type"]) == (b"ct", "application/gzip")


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ("*/*", "application/json"),
        ("text/*", "text/html"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", "text/html"),
        ("text/csv;q=0.9, application/json;q=0.1", "text/csv"),
        ("application/json;q=0, */*", "text/html"),
        ("application/pdf, text/html;q=0.9", "application/pdf"),
    ],
)
def test_the_form_of_the_report_is_negotiated(accept: str, chosen: str) -> None:
    assert choose_media_type(accept) == chosen


def test_no_form_suits() -> None:
    with pytest.raises(NotAcceptable):
        choose_media_type("application/dicom;q=1, image/png, text/html;q=bad")


def test_a_failed_job_tells_why(client: TestClient, jobs: JobRepository) -> None:
    links = post(client)["links"]
    _, lease = jobs.claim(Stage.PREPARE, "w")
    jobs.fail(lease, Fault(code="pixel-format", message="cannot be decoded", stage="prepare", details={"slice": 3}))
    error = client.get(links["self"]).json()["error"]
    assert (error["code"], error["details"], error["type"]) == ("pixel-format", {"slice": 3}, "urn:diffdp:pixel-format")
    assert problem(client.get(links["dose"]), 409, "pixel-format")["details"] == {"slice": 3}


def test_cancel(client: TestClient, jobs: JobRepository) -> None:
    links = post(client)["links"]
    jobs.claim(Stage.PREPARE, "w")
    answer = client.post(links["cancel"])
    assert answer.status_code == 202
    assert (answer.json()["state"], answer.json()["cancel_requested"]) == ("preparing", True)
    waiting = post(client, b"another")["links"]
    assert client.post(waiting["cancel"]).json()["state"] == "cancelled"
    problem(client.get(waiting["dose"]), 409, "no-results")


def test_delete(client: TestClient, finish, tmp_path: Path) -> None:
    links = post(client)["links"]
    finish()
    assert stored_files(tmp_path)
    assert client.delete(links["self"]).status_code == 204
    assert stored_files(tmp_path) == []
    for name in ("self", "dose", "plan", "report", "archive", "events"):
        problem(client.get(links[name]), 410, "job-purged")
    problem(client.delete(links["self"]), 410, "job-purged")
    problem(client.post(links["cancel"]), 410, "job-purged")


def test_a_result_that_is_deleted_meanwhile_is_gone(client: TestClient, storage, finish, monkeypatch) -> None:
    links = post(client)["links"]
    finish()
    reading = storage.reading

    def deleted_first(key: str, *names: str) -> object:
        client.delete(links["self"])
        return reading(key, *names)

    monkeypatch.setattr(storage, "reading", deleted_first)
    problem(client.get(links["dose"]), 410, "job-purged")


@pytest.mark.parametrize(
    ("part", "error", "code"),
    [
        ("storage", OSError(28, "no space left"), "storage-unavailable"),
        ("jobs", OperationalError("", {}, Exception()), "database-unavailable"),
        ("jobs", PoolTimeoutError(), "database-unavailable"),
    ],
)
def test_a_dependency_that_is_down(client, jobs, storage, monkeypatch, part, error, code) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(jobs if part == "jobs" else storage, "counts" if part == "jobs" else "writing", fail)
    answer = client.post("/v1/jobs", content=b"study", headers=ZIP)
    problem(answer, 503, code)
    assert int(answer.headers["Retry-After"]) > 0


def test_a_caller_who_leaves_while_sending_leaves_nothing(client: TestClient, tmp_path: Path, caplog) -> None:
    messages = [{"type": "http.request", "body": b"x" * 2**21, "more_body": True}, {"type": "http.disconnect"}]

    async def receive() -> dict[str, object]:
        return messages.pop(0) if len(messages) > 1 else messages[0]

    async def send(_message: object) -> None:
        pass

    headers = [(b"host", b"localhost"), (b"content-type", b"application/zip")]
    scope = {"type": "http", "method": "POST", "path": "/v1/jobs", "query_string": b"", "headers": headers}
    asyncio.run(client.app(scope, receive, send))
    assert stored_files(tmp_path) == []
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


def test_unknown_things(client: TestClient) -> None:
    problem(client.get("/v1/jobs/none"), 404, "job-not-found")
    problem(client.get("/v1/models/none"), 404, "model-not-found")
    problem(client.get("/v1/nothing"), 404, "not-found")
    problem(client.put("/v1/jobs"), 405, "method-not-allowed")
    problem(client.get("/v1/jobs?limit=0"), 422, "parameters-invalid")
    too_early = base64.urlsafe_b64encode(b"0001-01-01T00:00:00+14:00 a").decode()
    for cursor in ("x", "ü", too_early):
        problem(client.get("/v1/jobs", params={"cursor": cursor}), 422, "cursor-invalid")
    long_id = {"Last-Event-ID": "9" * 5000}
    problem(client.get("/v1/jobs/none/events", headers=long_id), 422, "parameters-invalid")


def test_list(client: TestClient, clock) -> None:
    ids = []
    for number in range(3):
        clock.advance(1)
        ids.append(post(client, str(number).encode())["id"])
    first = client.get("/v1/jobs?limit=2").json()
    assert [job["id"] for job in first["jobs"]] == [ids[2], ids[1]]
    second = client.get("/v1/jobs", params={"cursor": first["next_cursor"]}).json()
    assert ([job["id"] for job in second["jobs"]], second["next_cursor"]) == ([ids[0]], None)
    assert client.get("/v1/jobs?state=failed").json()["jobs"] == []


def events(text: str) -> list[tuple[int, dict[str, object]]]:
    blocks = [dict(line.split(": ", 1) for line in block.splitlines()) for block in text.strip().split("\n\n")]
    return [(int(block["id"]), json.loads(block["data"])) for block in blocks if "id" in block]


def test_events_end_with_the_job_and_can_be_taken_up_again(client: TestClient, jobs: JobRepository, finish) -> None:
    links = post(client)["links"]
    _, lease = jobs.claim(Stage.PREPARE, "w")
    jobs.report(lease, Progress(0.5))
    jobs.advance(lease, Stage.PREPARE, output="prepare-1")
    for stage in (Stage.PREDICT, Stage.PUBLISH):
        _, lease = jobs.claim(stage, "w")
        jobs.advance(lease, stage, output=f"{stage}-1")
    answer = client.get(links["events"])
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    assert [job["state"] for _, job in events(answer.text)] == ["succeeded"]

    whole = events(client.get(links["events"], headers={"Last-Event-ID": "0"}).text)
    assert [number for number, _ in whole] == list(range(1, len(whole) + 1))
    states = ["queued", "preparing", "preparing", "predicting", "predicting", "publishing", "publishing", "succeeded"]
    assert [job["state"] for _, job in whole] == states
    assert [job["progress"]["fraction"] for _, job in whole[:3]] == [0.0, 0.0, 0.025]
    assert whole[-1][1] == client.get(links["self"]).json()

    later = client.get(links["events"], headers={"Last-Event-ID": "5"})
    assert events(later.text) == whole[5:]
    again = client.get(links["events"], headers={"Last-Event-ID": str(whole[-1][0])})
    assert (again.status_code, again.text) == (204, "")


def test_events_come_as_they_happen_with_signs_of_life(client, jobs: JobRepository, monkeypatch) -> None:
    monkeypatch.setattr("service.api.job_routes.EVENT_POLL_S", 0.02)
    monkeypatch.setattr("service.api.job_routes.KEEP_ALIVE_S", 0.1)
    links = post(client)["links"]
    timer = threading.Timer(0.6, lambda: jobs.request_cancel(links["self"].rpartition("/")[2]))
    timer.start()
    text = client.get(links["events"]).text
    timer.join()
    assert text.startswith("retry: ")
    assert ": still here\n\n" in text
    assert text.count("event: job") == 2
    assert '"state": "cancelled"' in text


def test_an_event_s_number_that_no_job_can_have_is_refused(client: TestClient) -> None:
    answer = client.get(post(client)["links"]["events"], headers={"Last-Event-ID": "9" * 20})
    problem(answer, 422, "parameters-invalid")


def test_a_caller_may_open_so_many_streams_of_events(client: TestClient, jobs: JobRepository, monkeypatch) -> None:
    monkeypatch.setattr("service.api.job_routes.EVENT_POLL_S", 0.02)
    monkeypatch.setattr("service.api.job_routes.MOST_STREAMS", 1)
    job = post(client)
    streams = client.app.state.streams

    async def follow() -> tuple[httpx.Response, httpx.Response]:
        transport = httpx.ASGITransport(client.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as other:
            first = asyncio.create_task(other.get(job["links"]["events"]))
            while not streams.total():  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.01)
            second = await other.get(job["links"]["events"])
            jobs.request_cancel(job["id"])
            return await first, second

    first, second = asyncio.run(follow())
    assert "cancelled" in first.text
    problem(second, 429, "rate-limited")
    assert streams.total() == 0


def test_events_end_when_the_job_is_deleted(client, jobs: JobRepository, monkeypatch) -> None:
    monkeypatch.setattr("service.api.job_routes.EVENT_POLL_S", 0.02)
    links = post(client)["links"]
    timer = threading.Timer(0.3, lambda: jobs.purge(links["self"].rpartition("/")[2]))
    timer.start()
    assert client.get(links["events"]).text.endswith("event: purged\ndata: {}\n\n")
    timer.join()


def test_a_failed_job_is_done_again_when_asked_for(client: TestClient, jobs: JobRepository, bell) -> None:
    links = post(client)["links"]
    problem(client.post(links["requeue"]), 409, "job-not-failed")
    _, lease = jobs.claim(Stage.PREPARE, "w")
    jobs.fail(lease, Fault(code="quarantined", message="given up", stage="prepare"))
    answer = client.post(links["requeue"])
    assert (answer.status_code, answer.json()["state"], answer.json()["error"]) == (202, "queued", None)
    assert bell.rung == [Stage.PREPARE] * 2
    problem(client.post("/v1/jobs/none/requeue"), 404, "job-not-found")


def test_the_same_study_again_is_a_job_of_its_own_that_names_the_first(client: TestClient, clock) -> None:
    first = post(client)
    clock.advance(1)
    for query in ({}, {"priority": 3}, {"model": "tiny"}):
        assert post(client, params=query)["duplicate_of"] is not None
    assert post(client, params={"seed": 3})["duplicate_of"] is None
    assert post(client, b"another")["duplicate_of"] is None
    assert first["duplicate_of"] is None


SECRET = "whsec_" + base64.b64encode(b"s" * 24).decode()


def test_without_a_secret_no_call_back_is_promised(client: TestClient, tmp_path: Path) -> None:
    query = {"callback_url": "https://planning.example/done"}
    problem(client.post("/v1/jobs", content=b"study", headers=ZIP, params=query), 422, "callback-refused")
    assert stored_files(tmp_path) == []


@pytest.mark.parametrize(
    ("url", "accepted"),
    [
        ("https://planning.example/done?x=1", True),
        ("http://planning.example/done", False),
        ("http://planning.local/done", True),
        ("http://10.1.2.3:8080/done", True),
        ("http://192.168.1.1/", False),
        ("https://127.0.0.1/", False),
        ("https://user:word@planning.example/", False),
        ("https://planning.example/#part", False),
        ("ftp://planning.example/", False),
        ("https://", False),
        ("https://[::1", False),
        ("https://pla nning.example/", False),
    ],
)
def test_addresses_of_calls_back(make_client, url: str, accepted: bool) -> None:
    client = make_client(webhook_secrets=SECRET, webhook_allowed="planning.local,10.0.0.0/8")
    answer = client.post("/v1/jobs", content=b"study", headers=ZIP, params={"callback_url": url})
    if accepted:
        assert answer.status_code == 202
    else:
        problem(answer, 422, "callback-refused")


def test_with_keys_a_key_is_needed(make_client) -> None:
    client = make_client(api_keys=f"{KEY},{KEY}2", host="0.0.0.0")
    problem(client.get("/v1/jobs"), 401, "unauthorised")
    for header in (KEY, f"Basic {KEY}", f"Bearer {KEY}x", "Bearer"):
        answer = client.get("/v1/jobs", headers={"Authorization": header})
        problem(answer, 401, "unauthorised")
        assert answer.headers["WWW-Authenticate"] == "Bearer"
    for key in (KEY, f"{KEY}2"):
        assert client.get("/v1/jobs", headers={"Authorization": f"Bearer {key}"}).status_code == 200
    assert client.get("/healthz").status_code == 200


def test_without_keys_only_local_names_are_answered(client: TestClient) -> None:
    for host in ("evil.example", "localhost.evil.example", "localhost:x", "[::1"):
        answer = client.get("/v1/jobs", headers={"Host": host})
        problem(answer, 400, "host-unknown")
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    for host in ("127.0.0.1:8000", "localhost", "[::1]:8000"):
        assert client.get("/v1/jobs", headers={"Host": host}).status_code == 200


def test_without_keys_no_page_from_elsewhere_can_post(make_client, client: TestClient) -> None:
    for origin in ("https://evil.example", "http://localhost.evil.example", "null", ""):
        answer = client.post("/v1/jobs", content=b"study", headers={**ZIP, "Origin": origin})
        problem(answer, 400, "host-unknown")
    ours = {**ZIP, "Origin": "http://127.0.0.1:8000"}
    assert client.post("/v1/jobs", content=b"study", headers=ours).status_code == 202
    # With keys a page from elsewhere has none to show
    shown = {**ZIP, "Origin": "https://planning.example", "Authorization": f"Bearer {KEY}"}
    assert make_client(api_keys=KEY).post("/v1/jobs", content=b"study", headers=shown).status_code == 202


def test_it_is_alive_while_all_its_threads_wait(client: TestClient) -> None:
    async def look() -> httpx.Response:
        free = threading.Event()
        current_default_thread_limiter().total_tokens = 1
        waiting = asyncio.create_task(to_thread.run_sync(free.wait))
        await asyncio.sleep(0)
        transport = httpx.ASGITransport(client.app)
        try:
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as other:
                return await asyncio.wait_for(other.get("/healthz"), timeout=5)
        finally:
            free.set()
            await waiting

    assert asyncio.run(look()).status_code == 200


def test_readiness_tells_the_truth(client: TestClient, jobs: JobRepository, storage, bell, monkeypatch) -> None:
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 0
    well = dict.fromkeys(("database", "broker", "storage", "space", "workers", "models"), "ok")
    assert answer.json()["checks"] == well | {"workers": "no worker for prepare, predict, publish"}
    jobs.hear("w", stages=[Stage.PREPARE, Stage.PUBLISH])
    assert client.get("/readyz").json()["checks"]["workers"] == "no worker for predict"
    jobs.hear("gpu", stages=[Stage.PREDICT])
    assert client.get("/readyz").json() == {"status": "ok", "checks": well}
    assert client.get("/readyz").status_code == 200
    bell.broken = True
    assert client.get("/readyz").json()["checks"] == well | {"broker": "ConnectionError"}
    bell.broken = False
    monkeypatch.setattr(storage, "room_bytes", lambda: 10**6)
    assert client.get("/readyz").json()["checks"] == well | {"space": "no room for a study"}

    def full() -> None:
        raise OSError(28, "no space")

    monkeypatch.setattr(storage, "check", full)
    assert client.get("/readyz").json()["checks"]["storage"] == "OSError"


def test_many_who_ask_whether_it_is_ready_wait_for_one_look(client: TestClient, storage, monkeypatch) -> None:
    free, looks = threading.Event(), []
    monkeypatch.setattr(storage, "check", lambda: looks.append(free.wait(PATIENCE_S)))

    async def ask() -> list[httpx.Response]:
        transport = httpx.ASGITransport(client.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as other:
            asked = [asyncio.create_task(other.get("/readyz")) for _ in range(5)]
            for _ in range(100):
                await asyncio.sleep(0)
            free.set()
            return await asyncio.gather(*asked)

    assert {answer.json()["checks"]["storage"] for answer in asyncio.run(ask())} == {"ok"}
    assert looks == [True]


def test_metrics_models_and_pages(client: TestClient) -> None:
    post(client)
    assert 'diffdp_jobs{state="queued"} 1.0' in client.get("/metrics").text
    assert client.get("/v1/models").json()[0]["name"] == client.get("/v1/models/tiny").json()["name"] == "tiny"
    page = client.get("/")
    assert "Not for treatment decisions" in page.text
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    docs = client.get("/docs")
    assert "script-src 'self';" in docs.headers["Content-Security-Policy"]
    for name in re.findall(r'"/(web/[^"]+)"', page.text + docs.text):
        part = client.get(name)
        assert part.status_code == 200
        assert client.get(name, headers={"If-None-Match": part.headers["ETag"]}).status_code == 304
    for name in ("__init__.py", "index.html", "vendor/README.md", "../api/app.py"):
        assert client.get(f"/web/{name}").status_code == 404
    operation = client.get("/openapi.json").json()["paths"]["/v1/jobs"]["post"]
    assert operation["requestBody"]["required"] is True
    described = {parameter["name"] for parameter in operation["parameters"] if parameter.get("description")}
    assert described == set(Parameters.model_fields)


def test_no_torch_in_the_api() -> None:
    modules = "service.wiring, service.cli.main, service.intake.examine"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    root = Path(__file__).resolve().parents[3]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0
