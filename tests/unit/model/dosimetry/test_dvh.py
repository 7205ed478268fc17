import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from model.case import EXTERNAL, Case, Prescription, Structure, VoxelGrid
from model.dosimetry import Samples, dvh, interpolate, sampled_dvh, structure_dvhs

SPACING_MM = 1.0


def ball_in_gradient(radius_mm: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Offset z in mm, dose rising along z at 1 Gy/mm from 50 Gy at the centre, and a ball about the centre."""
    axis = (np.arange(64) - 31.5) * SPACING_MM
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    return z, 50.0 + z, z**2 + y**2 + x**2 <= radius_mm**2


def test_ball_in_a_linear_gradient_has_the_dvh_of_a_spherical_cap() -> None:
    radius = 25.0
    _, dose, ball = ball_in_gradient(radius)
    histogram = dvh(dose, ball, SPACING_MM**3 / 1000)
    for offset in (-20.0, -10.0, 0.0, 5.0, 15.0):
        height = radius - offset
        cap_share = height**2 * (3 * radius - height) / (4 * radius**3)
        # A plane between two layers of voxels: half a layer of discretisation, 3 % of the ball's volume at most.
        assert histogram.volume_percent_at(50.0 + offset) == pytest.approx(100 * cap_share, abs=0.5)
        # Doses are multiples of 1 Gy, one per layer of voxels.
        assert histogram.dose_at_volume_percent(100 * cap_share) == pytest.approx(50.0 + offset, abs=0.75)
    assert histogram.mean_gy == pytest.approx(50.0)
    assert histogram.volume_cc == pytest.approx(4 / 3 * np.pi * radius**3 / 1000, rel=5e-3)


def test_cylinder_along_a_linear_gradient_has_a_straight_dvh() -> None:
    z, y, x = np.meshgrid(np.arange(101), np.arange(20) - 9.5, np.arange(20) - 9.5, indexing="ij")
    histogram = dvh(0.5 * z, y**2 + x**2 <= 64, 0.002)
    for percent in (2, 5, 50, 95, 98):
        assert histogram.dose_at_volume_percent(percent) == pytest.approx(50.0 * (100 - percent) / 100, abs=0.3)
    assert (histogram.min_gy, histogram.max_gy, histogram.mean_gy) == pytest.approx((0.0, 50.0, 25.0))
    dose, volume = histogram.curve(10.0)
    np.testing.assert_allclose(dose, [0, 10, 20, 30, 40, 50, 60])
    np.testing.assert_allclose(volume, 100 * np.array([101, 81, 61, 41, 21, 1, 0]) / 101)


@given(
    doses=hnp.arrays(np.float32, st.integers(1, 300), elements=st.floats(0, 80, width=32)),
    percent=st.floats(0, 100),
)
def test_dose_at_volume_is_numpys_percentile(doses: np.ndarray, percent: float) -> None:
    histogram = dvh(doses[None, None], np.ones((1, 1, doses.size), bool), 0.1)
    expected = np.percentile(doses.astype(float), 100 - percent)
    assert histogram.dose_at_volume_percent(percent) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("voxels", [1, 3, 50, 1000])
@pytest.mark.parametrize("voxel_volume_mm3", [8.0, 88.2, 250.0])
def test_dose_at_absolute_volume_is_the_openkbp_percentile(voxels: int, voxel_volume_mm3: float) -> None:
    doses = np.random.default_rng(voxels).uniform(0, 70, voxels)
    histogram = dvh(doses[None, None], np.ones((1, 1, voxels), bool), voxel_volume_mm3 / 1000)
    hottest = max(1, round(100 / voxel_volume_mm3))
    expected = np.percentile(doses, max(0.0, 100 - 100 * hottest / voxels))
    assert histogram.dose_at_volume_cc(0.1) == pytest.approx(expected)


def test_a_voxel_at_the_threshold_counts() -> None:
    # 66.5 Gy is exact in float32, 59.92 is not: both stand for the dose that was asked for.
    doses = np.array([[[10.0, 59.92, 66.5, 70.0]]], np.float32)
    histogram = dvh(doses, np.ones_like(doses, bool), 1.0)
    assert [histogram.volume_percent_at(x) for x in (0, 59.92, 66.5, 70, 70.1)] == [100, 75, 50, 25, 0]


def test_what_has_no_dvh_is_refused() -> None:
    dose = np.zeros((2, 2, 2))
    with pytest.raises(ValueError, match="without voxels"):
        dvh(dose, np.zeros((2, 2, 2), bool), 1.0)
    with pytest.raises(ValueError, match="does not fit"):
        dvh(dose, np.ones((1, 2, 2), bool), 1.0)
    for value in (np.nan, np.inf, -np.inf):
        with pytest.raises(ValueError, match="not finite"):
            dvh(np.full((2, 2, 2), value), np.ones((2, 2, 2), bool), 1.0)
    with pytest.raises(ValueError, match="between 0 and 100"):
        dvh(dose, np.ones((2, 2, 2), bool), 1.0).dose_at_volume_percent(101)


def everywhere(shape: tuple[int, ...]) -> np.ndarray:
    return np.ones(shape, bool)


def samples(*indices: tuple[float, float, float], volume_cc: float = 0.001) -> Samples:
    return Samples(np.array(indices, np.float32), volume_cc)


@given(st.integers(0, 2**32 - 1))
def test_a_linear_dose_is_interpolated_exactly(seed: int) -> None:
    random = np.random.default_rng(seed)
    shape = tuple(random.integers(1, 6, 3))
    gradient, offset_gy = random.uniform(-3, 3, 3), 20.0
    dose_gy = offset_gy + np.einsum("i,i...->...", gradient, np.indices(shape))
    points = samples(*random.uniform(0, np.array(shape) - 1, (20, 3)))
    found_gy = interpolate(dose_gy, points, everywhere(shape))
    assert np.allclose(found_gy, offset_gy + points.indices @ gradient, atol=1e-5)


def test_beyond_the_outermost_centres_the_nearest_holds() -> None:
    dose_gy = np.arange(24.0).reshape(2, 3, 4)
    points = samples((-0.5, -0.4, -0.3), (1.5, 2.4, 3.3), (0.0, 1.0, 3.5))
    assert np.allclose(interpolate(dose_gy, points, everywhere(dose_gy.shape)), (0, 23, 7))


def test_voxels_outside_the_patient_have_no_say() -> None:
    dose_gy = np.array([[[50.0, 50.0, 0.0, 0.0]]])
    external = dose_gy > 0
    points = samples((0, 0, 0.5), (0, 0, 1.0), (0, 0, 1.4), (0, 0, 1.9), (0, 0, 2.5))
    # The last one has no neighbour inside
    assert np.allclose(interpolate(dose_gy, points, external), (50, 50, 50, 50, 0))


def test_dvh_of_samples() -> None:
    dose_gy = np.arange(10.0).reshape(1, 1, 10)
    histogram = sampled_dvh(dose_gy, samples((0, 0, 2.5), (0, 0, 7.25), (0, 0, 0), volume_cc=0.25), dose_gy >= 0)
    assert list(histogram.doses_gy) == [0.0, 2.5, 7.25]
    assert histogram.volume_cc == 0.75
    with pytest.raises(ValueError, match="not finite"):
        sampled_dvh(np.full((1, 1, 10), np.nan), samples((0, 0, 1)), dose_gy >= 0)
    with pytest.raises(ValueError, match="does not fit"):
        sampled_dvh(dose_gy, samples((0, 0, 1)), everywhere((1, 1, 9)))


def test_structures_of_a_case_are_sampled_where_they_need_it() -> None:
    shape = (1, 1, 10)
    target = np.zeros(shape, bool)
    target[..., 4:6] = True
    structures = {
        EXTERNAL: Structure(EXTERNAL, everywhere(shape), "external"),
        "PTV": Structure("PTV", target, "target"),
        "Lens_L": Structure("Lens_L", np.zeros(shape, bool), "oar"),
        "Lens_R": Structure("Lens_R", np.zeros(shape, bool), "oar"),
    }
    grid = VoxelGrid(shape, (10.0, 10.0, 10.0), (0.0, 0.0, 0.0))
    case = Case(np.zeros(shape, np.int16), grid, structures, Prescription({"PTV": 60.0}, None, "parameter"))
    histograms = structure_dvhs(case, np.arange(10.0).reshape(shape), {"Lens_L": samples((0, 0, 2.5))})
    assert {name: histogram.mean_gy for name, histogram in histograms.items()} == {
        EXTERNAL: 4.5,
        "PTV": 4.5,
        "Lens_L": 2.5,
    }
    assert histograms["PTV"].volume_cc == 2.0
