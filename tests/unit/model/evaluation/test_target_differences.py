"""The paper's differences, by hand."""

from dataclasses import replace

import numpy as np
import pytest

from model.case import Prescription
from model.evaluation.target_differences import highest_target, target_differences


def test_differences_by_hand(block_case):
    target = block_case.structures["PTV70"].mask
    voxels = np.count_nonzero(target)
    reference, predicted = np.zeros((2, *target.shape), np.float32)
    reference[target] = np.linspace(66, 74, voxels)
    predicted[target] = np.linspace(63, 77, voxels)
    predicted[~target] = 99
    # Doses evenly spaced, so that D_x lies (100 − x) % of the way up.
    hi = (0.96 * 14 - 0.96 * 8) / 70
    d98, d2 = 3 - 0.02 * 6, 3 - 0.02 * 6
    differences = target_differences(replace(block_case, dose_gy=reference), predicted)
    assert differences == pytest.approx((hi, d98 / 70, d2 / 70, 3 / 70, 0), abs=1e-6)
    assert (differences.hi, differences.d_max) == pytest.approx((hi, 3 / 70), abs=1e-6)
    assert target_differences(replace(block_case, dose_gy=predicted), reference) == pytest.approx(differences)


def test_scaling_both_doses_and_the_prescription_changes_nothing(block_case):
    predicted = block_case.dose_gy**0.9
    once = target_differences(block_case, predicted)
    twice = replace(
        block_case,
        dose_gy=2 * block_case.dose_gy,
        prescription=Prescription({"PTV70": 140.0, "PTV56": 112.0}, 35, "data-set"),
    )
    assert target_differences(twice, 2 * predicted) == pytest.approx(once)


def test_targets_with_the_same_highest_dose_are_one(block_case):
    np.testing.assert_array_equal(highest_target(block_case), block_case.structures["PTV70"].mask)
    even = replace(block_case, prescription=Prescription({"PTV70": 60.0, "PTV56": 60.0}, None, "parameter"))
    union = block_case.structures["PTV70"].mask | block_case.structures["PTV56"].mask
    np.testing.assert_array_equal(highest_target(even), union)


def test_a_target_without_dose_has_no_homogeneity(block_case):
    differences = target_differences(block_case, np.zeros_like(block_case.dose_gy))
    assert np.isnan(differences.hi)
    assert np.isfinite(differences[1:]).all()


def test_without_a_reference_there_is_no_difference(block_case):
    with pytest.raises(ValueError, match="no reference"):
        target_differences(replace(block_case, dose_gy=None), block_case.dose_gy)
