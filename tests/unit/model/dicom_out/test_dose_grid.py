from itertools import product

import numpy as np
import pytest

from model.case import Volume, VoxelGrid
from model.dicom.dose_grid import MARGIN_MM, dose_grid, resample

AXES = {
    "HFS": ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0)),
    "HFP": ((0.0, 0.0, 1.0), (0.0, -1.0, 0.0), (-1.0, 0.0, 0.0)),
    "FFS, slices from the feet": ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (-1.0, 0.0, 0.0)),
    "HFDR": ((0.0, 0.0, 1.0), (1.0, 0.0, 0.0), (0.0, -1.0, 0.0)),
}
SHAPE = (20, 60, 90)
BOX = (slice(0, 9), slice(20, 41), slice(30, 71))


def ct_grid(axes=AXES["HFS"]) -> VoxelGrid:
    return VoxelGrid(SHAPE, (3.0, 1.5, 1.25), (-90.25, 17.5, 333.0), axes)


@pytest.fixture
def inside() -> np.ndarray:
    mask = np.zeros(SHAPE, bool)
    mask[BOX] = True
    return mask


def centres(grid: VoxelGrid) -> np.ndarray:
    return grid.points_mm(np.moveaxis(np.indices(grid.shape), 0, -1))


def ramp(points_mm: np.ndarray) -> np.ndarray:
    return 30 + 0.02 * points_mm[..., 0] - 0.03 * points_mm[..., 1] + 0.05 * points_mm[..., 2]


@pytest.mark.parametrize("spacing_mm", [1.0, 1.5, 2.5, 3.7, 10.0])
@pytest.mark.parametrize("axes", AXES.values(), ids=AXES)
def test_the_grid_encloses_the_mask_and_a_margin_within_the_ct(inside, axes, spacing_mm):
    ct = ct_grid(axes)
    grid = dose_grid(ct, inside, spacing_mm)
    assert (grid.spacing_mm, grid.axes) == ((spacing_mm,) * 3, axes)
    first = ct.indices(grid.points_mm(np.zeros(3)))
    last = ct.indices(grid.points_mm(np.array(grid.shape) - 1))
    for k, box in enumerate(BOX):
        step_mm = ct.spacing_mm[k]
        low = max(0, box.start - np.ceil(MARGIN_MM / step_mm))
        high = min(SHAPE[k] - 1, box.stop - 1 + np.ceil(MARGIN_MM / step_mm))
        for overshoot in (low - first[k], last[k] - high):
            assert -1e-5 <= overshoot < spacing_mm / step_mm / 2 + 1e-5
    # The mask begins with the first slice of the CT: no margin there
    assert first[0] > -spacing_mm / ct.spacing_mm[0] / 2 - 1e-5


def test_a_spacing_of_the_ct_keeps_its_voxels(inside):
    ct = VoxelGrid(SHAPE, (2.5, 2.5, 2.5), (-90.25, 17.5, 333.0))
    values = np.random.default_rng(1).uniform(0, 70, SHAPE).astype(np.float32)
    grid = dose_grid(ct, inside, 2.5)
    first = ct.indices(np.array(grid.origin_mm))
    assert first == pytest.approx([0, 16, 26], abs=1e-9)
    kept = tuple(slice(round(i), round(i) + n) for i, n in zip(first, grid.shape, strict=True))
    assert grid.shape == (13, 29, 49)
    everywhere = np.ones(SHAPE, bool)
    np.testing.assert_allclose(resample(Volume(values, ct), everywhere, grid).values, values[kept], rtol=1e-6)


@pytest.mark.parametrize("spacing_mm", [1.0, 2.5, 4.0])
@pytest.mark.parametrize("axes", AXES.values(), ids=AXES)
def test_a_ramp_stays_where_it_is_up_to_the_skin(inside, axes, spacing_mm):
    """Linear interpolation of a ramp is exact, so any shift would show; the dose ends with the outline."""
    ct = ct_grid(axes)
    everywhere = np.ones(SHAPE, bool)
    grid = dose_grid(ct, inside, spacing_mm)
    seen = resample(Volume(ramp(centres(ct)).astype(np.float32), ct), everywhere, grid).values
    index = ct.indices(centres(grid))
    among_centres = ((index >= 0) & (index <= np.array(SHAPE) - 1)).all(axis=-1)
    np.testing.assert_allclose(seen[among_centres], ramp(centres(grid))[among_centres], rtol=1e-5)
    assert among_centres.mean() > 0.8

    patient = resample(Volume((ramp(centres(ct)) * inside).astype(np.float32), ct), inside, grid).values
    nearest = np.rint(index).astype(int).clip(0, np.array(SHAPE) - 1)
    tie = (np.abs(index - np.floor(index) - 0.5) < 1e-6).any(axis=-1)
    belongs = inside[tuple(np.moveaxis(nearest, -1, 0))]
    assert (patient[~belongs & ~tie] == 0).all()
    # Half a voxel beyond the last centre of the patient, the nearest dose holds
    step = np.abs([0.02 * 1.5, 0.03 * 1.5, 0.05 * 3.0]).sum()
    assert np.abs(patient - ramp(centres(grid)))[belongs & ~tie].max() < step
    assert (patient[belongs & ~tie] > 0).all()


def test_beyond_the_outermost_centres_the_nearest_holds():
    ct = VoxelGrid((2, 3, 4), (3.0, 3.0, 3.0), (0.0, 0.0, 0.0))
    values = np.arange(24, dtype=np.float32).reshape(2, 3, 4) + 1
    everywhere = np.ones(ct.shape, bool)
    grid = dose_grid(ct, everywhere, 10.0)
    assert grid.shape == (2, 2, 2)
    seen = resample(Volume(values, ct), everywhere, grid).values
    for corner in product((0, -1), repeat=3):
        assert seen[corner] == values[corner]
