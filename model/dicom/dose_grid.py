"""The grid of an RTDOSE where it is not to be the CT's: evenly spaced around the patient."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from model.case import Volume, VoxelGrid
from model.case.grid import bounding_box

MARGIN_MM = 10.0
"""Beyond the structures: planning systems interpolate a dose, and draw an outline of their own."""

WHOLE_TOLERANCE = 1e-6
"""In voxels: an extent that is so near to a whole number of spacings is one."""


def dose_grid(grid: VoxelGrid, inside: NDArray[np.bool_], spacing_mm: float) -> VoxelGrid:
    """Grid of cubes around a mask, with the axes of the mask's grid.

    Its outermost voxel centres enclose the mask and `MARGIN_MM`, but no more than the outermost voxel centres of the
    mask's grid; what they overshoot, less than one voxel, is shared by both ends. So a spacing that is the mask's own
    along an axis keeps the voxels there.

    Parameters
    ----------
    grid
        The CT's.
    inside
        (slices, rows, columns) of that grid: what the dose must cover; not empty.
    spacing_mm
        Between voxel centres, along all axes.
    """
    shape, first = [], []
    for box, size, step_mm in zip(bounding_box(inside), grid.shape, grid.spacing_mm, strict=True):
        margin = math.ceil(MARGIN_MM / step_mm)
        low, high = max(box.start - margin, 0), min(box.stop - 1 + margin, size - 1)
        count = math.ceil((high - low) * step_mm / spacing_mm - WHOLE_TOLERANCE) + 1
        shape.append(count)
        first.append((low + high - (count - 1) * spacing_mm / step_mm) / 2)
    x_mm, y_mm, z_mm = grid.points_mm(np.array(first)).tolist()
    return VoxelGrid((shape[0], shape[1], shape[2]), (spacing_mm,) * 3, (x_mm, y_mm, z_mm), grid.axes)


def resample(dose: Volume, outline: NDArray[np.bool_], grid: VoxelGrid) -> Volume:
    """Dose at the voxel centres of another grid with the same axes.

    It is interpolated linearly between the voxel centres inside the outline alone, so that the skin is not underdosed,
    and zero where the nearest voxel lies outside. Beyond the outermost voxel centres the nearest holds.

    Parameters
    ----------
    dose
        Gy.
    outline
        (slices, rows, columns) of the dose's grid: the patient.
    grid
        Of `dose_grid`.

    Returns
    -------
    Volume
        float32, Gy.
    """
    step = np.divide(grid.spacing_mm, dose.grid.spacing_mm)
    first = dose.grid.indices(np.asarray(grid.origin_mm))

    def at_centres(values: NDArray[np.generic], order: int) -> NDArray[np.float32]:
        values = np.asarray(values, np.float32)
        return np.asarray(
            ndimage.affine_transform(values, step, first, output_shape=grid.shape, order=order, mode="nearest")
        )

    share = at_centres(outline, order=1)
    nearest_inside = at_centres(outline, order=0) > 0
    values = at_centres(np.where(outline, dose.values, 0), order=1)
    np.divide(values, share, out=values, where=nearest_inside)
    values[~nearest_inside] = 0.0
    return Volume(values, grid)
