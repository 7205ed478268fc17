import numpy as np
import pytest
from scipy import ndimage

from model.dosimetry import sharpness

SHAPE = (5, 40, 40)


@pytest.fixture
def mask() -> np.ndarray:
    mask = np.zeros(SHAPE, bool)
    mask[:, 4:36, 4:36] = True
    return mask


@pytest.fixture
def target() -> np.ndarray:
    target = np.zeros(SHAPE, bool)
    target[1:4, 15:25, 15:25] = True
    return target


def waves(period: float) -> np.ndarray:
    rows, columns = np.meshgrid(np.arange(40), np.arange(40), indexing="ij")
    return np.broadcast_to(50 + 5 * np.sin(2 * np.pi * (rows + columns) / period), SHAPE).copy()


def test_the_reference_itself_is_sharp(mask: np.ndarray, target: np.ndarray) -> None:
    assert sharpness(waves(8), waves(8), mask, target) == pytest.approx((1.0, 1.0))


def test_scaled_detail_has_the_squared_scale(mask: np.ndarray, target: np.ndarray) -> None:
    ratio, correlation = sharpness(waves(8), 25 + waves(8) / 2, mask, target)
    assert ratio == pytest.approx(0.25)
    assert correlation == pytest.approx(1.0)


def test_blur_lowers_sharpness_as_the_transfer_function_says(mask: np.ndarray, target: np.ndarray) -> None:
    # A Gaussian of 1 voxel damps a wave of frequency (1/8, 1/8) per voxel to exp(-2π² (f_x² + f_y²)).
    everywhere = np.ones(SHAPE, bool)
    damping = np.exp(-2 * np.pi**2 * 2 / 64)
    blurred = ndimage.gaussian_filter(waves(8), (0, 1, 1), mode="wrap")
    ratio, correlation = sharpness(waves(8), blurred, everywhere, target)
    assert ratio == pytest.approx(damping**2, rel=1e-2)
    assert correlation == pytest.approx(1.0, abs=1e-3)


def test_only_slices_of_the_target_and_the_inside_of_the_mask_count(mask: np.ndarray, target: np.ndarray) -> None:
    predicted = waves(8)
    predicted[0] = 0.0
    predicted[:, :4] = 300.0
    assert sharpness(waves(8), predicted, mask, target) == pytest.approx((1.0, 1.0))


def test_noise_is_sharp_but_wrong(mask: np.ndarray, target: np.ndarray) -> None:
    noise = waves(30) + np.random.default_rng(0).normal(0, 5, SHAPE)
    ratio, correlation = sharpness(waves(30), noise, mask, target)
    assert ratio > 5
    assert correlation < 0.3


def test_what_cannot_be_compared_is_refused(mask: np.ndarray, target: np.ndarray) -> None:
    with pytest.raises(ValueError, match="no voxel"):
        sharpness(waves(8), waves(8), mask, np.zeros_like(target))
    with pytest.raises(ValueError, match="constant"):
        sharpness(np.zeros(SHAPE), waves(8), mask, target)
    ratio, correlation = sharpness(waves(8), np.zeros(SHAPE), mask, target)
    assert ratio == 0.0
    assert np.isnan(correlation)
