"""Coverage of samples whose distribution is known."""

import numpy as np
import pytest
from scipy import stats

from model.evaluation.calibration import calibration, expected_coverage

SHAPE = (25, 50, 80)
EVERYWHERE = np.ones(SHAPE, bool)


@pytest.mark.parametrize("samples", [2, 3, 4, 8, 21, 40])
def test_samples_of_the_right_distribution_cover_as_expected(samples):
    random = np.random.default_rng(samples)
    reference, draws = random.normal(50, 4, SHAPE), random.normal(50, 4, (samples, *SHAPE))
    coverage, expected = calibration(reference, draws, EVERYWHERE)
    # 100 000 independent voxels: four standard errors.
    assert coverage == pytest.approx(expected, abs=4 * np.sqrt(expected * (1 - expected) / 1e5))
    assert expected == expected_coverage(samples)


def test_samples_too_much_alike_cover_less_and_those_too_far_apart_more():
    random = np.random.default_rng(0)
    reference, draws = random.normal(50, 4, SHAPE), random.normal(0, 4, (8, *SHAPE))
    coverage, expected = calibration(reference, 50 + draws / 2, EVERYWHERE)
    assert coverage < expected - 0.2
    assert calibration(reference, 50 + 2 * draws, EVERYWHERE).coverage > expected + 0.1
    assert calibration(reference, 60 + draws / 4, EVERYWHERE).coverage < 0.1


def test_expected_coverage_of_two_and_of_twenty_one_draws_in_closed_form():
    # Two: |Y − mean| < 0.45 |X1 − X2|, where Y − mean ~ N(0, 3/2) and X1 − X2 ~ N(0, 2): their ratio is Cauchy's.
    assert expected_coverage(2) == pytest.approx(2 / np.pi * np.arctan(0.45 * np.sqrt(2 / 1.5)), abs=1e-4)
    # Twenty-one: the bounds are the second and the last but one of the draws, whatever the distribution.
    assert expected_coverage(21) == pytest.approx(18 / 22, abs=1e-4)


@pytest.mark.parametrize("samples", [2, 4, 8, 16, 64, 400])
def test_the_distribution_matters_little(samples):
    uniform = 0.9 * (samples - 1) / (samples + 1)
    assert uniform < expected_coverage(samples) < uniform + 0.025
    assert expected_coverage(samples) < 0.9


def test_coverage_by_hand():
    # Three samples 0, 10, 20: their interval is 1 … 19.
    samples = np.array([0.0, 20.0, 10.0])[:, None, None, None] * np.ones((3, 1, 1, 6))
    reference = np.array([[[0.5, 1.0, 15.0, 19.0, 19.5, 10.0]]])
    mask = np.array([[[True, True, True, True, True, False]]])
    assert calibration(reference, samples, mask).coverage == pytest.approx(3 / 5)


def test_linear_percentiles_are_scipys():
    draws = np.random.default_rng(5).normal(size=(7, 1, 1, 50))
    low = stats.mstats.mquantiles(draws[:, 0, 0], 0.05, alphap=1, betap=1, axis=0)
    inner, outer = np.asarray(low)[None] + 1e-9, np.asarray(low)[None] - 1e-9
    mask = np.ones((1, 1, 50), bool)
    assert calibration(inner, draws, mask).coverage == 1
    assert calibration(outer, draws, mask).coverage == 0


def test_what_has_no_coverage_is_refused():
    reference = np.zeros((1, 2, 2))
    with pytest.raises(ValueError, match="two samples"):
        calibration(reference, reference[None], reference == 0)
    with pytest.raises(ValueError, match="do not fit"):
        calibration(reference, np.zeros((2, 1, 2, 3)), reference == 0)
    with pytest.raises(ValueError, match="without voxels"):
        calibration(reference, np.zeros((2, 1, 2, 2)), reference > 0)
