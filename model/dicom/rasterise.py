"""Contours → masks.

A voxel belongs to a structure if its centre lies inside an odd number of the structure's contours in its plane (PS3.3
C.8.8.6.3: holes are contours of their own or keyholes). A centre on an edge counts as inside if the structure lies on
its left, posterior or head side: so neighbouring contours share no voxel and leave none out, and the result does not
depend on the order in which the CT stores its rows, columns and slices.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from model.case import VoxelGrid

SAME_PLANE_MM = 0.05
"""Contours closer than this lie in one plane: half of the last digit that planning systems write."""

MAX_CONTOUR_SPACING_MM = 10.0
"""Contours further apart are pieces of their own, not a structure drawn on every n-th slice."""

INDEX_DECIMALS = 6
"""Indices are rounded to a millionth of a voxel, so that a point on a voxel's centre is exactly there."""


def rasterise(contours_mm: Sequence[NDArray[np.float64]], grid: VoxelGrid) -> NDArray[np.bool_]:
    """Mask of the voxels whose centres lie inside closed contours.

    A contour counts for the slices whose centre lies within half of the contours' spacing of it (half-open). That is
    the CT's spacing, or the smallest distance of the structure's contours where that is larger: then the structure was
    drawn on every n-th slice. Of several planes of contours the nearest decides.

    Parameters
    ----------
    contours_mm
        Each (n, 3): patient points of a polygon in a plane of the slices; the last is joined to the first.
    grid
        Grid of the CT, aligned with the patient's axes in any order and direction.

    Returns
    -------
    (slices, rows, columns)
    """
    mask = np.zeros(grid.shape, bool)
    if not contours_mm:
        return mask
    flipped = [bool(np.asarray(axis).sum() < 0) for axis in grid.axes]
    ascending = np.flip(mask, tuple(axis for axis in range(3) if flipped[axis]))  # a view: indices grow with x, y, z
    polygons = [_ascending_indices(contour, grid, flipped) for contour in contours_mm]
    heights = np.array([polygon[:, 0].mean() for polygon in polygons])
    planes = _group(heights, SAME_PLANE_MM / grid.spacing_mm[0])
    plane_heights = np.array([heights[plane].mean() for plane in planes])
    half_spacing = _contour_spacing(plane_heights, grid.spacing_mm[0]) / 2
    for index in range(grid.shape[0]):
        offsets = np.round(plane_heights - index, INDEX_DECIMALS)
        # Of two equally near planes the higher one
        nearest = offsets.size - 1 - int(np.argmin(np.abs(offsets[::-1])))
        if -half_spacing < offsets[nearest] <= half_spacing:
            fill([polygons[k][:, 1:] for k in planes[nearest]], ascending[index])
    return mask


def fill(polygons: Sequence[NDArray[np.float64]], out: NDArray[np.bool_]) -> None:
    """Set the pixels whose centres lie inside an odd number of polygons; all others are left as they are.

    Each edge toggles the pixels beyond its crossing with every row of pixel centres that it crosses.

    Parameters
    ----------
    polygons
        Each (n, 2): corners as (row, column), in pixels; pixel centres are whole numbers.
    out
        (rows, columns) is changed.
    """
    rows, columns = out.shape
    begin = np.concatenate(polygons)  # (edges, 2)
    end = np.concatenate([np.roll(polygon, -1, axis=0) for polygon in polygons])
    # An edge crosses the rows from its upper end, included, to its lower end, not included
    first_row = np.clip(np.ceil(np.minimum(begin[:, 0], end[:, 0])), 0, rows).astype(np.intp)
    end_row = np.clip(np.ceil(np.maximum(begin[:, 0], end[:, 0])), 0, rows).astype(np.intp)
    crossings = end_row - first_row
    if not crossings.any():
        return
    edge = np.repeat(np.arange(crossings.size), crossings)
    row = first_row[edge] + np.arange(edge.size) - np.repeat(np.cumsum(crossings) - crossings, crossings)
    rise = end[edge] - begin[edge]
    column = begin[edge, 1] + (row - begin[edge, 0]) * rise[:, 1] / rise[:, 0]
    toggled = np.clip(np.ceil(np.round(column, INDEX_DECIMALS)), 0, columns).astype(np.intp)

    top, left = int(row.min()), int(toggled.min())
    height, width = int(row.max()) + 1 - top, int(toggled.max()) + 1 - left
    toggles = np.bincount((row - top) * width + toggled - left, minlength=height * width).reshape(height, width)
    inside = np.cumsum(toggles, axis=1) & 1
    # Nothing is inside from the last crossing on, so that column, which may lie beyond the image, is left out
    out[top : top + height, left : left + width - 1] |= inside[:, :-1].astype(bool)


def _ascending_indices(
    contour_mm: NDArray[np.float64], grid: VoxelGrid, flipped: Sequence[bool]
) -> NDArray[np.float64]:
    """(n, 3) indices of patient points, each axis reversed where it runs against the patient's axis."""
    indices = grid.indices(contour_mm)
    return np.asarray(np.round(np.where(flipped, np.array(grid.shape) - 1 - indices, indices), INDEX_DECIMALS))


def _group(heights: NDArray[np.float64], tolerance: float) -> list[NDArray[np.intp]]:
    """Sort heights and return their indices, parted where neighbours differ by more than the tolerance."""
    order = np.argsort(heights, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(heights[order]) > tolerance) + 1)


def _contour_spacing(plane_heights: NDArray[np.float64], slice_spacing_mm: float) -> float:
    """Spacing of a structure's contours, in slices, at least one."""
    # Two planes do not make a pattern
    if plane_heights.size < 3:
        return 1.0
    smallest = float(np.diff(plane_heights).min())
    return smallest if smallest > 1 and smallest * slice_spacing_mm <= MAX_CONTOUR_SPACING_MM else 1.0
