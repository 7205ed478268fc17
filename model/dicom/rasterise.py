"""Contours → masks, and points spread evenly inside contours.

A structure is the union of slabs: every plane of contours reaches halfway to the planes next to it. Where a plane has
none next to it on one side, it reaches there as far as half of the structure's contour spacing, at most half of a slice
of the CT unless the structure was drawn on every n-th slice only.

A point of a slab belongs to the structure if it lies inside an odd number of the contours of its plane (PS3.3
C.8.8.6.3: holes are contours of their own or keyholes). A point on an edge counts as inside if the structure lies on
its left, posterior or head side: so neighbouring contours share no voxel and leave none out, and the result does not
depend on the order in which the CT stores its rows, columns and slices.
"""

import statistics
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.case import VoxelGrid
from model.dosimetry import Samples

SAME_PLANE_MM = 0.05
"""Contours closer than this lie in one plane: half of the last digit that planning systems write."""

MAX_CONTOUR_SPACING_MM = 10.0
"""Contours further apart are pieces of their own, not a structure drawn on every n-th slice."""

NEXT_PLANE = 1.5
"""In contour spacings: planes further apart have one missing between them."""

INDEX_DECIMALS = 6
"""Indices are rounded to a millionth of a voxel, so that a point on a voxel's centre is exactly there."""

SAMPLES = 50_000
"""Points that make the DVH of a structure independent of where voxels happen to lie: D98% and D2% of a ball in a linear
gradient then stray by a fiftieth of what the dose changes over its radius."""

MOST_PARTS = 101
"""Parts of a voxel along an axis: of a slice of 3 mm they are 0.03 mm thin, and contours are written to 0.01 mm."""


CROSSINGS_AT_ONCE = 2**22
"""Crossings of edges and rows that are held in memory at a time, 200 MB of them; a contour may have millions."""

MOST_CROSSINGS = 2**18
"""Crossings of edges and rows of voxels in a structure that is sampled: with fewer than `SAMPLES` voxels, contours that
were drawn have fewer than twice as many, and each costs time in every part of a voxel."""


class _Slab(NamedTuple):
    """Slices from ``low`` up to, not including, ``high``, and the polygons (n, 2) that fill them."""

    low: float
    high: float
    polygons: list[NDArray[np.float64]]


class _Runs(NamedTuple):
    """Pixels inside polygons, as stretches of rows: columns ``first`` up to, not including, ``end``."""

    row: NDArray[np.intp]
    first: NDArray[np.intp]
    end: NDArray[np.intp]


def rasterise(contours_mm: Sequence[NDArray[np.float64]], grid: VoxelGrid) -> NDArray[np.bool_]:
    """Mask of the voxels whose centres lie inside closed contours.

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
    ascending = np.zeros(grid.shape, bool)
    in_order = ascending.transpose(_order(grid))
    for low, high, polygons in _slabs(contours_mm, grid):
        first, end = _whole_numbers(low, high, grid.shape[0])
        if first < end:
            fill(polygons, in_order[first])
            ascending[first + 1 : end] = ascending[first]
    return np.ascontiguousarray(np.flip(ascending, _descending_axes(grid)))


def count_voxels(contours_mm: Sequence[NDArray[np.float64]], grid: VoxelGrid) -> int:
    """How many voxels `rasterise` sets."""
    return _count(_stacks(list(_slabs(contours_mm, grid)), grid, np.ones(3, np.intp)))


def sample(contours_mm: Sequence[NDArray[np.float64]], grid: VoxelGrid) -> Samples | None:
    """Points spread evenly inside closed contours, for structures whose voxels are too few for a DVH.

    Every voxel is divided along each axis into an odd number of equal parts, so that one of them has the voxel's
    centre, until about `SAMPLES` parts have their centres inside or `MOST_PARTS` is reached.

    Parameters
    ----------
    contours_mm, grid
        See `rasterise`.

    Returns
    -------
    Samples or None
        None for a structure of at least `SAMPLES` voxels, for one without volume or with hardly any, and for one whose
        contours go up and down more than any that were drawn.
    """
    slabs = list(_slabs(contours_mm, grid))
    if sum(_rows_crossed(polygon) for slab in slabs for polygon in slab.polygons) > MOST_CROSSINGS:
        return None
    parts = np.ones(3, np.intp)
    stacks = _stacks(slabs, grid, parts)
    while slabs and (count := _count(stacks)) < SAMPLES and parts.max() < MOST_PARTS:
        # Few points tell little about the volume, so it is approached in steps
        wanted = parts.prod() * min(SAMPLES / max(count, 1), 27)
        while parts.prod() < wanted and parts.max() < MOST_PARTS:
            parts[_longest(grid, parts)] += 2
        stacks = _stacks(slabs, grid, parts)
    if parts.max() == 1 or not _count(stacks):
        return None
    points = []
    for heights, runs in stacks:
        lengths = runs.end - runs.first
        row = np.repeat(runs.row, lengths)
        column = np.arange(row.size) + np.repeat(runs.end - np.cumsum(lengths), lengths)
        height = np.repeat(heights, row.size)
        points.append(np.stack([height, np.tile(row, len(heights)), np.tile(column, len(heights))]))
    ascending = (np.concatenate(points, axis=1)[_order(grid)].T + 0.5) / parts - 0.5  # (points, 3)
    axes = list(_descending_axes(grid))
    ascending[:, axes] = np.array(grid.shape)[axes] - 1 - ascending[:, axes]
    return Samples(ascending.astype(np.float32), grid.voxel_volume_cc / float(parts.prod()))


def fill(polygons: Sequence[NDArray[np.float64]], out: NDArray[np.bool_]) -> None:
    """Set the pixels whose centres lie inside an odd number of polygons; all others are left as they are.

    Parameters
    ----------
    polygons
        Each (n, 2): corners as (row, column), in pixels; pixel centres are whole numbers.
    out
        (rows, columns) is changed.
    """
    for row, first, end in zip(*map(np.ndarray.tolist, _runs(polygons, *out.shape)), strict=True):
        out[row, first:end] = True


def _stacks(slabs: Sequence[_Slab], grid: VoxelGrid, parts: NDArray[np.intp]) -> list[tuple[range, _Runs]]:
    """Parts of voxels inside each slab: the same runs at every height of a range."""
    order = _order(grid)
    height_count, rows, columns = (parts * grid.shape)[order].tolist()
    stacks = []
    for low, high, polygons in slabs:
        low_part, high_part = _in_parts(np.array([low, high]), parts[0])
        heights = range(*_whole_numbers(low_part, high_part, height_count))
        stacks.append((heights, _runs([_in_parts(polygon, parts[order[1:]]) for polygon in polygons], rows, columns)))
    return stacks


def _count(stacks: Sequence[tuple[range, _Runs]]) -> int:
    return sum(len(heights) * int((runs.end - runs.first).sum()) for heights, runs in stacks)


def _runs(polygons: Sequence[NDArray[np.float64]], rows: int, columns: int) -> _Runs:
    """Stretches of pixels of an image that lie inside an odd number of polygons.

    Every edge crosses some rows of pixel centres; sorted along a row, the crossings enter and leave by turns.
    """
    begin = np.concatenate(polygons)  # (edges, 2)
    end = np.concatenate([np.roll(polygon, -1, axis=0) for polygon in polygons])
    # An edge crosses the rows from its upper end, included, to its lower end, not included
    first_row = np.clip(np.ceil(np.minimum(begin[:, 0], end[:, 0])), 0, rows).astype(np.intp)
    end_row = np.clip(np.ceil(np.maximum(begin[:, 0], end[:, 0])), 0, rows).astype(np.intp)
    crossings = end_row - first_row
    through = np.cumsum(crossings)
    # One row crossed at one place twice is not crossed, so blocks of edges can be told apart and still be few
    blocks = np.split(np.arange(crossings.size), np.flatnonzero(np.diff(through // CROSSINGS_AT_ONCE)) + 1)
    places = []
    for block in blocks:
        edge = np.repeat(block, crossings[block])
        row = first_row[edge] + np.arange(edge.size) - np.repeat(through[block] - crossings[block], crossings[block])
        row += through[block[0]] - crossings[block[0]]
        rise = end[edge] - begin[edge]
        column = begin[edge, 1] + (row - begin[edge, 0]) * rise[:, 1] / rise[:, 0]
        column = np.clip(np.ceil(np.round(column, INDEX_DECIMALS)), 0, columns)
        places.append(_odd(row * (columns + 1) + column.astype(np.intp)))
    place = _odd(np.concatenate(places)) if len(places) > 1 else places[0]
    return _Runs(place[::2] // (columns + 1), place[::2] % (columns + 1), place[1::2] % (columns + 1))


def _rows_crossed(polygon: NDArray[np.float64]) -> float:
    """How many rows the edges of a polygon (n, 2) cross, about."""
    return float(np.abs(np.diff(polygon[:, 0], append=polygon[0, 0])).sum())


def _odd(values: NDArray[np.intp]) -> NDArray[np.intp]:
    """Values that come an odd number of times, ascending."""
    unique, counts = np.unique(values, return_counts=True)
    return np.asarray(unique[counts % 2 == 1])


def _slabs(contours_mm: Sequence[NDArray[np.float64]], grid: VoxelGrid) -> Iterator[_Slab]:
    """Slabs of a structure in ascending order, in indices that grow with x, y and z; polygons in `_order`."""
    if not contours_mm:
        return
    indices = grid.indices(np.concatenate(contours_mm))
    for axis in _descending_axes(grid):
        indices[:, axis] = grid.shape[axis] - 1 - indices[:, axis]
    ends = np.cumsum([len(contour) for contour in contours_mm])
    polygons = np.split(np.round(indices, INDEX_DECIMALS), ends[:-1])
    heights = np.array([polygon[:, 0].mean() for polygon in polygons])
    order = np.argsort(heights, kind="stable")
    parted = np.flatnonzero(np.diff(heights[order]) > SAME_PLANE_MM / grid.spacing_mm[0]) + 1
    planes = np.split(order, parted)
    plane_heights = np.round([heights[plane].mean() for plane in planes], INDEX_DECIMALS)
    gaps = np.diff(plane_heights)
    spacing, end_spacing = _contour_spacing(gaps, grid.spacing_mm[0])
    reaches = np.where(gaps <= NEXT_PLANE * spacing, gaps, end_spacing) / 2
    lows = plane_heights - np.concatenate([[end_spacing / 2], reaches])
    highs = plane_heights + np.concatenate([reaches, [end_spacing / 2]])
    for plane, low, high in zip(planes, lows, highs, strict=True):
        yield _Slab(float(low), float(high), [polygons[k][:, _order(grid)[1:]] for k in plane])


def _contour_spacing(gaps: NDArray[np.float64], slice_spacing_mm: float) -> tuple[float, float]:
    """Spacing of a structure's contours between and beyond its planes, in slices.

    Between planes it is at least one, because contours may have been drawn in between here and there; where all were
    drawn on finer slices than the CT's, the first and the last reach no further than that.
    """
    # Two planes do not make a pattern
    if gaps.size < 2:
        return 1.0, 1.0
    smallest = float(gaps.min())
    spacing = smallest if smallest > 1 and smallest * slice_spacing_mm <= MAX_CONTOUR_SPACING_MM else 1.0
    return spacing, min(spacing, statistics.median_high(gaps.tolist()))


def _descending_axes(grid: VoxelGrid) -> tuple[int, ...]:
    """Axes of the grid that run against the patient's."""
    return tuple(axis for axis, direction in enumerate(grid.axes) if sum(direction) < 0)


def _order(grid: VoxelGrid) -> list[int]:
    """Order of axes in which planes are filled: along x if there are rows or columns along x, else along y.

    So a point on a slanting edge is treated alike in every position of the patient.
    """
    _, row_axis, column_axis = np.argmax(np.abs(grid.axes), axis=1)
    return [0, 1, 2] if row_axis > column_axis else [0, 2, 1]


def _longest(grid: VoxelGrid, parts: NDArray[np.intp]) -> int:
    """Axis along which the parts of a voxel are longest; of equal ones that along z, or else y."""
    lengths_mm = np.round(grid.spacing_mm / parts, INDEX_DECIMALS)
    return int(np.lexsort((np.argmax(np.abs(grid.axes), axis=1), lengths_mm))[-1])


def _whole_numbers(low: float, high: float, count: int) -> tuple[int, int]:
    """First and end of the whole numbers from ``low`` up to, not including, ``high`` among 0 … ``count`` - 1."""
    first, end = np.clip(np.ceil(np.round([low, high], INDEX_DECIMALS)), 0, count)
    return int(first), int(end)


def _in_parts(index: NDArray[np.float64], parts: NDArray[np.intp]) -> NDArray[np.float64]:
    """Index in voxels → index in parts of voxels."""
    return np.asarray((index + 0.5) * parts - 0.5)
