"""Tables of systems whose scores are made up."""

import csv
import io
from collections.abc import Sequence

import numpy as np
import pytest

from model.dosimetry.openkbp import PatientErrors
from model.evaluation.calibration import Calibration
from model.evaluation.comparison import comparison_csv, comparison_markdown, patients_csv, write_comparison
from model.evaluation.scores import METRICS, PatientScore, Scores
from model.evaluation.target_differences import TargetDifferences

METRIC = {metric.key: metric for metric in METRICS}
PATIENTS = ("a", "b", "c", "d", "e", "f")


def scores(
    doses_gy: Sequence[float],
    sharpness: float = 0.5,
    gamma: float | None = None,
    covered: Calibration | None = None,
    patients: Sequence[str] = PATIENTS,
) -> Scores:
    return Scores(
        tuple(
            PatientScore(
                identifier=patient,
                errors=PatientErrors(dose_gy, {("PTV", "D_1"): 1.0, ("Cord", "mean"): 2.0}),
                differences=TargetDifferences(0.1, 0.2, 0.3, 0.4, 0.5),
                sharpness=sharpness,
                detail_correlation=float("nan"),
                gamma_3_percent_3_mm=gamma,
                gamma_2_percent_2_mm=None,
                calibration=covered,
                spread_coverage=None,
                seconds=1.5,
                network_s=1.0,
            )
            for patient, dose_gy in zip(patients, doses_gy, strict=True)
        )
    )


@pytest.fixture
def systems() -> dict[str, Scores]:
    return {
        "worse": scores([3.1, 3.2, 2.9, 3.3, 3.0, 3.5], sharpness=1.4, gamma=80.0),
        "ours": scores([2.0, 2.2, 2.1, 2.0, 2.0, 2.3], sharpness=0.7, gamma=90.0, covered=Calibration(0.2, 0.4)),
        "like ours": scores([2.3, 2.0, 2.2, 2.1, 1.9, 2.2], sharpness=0.7),
    }


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def cells_of(markdown: str) -> list[list[str]]:
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if "---" not in line]


def test_every_patient_of_every_system_has_a_row(systems):
    rows = rows_of(patients_csv(systems))
    assert [(row["system"], row["patient"]) for row in rows] == [(s, p) for s in systems for p in PATIENTS]
    assert set(rows[0]) == {"system", "patient", *METRIC}
    ours = rows[6]
    assert (ours["openkbp_dose_score_gy"], ours["openkbp_dvh_score_gy"], ours["delta_d2"]) == ("2", "1.5", "0.3")
    assert (ours["coverage_over_expected"], ours["coverage_90"], ours["seconds_per_patient"]) == ("0.5", "0.2", "1.5")
    assert (ours["detail_correlation"], ours["gamma_2_percent_2_mm"], rows[0]["coverage_90"]) == ("", "", "")


def test_the_table_marks_the_best_and_what_differs(systems):
    header, *rows = cells_of(
        comparison_markdown(systems, "ours", {"ours": {"Parameters": "7.1 M"}, "worse": {"kind": "2-D"}})
    )
    table = {row[0]: dict(zip(header, row, strict=True)) for row in rows}
    assert list(table) == list(systems)
    dose = "Dose error (Gy) ↓"
    # By hand: 12.6 / 6, and √(0.08 / 5).
    assert table["ours"][dose] == "**2.100 ± 0.126**"
    assert table["worse"][dose] == "3.167 ± 0.216\\*†"
    assert table["like ours"][dose] == "2.117 ± 0.147"
    # 0.7 is nearer to 1 than 1.4; both systems with 0.7 are best. All differ alike: the t-test has no say.
    assert [table[label]["Sharpness → 1"] for label in systems] == [
        "1.400 ± 0.000†", "**0.700 ± 0.000**", "**0.700 ± 0.000**",
    ]  # fmt: skip
    assert [table[label]["γ 3 %/3 mm (%) ↑"] for label in systems] == ["80.0 ± 0.0†", "**90.0 ± 0.0**", "–"]
    assert table["ours"]["Coverage/expected → 1"] == "**0.500 ± 0.000**"
    # Nobody has these.
    assert not [title for title in header if "2 %/2 mm" in title or "correlation" in title]
    assert header[-2:] == ["Parameters", "kind"]
    assert [row[-2:] for row in rows] == [["", "2-D"], ["7.1 M", ""], ["", ""]]


def test_the_csv_has_the_numbers_of_the_table(systems):
    worse, ours, _ = rows_of(comparison_csv(systems, "ours", {"ours": {"FLOPs": "3 G"}}))
    key = "openkbp_dose_score_gy"
    assert float(worse[f"{key} mean"]) == pytest.approx(np.mean([3.1, 3.2, 2.9, 3.3, 3.0, 3.5]), rel=1e-5)
    assert float(worse[f"{key} sd"]) == pytest.approx(np.std([3.1, 3.2, 2.9, 3.3, 3.0, 3.5], ddof=1), rel=1e-5)
    # Six differences of the same sign: 2 / 2⁶.
    assert worse[f"{key} p_wilcoxon"] == "0.03125"
    assert float(worse[f"{key} p_t"]) < 1e-3
    assert (ours[f"{key} p_t"], ours["detail_correlation mean"], ours["FLOPs"], worse["FLOPs"]) == ("", "", "3 G", "")


def test_where_one_is_right_the_distances_from_one_are_tested():
    few = [1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    mirrored = {"under": scores(few, sharpness=0.75), "over": scores(few, sharpness=1.25)}
    (row,) = (row for row in rows_of(comparison_csv(mirrored, "under")) if row["system"] == "over")
    assert row["sharpness p_wilcoxon"] == ""
    assert comparison_markdown(mirrored, "under", metrics=[METRIC["sharpness"]]).count("**") == 4


def test_patients_are_paired_by_name(systems):
    ours = systems["ours"]
    shuffled = Scores(tuple(reversed(ours.patients)))
    worse = systems["worse"]
    assert comparison_csv({"ours": ours, "worse": worse}, "ours") == comparison_csv(
        {"ours": shuffled, "worse": worse}, "ours"
    )


@pytest.mark.parametrize("patients", [("a", "b", "c", "d", "e", "g"), ("a", "a", "b", "c", "d", "e")])
def test_other_patients_are_refused(systems, patients):
    systems["other"] = scores([1.0] * 6, patients=patients)
    for make in (comparison_csv, comparison_markdown):
        with pytest.raises(ValueError, match="other"):
            make(systems, "ours")
    with pytest.raises(ValueError, match="no system"):
        comparison_csv(systems, "nobody")


def test_one_patient_has_no_deviation():
    table = comparison_markdown({"ours": scores([2.0], patients=["a"])}, "ours")
    assert "| **2.000** |" in table


def test_all_tables_are_written(systems, tmp_path):
    write_comparison(tmp_path / "new", systems, "ours")
    written = {path.name: path.read_text("utf-8") for path in (tmp_path / "new").iterdir()}
    assert written == {
        "patients.csv": patients_csv(systems),
        "comparison.csv": comparison_csv(systems, "ours"),
        "comparison.md": comparison_markdown(systems, "ours"),
    }
