"""Scores of predictors whose errors are known."""

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from model.case import Case
from model.checkpoint.manifest import NetworkGrid
from model.evaluation.scores import Scores, evaluate
from model.prediction.predictor import Prediction, SamplingOptions

OPTIONS = SamplingOptions("coarse", 1, 1, 0)


class Fake:
    """Predicts what a function makes of the reference dose; samples lie evenly within a Gy about it."""

    def __init__(self, change: Callable[[np.ndarray], np.ndarray]) -> None:
        self._change = change
        grid = NetworkGrid(rows=32, columns=32, pixel_spacing_mm=10.0, slice_spacing_mm=2.5)
        self.manifest = SimpleNamespace(grid=grid)
        self.asked: list[SamplingOptions] = []

    def predict(self, case: Case, options: SamplingOptions, *, keep_samples: bool = False) -> Prediction:
        self.asked.append(options)
        dose_gy = (self._change(case.dose_gy) * case.external).astype(np.float32)
        samples = dose_gy + np.linspace(-1, 1, options.samples, dtype=np.float32)[:, None, None, None]
        return Prediction(dose_gy, None, 0.25, (), samples_gy=samples if keep_samples else None)


def score(change: Callable[[np.ndarray], np.ndarray], *cases: Case, samples: int = 1) -> Scores:
    options = replace(OPTIONS, samples=samples)
    return evaluate(Fake(change), cases, options)  # type: ignore[arg-type]


def test_a_perfect_prediction_has_no_error_and_the_right_detail(block_case):
    scores = score(lambda dose: dose, block_case)
    assert scores.dose_score_gy == 0
    (patient,) = scores.patients
    assert set(patient.errors.dvh_gy.values()) == {0}
    assert patient.sharpness == pytest.approx(1)
    assert patient.detail_correlation == pytest.approx(1)
    assert patient.identifier == "blocks"
    assert patient.network_s == 0.25
    figures = scores.figures()
    assert (figures["openkbp_dose_score_gy"], figures["openkbp_dvh_score_gy"]) == (0, 0)
    assert (figures["sharpness"], figures["detail_correlation"], figures["patients"]) == (1, 1, 1)
    assert patient.differences == (0,) * 5
    assert (patient.gamma_3_percent_3_mm, patient.gamma_2_percent_2_mm) == (100, 100)
    assert (figures["gamma_3_percent_3_mm"], figures["delta_hi"]) == (100, 0)


def test_a_constant_error_is_its_own_score(block_case):
    scores = score(lambda dose: dose + 1.5, block_case)
    assert scores.dose_score_gy == pytest.approx(1.5, rel=1e-5)
    errors = scores.patients[0].errors.dvh_gy
    # Three organs with two metrics, two targets with three; each moves by the same
    assert len(errors) == 3 * 2 + 2 * 3
    assert list(errors.values()) == pytest.approx([1.5] * 12, rel=1e-4)
    assert scores.figures()["openkbp_dvh_score_gy"] == 1.5


def test_half_the_detail_is_a_quarter_of_its_variance(block_case):
    assert score(lambda dose: dose / 2, block_case).patients[0].sharpness == pytest.approx(0.25, rel=1e-5)
    opposite = score(lambda dose: 100 - dose, block_case).patients[0]
    assert (opposite.sharpness, opposite.detail_correlation) == pytest.approx((1, -1), rel=1e-5)


def test_scores_are_means_over_patients(block_case):
    fake = Fake(lambda dose: dose * 0.9)
    done = []
    cases = (block_case, replace(block_case, dose_gy=block_case.dose_gy * np.float32(0.5)))
    scores = evaluate(fake, iter(cases), OPTIONS, lambda *_: done.append(1))  # type: ignore[arg-type]
    assert len(done) == 2
    assert fake.asked == [OPTIONS] * 2
    mean = block_case.dose_gy[block_case.external].mean()
    assert scores.dose_score_gy == pytest.approx(0.1 * mean * 0.75, rel=1e-5)
    spread = np.std([0.1 * mean, 0.05 * mean], ddof=1)
    assert scores.figures()["openkbp_dose_score_sd_gy"] == pytest.approx(spread, abs=1e-3)


def test_gamma_is_of_the_highest_prescription_and_within_the_patient(block_case):
    # 3 % and 2 % of 70 Gy are 2.1 and 1.4 Gy; towards the patient's surface the prediction only falls.
    flat = replace(block_case, dose_gy=np.where(block_case.external, 40, 60).astype(np.float32))
    (patient,) = score(lambda dose: dose - 1.8, flat).patients
    assert (patient.gamma_3_percent_3_mm, patient.gamma_2_percent_2_mm) == (100, 0)
    scores = evaluate(Fake(lambda dose: dose), [block_case], OPTIONS, with_gamma=False)  # type: ignore[arg-type]
    assert scores.patients[0].gamma_3_percent_3_mm is None
    assert not [key for key in scores.figures() if "gamma" in key]


def test_the_papers_differences_of_a_constant_error(block_case):
    differences = score(lambda dose: dose + 1.4, block_case).patients[0].differences
    assert differences[1:] == pytest.approx([0.02] * 4, rel=1e-4)
    assert score(lambda dose: dose + 1.4, block_case).figures()["delta_d98"] == 0.02


def test_samples_are_checked_for_their_calibration(block_case):
    assert score(lambda dose: dose, block_case).patients[0].calibration is None
    scores = score(lambda dose: dose, block_case, samples=3)
    assert scores.patients[0].calibration == pytest.approx((1, 0.4633), abs=1e-4)
    # Of −1, 0 and 1 Gy the central 90 % are ±0.9 Gy.
    assert score(lambda dose: dose + 0.89, block_case, samples=3).patients[0].calibration.coverage == 1
    assert score(lambda dose: dose + 0.91, block_case, samples=3).patients[0].calibration.coverage == 0
    figures = scores.figures()
    assert (figures["coverage_90"], figures["coverage_90_expected"]) == (1, 0.463)
    assert figures["coverage_over_expected"] == pytest.approx(1 / 0.4633, abs=1e-3)


def test_a_figure_that_no_patient_has_is_left_out(block_case):
    figures = score(lambda dose: 0 * dose, block_case).figures()
    assert figures["sharpness"] == 0
    assert "detail_correlation" not in figures
    assert "delta_hi" not in figures
    assert "coverage_90" not in figures


@pytest.mark.parametrize(("order", "flipped"), [((2, 0, 1), (True, False, True)), ((0, 1, 2), (True, True, False))])
def test_scores_do_not_depend_on_how_the_patient_is_stored(block_case, reorient, order, flipped):
    one, other = (
        score(lambda dose: dose**0.99, case).patients[0] for case in (block_case, reorient(block_case, order, flipped))
    )
    assert other.errors.dose_gy == pytest.approx(one.errors.dose_gy)
    assert other.errors.dvh_gy == pytest.approx(one.errors.dvh_gy)
    assert other.sharpness == pytest.approx(one.sharpness)
    assert other.differences == pytest.approx(one.differences)
    assert other.gamma_2_percent_2_mm == pytest.approx(one.gamma_2_percent_2_mm)
    assert 0 < one.gamma_2_percent_2_mm < 100


def test_without_a_reference_there_is_no_score(block_case):
    with pytest.raises(ValueError, match="no reference"):
        score(lambda dose: dose, replace(block_case, dose_gy=None))
