import pytest

from service.reports.colours import structure_colours
from service.reports.content import Report
from service.reports.layout import lay_out, number, signed


@pytest.mark.parametrize(
    ("value", "decimals", "text"), [(None, 2, "–"), (-0.004, 2, "0.00"), (-1.5, 1, "−1.5"), (70.0, 2, "70.00")]
)
def test_numbers_have_fixed_decimals(value: float | None, decimals: int, text: str) -> None:
    assert number(value, decimals) == text


@pytest.mark.parametrize(("value", "text"), [(None, ""), (0.004, "0.00"), (-1.5, "−1.50"), (1.5, "+1.50")])
def test_differences_have_signs(value: float | None, text: str) -> None:
    assert signed(value, 2) == text


def test_a_report_says_what_is_asked_of_it(report: Report) -> None:
    layout = lay_out(report, structure_colours(report.structures))
    facts = {fact.label: fact.text for fact in layout.facts}
    assert facts["Study"] == "1.2.3"
    assert facts["Prescription"] == "PTV_5000 50 Gy, PTV_4500 45 Gy in 25 fractions; from the study's plan"
    assert facts["Hottest point"].endswith("Gy at x 0.0, y 0.0, z 6.0 mm (LPS)")
    assert "gamma ≤ 1 (3 %, 3 mm) in 100.0 %" in facts["Reference"]
    assert [note.title for note in layout.notes] == ["Simulated data", "Warnings"]
    assert [row.cells[0].value for row in layout.mapping][:2] == ["PTV_5000", "PTV_4500"]
    assert [row.name for row in layout.mapping][:2] == ["ptv high", "ptv low"]
    assert layout.mapping_hint == "The model knows and the study lacks: Femur_L. Not used: Couch."
    model = {fact.label: fact.text for fact in layout.model}
    assert model["Trained on"] == "simulated pelves: 7 simulated patients, pelvis"
    assert model["On validation patients"] == "OpenKBP DVH score 2.5 Gy, split every tenth"
    assert model["Sampling"] == "ddim, 1 step, mean of 4 samples, seed 7"
    assert layout.limits
    assert [row.state for row in layout.goals][2:] == ["missed", "open"]
    assert layout.goals[2].goal == "Dmean ≤ 5.00 Gy"
    assert layout.goals[2].verdict.startswith("missed by ")
    assert layout.goals_hint.startswith("Not evaluated: ")


def test_a_report_of_any_dose_says_less(report: Report) -> None:
    metadata = report.metadata.model_copy(update={"predicted": False, "prediction": None, "job_id": None})
    least = report.model_copy(update={"metadata": metadata, "prescription": None, "goals": None, "comparison": None})
    layout = lay_out(least, structure_colours(report.structures))
    assert layout.title == "Dose report"
    assert layout.subtitle == "01 May 2024, 12:00 UTC"
    assert (layout.goals, layout.model, layout.limits, layout.comparison) == ((), (), (), ())
