import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from model.dicom.contours import trace_contours


def even_odd(contours, shape):
    """Pixel centres that lie inside an odd number of contours: count the edges that a ray to the left crosses."""
    rows, columns = np.indices(shape)
    inside = np.zeros(shape, bool)
    for contour in contours:
        for (r0, c0), (r1, c1) in zip(contour, np.roll(contour, -1, axis=0), strict=True):
            if r0 != r1:
                inside ^= (rows > min(r0, r1)) & (rows < max(r0, r1)) & (columns > c0 + (c1 - c0) / 2)
    return inside


@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=9)))
@settings(max_examples=200, deadline=None)
def test_even_odd_fill_gives_the_mask_back(mask):
    assert np.array_equal(even_odd(trace_contours(mask), mask.shape), mask)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_every_edge_of_the_mask_is_walked_once(seed):
    mask = np.random.default_rng(seed).random((13, 17)) < 0.5
    length = sum(np.abs(c - np.roll(c, -1, axis=0)).sum() for c in trace_contours(mask))
    padded = np.pad(mask, 1)
    assert length == np.count_nonzero(np.diff(padded, axis=0)) + np.count_nonzero(np.diff(padded, axis=1))


def test_a_pixel_is_a_square_around_its_centre():
    mask = np.zeros((3, 4), bool)
    mask[1, 2] = True
    (contour,) = trace_contours(mask)
    assert sorted(map(tuple, contour)) == [(0.5, 1.5), (0.5, 2.5), (1.5, 1.5), (1.5, 2.5)]


def test_a_hole_is_a_contour_of_its_own():
    mask = np.ones((5, 5), bool)
    mask[2, 2] = False
    assert sorted(len(contour) for contour in trace_contours(mask)) == [4, 4]


def test_straight_runs_have_no_corners_between():
    mask = np.zeros((4, 50), bool)
    mask[1, 3:40] = True
    assert [len(contour) for contour in trace_contours(mask)] == [4]


@pytest.mark.parametrize("mask", [np.array([[1, 0], [0, 1]], bool), np.array([[0, 1], [1, 0]], bool)])
def test_regions_that_touch_at_a_corner_are_apart(mask):
    assert [len(contour) for contour in trace_contours(mask)] == [4, 4]


def test_an_empty_mask_has_no_contours():
    assert trace_contours(np.zeros((3, 3), bool)) == []
