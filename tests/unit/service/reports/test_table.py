import csv

from model.case import Case
from service.reports.content import ReportMetadata, build_report
from service.reports.table import render_csv


def test_one_row_per_structure(case: Case, metadata: ReportMetadata) -> None:
    report = build_report(case, case.dose_gy, metadata=metadata, reference_gy=case.dose_gy)
    rows = list(csv.DictReader(render_csv(report).splitlines()))
    assert [row["structure"] for row in rows] == [structure.name for structure in report.structures]
    high, bladder = rows[0], rows[2]
    assert float(high["predicted_d95_gy"]) == report.structures[0].predicted.metrics.d95_gy
    assert float(high["difference_d95_gy"]) == 0.0
    assert float(high["predicted_v20gy_percent"]) == 100.0
    assert bladder["volume_cc"] == "0.0"
    assert bladder["predicted_d95_gy"] == bladder["prescription_gy"] == ""


def test_names_are_never_formulas(case: Case, metadata: ReportMetadata) -> None:
    report = build_report(case, case.dose_gy, metadata=metadata)
    rows = list(csv.DictReader(render_csv(report).splitlines()))
    assert next(row["roi_name"] for row in rows if row["structure"] == "Rectum") == """'=HYPERLINK("x")<b>&"""
    assert not any(column.startswith("reference") for column in rows[0])
