"""The part of each image that holds the patient: networks work on it alone, which costs a third of the whole image."""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MULTIPLE = 16
"""Rows and columns of a window are multiples of it: networks halve an image up to four times."""
MARGIN = 4
"""Pixels of air that are kept around the patient, if the image has them."""


@dataclass(frozen=True)
class Window:
    """Rows and columns of an image that a network works on."""

    top: int
    left: int
    rows: int
    columns: int

    @property
    def index(self) -> tuple[slice, slice]:
        """Its rows and columns, to index the last two axes of an image by."""
        return slice(self.top, self.top + self.rows), slice(self.left, self.left + self.columns)


def windows_of(external: NDArray[np.float32], smallest: tuple[int, int]) -> list[Window]:
    """Return the windows around the patient, slice by slice.

    Parameters
    ----------
    external
        (slices, rows, columns) share of each pixel that lies in the patient; a slice without any has the smallest
        window, at its centre.
    smallest
        Rows and columns of the smallest window.
    """
    windows = []
    for patient in external > 0:
        top, rows = _extent(patient.any(axis=1), smallest[0])
        left, columns = _extent(patient.any(axis=0), smallest[1])
        windows.append(Window(top, left, rows, columns))
    return windows


def _extent(occupied: NDArray[np.bool_], least: int) -> tuple[int, int]:
    """First pixel and number of pixels along one axis."""
    found = np.flatnonzero(occupied)
    first, last = (found[0], found[-1]) if len(found) else (len(occupied) // 2,) * 2
    needed = max(int(last - first) + 1 + 2 * MARGIN, least)
    size = min(-(-needed // MULTIPLE) * MULTIPLE, len(occupied))
    start = int(first + last + 1 - size) // 2
    return min(max(start, 0), len(occupied) - size), size


def batches_of(windows: list[Window], together: int) -> list[NDArray[np.int64]]:
    """Divide slices into batches of at most so many whose windows are of one size."""
    alike = defaultdict(list)
    for number, window in enumerate(windows):
        alike[window.rows, window.columns].append(number)
    return [
        np.array(numbers[first : first + together])
        for numbers in alike.values()
        for first in range(0, len(numbers), together)
    ]
