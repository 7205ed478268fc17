"""Dose-volume histograms.

A structure is a number of equal parts, which belong to it as a whole or not at all, and a part's dose is that of its
centre; so the cumulative DVH is the sorted list of their doses, kept exact rather than binned. The parts are voxels
(`dvh`), as in the OpenKBP scores and in the paper; or parts of voxels (`sampled_dvh`) where a structure has so few
voxels that it matters where they lie, or none.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from model.case import Case


@dataclass(frozen=True, eq=False)
class Samples:
    """Points spread evenly in a structure.

    Parameters
    ----------
    indices
        (points, 3) fractional indices (slice, row, column) on the dose's grid.
    volume_cc
        Volume that each stands for, in cubic centimetres.
    """

    indices: NDArray[np.float32]
    volume_cc: float


@dataclass(frozen=True, eq=False)
class Dvh:
    """Cumulative dose-volume histogram of one structure; make it with `dvh` or `sampled_dvh`.

    Parameters
    ----------
    doses_gy
        (voxels,) doses of the structure's voxels, or of equal parts of voxels, in Gy, ascending, at least one.
    voxel_volume_cc
        Volume of one of them in cubic centimetres.
    """

    doses_gy: NDArray[np.floating]
    voxel_volume_cc: float

    @property
    def volume_cc(self) -> float:
        """Volume of the structure."""
        return self.doses_gy.size * self.voxel_volume_cc

    @property
    def mean_gy(self) -> float:
        """Mean dose."""
        return float(self.doses_gy.mean(dtype=np.float64))

    @property
    def min_gy(self) -> float:
        """Least voxel dose."""
        return float(self.doses_gy[0])

    @property
    def max_gy(self) -> float:
        """Greatest voxel dose."""
        return float(self.doses_gy[-1])

    def dose_at_volume_percent(self, percent: float) -> float:
        """D_x%: the least dose in the hottest ``percent`` of the volume, in Gy.

        It is the (100 - percent)th percentile of the voxel doses, interpolated linearly between neighbouring ranks.

        Raises
        ------
        ValueError
            If the percentage does not lie in 0 … 100.
        """
        if not 0.0 <= percent <= 100.0:
            raise ValueError(f"a share of volume lies between 0 and 100 %, got {percent}")
        rank = (self.doses_gy.size - 1) * (100.0 - percent) / 100.0
        below = int(rank)
        above = min(below + 1, self.doses_gy.size - 1)
        low, high = float(self.doses_gy[below]), float(self.doses_gy[above])
        return low + (high - low) * (rank - below)

    def dose_at_volume_cc(self, volume_cc: float) -> float:
        """D_xcc: the least dose in the hottest ``volume_cc``, in Gy.

        The volume is rounded to whole voxels, at least one; a structure that is smaller answers its least dose.
        """
        voxels = max(1, round(volume_cc / self.voxel_volume_cc))
        return self.dose_at_volume_percent(100.0 * min(1.0, voxels / self.doses_gy.size))

    def volume_percent_at(self, dose_gy: float) -> float:
        """V_xGy: share of the volume that receives at least ``dose_gy``, in percent."""
        return float(self._volume_percent(np.asarray(dose_gy)))

    def curve(self, step_gy: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Sample the histogram at multiples of ``step_gy``.

        Returns
        -------
        dose_gy, volume_percent
            (points,) each: from 0 Gy to the first step above the greatest dose, where the volume is 0.
        """
        dose_gy = step_gy * np.arange(int(self.max_gy / step_gy) + 2, dtype=np.float64)
        return dose_gy, self._volume_percent(dose_gy)

    def _volume_percent(self, dose_gy: NDArray[np.floating]) -> NDArray[np.float64]:
        # Searching in the doses' own precision counts a voxel that holds the rounded threshold, and copies nothing.
        below = np.searchsorted(self.doses_gy, dose_gy.astype(self.doses_gy.dtype), side="left")
        return np.asarray(100.0 * (self.doses_gy.size - below) / self.doses_gy.size)


def dvh(dose_gy: NDArray[np.floating], mask: NDArray[np.bool_], voxel_volume_cc: float) -> Dvh:
    """Cumulative DVH of the voxels of a mask.

    Parameters
    ----------
    dose_gy
        (slices, rows, columns) dose in Gy.
    mask
        (slices, rows, columns) the structure on the dose's grid.
    voxel_volume_cc
        Volume of one voxel in cubic centimetres.

    Raises
    ------
    ValueError
        If the shapes differ, the mask is empty, or the dose is not finite within it.
    """
    if mask.shape != dose_gy.shape:
        raise ValueError(f"a mask of shape {mask.shape} does not fit a dose of shape {dose_gy.shape}")
    return _sorted(dose_gy[mask], voxel_volume_cc)


def sampled_dvh(dose_gy: NDArray[np.floating], samples: Samples, external: NDArray[np.bool_]) -> Dvh:
    """Cumulative DVH of points in a structure; see `interpolate`.

    Raises
    ------
    ValueError
        If the shapes differ, or the dose is not finite around a point.
    """
    return _sorted(interpolate(dose_gy, samples, external), samples.volume_cc)


def structure_dvhs(case: Case, dose_gy: NDArray[np.floating], samples: Mapping[str, Samples]) -> dict[str, Dvh]:
    """DVH of every structure of a case that has a volume: of its samples where there are some, else of its voxels.

    Parameters
    ----------
    case
        Structures and grid; its own reference dose is not looked at.
    dose_gy
        (slices, rows, columns) dose in Gy on the case's grid.
    samples
        By the structure's name.

    Raises
    ------
    ValueError
        If the dose does not fit the grid or is not finite within a structure.
    """
    histograms = {}
    for name, structure in case.structures.items():
        if name in samples:
            histograms[name] = sampled_dvh(dose_gy, samples[name], case.external)
        elif structure.mask.any():
            histograms[name] = dvh(dose_gy, structure.mask, case.grid.voxel_volume_cc)
    return histograms


def interpolate(values: NDArray[np.floating], samples: Samples, external: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Interpolate a dose, or its spread, linearly between the centres of voxels inside the patient.

    Voxels outside have no say, where one of the eight neighbours lies inside: a predicted dose ends with the patient's
    outline, and a target that reaches up to the skin would seem to be underdosed there. Beyond the outermost voxel
    centres of the grid the nearest holds.

    Parameters
    ----------
    values
        (slices, rows, columns)
    samples
        Where.
    external
        (slices, rows, columns) outline of the patient.

    Returns
    -------
    (points,)

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    if external.shape != values.shape:
        raise ValueError(f"an outline of shape {external.shape} does not fit a dose of shape {values.shape}")
    last = np.array(values.shape) - 1
    strides = np.cumprod((1, *values.shape[:0:-1]))[::-1]
    index, shares = np.zeros(len(samples.indices), np.intp), []
    for place, end, stride in zip(np.clip(samples.indices, 0, last).T, last, strides, strict=True):
        lower = np.minimum(place.astype(np.intp), max(end - 1, 0))
        index += stride * lower
        shares.append((1 - (place - lower), place - lower))
    steps = np.where(last > 0, strides, 0)  # along an axis of one voxel the next one is itself
    flat_values, flat_external = values.ravel(), external.ravel()
    total, inside_total, inside_weight = np.zeros((3, index.size))
    for corner in product((0, 1), repeat=3):
        weight = shares[0][corner[0]] * shares[1][corner[1]] * shares[2][corner[2]]
        neighbour = index + steps @ corner
        weighted = weight * flat_values[neighbour]
        inside = flat_external[neighbour]
        total += weighted
        inside_total += weighted * inside
        inside_weight += weight * inside
    return np.divide(inside_total, inside_weight, out=total, where=inside_weight > 0)


def _sorted(doses_gy: NDArray[np.floating], volume_cc: float) -> Dvh:
    """DVH of doses, which are sorted in place."""
    doses_gy.sort()
    if not doses_gy.size:
        raise ValueError("a structure without voxels has no DVH")
    # Sorting puts -inf first, +inf and NaN last.
    if not (np.isfinite(doses_gy[0]) and np.isfinite(doses_gy[-1])):
        raise ValueError("the dose is not finite within the structure")
    return Dvh(doses_gy, volume_cc)
