"""What must hold for contours of any shape on any grid."""

from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy.spatial import ConvexHull

from model.case import VoxelGrid
from model.dicom.contours import trace_contours
from model.dicom.rasterise import rasterise, sample

Contours = list[NDArray[np.float64]]

bounded = settings(max_examples=25, deadline=None)

AXES = [
    np.array(signs)[:, None] * np.eye(3)[list(order)]
    for order in permutations(range(3))
    for signs in product((1, -1), repeat=3)
]
"""Every way in which slices, rows and columns can run along the patient's axes."""

TRANSVERSE = [axes for axes in AXES if axes[0, 2]]

SHAPE = (5, 9, 8)
spacings = st.tuples(*[st.integers(4, 40).map(lambda eighth: eighth / 8)] * 3)
origins = st.tuples(*[st.integers(-300, 300).map(lambda half: half / 2)] * 3)


@st.composite
def grids(draw: st.DrawFn, orientations: list[NDArray[np.float64]] = AXES) -> VoxelGrid:
    axes = draw(st.sampled_from(orientations))
    return VoxelGrid(SHAPE, draw(spacings), draw(origins), tuple(map(tuple, axes.tolist())))


# In eighths of a voxel, so that corners and edges often lie on voxel centres
coordinates = st.integers(-12, 84).map(lambda eighth: eighth / 8)
polygons = st.lists(st.tuples(coordinates, coordinates), min_size=3, max_size=8).map(np.array)
drawn = st.lists(st.tuples(st.integers(0, SHAPE[0] - 1), polygons), min_size=1, max_size=6)


def on(grid: VoxelGrid, polygons_in_slices: list[tuple[float, NDArray[np.float64]]]) -> Contours:
    """Patient points of polygons (row, column) in slices of a grid."""
    return [grid.points_mm(np.insert(polygon, 0, index, axis=1)) for index, polygon in polygons_in_slices]


def turned(grid: VoxelGrid, axes: NDArray[np.float64]) -> VoxelGrid:
    """Return the same voxels in other rows, columns and slices."""
    order = [int(np.argmax(np.abs(np.asarray(grid.axes) @ axis))) for axis in axes]
    against = [np.asarray(grid.axes[k]) @ axis < 0 for k, axis in zip(order, axes, strict=True)]
    corner = np.zeros(3)
    corner[order] = [grid.shape[k] - 1 if reverse else 0 for k, reverse in zip(order, against, strict=True)]
    return VoxelGrid(
        tuple(grid.shape[k] for k in order),
        tuple(grid.spacing_mm[k] for k in order),
        tuple(grid.points_mm(corner).tolist()),
        tuple(map(tuple, axes.tolist())),
    )


def sampled_cc(contours: Contours, grid: VoxelGrid) -> float:
    points = sample(contours, grid)
    return 0.0 if points is None else len(points.indices) * points.volume_cc


@bounded
@given(grids(TRANSVERSE), st.sampled_from(TRANSVERSE), drawn)
def test_patient_position_changes_neither_mask_nor_volume(
    grid: VoxelGrid, axes: NDArray[np.float64], polygons_in_slices: list[tuple[int, NDArray[np.float64]]]
) -> None:
    contours, other = on(grid, polygons_in_slices), turned(grid, axes)
    assert (other.to_canonical(rasterise(contours, other)) == grid.to_canonical(rasterise(contours, grid))).all()
    assert sampled_cc(contours, other) == pytest.approx(sampled_cc(contours, grid), rel=1e-9)


@bounded
@given(grids(), origins, drawn)
def test_moving_the_patient_moves_nothing_in_the_patient(
    grid: VoxelGrid, shift_mm: tuple[float, ...], polygons_in_slices: list[tuple[int, NDArray[np.float64]]]
) -> None:
    contours = on(grid, polygons_in_slices)
    moved = VoxelGrid(grid.shape, grid.spacing_mm, tuple(np.add(grid.origin_mm, shift_mm).tolist()), grid.axes)
    mask = rasterise([contour + np.array(shift_mm) for contour in contours], moved)
    assert (mask == rasterise(contours, grid)).all()


@bounded
@given(grids(), drawn, st.randoms(use_true_random=False))
def test_order_of_contours_and_points_does_not_matter(grid: VoxelGrid, polygons_in_slices, random) -> None:
    contours = on(grid, polygons_in_slices)
    shuffled = [np.roll(contour, random.randrange(8), axis=0)[:: random.choice((1, -1))] for contour in contours]
    random.shuffle(shuffled)
    assert (rasterise(shuffled, grid) == rasterise(contours, grid)).all()
    assert sampled_cc(shuffled, grid) == pytest.approx(sampled_cc(contours, grid), rel=1e-9)


@bounded
@given(grids(), st.integers(0, SHAPE[0] - 1), polygons, polygons)
def test_volumes_of_disjoint_contours_add_up(grid: VoxelGrid, index: int, first, second) -> None:
    beside = second + np.array([0, 30])
    wide = VoxelGrid((SHAPE[0], SHAPE[1], 45), grid.spacing_mm, grid.origin_mm, grid.axes)
    parts = [on(wide, [(index, first)]), on(wide, [(index, beside)])]
    both = rasterise(parts[0] + parts[1], wide)
    masks = [rasterise(part, wide) for part in parts]
    assert not (masks[0] & masks[1]).any()
    assert (both == masks[0] | masks[1]).all()


@bounded
@given(grids(), drawn)
def test_what_is_drawn_twice_is_not_there(grid: VoxelGrid, polygons_in_slices) -> None:
    contours = on(grid, polygons_in_slices)
    assert not rasterise(contours + contours, grid).any()
    assert sample(contours + contours, grid) is None


@bounded
@given(spacings, st.integers(0, 2**32 - 1), st.integers(1, 4))
def test_volume_of_a_prism_converges_to_area_times_height(
    spacing_mm: tuple[float, float, float], seed: int, slices: int
) -> None:
    points = np.random.default_rng(seed).uniform(0, 20, (8, 2))
    hull = ConvexHull(points)
    polygon = points[hull.vertices]
    wide_mm, deep_mm = np.ptp(polygon, axis=0)
    slice_mm, *pixel_mm = spacing_mm
    contours = [np.column_stack([polygon, np.full(len(polygon), slice_mm * k)]) for k in range(slices)]
    exact_mm3 = hull.volume * slice_mm * slices  # of a plane hull the volume is the area
    for parts in (4, 2, 1):
        row_mm, column_mm = (step / parts for step in pixel_mm)
        shape = (slices, int(21 / row_mm) + 2, int(21 / column_mm) + 2)
        grid = VoxelGrid(shape, (slice_mm, row_mm, column_mm), (-0.3, -0.7, 0.0))
        found_mm3 = rasterise(contours, grid).sum() * grid.voxel_volume_cc * 1000
        # Each end of each row may be a pixel off, and the topmost and lowest row too
        bound_mm2 = column_mm * (deep_mm + row_mm) + row_mm * (wide_mm + column_mm)
        assert abs(found_mm3 - exact_mm3) <= bound_mm2 * slice_mm * slices
    # Divided, the largest voxels are as good as small ones
    assert sampled_cc(contours, grid) * 1000 == pytest.approx(exact_mm3, rel=0.03)


@bounded
@given(grids(), arrays(bool, SHAPE))
def test_contours_of_a_mask_give_the_mask_back(grid: VoxelGrid, mask: NDArray[np.bool_]) -> None:
    # Were only every second slice drawn, those between would be filled
    mask[:2, 0, 0] = True
    outlines = [(index, corners) for index, plane in enumerate(mask) for corners in trace_contours(plane)]
    written = [np.round(contour, 3) for contour in on(grid, outlines)]
    assert (rasterise(written, grid) == mask).all()
