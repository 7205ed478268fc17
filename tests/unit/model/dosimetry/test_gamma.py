"""Gamma against pymedphys, and where it is known."""

import numpy as np
import pymedphys
import pytest
from scipy import ndimage

from model.dosimetry.gamma import gamma, passing_rate

SPACING_MM = (3.0, 2.5, 2.0)


def smooth(random: np.random.Generator, shape: tuple[int, ...], sigma_mm: float) -> np.ndarray:
    noise = ndimage.gaussian_filter(random.normal(size=shape), [sigma_mm / step for step in SPACING_MM])
    return noise / np.abs(noise).max()


@pytest.mark.parametrize("normalisation_gy", [60.0, None], ids=["global", "local"])
@pytest.mark.parametrize(("percent", "distance_mm"), [(3.0, 3.0), (2.0, 2.0), (5.0, 1.0)])
def test_agrees_with_pymedphys(percent: float, distance_mm: float, normalisation_gy: float | None) -> None:
    random = np.random.default_rng(3)
    shape = (8, 14, 12)
    reference = 40 + 30 * smooth(random, shape, 7)  # 10 … 70 Gy
    evaluated = reference + 4 * smooth(random, shape, 5)
    axes = tuple(step * np.arange(count) for step, count in zip(SPACING_MM, shape, strict=True))
    theirs = pymedphys.gamma(
        axes, reference, axes, evaluated, percent, distance_mm,
        lower_percent_dose_cutoff=65, interp_fraction=10, max_gamma=2, interp_algo="scipy",
        local_gamma=normalisation_gy is None, global_normalisation=normalisation_gy,
    )  # fmt: skip
    ours = gamma(
        reference, evaluated, SPACING_MM, dose_percent=percent, distance_mm=distance_mm,
        normalisation_gy=normalisation_gy, cutoff_percent=65, most_gamma=2,
    )  # fmt: skip
    np.testing.assert_array_equal(np.isnan(ours), np.isnan(theirs))
    assert 0 < np.isnan(ours).mean() < 0.5
    # Both search points, ours on a cubic grid, theirs on spheres, a tenth of the distance tolerance apart. The best of
    # ours lies within half a cube's diagonal h of the true minimum, theirs about as near, so that each gamma is too
    # great by at most h times the slope of both terms. Most points are far better off than the worst.
    step_mm = distance_mm / 10
    slope = max(np.abs(np.diff(evaluated, axis=k)).max() / SPACING_MM[k] for k in range(3))
    tolerance_gy = percent / 100 * (normalisation_gy or reference[~np.isnan(ours)].min())
    worst = np.sqrt(3) / 2 * step_mm * (slope / tolerance_gy + 1 / distance_mm)
    difference = (ours - theirs)[~np.isnan(ours)]
    assert np.abs(difference).max() < worst
    assert np.abs(difference).mean() < 0.01
    assert passing_rate(ours) == pytest.approx(passing_rate(theirs), abs=0.5)
    assert passing_rate(ours) < 100


def test_a_dose_agrees_with_itself() -> None:
    dose = 50 + 20 * smooth(np.random.default_rng(0), (5, 6, 7), 5)
    index = gamma(dose, dose, SPACING_MM, dose_percent=1, distance_mm=1, normalisation_gy=None)
    assert index.dtype == np.float32
    assert (index == 0).all()
    assert passing_rate(index) == 100


@pytest.mark.parametrize("percent_off", [-4.5, 0.6, 2.4, 5.7])
def test_a_uniform_offset_is_its_share_of_the_tolerance(percent_off: float) -> None:
    flat = np.full((4, 5, 6), 50.0)
    for normalisation_gy, offset_gy in ((70.0, 0.7 * percent_off), (None, 0.5 * percent_off)):
        index = gamma(
            flat, flat + offset_gy, SPACING_MM, dose_percent=3, distance_mm=3, normalisation_gy=normalisation_gy
        )
        assert index == pytest.approx(abs(percent_off) / 3, rel=1e-5)
        assert passing_rate(index) == (100 if abs(percent_off) < 3 else 0)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("slope_gy_mm", [0.1, 0.7, 3.0])
@pytest.mark.parametrize("shift_mm", [0.8, 2.4])
def test_a_shifted_ramp_trades_dose_for_distance(axis: int, slope_gy_mm: float, shift_mm: float) -> None:
    position = np.arange(30) * SPACING_MM[axis]
    line = np.expand_dims(10 + slope_gy_mm * position, [k for k in range(3) if k != axis])
    ramp = np.broadcast_to(line, np.where(np.arange(3) == axis, 30, 4))
    index = gamma(
        ramp, ramp - slope_gy_mm * shift_mm, SPACING_MM,
        dose_percent=3, distance_mm=3, normalisation_gy=70, cutoff_percent=0,
    )  # fmt: skip
    # At a distance s up the ramp Γ² = (a (d − s) / Δd)² + (s / Δd)², a = slope · Δd / ΔD: least at s = d a² / (1 + a²).
    a = slope_gy_mm * 3 / 2.1
    squared = (shift_mm / 3) ** 2 * a**2 / (1 + a**2)
    # The search steps by Δd / 10, so it ends within Δd / 20 of that s, where Γ² is greater by (1 + a²) / 400 at most.
    inner = np.moveaxis(index, axis, 0)[4:-4] ** 2
    assert (inner > squared - 1e-4).all()
    assert (inner < squared + (1 + a**2) / 400 + 1e-4).all()


def test_the_edge_holds_beyond_the_grid() -> None:
    # One slice is judged as a plane: what lies above and below it is no better.
    plane = 50 + 20 * smooth(np.random.default_rng(1), (1, 9, 9), 5)
    several = np.repeat(plane, 3, axis=0)
    tolerances = {"dose_percent": 2, "distance_mm": 4, "normalisation_gy": 70.0}
    thin = gamma(plane, plane + 1, SPACING_MM, **tolerances)
    thick = gamma(several, several + 1, SPACING_MM, **tolerances)
    np.testing.assert_allclose(thick, np.repeat(thin, 3, axis=0), rtol=1e-5)  # float32


def test_what_is_not_judged_is_not_a_number() -> None:
    reference = np.array([[[0.0, 6.9, 7.0, 70.0]]])
    mask = np.array([[[True, True, True, False]]])
    tolerances = {"dose_percent": 3, "distance_mm": 1, "normalisation_gy": 70.0}
    index = gamma(reference, reference, SPACING_MM, mask=mask, **tolerances)
    np.testing.assert_array_equal(np.isnan(index), [[[True, True, False, True]]])
    assert passing_rate(index) == 100
    assert np.isnan(passing_rate(gamma(reference, reference, SPACING_MM, mask=~mask, cutoff_percent=101, **tolerances)))
    # Local: the cut-off is of the maximum, and without dose there is no tolerance.
    tolerances["normalisation_gy"] = None
    index = gamma(reference, reference, SPACING_MM, cutoff_percent=50, **tolerances)
    np.testing.assert_array_equal(np.isnan(index), [[[True, True, True, False]]])
    index = gamma(reference, reference, SPACING_MM, cutoff_percent=0, **tolerances)
    np.testing.assert_array_equal(np.isnan(index), [[[True, False, False, False]]])


def test_great_values_read_as_the_greatest() -> None:
    flat = np.full((2, 2, 2), 50.0)
    index = gamma(
        flat, flat + 30, SPACING_MM, dose_percent=3, distance_mm=3, normalisation_gy=70, most_gamma=1.5
    )  # fmt: skip
    assert (index == 1.5).all()


def test_what_has_no_gamma_is_refused() -> None:
    dose = np.ones((2, 2, 2))
    good = {"dose_percent": 3, "distance_mm": 3, "normalisation_gy": 70.0}
    for bad in ({"dose_percent": 0}, {"distance_mm": -1}, {"normalisation_gy": 0.0}):
        with pytest.raises(ValueError, match="positive"):
            gamma(dose, dose, SPACING_MM, **good | bad)
    for bad in ({"most_gamma": 1.0}, {"steps_per_distance": 0}):
        with pytest.raises(ValueError, match="searched"):
            gamma(dose, dose, SPACING_MM, **good | bad)
    with pytest.raises(ValueError, match="same shape"):
        gamma(dose, dose[:1], SPACING_MM, **good)
    with pytest.raises(ValueError, match="same shape"):
        gamma(dose, dose, SPACING_MM, mask=dose[0] > 0, **good)
    with pytest.raises(ValueError, match="finite"):
        gamma(dose, dose * np.nan, SPACING_MM, **good)
