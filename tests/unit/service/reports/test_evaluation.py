from dataclasses import replace

import numpy as np
import pytest

from model.case import Case
from model.dosimetry import dvh
from service.reports.content import Report, ReportMetadata
from service.reports.evaluation import DVH_POINTS, build_report
from service.reports.subject import Doses, Subject, gamma_map


def by_name(report: Report) -> dict:
    return {structure.name: structure for structure in report.structures}


def test_figures_are_those_of_dosimetry(case: Case, subject: Subject, metadata: ReportMetadata) -> None:
    structures = by_name(build_report(subject, Doses(case.dose_gy), metadata))
    high = structures["PTV_5000"]
    histogram = dvh(case.dose_gy, case.structures["PTV_5000"].mask, case.grid.voxel_volume_cc)
    assert high.volume_cc == round(histogram.volume_cc, 2)
    assert high.dose.metrics.d95_gy == round(histogram.dose_at_volume_percent(95), 2)
    assert high.dose.metrics.v95_percent == round(histogram.volume_percent_at(47.5), 1)
    assert high.dose.metrics.volume_percent_at_gy["45"] == round(histogram.volume_percent_at(45), 1)
    assert high.prescription_gy == 50.0
    assert structures["Rectum"].dose.metrics.homogeneity_index is None
    assert structures["Lens_L"].dose.metrics.d2cc_gy is None
    assert structures["Rectum"].reference is structures["Rectum"].difference is structures["Rectum"].band is None


def test_targets_come_first_and_the_external_last(report: Report) -> None:
    names = [structure.name for structure in report.structures]
    assert names == ["PTV_5000", "PTV_4500", "Bladder", "Lens_L", "Rectum", "External"]
    assert [structure.number for structure in report.structures] == [1, 2, 3, 4, 5, 6]


def test_conformity_of_the_lower_target_counts_the_higher_one_in(
    case: Case, subject: Subject, metadata: ReportMetadata
) -> None:
    report = build_report(subject, Doses(case.target_map_gy()), metadata)
    assert [s.dose.metrics.conformity_index for s in report.structures if s.kind == "target"] == [1.0, 1.0]


def test_a_structure_without_voxels_is_warned_of(report: Report, metadata: ReportMetadata) -> None:
    bladder = by_name(report)["Bladder"]
    assert (bladder.volume_cc, bladder.dose, bladder.difference, bladder.mean_spread_gy) == (0.0, None, None, None)
    assert report.metadata.warnings[0] == metadata.warnings[0]
    assert "Bladder" in report.metadata.warnings[1]


def test_differences_are_those_of_the_printed_figures(report: Report) -> None:
    for structure in report.structures:
        if structure.difference:
            ours, theirs = structure.dose.metrics, structure.reference.metrics
            assert structure.difference.mean_gy == round(ours.mean_gy - theirs.mean_gy, 2) <= 0
            assert structure.difference.d98_gy == round(ours.d98_gy - theirs.d98_gy, 2)
            for level, value in structure.difference.volume_percent_at_gy.items():
                assert value == round(ours.volume_percent_at_gy[level] - theirs.volume_percent_at_gy[level], 1)
    assert report.comparison.reference == "plan dose of the study"
    assert report.comparison.mean_absolute_difference_gy > 0


def test_gamma_states_its_criteria(report: Report) -> None:
    gamma = report.comparison.gamma
    assert (gamma.dose_percent, gamma.distance_mm, gamma.cutoff_percent, gamma.normalisation_gy) == (3, 3, 10, 50)
    # Two per cent of any dose are less than three of the prescription
    assert gamma.passing_percent == 100.0
    assert gamma.judged_voxels > 1000


def test_of_many_voxels_gamma_judges_some(case: Case, subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.reports.subject.MOST_GAMMA_VOXELS", 1000)
    thinned = gamma_map(subject, case.dose_gy * np.float32(0.95), case.dose_gy, 50.0)
    assert thinned.summary.every_nth > 1
    assert thinned.summary.judged_voxels <= 1000
    assert thinned.values.shape == case.grid.shape
    monkeypatch.undo()
    whole = gamma_map(subject, case.dose_gy * np.float32(0.95), case.dose_gy, 50.0)
    assert whole.summary.every_nth == 1
    assert thinned.summary.passing_percent == pytest.approx(whole.summary.passing_percent, abs=5)


def test_spread_is_averaged_over_the_structure(case: Case, subject: Subject, metadata: ReportMetadata) -> None:
    spread = np.where(case.structures["Rectum"].mask, 2.0, 0.5).astype(np.float32)
    structures = by_name(build_report(subject, Doses(case.dose_gy, spread), metadata))
    assert structures["Rectum"].mean_spread_gy == 2.0
    assert structures["Lens_L"].mean_spread_gy == 0.5


def test_what_the_spread_means_is_said(case: Case, subject: Subject, metadata: ReportMetadata) -> None:
    for calibrated, told in ((False, "between the model's samples"), (True, "of the predicted dose's error")):
        doses = Doses(case.dose_gy, case.dose_gy / np.float32(9), spread_is_calibrated=calibrated)
        assert f"standard deviation {told}" in build_report(subject, doses, metadata).definitions[-1]


def test_bands_enclose_their_curves(report: Report) -> None:
    for structure in report.structures:
        if structure.dose:
            curve, band = structure.dose.dvh, structure.band
            doses = len(curve.dose_gy)
            assert band.dose_gy[:doses] == curve.dose_gy[: len(band.dose_gy)]
            assert (np.array(band.lower_percent)[:doses] <= np.array(curve.volume_percent)).all()
            assert (np.array(band.upper_percent)[:doses] >= np.array(curve.volume_percent)).all()


@pytest.mark.parametrize("scale", [0.0, 0.01, 1.0, 2.0, 10.0])
def test_curves_are_short_and_reach_from_all_to_nothing(
    case: Case, subject: Subject, metadata: ReportMetadata, scale: float
) -> None:
    dose_gy = np.float32(scale) * case.dose_gy
    report = build_report(subject, Doses(dose_gy, spread_gy=dose_gy / np.float32(4)), metadata)
    for structure in report.structures:
        if structure.dose:
            curve = structure.dose.dvh
            assert 2 <= len(curve.dose_gy) == len(curve.volume_percent) <= len(structure.band.dose_gy) <= DVH_POINTS
            assert (curve.volume_percent[0], curve.volume_percent[-1]) == (100.0, 0.0)


@pytest.mark.parametrize(
    ("highest_gy", "levels"),
    [(51.0, "5 10 20 30 40 45 50 60"), (14.7, "2 4 6 8 10 12 14 45 50"), (0.2, "0.5 45 50"), (34.0, None)],
)
def test_levels_suit_the_dose(
    case: Case, subject: Subject, metadata: ReportMetadata, highest_gy: float, levels: str | None
) -> None:
    report = build_report(subject, Doses(case.dose_gy * np.float32(highest_gy / case.dose_gy.max())), metadata)
    found = report.structures[0].dose.metrics.volume_percent_at_gy
    assert levels is None or " ".join(found) == levels
    assert len(found) <= 10


def test_goals_are_judged_by_what_is_printed(report: Report) -> None:
    high, low, rectum, prostate = report.goals.results
    assert (high.structure, low.structure) == ("PTV_5000", "PTV_4500")
    assert (high.limit, low.limit) == (47.5, 42.75)
    structures = by_name(report)
    assert high.value == structures["PTV_5000"].dose.metrics.d95_gy
    assert high.reference_value == structures["PTV_5000"].reference.metrics.d95_gy
    assert high.margin == round(high.value - 47.5, 2)
    assert high.met is (high.value >= 47.5)
    assert rectum.margin == round(5 - rectum.value, 2)
    assert rectum.met is False
    assert (prostate.value, prostate.margin, prostate.met) == (None, None, None)
    assert report.goals.sources == {"BOOK": "A. Author, A Book, 2001"}


def test_a_value_that_is_shown_as_the_limit_meets_it(
    case: Case, subject: Subject, metadata: ReportMetadata, goals
) -> None:
    dose_gy = np.where(case.structures["Rectum"].mask, np.float32(5.004), case.dose_gy)
    result = build_report(subject, Doses(dose_gy), metadata, goals=goals).goals.results[2]
    assert (result.value, result.margin, result.met) == (5.0, 0.0, True)


def test_without_a_prescription_the_greatest_dose_is_full(
    case: Case, subject: Subject, metadata: ReportMetadata, goals
) -> None:
    report = build_report(replace(subject, prescription=None), Doses(case.dose_gy), metadata, goals=goals)
    assert report.prescription is None
    assert report.normalisation.meaning == "greatest dose"
    assert report.normalisation.dose_gy == report.hottest_point.dose_gy == 51.0
    assert report.hottest_point.position_mm == (0.0, 0.0, 6.0)
    assert report.structures[0].dose.metrics.conformity_index is None
    assert report.structures[0].dose.metrics.homogeneity_index is not None
    assert [result.structure for result in report.goals.results] == ["Rectum", "Prostate"]


def test_a_dose_that_is_not_finite_is_refused(case: Case, subject: Subject, metadata: ReportMetadata) -> None:
    dose = case.dose_gy.copy()
    dose[12, 20, 24] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        build_report(subject, Doses(dose), metadata)
