"""Smoothing of predicted doses over less than a beam's penumbra."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage


def smoothed(
    doses: NDArray[np.float32], inside: NDArray[np.float32], spacing_mm: tuple[float, float, float], sigma_mm: float
) -> NDArray[np.float32]:
    """Smooth doses by a Gaussian within the patient; air beyond the outline has no part in it.

    Parameters
    ----------
    doses
        (..., slices, rows, columns) of any unit.
    inside
        (slices, rows, columns) share of each voxel that lies in the patient; where it is 0, doses stay as they are.
    spacing_mm
        Of slices, rows and columns.
    sigma_mm
        Standard deviation of the Gaussian; 0 leaves all doses as they are.
    """
    if not sigma_mm:
        return doses
    sigma = [sigma_mm / step for step in spacing_mm]
    weight = ndimage.gaussian_filter(inside, sigma, mode="constant")
    result = doses.copy()
    for dose in result.reshape(-1, *inside.shape):
        blurred = ndimage.gaussian_filter(dose * inside, sigma, mode="constant")
        np.divide(blurred, weight, out=dose, where=inside > 0)
    return result
