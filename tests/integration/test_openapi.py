"""The OpenAPI document against the real API: requests made from it get no 5xx and no answer that it does not name.

``EXAMPLES`` says how many requests are made for each operation; `make schemathesis` makes many.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from hypothesis.strategies import SearchStrategy
from schemathesis import Case, GenerationMode
from schemathesis.openapi import from_asgi
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from service.access.caller import Scope
from service.jobs.job import Examination, Fault, Parameters, PrescriptionRecord, Sampling
from service.jobs.states import Stage
from service.pipeline.view import View
from service.settings import Settings
from service.storage.layout import ARCHIVE, RESULTS, VIEW, VIEW_ARRAYS, job_key
from service.wiring import build_api

EXAMPLES = int(os.environ.get("EXAMPLES", "3"))
TENANT = "clinic"
EXCLUDED = [positive_data_acceptance, negative_data_rejection]
"""A random body is no study, however well it fits; and the key and the job that are put in mend what did not fit."""

A_VIEW = View(
    shape=(1, 1, 1),
    spacing_mm=(1, 1, 1),
    origin_mm=(0, 0, 0),
    start=(0, 0, 0),
    unit_gy=0.01,
    highest_gy=70,
    prescription_gy={},
    structures=(),
    has_reference=False,
)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory, tiny_models: Path) -> Iterator[object]:
    """The real API with its database, storage and examination; nobody works on the jobs."""
    built = build_api(Settings.load(data_dir=tmp_path_factory.mktemp("data"), model_dirs=(tiny_models,), device="cpu"))
    yield built
    built.state.service.close()


@pytest.fixture(scope="module")
def headers(app) -> dict[str, str]:
    shown, _ = app.state.service.keys.create("test", TENANT, list(Scope))
    return {"Authorization": f"Bearer {shown}"}


@pytest.fixture(scope="module")
def job_ids(app) -> list[str]:
    """Jobs of all ends: with results, failed, cancelled, purged; and none."""
    jobs, storage = app.state.service.jobs, app.state.service.storage
    examination = Examination(
        model="tiny",
        structures=(),
        missing=(),
        unused=(),
        prescription=PrescriptionRecord(dose_gy={"PTV_7000": 70.0}, fractions=35, source="plan"),
        sampling=Sampling(sampler="coarse-ddim", steps=4, samples=1, seed=0),
        slices=10,
        warnings=(),
    )
    ids = [f"{number:032x}" for number in range(5)]
    for job_id in ids[:4]:
        jobs.add(job_id, Parameters(), examination, content_sha256=job_id, tenant=TENANT)
    for stage in Stage:
        _, lease = jobs.claim(stage, "w")
        with storage.writing(job_key(ids[0], f"{stage}-1")) as folder:
            for name in (*RESULTS, ARCHIVE, *VIEW_ARRAYS.values()):
                (folder / name).write_text("{}")
            (folder / VIEW).write_text(A_VIEW.model_dump_json())
        jobs.advance(lease, stage, output=f"{stage}-1")
    _, lease = jobs.claim(Stage.PREPARE, "w")
    jobs.fail(lease, Fault(code="internal", message="failed", stage="prepare"))
    jobs.request_cancel(ids[2])
    jobs.purge(ids[3])
    return ids


@pytest.mark.parametrize("mode", GenerationMode, ids=str)
def test_no_request_gets_an_answer_that_is_not_described(app, headers, job_ids, monkeypatch, mode) -> None:
    # Every operation is tried without a key, too, more often than one address may
    monkeypatch.setattr("service.access.rates.LOST_KEYS_PER_MINUTE", 0)
    operations = [found.ok() for found in from_asgi("/openapi.json", app).get_all_operations()]
    asked = 0
    for operation in operations:
        # Without a worker the service is not ready, and says so with 503
        app.state.service.jobs.hear("w", stages=tuple(Stage))
        # What takes nothing cannot be asked wrongly
        with suppress(Unsatisfiable):
            _ask(operation.as_strategy(mode), headers, job_ids if _looks_at_a_job(operation) else [])
            asked += 1
    assert asked >= (18 if mode.is_positive else 13)


def _looks_at_a_job(operation: APIOperation) -> bool:
    # A job that was deleted or begun anew would be another one for the next request
    return operation.method == "get" and "job_id" in operation.path_parameters


def _ask(cases: SearchStrategy[Case], headers: dict[str, str], job_ids: list[str]) -> None:
    """Make requests to one operation, as they come, and of jobs that are there."""

    @given(case=cases)
    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    def ask(case: Case) -> None:
        case.call_and_validate(headers=headers, excluded_checks=EXCLUDED)
        for job_id in job_ids:
            case.path_parameters["job_id"] = job_id
            case.call_and_validate(headers=headers, excluded_checks=EXCLUDED)

    ask()
