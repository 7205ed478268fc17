"""Windows hold the patient and are of sizes that networks take."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.conditioning.windows import MARGIN, MULTIPLE, Window, batches_of, windows_of

SHAPE = (64, 96)


@st.composite
def boxes(draw: st.DrawFn) -> tuple[slice, slice]:
    return tuple(  # type: ignore[return-value]
        slice(*sorted(draw(st.lists(st.integers(0, n), min_size=2, max_size=2, unique=True)))) for n in SHAPE
    )


@given(st.lists(boxes(), min_size=1, max_size=4), st.tuples(st.integers(1, 64), st.integers(1, 96)))
def test_a_window_holds_the_patient_and_air_around_as_far_as_the_image_goes(found, smallest):
    external = np.zeros((len(found), *SHAPE), np.float32)
    for image, box in zip(external, found, strict=True):
        image[box] = 0.3
    for box, window in zip(found, windows_of(external, smallest), strict=True):
        sides = zip(box, window.index, (window.rows, window.columns), smallest, SHAPE, strict=True)
        for inside, side, size, least, total in sides:
            assert 0 <= side.start <= max(inside.start - MARGIN, 0)
            assert min(inside.stop + MARGIN, total) <= side.stop <= total
            assert size % MULTIPLE == 0
            assert least <= size < max(inside.stop - inside.start + 2 * MARGIN, least) + MULTIPLE


def test_a_slice_without_patient_has_the_smallest_window_amid_it():
    assert windows_of(np.zeros((1, *SHAPE), np.float32), (32, 32)) == [Window(16, 32, 32, 32)]


@pytest.mark.parametrize("together", [1, 2, 7])
def test_batches_hold_every_slice_once_and_windows_of_one_size(together):
    windows = [Window(0, left, 16, 16 if left % 3 else 32) for left in range(7)]
    batches = batches_of(windows, together)
    assert sorted(np.concatenate(batches)) == list(range(7))
    assert max(map(len, batches)) <= together
    assert all(len({windows[k].columns for k in batch}) == 1 for batch in batches)
