"""Where voxels lie in the patient.

Arrays are indexed (z, y, x) = (slice, row, column). Patient points are (x, y, z) in millimetres in the DICOM patient
coordinate system: x to the patient's left, y to posterior, z to the head (LPS), whatever the position on the couch.
A voxel's index refers to its centre (DICOM PS3.3 C.7.6.2.1.1).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T", bound=np.generic)

AXIS_TOLERANCE = 1e-3
"""Largest cosine by which an axis may stray from a patient axis: 0.06°, 0.3 mm over 300 mm, below any voxel used."""


@dataclass(frozen=True)
class VoxelGrid:
    """A regular grid of voxels.

    Parameters
    ----------
    shape
        Number of slices, rows and columns.
    spacing_mm
        Distance between voxel centres along slices, rows (y, the first value of Pixel Spacing) and columns (x).
    origin_mm
        Patient point (x, y, z) of the centre of voxel (0, 0, 0).
    axes
        Three unit vectors in patient coordinates (x, y, z): the directions in which the slice, row and column index
        grow.
    """

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    origin_mm: tuple[float, float, float]
    axes: tuple[tuple[float, float, float], tuple[float, float, float], tuple[float, float, float]] = (
        (0.0, 0.0, 1.0),
        (0.0, 1.0, 0.0),
        (1.0, 0.0, 0.0),
    )

    def __post_init__(self) -> None:
        if min(self.shape) < 1:
            raise ValueError(f"a grid needs at least one voxel along each axis, got {self.shape}")
        if min(self.spacing_mm) <= 0:
            raise ValueError(f"spacing must be positive, got {self.spacing_mm}")

    @cached_property
    def affine(self) -> NDArray[np.float64]:
        """(4, 4) matrix from homogeneous index (slice, row, column, 1) to point (x, y, z, 1), PS3.3 eq. C.7.6.2.1-1."""
        affine = np.eye(4)
        affine[:3, :3] = np.asarray(self.axes, dtype=float).T * np.asarray(self.spacing_mm)
        affine[:3, 3] = self.origin_mm
        return affine

    @property
    def voxel_volume_cc(self) -> float:
        """Volume of one voxel in cubic centimetres."""
        return float(np.prod(self.spacing_mm)) / 1000.0

    def points_mm(self, indices: NDArray[np.floating] | NDArray[np.integer]) -> NDArray[np.float64]:
        """Patient points (..., 3) = (x, y, z) of fractional indices (..., 3) = (slice, row, column)."""
        return np.asarray(np.asarray(indices, dtype=float) @ self.affine[:3, :3].T + self.affine[:3, 3])

    def indices(self, points_mm: NDArray[np.floating]) -> NDArray[np.float64]:
        """Fractional indices (..., 3) = (slice, row, column) of patient points (..., 3) = (x, y, z)."""
        inverse = np.linalg.inv(self.affine)
        return np.asarray(np.asarray(points_mm, dtype=float) @ inverse[:3, :3].T + inverse[:3, 3])

    @property
    def is_aligned(self) -> bool:
        """Whether every axis runs along a patient axis, in any order and direction."""
        axes = np.abs(np.asarray(self.axes))
        return bool(np.allclose(np.sort(axes, axis=1), [0.0, 0.0, 1.0], atol=AXIS_TOLERANCE))

    def canonical_steps(self) -> tuple[tuple[int, int, int], tuple[bool, bool, bool]]:
        """How to reorder axes so that slices run to the head, rows to posterior, columns to the patient's left.

        Returns
        -------
        order, flipped
            ``array.transpose(order)`` and then reversing the axes whose ``flipped`` is true gives the canonical array.

        Raises
        ------
        ValueError
            If the grid is oblique.
        """
        if not self.is_aligned:
            raise ValueError("an oblique grid has no canonical order")
        axes = np.asarray(self.axes)
        order = tuple(int(np.argmax(np.abs(axes[:, patient_axis]))) for patient_axis in (2, 1, 0))
        flipped = tuple(bool(axes[axis, 2 - k] < 0) for k, axis in enumerate(order))
        return (order[0], order[1], order[2]), (flipped[0], flipped[1], flipped[2])

    def canonical(self) -> "VoxelGrid":
        """Return the same voxels in canonical order (see `canonical_steps`)."""
        order, flipped = self.canonical_steps()
        corner = [0, 0, 0]
        for axis, flip in zip(order, flipped, strict=True):
            corner[axis] = self.shape[axis] - 1 if flip else 0
        origin = self.points_mm(np.asarray(corner))
        return VoxelGrid(
            shape=(self.shape[order[0]], self.shape[order[1]], self.shape[order[2]]),
            spacing_mm=(self.spacing_mm[order[0]], self.spacing_mm[order[1]], self.spacing_mm[order[2]]),
            origin_mm=(float(origin[0]), float(origin[1]), float(origin[2])),
        )

    def to_canonical(self, array: NDArray[T]) -> NDArray[T]:
        """View of an array on this grid in canonical order."""
        order, flipped = self.canonical_steps()
        return np.flip(array.transpose(order), tuple(k for k in range(3) if flipped[k]))

    def from_canonical(self, array: NDArray[T]) -> NDArray[T]:
        """View of a canonical array in the order of this grid; the inverse of `to_canonical`."""
        order, flipped = self.canonical_steps()
        return np.flip(array, tuple(k for k in range(3) if flipped[k])).transpose(np.argsort(order).tolist())

    def same_as(self, other: "VoxelGrid", tolerance_mm: float = 1e-3) -> bool:
        """Whether both grids have the same shape and every voxel centre agrees within the tolerance."""
        if self.shape != other.shape:
            return False
        corners = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)]) * (np.array(self.shape) - 1)
        return bool(np.abs(self.points_mm(corners) - other.points_mm(corners)).max() <= tolerance_mm)


@dataclass(frozen=True)
class Volume:
    """Values on a grid: HU, dose in Gy, or a mask.

    Parameters
    ----------
    values
        (slices, rows, columns)
    grid
        Where the values lie; its shape must be the values' shape.
    """

    values: NDArray[np.generic]
    grid: VoxelGrid

    def __post_init__(self) -> None:
        if self.values.shape != self.grid.shape:
            raise ValueError(f"values of shape {self.values.shape} do not fit a grid of shape {self.grid.shape}")


def bounding_box(mask: NDArray[np.bool_]) -> tuple[slice, slice, slice]:
    """Smallest box that holds all true voxels.

    Raises
    ------
    ValueError
        If no voxel is true.
    """
    if not mask.any():
        raise ValueError("an empty mask has no bounding box")
    spans: list[slice] = []
    for axis in range(3):
        others: Sequence[int] = [k for k in range(3) if k != axis]
        hit = np.flatnonzero(mask.any(axis=tuple(others)))
        spans.append(slice(int(hit[0]), int(hit[-1]) + 1))
    return spans[0], spans[1], spans[2]
