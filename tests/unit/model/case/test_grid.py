"""VoxelGrid: voxels and patient points."""

from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from model.case import Volume, VoxelGrid
from model.case.grid import bounding_box

AXES = ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0))
ORIENTATIONS = [(order, signs) for order in permutations(range(3)) for signs in product((1.0, -1.0), repeat=3)]

spacings = st.tuples(*[st.floats(0.3, 6.0)] * 3)
origins = st.tuples(*[st.floats(-400.0, 400.0)] * 3)
shapes = st.tuples(*[st.integers(1, 5)] * 3)


def oriented(order: tuple[int, ...], signs: tuple[float, ...]) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(sign * component for component in AXES[k]) for k, sign in zip(order, signs, strict=True))


@given(spacings, origins, st.integers(0, 2**16))
@settings(max_examples=30)
def test_indices_undo_points_on_any_grid(spacing, origin, seed):
    axes = Rotation.random(random_state=seed).as_matrix()
    grid = VoxelGrid((4, 5, 6), spacing, origin, tuple(map(tuple, axes)))
    indices = np.random.default_rng(seed).uniform(-3, 8, (7, 3))
    np.testing.assert_allclose(grid.indices(grid.points_mm(indices)), indices, atol=1e-9)


def test_points_follow_the_image_plane_equation():
    # PS3.3 C.7.6.2.1-1 by hand: rows go along y, columns along -x, slices along z
    grid = VoxelGrid((3, 4, 5), (3.0, 0.5, 0.8), (10.0, 20.0, 30.0), ((0, 0, 1), (0, 1, 0), (-1, 0, 0)))
    np.testing.assert_allclose(grid.points_mm(np.array([2, 3, 4])), [10 - 4 * 0.8, 20 + 3 * 0.5, 30 + 2 * 3.0])
    assert grid.voxel_volume_cc == pytest.approx(0.0012)


@pytest.mark.parametrize(("order", "signs"), ORIENTATIONS)
@given(shape=shapes, spacing=spacings, origin=origins)
@settings(max_examples=5)
def test_canonical_order_keeps_every_voxel_where_it_is(order, signs, shape, spacing, origin):
    grid = VoxelGrid(shape, spacing, origin, oriented(order, signs))
    canonical = grid.canonical()
    numbers = np.arange(np.prod(shape)).reshape(shape)
    reordered = grid.to_canonical(numbers)

    assert reordered.shape == canonical.shape
    assert canonical.axes == AXES
    stored = np.stack(np.unravel_index(reordered, shape), axis=-1)
    here = np.moveaxis(np.indices(canonical.shape), 0, -1)
    np.testing.assert_allclose(canonical.points_mm(here), grid.points_mm(stored), atol=1e-9)
    np.testing.assert_array_equal(grid.from_canonical(reordered), numbers)
    assert canonical.canonical() == canonical


@pytest.mark.parametrize(("degrees", "aligned"), [(0.03, True), (1.0, False), (44.0, False)])
def test_only_grids_along_the_patient_have_a_canonical_order(degrees, aligned):
    axes = Rotation.from_euler("x", degrees, degrees=True).apply(np.asarray(AXES))
    grid = VoxelGrid((2, 3, 4), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), tuple(map(tuple, axes)))
    assert grid.is_aligned == aligned
    if not aligned:
        with pytest.raises(ValueError, match="oblique"):
            grid.canonical()


def test_grids_are_the_same_within_a_tolerance():
    grid = VoxelGrid((10, 10, 10), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    assert grid.same_as(VoxelGrid((10, 10, 10), (1.0, 1.0, 1.00005), (0.0, 0.0, 0.0)))
    assert not grid.same_as(VoxelGrid((10, 10, 10), (1.0, 1.0, 1.001), (0.0, 0.0, 0.0)))  # 9 µm at the far end
    assert not grid.same_as(VoxelGrid((10, 10, 11), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)))


@pytest.mark.parametrize(
    ("shape", "spacing"), [((0, 2, 2), (1, 1, 1)), ((2, 2, 2), (1, 0, 1)), ((2, 2, 2), (1, 1, -1))]
)
def test_impossible_grids_are_refused(shape, spacing):
    with pytest.raises(ValueError, match=r"voxel|spacing"):
        VoxelGrid(shape, spacing, (0.0, 0.0, 0.0))


def test_values_must_fit_their_grid():
    with pytest.raises(ValueError, match="do not fit"):
        Volume(np.zeros((2, 2, 2)), VoxelGrid((2, 2, 3), (1, 1, 1), (0, 0, 0)))


def test_bounding_box_holds_all_true_voxels_and_no_more():
    mask = np.zeros((5, 6, 7), bool)
    mask[1, 2, 6] = mask[3, 0, 4] = True
    assert bounding_box(mask) == (slice(1, 4), slice(0, 3), slice(4, 7))
    with pytest.raises(ValueError, match="empty"):
        bounding_box(np.zeros((2, 2, 2), bool))
