"""Smoothing within the patient: what it keeps, what it takes away, and that the air has no part in it."""

import numpy as np
import pytest
from scipy import ndimage

from model.prediction.smoothing import smoothed

SPACING_MM = (3.0, 2.0, 1.0)


@pytest.fixture
def inside() -> np.ndarray:
    inside = np.zeros((16, 20, 24), np.float32)
    inside[2:14, 3:17, 4:20] = 1
    return inside


def test_a_constant_dose_stays_up_to_the_skin_and_the_air_stays_as_it_is(inside):
    dose = np.where(inside > 0, 7.0, -1.0).astype(np.float32)
    np.testing.assert_allclose(smoothed(dose, inside, SPACING_MM, 2.0), dose, rtol=1e-5)


def test_far_from_the_skin_it_is_a_gaussian_of_the_same_width_in_mm_on_all_axes():
    dose = np.zeros((41, 41, 61), np.float32)
    dose[20, 20, 30] = 1
    found = smoothed(dose, np.ones_like(dose), SPACING_MM, 4.0)
    for axis, step in enumerate(SPACING_MM):
        profile = found.sum(axis=tuple({0, 1, 2} - {axis}))
        offset_mm = step * (np.arange(len(profile)) - len(profile) // 2)
        assert np.sqrt((profile * offset_mm**2).sum()) == pytest.approx(4.0, rel=0.02)


def test_noise_of_single_slices_goes_and_a_dose_as_wide_as_a_penumbra_stays(inside):
    rows_mm = 2.0 * np.arange(20)
    dose = np.broadcast_to(1 / (1 + np.exp((rows_mm - 20) / 5))[None, :, None], inside.shape).astype(np.float32)
    noise = np.random.default_rng(0).normal(scale=0.05, size=inside.shape).astype(np.float32)
    core = ndimage.binary_erosion(inside > 0, iterations=2)
    kept = (smoothed(dose, inside, SPACING_MM, 1.5) - dose)[core]
    left = (smoothed(dose + noise, inside, SPACING_MM, 1.5) - smoothed(dose, inside, SPACING_MM, 1.5))[core]
    assert np.abs(kept).max() < 0.01
    assert left.std() < 0.4 * noise[core].std()


def test_samples_are_smoothed_one_by_one(inside):
    samples = np.random.default_rng(1).random((2, *inside.shape), np.float32)
    together = smoothed(samples, inside, SPACING_MM, 1.5)
    for sample, found in zip(samples, together, strict=True):
        np.testing.assert_array_equal(smoothed(sample, inside, SPACING_MM, 1.5), found)


def test_without_smoothing_nothing_changes(inside):
    dose = np.random.default_rng(2).random(inside.shape, np.float32)
    assert smoothed(dose, inside, SPACING_MM, 0.0) is dose
