"""Indices of a target's dose. Several definitions of each circulate, so the text of ours travels with every result."""

import numpy as np
from numpy.typing import NDArray

from model.dosimetry.dvh import Dvh

HOMOGENEITY_DEFINITION = "HI = (D2% - D98%) / D50% (ICRU Report 83); 0 is a uniform dose."
CONFORMITY_DEFINITION = (
    "CI = TV_PIV² / (TV × PIV) (Paddick 2000); 1 is perfect. PIV: volume of the External that receives at least the "
    "target's prescribed dose. TV: all targets prescribed at least that dose. TV_PIV: what both share."
)


def homogeneity_index(target: Dvh) -> float:
    """Homogeneity index of ICRU Report 83, (D_2 - D_98) / D_50; NaN if the median dose is 0."""
    median_gy = target.dose_at_volume_percent(50.0)
    if median_gy == 0.0:
        return float("nan")
    return (target.dose_at_volume_percent(2.0) - target.dose_at_volume_percent(98.0)) / median_gy


def conformity_index(
    dose_gy: NDArray[np.floating],
    target: NDArray[np.bool_],
    external: NDArray[np.bool_],
    prescribed_gy: float,
) -> float:
    """Conformity index of Paddick (J. Neurosurg. 93 Suppl. 3, 2000), TV_PIV² / (TV · PIV).

    Parameters
    ----------
    dose_gy
        (slices, rows, columns) dose in Gy.
    target
        (slices, rows, columns) target volume TV. Where targets have several prescriptions, pass the union of those
        prescribed at least ``prescribed_gy``: the isodose must enclose them all.
    external
        (slices, rows, columns) outline of the patient, to which the prescription isodose volume PIV is confined.
    prescribed_gy
        Dose of the prescription isodose.

    Returns
    -------
    float
        0 … 1; 0 if no voxel of the target reaches the dose.

    Raises
    ------
    ValueError
        If the target is empty.
    """
    target_voxels = np.count_nonzero(target)
    if not target_voxels:
        raise ValueError("a target without voxels has no conformity index")
    isodose = (dose_gy >= prescribed_gy) & external
    covered = np.count_nonzero(isodose & target)
    return covered**2 / (target_voxels * np.count_nonzero(isodose)) if covered else 0.0
