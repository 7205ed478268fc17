"""Dose-volume histograms.

A voxel belongs to a structure as a whole or not at all, and its dose is that of its centre; so the cumulative DVH is
the sorted list of voxel doses, kept exact rather than binned.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Dvh:
    """Cumulative dose-volume histogram of one structure; make it with `dvh`.

    Parameters
    ----------
    doses_gy
        (voxels,) doses of the structure's voxels in Gy, ascending, at least one.
    voxel_volume_cc
        Volume of one voxel in cubic centimetres.
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
    doses_gy = np.sort(dose_gy[mask])
    if not doses_gy.size:
        raise ValueError("a structure without voxels has no DVH")
    # Sorting puts -inf first, +inf and NaN last.
    if not (np.isfinite(doses_gy[0]) and np.isfinite(doses_gy[-1])):
        raise ValueError("the dose is not finite within the structure")
    return Dvh(doses_gy, voxel_volume_cc)
