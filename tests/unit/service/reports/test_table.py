import csv

from service.reports.content import Report
from service.reports.table import render_csv


def rows_of(report: Report) -> list[dict[str, str]]:

    return list(csv.DictReader(render_csv(report).splitlines()))


def test_one_row_per_structure(report: Report) -> None:
    rows = rows_of(report)
    assert [row["structure"] for row in rows] == [structure.name for structure in report.structures]
    high, bladder = rows[0], rows[2]
    assert high["dose_d95_gy"] == f"{report.structures[0].dose.metrics.d95_gy:.2f}"
    assert high["difference_d95_gy"] == f"{report.structures[0].difference.d95_gy:.2f}"
    assert high["dose_v20gy_percent"] == "100.0"
    assert high["prescription_gy"] == "50.00"
    assert high["goals"].startswith("D95% >= 47.50 Gy ")
    assert bladder["volume_cc"] == "0.00"
    assert bladder["dose_d95_gy"] == bladder["prescription_gy"] == ""


def test_every_row_says_what_the_dose_is_not_good_for(report: Report) -> None:
    simulated = (
        "Predicted dose. Not for treatment decisions. Simulated data. The model was trained on simulated patients"
    )
    assert all(row["notice"].startswith(simulated) for row in rows_of(report))
    metadata = report.metadata.model_copy(update={"simulated_training_data": False})
    real = rows_of(report.model_copy(update={"metadata": metadata}))
    assert {row["notice"] for row in real} == {"Predicted dose. Not for treatment decisions."}


def test_names_are_never_formulas(report: Report) -> None:
    without = report.model_copy(
        update={
            "structures": tuple(s.model_copy(update={"reference": None, "difference": None}) for s in report.structures)
        }
    )
    rows = rows_of(without)
    assert next(row["roi_name"] for row in rows if row["structure"] == "Rectum") == """'=HYPERLINK("x")<b>&"""
    assert not any(column.startswith("reference") for column in rows[0])
