"""How much fine detail of a dose a prediction keeps, and whether it is the right detail.

The detail (high-pass dose) is the dose minus its Gaussian blur in the slice's plane. The blur is normalised by the mask
and the mask's rim is left out, since the fall of dose at the patient's skin would drown everything else.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

BLUR_VOXELS = 1.0
"""Standard deviation of the blur, in voxels of the network's grid."""

RIM_VOXELS = 3
"""Layers of voxels, in steps between neighbours in the plane, that are left out at the mask's rim."""

IN_PLANE_NEIGHBOURS = ndimage.generate_binary_structure(2, 1)[np.newaxis]


class Sharpness(NamedTuple):
    """Detail of a predicted dose against that of the reference.

    Parameters
    ----------
    variance_ratio
        Variance of the predicted detail over that of the reference: 1 is right, less is too smooth.
    correlation
        Pearson correlation of the two details: 1 is right. NaN if either is constant.
    """

    variance_ratio: float
    correlation: float


def sharpness(
    reference_gy: NDArray[np.floating],
    predicted_gy: NDArray[np.floating],
    mask: NDArray[np.bool_],
    target: NDArray[np.bool_],
) -> Sharpness:
    """Compare the fine detail of two doses on the slices that cut a target.

    Parameters
    ----------
    reference_gy, predicted_gy
        (slices, rows, columns) dose in Gy on the network's grid.
    mask
        (slices, rows, columns) where dose is possible.
    target
        (slices, rows, columns) union of all targets; chooses the slices.

    Raises
    ------
    ValueError
        If no voxel is left to compare, or the reference has no detail there.
    """
    slices = target.any(axis=(1, 2))
    mask = mask[slices]
    core = ndimage.binary_erosion(mask, IN_PLANE_NEIGHBOURS, RIM_VOXELS)
    if not core.any():
        raise ValueError("no voxel of the mask lies off its rim on a slice that cuts a target")
    reference = _detail_gy(reference_gy[slices], mask)[core]
    predicted = _detail_gy(predicted_gy[slices], mask)[core]
    if not reference.var():
        raise ValueError("the reference dose is constant, so sharpness is not defined")
    if not predicted.var():
        return Sharpness(0.0, float("nan"))
    return Sharpness(
        variance_ratio=float(predicted.var() / reference.var()),
        correlation=float(np.corrcoef(reference, predicted)[0, 1]),
    )


def _detail_gy(dose_gy: NDArray[np.floating], mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Dose minus its blur within the mask; only values inside the mask mean anything."""
    sigma = (0.0, BLUR_VOXELS, BLUR_VOXELS)
    inside = np.where(mask, dose_gy, 0.0).astype(np.float64)
    weight = ndimage.gaussian_filter(mask.astype(np.float64), sigma)
    blurred = np.divide(ndimage.gaussian_filter(inside, sigma), weight, out=np.zeros_like(inside), where=mask)
    return np.asarray(inside - blurred)
