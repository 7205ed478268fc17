import tracemalloc
from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.path import Path as Outline
from numpy.typing import NDArray
from skimage.draw import polygon2mask

from model.case import VoxelGrid
from model.dicom import rasterise as rasterise_module
from model.dicom.rasterise import SAMPLES, fill, rasterise, sample

GRID = VoxelGrid(shape=(6, 8, 10), spacing_mm=(3.0, 2.0, 1.5), origin_mm=(-7.0, -5.0, 20.0))


def filled(polygons: list[NDArray[np.float64]], shape: tuple[int, int]) -> NDArray[np.bool_]:
    out = np.zeros(shape, bool)
    fill(polygons, out)
    return out


def box(x0: float, x1: float, y0: float, y1: float, z: float) -> NDArray[np.float64]:
    return np.array([(x0, y0, z), (x1, y0, z), (x1, y1, z), (x0, y1, z)])


@pytest.mark.parametrize("seed", range(20))
def test_equals_other_programs_on_random_polygons(seed: int) -> None:
    # Self-intersecting, partly outside the image; no centre lies on an edge
    polygon = np.random.default_rng(seed).uniform(-6, 40, (12, 2))
    mask = filled([polygon], (31, 37))
    assert (mask == polygon2mask((31, 37), polygon)).all()
    centres = np.argwhere(np.ones((31, 37)))
    assert (mask.ravel() == Outline(np.vstack([polygon, polygon[:1]])).contains_points(centres)).all()


@pytest.mark.parametrize("seed", range(5))
def test_equals_other_program_in_millimetres_on_non_square_pixels(seed: int) -> None:
    random = np.random.default_rng(seed)
    angles = np.sort(random.uniform(0, 2 * np.pi, 30))
    radii_mm = random.uniform(2, 7, 30)
    x, y = radii_mm * np.cos(angles), 2 + radii_mm * np.sin(angles)
    mask = rasterise([np.stack([x, y, np.full(30, 26.0)], axis=1)], GRID)
    inside = Outline(np.stack([x, y], axis=1))
    for row, column in np.ndindex(8, 10):
        assert mask[2, row, column] == inside.contains_point((-7 + 1.5 * column, -5 + 2 * row))
    assert mask[[0, 1, 3, 4, 5]].sum() == 0


def test_edges_through_centres_count_once() -> None:
    left, right = np.array([(1, 1), (1, 4), (5, 4), (5, 1)]), np.array([(1, 4), (1, 6), (5, 6), (5, 4)])
    mask = filled([left], (8, 8))
    assert mask[1:5, 1:4].all()
    assert mask.sum() == 12
    assert not (mask & filled([right], (8, 8))).any()
    assert filled([right], (8, 8))[1:5, 4:6].all()


def test_diagonal_through_centres_parts_without_gap_or_overlap() -> None:
    upper, lower = np.array([(0, 0), (0, 7), (7, 7)]), np.array([(0, 0), (7, 7), (7, 0)])
    total = filled([upper], (9, 9)).astype(int) + filled([lower], (9, 9))
    assert total.max() == 1
    assert total[:7, :7].all()


def test_hole_is_even_odd_and_keyhole_gives_the_same() -> None:
    outer = np.array([(0.5, 0.5), (0.5, 8.5), (8.5, 8.5), (8.5, 0.5)])
    inner = np.array([(2.5, 2.5), (2.5, 5.5), (5.5, 5.5), (5.5, 2.5)])
    ring = filled([outer, inner], (10, 10))
    assert ring.sum() == 64 - 9
    keyhole = np.vstack([outer, outer[:1], inner, inner[:1]])
    assert (filled([keyhole], (10, 10)) == ring).all()


def test_contour_counts_for_the_nearest_slice() -> None:
    # Slices at 20, 23, 26...: of 26.9 and 25.2 the latter is nearer to the third slice, and each has one only
    mask = rasterise([box(-6, 6, -4, 4, 25.2), box(-6, 0, -4, 4, 26.9)], GRID)
    assert list(np.flatnonzero(mask.any(axis=(1, 2)))) == [2]
    assert (mask[2] == rasterise([box(-6, 6, -4, 4, 26)], GRID)[2]).all()


def test_contour_midway_counts_for_the_slice_below() -> None:
    mask = rasterise([box(-6, 6, -4, 4, 24.5)], GRID)
    assert list(np.flatnonzero(mask.any(axis=(1, 2)))) == [1]


def test_structure_drawn_on_every_second_slice_fills_the_others() -> None:
    # The contour at 32 mm stands for 29 to 35 mm, without the slice at its upper end
    mask = rasterise([box(-6, 6, -4, 4, z) for z in (20, 26, 32)], GRID)
    assert list(mask.any(axis=(1, 2))) == [True, True, True, True, True, False]


def test_structure_in_two_pieces_keeps_its_gap() -> None:
    mask = rasterise([box(-6, 6, -4, 4, z) for z in (20, 23, 32, 35)], GRID)
    assert list(mask.any(axis=(1, 2))) == [True, True, False, False, True, True]


def test_structure_drawn_between_the_slices_keeps_its_place() -> None:
    # Slabs from 20.5 to 32.5 mm: centres at 23, 26, 29 and 32
    mask = rasterise([box(-6, 6, -4, 4, z) for z in (22, 25, 28, 31)], GRID)
    assert list(mask.any(axis=(1, 2))) == [False, True, True, True, True, False]


def test_structure_drawn_on_finer_slices_ends_where_they_end() -> None:
    # Contours at 24 to 28 mm stand for 23.5 to 28.5 mm, not for half a slice of the CT more at either end
    contours = [box(-6, 6, -4, 4, z) for z in (24, 25, 26, 27, 28)]
    assert list(rasterise(contours, GRID).any(axis=(1, 2))) == [False, False, True, False, False, False]
    points = sample(contours, GRID)
    assert points is not None
    assert len(points.indices) * points.volume_cc == pytest.approx(12 * 8 * 5 / 1000)


def test_contours_of_unequal_distances_leave_no_gap() -> None:
    # 20.0 to 24.4 mm is less than one and a half slices, 24.4 to 29.0 mm is more
    mask = rasterise([box(-6, 6, -4, 4, z) for z in (20, 24.4, 29, 32)], GRID)
    assert list(mask.any(axis=(1, 2))) == [True, True, False, True, True, False]


def test_nested_structures_know_nothing_of_each_other() -> None:
    outer, inner = [box(-7, 6, -5, 9, 26)], [box(-3, 3, -1, 5, 26)]
    assert (rasterise(inner, GRID) <= rasterise(outer, GRID)).all()
    ring = rasterise(outer + inner, GRID)
    assert (ring == rasterise(outer, GRID) & ~rasterise(inner, GRID)).all()


def test_no_contours_no_voxels() -> None:
    assert not rasterise([], GRID).any()
    assert sample([], GRID) is None


def test_a_structure_between_voxel_centres_is_sampled() -> None:
    # A tenth of a voxel
    contours = [box(-6.9, -6.0, -4.9, -3.9, 26)]
    assert not rasterise(contours, GRID).any()
    points = sample(contours, GRID)
    assert points is not None
    # A box is the worst case: each of its faces may miss a layer of about fifty
    assert len(points.indices) * points.volume_cc == pytest.approx(0.9 * 1.0 * 3 / 1000, rel=0.05)
    low, high = points.indices.min(axis=0), points.indices.max(axis=0)
    assert np.allclose(GRID.points_mm(low), (-6.9, -4.9, 24.5), atol=0.1)
    assert np.allclose(GRID.points_mm(high), (-6.0, -3.9, 27.5), atol=0.1)


def test_samples_include_the_voxel_centres_inside() -> None:
    contours = [box(-4.2, 3.1, -2.3, 6.6, z) for z in (23, 26, 29)]
    points = sample(contours, GRID)
    assert points is not None
    assert SAMPLES * 0.8 < len(points.indices) < 3 * SAMPLES
    assert len(np.unique(points.indices, axis=0)) == len(points.indices)
    whole = points.indices[np.abs(points.indices - np.rint(points.indices)).max(axis=1) < 1e-4]
    found = np.zeros(GRID.shape, bool)
    found[tuple(np.rint(whole).astype(int).T)] = True
    assert (found == rasterise(contours, GRID)).all()


def test_samples_lie_in_holes_no_more_than_voxels_do() -> None:
    outer, inner = [box(-6, 6, -4, 8, 26)], [box(-3, 3, -1, 5, 26)]
    points = sample(outer + inner, GRID)
    assert points is not None
    x, y, _ = GRID.points_mm(points.indices).T
    assert not ((np.abs(x) < 2.99) & (np.abs(y - 2) < 2.99)).any()
    assert len(x) * points.volume_cc == pytest.approx((12 * 12 - 6 * 6) * 3 / 1000, rel=0.02)


def test_what_lies_beyond_the_grid_is_not_sampled() -> None:
    points = sample([box(-30, 6.5, -4, 4, 20)], GRID)
    assert points is not None
    assert points.indices.min() >= -0.5
    assert sample([box(-30, -20, -4, 4, 20)], GRID) is None


def test_a_structure_of_many_voxels_needs_no_samples() -> None:
    grid = VoxelGrid(shape=(40, 60, 60), spacing_mm=(1.0, 1.0, 1.0), origin_mm=(0.0, 0.0, 0.0))
    contours = [box(5, 55, 5, 55, z) for z in range(5, 30)]
    assert rasterise(contours, grid).sum() >= SAMPLES
    assert sample(contours, grid) is None


def zigzag(corners: int) -> NDArray[np.float64]:
    """Up and down over all rows, in steps to the left and right."""
    x = np.tile([-6.0, 4.0, -1.3, 5.2, 2.2], corners // 5)
    y = np.resize([-6.0, 9.0], x.size)
    return np.stack([x, y, np.full(x.size, 20.0)], axis=1)


def test_crossings_may_come_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    contours = [zigzag(55), box(-4, 3, -3, 6, 20), box(-4, 3, -3, 6, 26)]
    whole = rasterise(contours, GRID)
    assert 0 < whole[0].sum() < whole[0].size
    for size in (1, 7, 100):
        monkeypatch.setattr(rasterise_module, "CROSSINGS_AT_ONCE", size)
        assert (rasterise(contours, GRID) == whole).all()


def test_memory_does_not_grow_with_the_crossings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rasterise_module, "CROSSINGS_AT_ONCE", 2**15)
    contour = zigzag(200_000)
    tracemalloc.start()
    rasterise([contour], GRID)
    # A million crossings would take many times as much as the contour
    assert tracemalloc.get_traced_memory()[1] < 12 * contour.nbytes
    tracemalloc.stop()


def test_what_goes_up_and_down_without_end_is_not_sampled() -> None:
    assert sample([zigzag(55)], GRID) is not None
    assert sample([zigzag(100_055)], GRID) is None


def test_a_line_has_no_samples() -> None:
    line = np.array([(0, 0, 26), (3, 2, 26), (6, 4, 26)])
    assert sample([line], GRID) is None
    # Nor does a speck of a micrometre, and it does not take ages
    assert sample([np.array([(0, 0, 26), (1e-3, 0, 26), (0, 1e-3, 26)])], GRID) is None
    # Even-odd: what is drawn twice is not there
    assert sample([box(-6, 6, -4, 4, 26)] * 2, GRID) is None


AXES = np.array(GRID.axes)


@pytest.mark.parametrize("order", list(permutations(range(3))))
@pytest.mark.parametrize("signs", list(product((1, -1), repeat=3)))
def test_every_aligned_grid_holds_the_same_voxels(order: tuple[int, ...], signs: tuple[int, ...]) -> None:
    """Voxels by their patient points, with edges through voxel centres; the contours lie in slices of each grid."""
    # A cube from the second to the fourth centre along each patient axis, half-open
    grid = VoxelGrid((6, 6, 6), (2.0, 2.0, 2.0), (0.0, 0.0, 0.0))
    axes = np.array(signs)[:, None] * AXES[list(order)]
    corner = np.where(axes.sum(axis=0) < 0, 10.0, 0.0)
    turned = VoxelGrid((6, 6, 6), (2.0, 2.0, 2.0), tuple(corner), tuple(map(tuple, axes)))
    slice_axis = int(np.argmax(np.abs(axes[0])))
    others = [k for k in range(3) if k != slice_axis]
    contours = []
    for height in (2.0, 4.0):
        points = np.full((4, 3), height)
        points[:, others] = [(2, 2), (6, 2), (6, 6), (2, 6)]
        contours.append(points)
    mask = turned.to_canonical(rasterise(contours, turned))
    expected = np.zeros(grid.shape, bool)
    expected[1:3, 1:3, 1:3] = True
    assert (mask == expected).all()


coordinates = st.integers(-8, 80).map(lambda eighth: eighth / 8)
polygons = st.lists(st.tuples(coordinates, coordinates), min_size=3, max_size=9).map(np.array)


@settings(max_examples=60, deadline=None)
@given(polygons, st.integers(0, 8))
def test_start_and_direction_of_a_polygon_do_not_matter(polygon: NDArray[np.float64], start: int) -> None:
    expected = filled([polygon], (9, 9))
    assert (filled([np.roll(polygon, start, axis=0)], (9, 9)) == expected).all()
    assert (filled([polygon[::-1]], (9, 9)) == expected).all()


@settings(max_examples=60, deadline=None)
@given(polygons, polygons)
def test_two_polygons_are_the_exclusive_or_of_both(first: NDArray[np.float64], second: NDArray[np.float64]) -> None:
    both = filled([first, second], (9, 9))
    assert (both == filled([first], (9, 9)) ^ filled([second], (9, 9))).all()


@settings(max_examples=60, deadline=None)
@given(polygons, st.integers(0, 3), st.integers(0, 3))
def test_moving_by_whole_pixels_moves_the_mask(polygon: NDArray[np.float64], rows: int, columns: int) -> None:
    mask = filled([polygon], (14, 14))
    moved = filled([polygon + np.array([rows, columns])], (14, 14))
    assert (moved[rows:, columns:] == mask[: 14 - rows, : 14 - columns]).all()
