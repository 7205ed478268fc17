"""What operations see of requests and jobs: ids in every line, figures without patients."""

import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pynvml
import pytest
import yaml
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from service.jobs.figures import Gpu
from service.jobs.job import Fault
from service.jobs.repository import JobRepository
from service.jobs.states import Stage
from service.logs import JsonFormatter
from service.worker import gpus

ZIP = {"Content-Type": "application/zip"}
ASKED = "4bf92f3577b34da6a3ce929d0e0e4736"


class Lines(logging.Handler):
    """Keeps the lines as the service writes them."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(JsonFormatter())
        self.lines: list[dict[str, object]] = []

    def emit(self, record: logging.LogRecord) -> None:
        # What is done is recorded besides, see test_audit.py
        if record.name != "service.access.audit":
            self.lines.append(json.loads(self.format(record)))


@pytest.fixture
def lines(caplog) -> Iterator[list[dict[str, object]]]:
    handler, ours = Lines(), logging.getLogger("service")
    # Not by its attribute: loggers remember what they were asked for
    caplog.set_level(logging.INFO, logger="service")
    ours.addHandler(handler)
    yield handler.lines
    ours.removeHandler(handler)


def sample(client: TestClient, name: str, **labels: str) -> float:
    families = text_string_to_metric_families(client.get("/metrics").text)
    (found,) = (s.value for f in families for s in f.samples if s.name == name and s.labels == labels)
    return found


def test_a_job_can_be_followed_through_the_logs_from_its_post(client: TestClient, jobs, run, lines) -> None:
    answer = client.post("/v1/jobs", content=b"study", headers={**ZIP, "X-Request-ID": ASKED})
    assert answer.headers["X-Request-ID"] == ASKED
    job_id = answer.json()["id"]
    run(lambda progress, cancelled: logging.getLogger("service.elsewhere").warning("odd"))
    about = [(line["message"], line["request"], line.get("job")) for line in lines]
    assert about == [
        ("accepted", ASKED, job_id),
        ("answered", ASKED, None),
        ("begun", ASKED, job_id),
        ("odd", ASKED, job_id),
        ("predicting", ASKED, job_id),
    ]
    assert lines[1] | {"route": "/v1/jobs", "method": "POST", "status": 202} == lines[1]
    assert lines[3]["stage"] == "prepare"


@pytest.mark.parametrize("given", ["DOE^JOHN-1950-01-01-XX", "short", "a" * 65])
def test_an_id_that_could_be_a_name_is_not_taken(client: TestClient, lines, given: str) -> None:
    answer = client.get("/v1/jobs", headers={"X-Request-ID": given})
    assert len(answer.headers["X-Request-ID"]) == 32
    assert given not in json.dumps(lines)


def test_paths_are_logged_and_counted_by_their_pattern(client: TestClient, lines) -> None:
    for path in ("/v1/jobs/DOE", "/DOE", "/v1/jobs/DOE/viewer/ct"):
        client.get(path, params={"name": "DOE"})
    client.request("DOE", "/v1/jobs")
    assert [line["route"] for line in lines] == [
        *("/v1/jobs/{job_id}", "none", "/v1/jobs/{job_id}/viewer/{array}", "/v1/jobs")
    ]
    assert "DOE" not in json.dumps(lines)
    assert "DOE" not in client.get("/metrics").text
    about = {"method": "GET", "route": "/v1/jobs/{job_id}", "status": "404"}
    assert sample(client, "diffdp_http_request_seconds_count", **about) == 1


def test_an_unexpected_error_is_counted_and_can_be_found(client: TestClient, lines) -> None:
    answer = client.post("/v1/jobs", content=b"break", headers=ZIP)
    assert answer.status_code == 500
    assert {line["request"] for line in lines} == {answer.headers["X-Request-ID"]}
    assert [line["message"] for line in lines] == ["unexpected", "answered"]
    assert sample(client, "diffdp_http_request_seconds_count", method="POST", route="/v1/jobs", status="500") == 1


def test_questions_of_programs_leave_no_line_while_all_is_well(client: TestClient, lines) -> None:
    for path in ("/healthz", "/metrics", "/readyz"):
        client.get(path)
    # No worker has been heard of
    assert [(line["route"], line["status"]) for line in lines] == [("/readyz", 503)]


def test_figures_of_jobs_workers_and_gpus(client: TestClient, jobs: JobRepository, add_job, clock) -> None:
    jobs.hear("a:1", stages=[Stage.PREDICT], gpus=[Gpu("GPU-1", 3, 10)])
    jobs.hear("b:1", stages=tuple(Stage), gpus=[Gpu("GPU-1", 4, 10)])
    for _ in range(2):
        add_job()
    _, lease = jobs.claim(Stage.PREPARE, "w")
    clock.advance(8)
    jobs.fail(lease, Fault(code="missing-slice", message="", stage="prepare"))
    assert sample(client, "diffdp_workers", stage="predict") == 2
    assert sample(client, "diffdp_workers", stage="publish") == 1
    assert sample(client, "diffdp_gpu_memory_bytes", gpu="GPU-1", kind="used") == 4
    assert sample(client, "diffdp_queue_depth", stage="prepare") == 1
    assert sample(client, "diffdp_queue_oldest_seconds", stage="prepare") == 8
    assert sample(client, "diffdp_jobs_failed_total", code="missing-slice") == 1
    assert sample(client, "diffdp_leases_lost_total", stage="predict") == 0
    _, lease = jobs.claim(Stage.PREPARE, "w")
    clock.advance(8)
    jobs.advance(lease, Stage.PREPARE, output="o")
    counted = {le: sample(client, "diffdp_stage_seconds_bucket", stage="prepare", le=le) for le in ("5", "10", "+Inf")}
    assert counted == {"5": 0, "10": 1, "+Inf": 1}
    assert sample(client, "diffdp_stage_seconds_sum", stage="prepare") == 8


def test_without_the_database_the_figures_say_so(client: TestClient, jobs, monkeypatch) -> None:
    from sqlalchemy.exc import OperationalError

    def away(**_: object) -> None:
        raise OperationalError("x", {}, Exception())

    monkeypatch.setattr(jobs, "figures", away)
    monkeypatch.setattr(jobs, "counts", away)
    assert sample(client, "diffdp_ready", check="database") == 0
    assert sample(client, "diffdp_ready", check="storage") == 1


DOCKER = Path(__file__).resolve().parents[3] / "docker"


def expressions() -> list[str]:
    dashboard = json.loads((DOCKER / "grafana" / "dashboards" / "diffdp.json").read_text(encoding="utf-8"))
    rules = yaml.safe_load((DOCKER / "prometheus" / "alerts.yml").read_text(encoding="utf-8"))
    return [
        *(target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])),
        *(rule["expr"] for group in rules["groups"] for rule in group["rules"]),
    ]


def test_dashboard_and_alerts_ask_for_figures_and_labels_that_there_are(client, jobs, add_job) -> None:
    jobs.hear("w", stages=tuple(Stage), gpus=[Gpu("GPU-1", 3, 10)])
    for stage in [*Stage, Stage.PREPARE]:
        add_job()
        _, lease = jobs.claim(stage, "w")
        jobs.advance(lease, stage, output="o")
    add_job()
    _, lease = jobs.claim(Stage.PREPARE, "w")
    jobs.fail(lease, Fault(code="internal", message="", stage="prepare"))
    client.get("/healthz")
    families = list(text_string_to_metric_families(client.get("/metrics").text))
    known = {s.name: set(s.labels) for f in families for s in f.samples} | {"up": set()}
    # Put there by Prometheus itself
    given = {"job", "instance"}
    asked = expressions()
    assert len(asked) > 20
    for expression in asked:
        names = set(re.findall(r"\b(?:diffdp|process)_\w+|\bup\b", expression))
        assert names
        assert names <= set(known), expression
        labels = {
            label.strip()
            for selector in re.findall(r"\{([^}]*)\}", expression)
            for label in re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selector)
        } | {label.strip() for by in re.findall(r"by \(([^)]*)\)", expression) for label in by.split(",")}
        assert labels <= given.union(*(known[name] for name in names)), expression


def test_what_is_counted_for_alerts_is_told_before_it_happens(client: TestClient) -> None:
    codes = {
        code
        for expression in expressions()
        for matched in re.findall(r'diffdp_jobs_failed_total\{code=~?"([^"]+)"', expression)
        for code in matched.split("|")
    }
    assert "quarantined" in codes
    assert all(sample(client, "diffdp_jobs_failed_total", code=code) == 0 for code in codes)


def test_gpus_are_told_with_their_memory_and_are_none_without_a_driver(monkeypatch) -> None:
    def absent() -> None:
        raise pynvml.NVMLError_LibraryNotFound

    gpus._devices.cache_clear()
    monkeypatch.setattr(pynvml, "nvmlInit", absent)
    assert gpus.seen_gpus() == ()

    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetCount", lambda: 2)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByIndex", lambda index: index)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetUUID", lambda handle: f"GPU-{handle}")
    monkeypatch.setattr(pynvml, "nvmlDeviceGetMemoryInfo", lambda handle: SimpleNamespace(used=handle, total=10))
    assert gpus.seen_gpus() == (Gpu("GPU-0", 0, 10), Gpu("GPU-1", 1, 10))
    gpus._devices.cache_clear()
