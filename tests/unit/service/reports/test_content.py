import json

import numpy as np
import pytest

from model.case import Case
from model.dosimetry import dvh
from service.reports.content import DVH_POINTS, Report, ReportMetadata, build_report


def test_figures_are_those_of_dosimetry(case: Case, metadata: ReportMetadata) -> None:
    report = build_report(case, case.dose_gy, metadata=metadata)
    structures = {structure.name: structure for structure in report.structures}
    high = structures["PTV_5000"]
    histogram = dvh(case.dose_gy, case.structures["PTV_5000"].mask, case.grid.voxel_volume_cc)
    assert high.volume_cc == pytest.approx(histogram.volume_cc, abs=1e-4)
    assert high.predicted.metrics.d95_gy == pytest.approx(histogram.dose_at_volume_percent(95), abs=1e-4)
    assert high.predicted.metrics.v95_percent == pytest.approx(histogram.volume_percent_at(47.5), abs=1e-4)
    assert high.predicted.metrics.volume_percent_at_gy["45"] == pytest.approx(histogram.volume_percent_at(45), abs=1e-4)
    assert high.prescription_gy == 50.0
    assert structures["Rectum"].predicted.metrics.homogeneity_index is None
    assert structures["Lens_L"].predicted.metrics.d2cc_gy is None
    assert structures["Rectum"].reference is None
    assert structures["Rectum"].difference is None


def test_targets_come_first_and_the_external_last(case: Case, metadata: ReportMetadata) -> None:
    report = build_report(case, case.dose_gy, metadata=metadata)
    names = [structure.name for structure in report.structures]
    assert names == ["PTV_5000", "PTV_4500", "Bladder", "Lens_L", "Rectum", "External"]


def test_conformity_of_the_lower_target_counts_the_higher_one_in(case: Case, metadata: ReportMetadata) -> None:
    dose = case.target_map_gy()
    report = build_report(case, dose, metadata=metadata)
    assert [s.predicted.metrics.conformity_index for s in report.structures if s.kind == "target"] == [1.0, 1.0]


def test_a_structure_without_voxels_is_warned_of(case: Case, metadata: ReportMetadata) -> None:
    report = build_report(case, case.dose_gy, metadata=metadata, reference_gy=case.dose_gy, spread_gy=case.dose_gy)
    bladder = next(structure for structure in report.structures if structure.name == "Bladder")
    assert (bladder.volume_cc, bladder.predicted, bladder.difference, bladder.mean_spread_gy) == (0.0, None, None, None)
    assert report.metadata.warnings[0] == metadata.warnings[0]
    assert "Bladder" in report.metadata.warnings[1]


def test_differences_are_predicted_minus_reference(case: Case, metadata: ReportMetadata) -> None:
    predicted = case.dose_gy + np.float32(1.5)
    report = build_report(case, predicted, metadata=metadata, reference_gy=case.dose_gy)
    assert report.mean_absolute_difference_gy == pytest.approx(1.5)
    for structure in report.structures:
        if structure.difference:
            assert structure.difference.mean_gy == pytest.approx(1.5, abs=1e-3)
            assert structure.difference.d98_gy == pytest.approx(1.5, abs=1e-3)
            assert min(structure.difference.volume_percent_at_gy.values()) >= 0


def test_spread_is_averaged_over_the_structure(case: Case, metadata: ReportMetadata) -> None:
    spread = np.where(case.structures["Rectum"].mask, 2.0, 0.5).astype(np.float32)
    report = build_report(case, case.dose_gy, metadata=metadata, spread_gy=spread)
    spreads = {structure.name: structure.mean_spread_gy for structure in report.structures}
    assert spreads["Rectum"] == 2.0
    assert spreads["Lens_L"] == 0.5


@pytest.mark.parametrize("scale", [0.0, 0.01, 1.0, 2.0, 10.0])
def test_curves_are_short_and_reach_from_all_to_nothing(case: Case, metadata: ReportMetadata, scale: float) -> None:
    report = build_report(case, scale * case.dose_gy, metadata=metadata)
    for structure in report.structures:
        if structure.predicted:
            curve = structure.predicted.dvh
            assert 2 <= len(curve.dose_gy) == len(curve.volume_percent) <= DVH_POINTS
            assert (curve.volume_percent[0], curve.volume_percent[-1]) == (100.0, 0.0)


def test_json_is_strict_anonymous_and_comes_back(case: Case, metadata: ReportMetadata) -> None:
    # Without dose, HI is 0/0.
    report = build_report(case, np.zeros_like(case.dose_gy), metadata=metadata, reference_gy=case.dose_gy)
    text = report.model_dump_json()

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    document = json.loads(text, parse_constant=refuse)
    assert document["structures"][0]["predicted"]["metrics"]["homogeneity_index"] is None
    assert document["report_version"] == "1.0"
    assert document["disclaimer"] == "Predicted dose. Not for treatment decisions."
    assert "SECRET-PATIENT" not in text
    assert Report.model_validate_json(text) == report


def test_a_dose_that_is_not_finite_is_refused(case: Case, metadata: ReportMetadata) -> None:
    dose = case.dose_gy.copy()
    dose[12, 20, 24] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        build_report(case, dose, metadata=metadata)
