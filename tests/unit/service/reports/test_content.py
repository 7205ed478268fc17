import json
from pathlib import Path

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from pydantic import TypeAdapter

from service.reports.content import Cc, Gy, Index, Percent, Report, ReportMetadata
from service.reports.evaluation import build_report
from service.reports.schema import report_schema
from service.reports.subject import Doses, Subject, gamma_map

SCHEMA = Path(__file__).resolve().parents[4] / "docs" / "report.schema.json"


def refuse(constant: str) -> None:
    raise AssertionError(constant)


@pytest.mark.parametrize(
    ("kind", "value", "rounded"),
    [(Gy, 70.125001, 70.13), (Percent, 99.96, 100.0), (Cc, 0.004, 0.0), (Index, np.float32(0.12345), 0.123)],
)
def test_a_number_is_rounded_once(kind: object, value: float, rounded: float) -> None:
    assert TypeAdapter(kind).validate_python(value) == rounded


def test_what_is_undefined_is_null_and_zero_has_no_sign() -> None:
    adapter = TypeAdapter(Gy)
    assert adapter.validate_python(float("nan")) is adapter.validate_python(float("inf")) is None
    assert str(adapter.validate_python(-0.001)) == "0.0"


def test_json_is_strict_anonymous_and_comes_back(subject: Subject, doses: Doses, metadata: ReportMetadata) -> None:
    # Without dose, HI is 0/0
    nothing = Doses(np.zeros_like(doses.dose_gy), reference_gy=doses.reference_gy, reference_name="plan")
    gamma = gamma_map(subject, nothing.dose_gy, nothing.reference_gy, 50.0)
    report = build_report(subject, nothing, metadata, gamma=gamma)
    text = report.model_dump_json()
    document = json.loads(text, parse_constant=refuse)
    assert document["structures"][0]["dose"]["metrics"]["homogeneity_index"] is None
    assert document["report_version"] == "2.0"
    assert document["disclaimer"] == "Predicted dose. Not for treatment decisions."
    assert "SECRET-PATIENT" not in text
    assert Report.model_validate_json(text) == report


def test_the_published_schema_is_that_of_the_code() -> None:
    assert json.loads(SCHEMA.read_text(encoding="utf-8")) == report_schema(), "run `make report-schema`"


def test_reports_keep_the_published_schema(
    report: Report, subject: Subject, doses: Doses, metadata: ReportMetadata
) -> None:
    validator = Draft202012Validator(json.loads(SCHEMA.read_text(encoding="utf-8")))
    validator.check_schema(validator.schema)
    least = build_report(
        Subject(subject.hu, subject.grid, subject.structures, None),
        Doses(doses.dose_gy),
        metadata.model_copy(update={"prediction": None, "predicted": False}),
    )
    for written in (report, least):
        validator.validate(json.loads(written.model_dump_json()))
    broken = json.loads(report.model_dump_json()) | {"patient_name": "Doe"}
    assert not validator.is_valid(broken)
