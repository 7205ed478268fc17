"""Resampling: the operators against closed forms, and where the network's grid lies in a case."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from model.case import VoxelGrid
from model.checkpoint.manifest import NetworkGrid
from model.conditioning.framing import Framing, area_operator, cubic_operator, linear_operator

ROUNDING = 2e-6
"""Operators are float32 and their rows hold few weights of about one."""


def centres(first: float, step: float, count: int) -> np.ndarray:
    return first + step * np.arange(count)


@given(st.integers(2, 8), st.floats(0.5, 12.0), st.floats(-30.0, 30.0), st.integers(0, 999))
@settings(max_examples=40)
def test_area_average_does_not_see_how_finely_the_same_field_is_stored(times, target_step, first, seed):
    coarse_step, values = 4.0, np.random.default_rng(seed).uniform(-1, 1, 12)
    targets = centres(first, target_step, 9)
    fine_step = coarse_step / times
    coarse = area_operator(centres(0.0, coarse_step, 12), targets) @ values
    fine_centres = centres((fine_step - coarse_step) / 2, fine_step, 12 * times)
    fine = area_operator(fine_centres, targets) @ np.repeat(values, times)
    np.testing.assert_allclose(fine, coarse, atol=12 * times * ROUNDING)


@given(st.floats(0.7, 9.0), st.integers(0, 999))
@settings(max_examples=40)
def test_area_average_conserves_mass(target_step, seed):
    values = np.random.default_rng(seed).uniform(0, 1, 20)
    targets = centres(-15.0, target_step, int(100 / target_step) + 1)  # they reach beyond both ends
    averaged = area_operator(centres(0.0, 3.0, 20), targets) @ values
    assert averaged.sum() * target_step == pytest.approx(values.sum() * 3.0, rel=1e-5)


def test_area_average_counts_what_no_source_covers_as_zero():
    # One source cell from -1 to 1 of value 1; target cells of width 4 around -2, 2 and 6
    operator = area_operator(np.array([0.0, 2.0]), np.array([-2.0, 2.0, 6.0]))
    np.testing.assert_allclose(operator, [[0.25, 0.0], [0.25, 0.5], [0.0, 0.0]], atol=ROUNDING)


@given(st.floats(0.3, 7.0), st.floats(0.0, 5.0), st.tuples(*[st.floats(-2, 2)] * 3))
@settings(max_examples=40)
def test_cubic_interpolation_reproduces_quadratics(target_step, first, coefficients):
    source = centres(-10.0, 2.5, 20)
    targets = centres(first, target_step, 4)
    inside = targets[(targets >= source[1]) & (targets <= source[-2])]
    quadratic = np.polynomial.Polynomial(coefficients, domain=[-10, 40], window=[-1, 1])
    found = cubic_operator(source, inside) @ quadratic(source)
    np.testing.assert_allclose(found, quadratic(inside), atol=10 * ROUNDING)


def test_cubic_interpolation_is_the_identity_on_coincident_grids():
    source = centres(3.0, 3.90625, 15)
    np.testing.assert_array_equal(cubic_operator(source, source), np.eye(15))
    np.testing.assert_array_equal(cubic_operator(source, source[4:9]), np.eye(15)[4:9])


def test_cubic_interpolation_agrees_with_pillow():
    # Pillow's bicubic filter is Keys' with a = -1/2; away from the ends, where Pillow shortens the filter
    values = np.random.default_rng(1).uniform(0, 70, 24).astype(np.float32)
    enlarged = np.asarray(Image.fromarray(values[None]).resize((72, 1), Image.Resampling.BICUBIC))[0]
    ours = cubic_operator(np.arange(24.0), (np.arange(72) + 0.5) / 3 - 0.5) @ values
    np.testing.assert_allclose(ours[9:-9], enlarged[9:-9], atol=1e-4)


def test_cubic_interpolation_holds_the_edge_for_half_a_cell_and_is_zero_beyond():
    operator = cubic_operator(np.arange(5.0), np.array([-0.51, -0.5, -0.2, 4.2, 4.5, 4.51]))
    np.testing.assert_allclose(operator.sum(axis=1), [0, 1, 1, 1, 1, 0], atol=ROUNDING)


@given(st.integers(1, 9), st.integers(0, 999))
@settings(max_examples=30)
def test_linear_interpolation_agrees_with_numpy(count, seed):
    random = np.random.default_rng(seed)
    source, values = 3.0 + 2.0 * np.arange(count), random.uniform(0, 70, count)
    targets = random.uniform(-5, 25, 11)
    found = linear_operator(source, targets) @ values
    np.testing.assert_allclose(found, np.interp(targets, source, values), rtol=1e-5)


NETWORK = NetworkGrid(rows=32, columns=32, pixel_spacing_mm=4.0, slice_spacing_mm=2.5)


def framing_of(spacing_mm: tuple[float, float, float], outline: tuple[slice, slice, slice], shape=(9, 40, 36)):
    external = np.zeros(shape, bool)
    external[outline] = True
    return external, Framing.of(external, VoxelGrid(shape, spacing_mm, (-50.0, 20.0, 7.0)), NETWORK)


@pytest.mark.parametrize(
    ("slice_mm", "every"), [(5.0, 1), (2.5, 1), (1.7, 1), (5 / 3, 2), (1.25, 2), (1.0, 3), (0.8, 3), (0.5, 5)]
)
def test_every_so_many_slices_come_near_the_networks_spacing(slice_mm, every):
    _, framing = framing_of((slice_mm, 4.0, 4.0), (slice(1, 9), slice(8, 30), slice(6, 20)))
    np.testing.assert_array_equal(framing.slices, np.arange(1, 9, every))
    assert framing.slice_spacing_mm == pytest.approx(every * slice_mm)


@pytest.mark.parametrize(
    "outline", [(slice(0, 9), slice(4, 33), slice(3, 30)), (slice(2, 7), slice(5, 25), slice(7, 8))]
)
def test_equal_spacings_need_no_interpolation(outline):
    external, framing = framing_of((2.5, 4.0, 4.0), outline)
    dose = (np.random.default_rng(0).uniform(0, 70, external.shape) * external).astype(np.float32)
    np.testing.assert_array_equal(framing.to_case(framing.dose_images(dose)), dose)
    np.testing.assert_array_equal(framing.images(dose), framing.dose_images(dose))


@given(st.floats(1.0, 9.0), st.floats(1.0, 9.0), st.integers(0, 99))
@settings(max_examples=25)
def test_what_is_linear_in_space_survives_the_way_there_and_back(row_mm, column_mm, seed):
    outline = (slice(0, 9), slice(11, 29), slice(9, 27))
    external, framing = framing_of((1.25, row_mm, column_mm), outline)
    slope = np.random.default_rng(seed).uniform(-1, 1, 3)
    points = np.moveaxis(np.indices(external.shape), 0, -1) * [1.25, row_mm, column_mm]
    dose = (50 + points @ slope).astype(np.float32)
    back = framing.to_case(framing.dose_images(dose))
    keep = external.copy()
    for axis, count, step, network_mm in ((1, 40, row_mm, framing.rows_mm), (2, 36, column_mm, framing.columns_mm)):
        keep &= np.expand_dims(_interpolated(count, step, network_mm), 2 - axis)
    assert keep.any()
    np.testing.assert_allclose(back[keep], dose[keep], atol=2e-3)


def _interpolated(count: int, step: float, network_mm: np.ndarray) -> np.ndarray:
    """Voxels with four network pixels around them, each of which has four voxels around it."""
    position, pixel = np.arange(count) * step, network_mm[1] - network_mm[0]
    in_network = (position >= network_mm[1]) & (position <= network_mm[-2])
    return in_network & (position - 2 * pixel >= step) & (position + 2 * pixel <= (count - 2) * step)


def test_dose_between_the_networks_slices_is_linear_and_its_last_slice_lasts():
    _, framing = framing_of((1.25, 4.0, 4.0), (slice(2, 8), slice(8, 30), slice(6, 20)))
    assert framing.slices.tolist() == [2, 4, 6]
    values = np.array([10.0, 20.0, 40.0], np.float32)
    volume = framing.to_case(values[:, None, None] * np.ones((3, 32, 32), np.float32))
    np.testing.assert_allclose(volume[:, 15, 12], [0, 0, 10, 15, 20, 30, 40, 40, 0], rtol=1e-6)


@pytest.mark.parametrize("width", [30, 32, 33, 34, 35, 36])
def test_it_says_whether_dose_reaches_the_whole_outline(width):
    for first in (0, 2):
        external, framing = framing_of(
            (2.5, 4.0, 4.0), (slice(0, 9), slice(3, 30), slice(first, min(36, first + width)))
        )
        reached = framing.to_case(np.ones((9, 32, 32), np.float32)) > 0
        assert framing.covers(external) == reached[external].all()


def test_a_finer_grid_of_the_same_patient_gives_the_same_averages():
    external, coarse = framing_of((2.5, 4.0, 4.0), (slice(0, 9), slice(8, 30), slice(6, 20)))
    values = np.random.default_rng(3).uniform(-1, 1, external.shape).astype(np.float32)
    fine_values, fine_external = (a.repeat(4, axis=1).repeat(4, axis=2) for a in (values, external))
    origin = (-50.0 - 1.5, 20.0 - 1.5, 7.0)  # the first of four 1 mm voxels starts where the 4 mm voxel does
    fine = Framing.of(fine_external, VoxelGrid(fine_external.shape, (2.5, 1.0, 1.0), origin), NETWORK)
    shifts = (fine.rows_mm - 1.5 - coarse.rows_mm, fine.columns_mm - 1.5 - coarse.columns_mm)
    assert all(np.ptp(shift) == 0 and abs(shift[0]) <= 2.0 for shift in shifts)  # by less than half a coarse voxel
    there = replace(fine, rows_mm=coarse.rows_mm + 1.5, columns_mm=coarse.columns_mm + 1.5)
    np.testing.assert_allclose(there.images(fine_values), coarse.images(values), atol=1e-5)


def test_an_empty_outline_is_refused():
    with pytest.raises(ValueError, match="empty"):
        framing_of((2.5, 4.0, 4.0), (slice(0, 0), slice(0, 0), slice(0, 0)))


@pytest.mark.parametrize(("columns", "middle"), [((6, 20), 12), ((6, 21), 13), ((7, 8), 7)])
def test_the_networks_middle_pixel_lies_on_the_middle_voxel_of_the_outline(columns, middle):
    # Of two middle voxels the first; the middle pixel of 32 is number 16
    _, framing = framing_of((2.5, 4.0, 3.0), (slice(1, 8), slice(8, 30), slice(*columns)))
    assert framing.columns_mm[16] == middle * 3.0
    assert framing.rows_mm[16] == 18 * 4.0
    assert framing.slices.tolist() == list(range(1, 8))
    np.testing.assert_allclose(np.diff(framing.columns_mm), 4.0)
