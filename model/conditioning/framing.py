"""How a case lies on the network's grid: resampling there and back.

In the plane, images are averaged over area (a CT of 512 × 512 and the same CT of 128 × 128 have the same averages,
though their frames may lie up to half a coarse pixel apart), and dose is interpolated with Keys' cubic convolution
(IEEE ASSP 29, 1153, 1981), which keeps constants, ramps and, where the grids coincide, every value. Between slices dose
is interpolated linearly.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from model.case import VoxelGrid
from model.case.grid import bounding_box
from model.checkpoint.manifest import NetworkGrid

KEYS_A = -0.5
"""Keys' parameter; the only value that reproduces quadratics."""


def area_operator(source_mm: NDArray[np.float64], target_mm: NDArray[np.float64]) -> NDArray[np.float32]:
    """Matrix (targets, sources) that averages piecewise-constant samples over the targets' cells.

    Parameters
    ----------
    source_mm, target_mm
        Evenly spaced, ascending cell centres. Parts of a target cell that no source cell covers count as zero.
    """
    source_step, target_step = _step(source_mm), _step(target_mm)
    low = np.maximum(target_mm[:, None] - target_step / 2, source_mm[None, :] - source_step / 2)
    high = np.minimum(target_mm[:, None] + target_step / 2, source_mm[None, :] + source_step / 2)
    return np.asarray(np.clip(high - low, 0.0, None) / target_step, np.float32)


def cubic_operator(source_mm: NDArray[np.float64], target_mm: NDArray[np.float64]) -> NDArray[np.float32]:
    """Matrix (targets, sources) of Keys' cubic convolution; the edge sample is repeated outwards, beyond it is zero."""
    step = _step(source_mm)
    position = (target_mm - source_mm[0]) / step
    first = np.floor(position).astype(int) - 1
    operator = np.zeros((len(target_mm), len(source_mm)))
    rows = np.arange(len(target_mm))
    for tap in range(4):
        weight = _keys(np.abs(position - (first + tap)))
        np.add.at(operator, (rows, np.clip(first + tap, 0, len(source_mm) - 1)), weight)
    operator[(position < -0.5) | (position > len(source_mm) - 0.5)] = 0.0
    return operator.astype(np.float32)


def linear_operator(source_mm: NDArray[np.float64], target_mm: NDArray[np.float64]) -> NDArray[np.float32]:
    """Matrix (targets, sources) of linear interpolation; outside the sources the nearest holds."""
    if len(source_mm) == 1:
        return np.ones((len(target_mm), 1), np.float32)
    position = np.clip((target_mm - source_mm[0]) / _step(source_mm), 0, len(source_mm) - 1)
    lower = np.minimum(position.astype(int), len(source_mm) - 2)
    operator = np.zeros((len(target_mm), len(source_mm)), np.float32)
    rows = np.arange(len(target_mm))
    operator[rows, lower] = 1 - (position - lower)
    operator[rows, lower + 1] += position - lower
    return operator


def _step(centres_mm: NDArray[np.float64]) -> float:
    return float(centres_mm[1] - centres_mm[0]) if len(centres_mm) > 1 else 1.0


def _keys(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    near = (KEYS_A + 2) * distance**3 - (KEYS_A + 3) * distance**2 + 1
    far = KEYS_A * (distance**3 - 5 * distance**2 + 8 * distance - 4)
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0.0))


def _resample(
    values: NDArray[np.generic], rows: NDArray[np.float32], columns: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Apply operators (r, R) and (c, C) to every slice of (S, R, C): (S, r, c).

    The operators are nearly empty; as sparse matrices they cost a hundredth of the dense products.
    """
    slices, height, _ = values.shape
    flat = np.ascontiguousarray(values, np.float32).reshape(slices * height, -1)
    across = (sparse.csr_array(columns) @ flat.T).reshape(-1, slices, height)  # (c, S, R)
    down = sparse.csr_array(rows) @ np.moveaxis(across, 2, 0).reshape(height, -1)  # (r, c·S)
    return np.ascontiguousarray(down.reshape(len(rows), len(columns), slices).transpose(2, 0, 1))


@dataclass(frozen=True)
class Framing:
    """Where the network's slices, rows and columns lie in a case.

    Parameters
    ----------
    grid
        The case's grid in canonical order (slices to the head, rows to posterior, columns to the left).
    slices
        Indices of the case's slices that the network works on, evenly spaced.
    first, last
        First and last slice of the case that hold outline.
    rows_mm, columns_mm
        Centres of the network's rows and columns, in mm from the centre of the case's first row and column.
    """

    grid: VoxelGrid
    slices: NDArray[np.int64]
    first: int
    last: int
    rows_mm: NDArray[np.float64]
    columns_mm: NDArray[np.float64]

    @classmethod
    def of(cls, external: NDArray[np.bool_], grid: VoxelGrid, network: NetworkGrid) -> "Framing":
        """Centre the network's grid on the patient's outline.

        The network's centre is put on a voxel centre of the case, so that equal spacings need no interpolation.

        Parameters
        ----------
        external
            (slices, rows, columns) mask in canonical order.
        grid
            Canonical grid of that mask.

        Raises
        ------
        ValueError
            If the mask is empty.
        """
        box = bounding_box(external)
        every = max(1, int(network.slice_spacing_mm / grid.spacing_mm[0] + 0.5))
        slices = np.arange(box[0].start, box[0].stop, every)
        centres = []
        for axis, count in ((1, network.rows), (2, network.columns)):
            middle = (box[axis].start + box[axis].stop - 1) // 2
            steps = np.arange(count, dtype=float) - count // 2
            centres.append(middle * grid.spacing_mm[axis] + steps * network.pixel_spacing_mm)
        return cls(grid, slices, box[0].start, box[0].stop - 1, centres[0], centres[1])

    @property
    def slice_spacing_mm(self) -> float:
        """Distance between the network's slices."""
        every = int(self.slices[1] - self.slices[0]) if len(self.slices) > 1 else 1
        return every * self.grid.spacing_mm[0]

    def _case_mm(self, axis: int) -> NDArray[np.float64]:
        return np.arange(self.grid.shape[axis], dtype=float) * self.grid.spacing_mm[axis]

    def images(self, values: NDArray[np.generic]) -> NDArray[np.float32]:
        """Average a canonical volume of the case over the network's pixels: (network slices, rows, columns)."""
        rows = area_operator(self._case_mm(1), self.rows_mm)
        columns = area_operator(self._case_mm(2), self.columns_mm)
        return _resample(values[self.slices], rows, columns)

    def dose_images(self, dose: NDArray[np.float32]) -> NDArray[np.float32]:
        """Interpolate a canonical dose of the case at the network's pixels: (network slices, rows, columns)."""
        rows = cubic_operator(self._case_mm(1), self.rows_mm)
        columns = cubic_operator(self._case_mm(2), self.columns_mm)
        return _resample(dose[self.slices], rows, columns)

    def to_case(self, dose: NDArray[np.float32]) -> NDArray[np.float32]:
        """Interpolate the network's dose (network slices, rows, columns) at the case's voxels, canonical order.

        Slices without any outline are zero; those after the network's last one repeat it.
        """
        rows = cubic_operator(self.rows_mm, self._case_mm(1))
        columns = cubic_operator(self.columns_mm, self._case_mm(2))
        between = linear_operator(self.slices.astype(float), np.arange(self.first, self.last + 1, dtype=float))
        in_plane = _resample(dose, rows, columns)
        volume = np.zeros(self.grid.shape, np.float32)
        volume[self.first : self.last + 1] = np.tensordot(between, in_plane, axes=1)
        return volume

    def covers(self, external: NDArray[np.bool_]) -> bool:
        """Whether the network's rows and columns hold every voxel centre of the outline; `to_case` is zero beyond."""
        box = bounding_box(external)
        return all(
            box[axis].start * self.grid.spacing_mm[axis] >= centres[0] - _step(centres) / 2
            and (box[axis].stop - 1) * self.grid.spacing_mm[axis] <= centres[-1] + _step(centres) / 2
            for axis, centres in ((1, self.rows_mm), (2, self.columns_mm))
        )
