"""The differences by which Feng et al. (MICCAI 2023) judge a predicted dose: ΔHI, ΔD98, ΔD2, ΔDmax and ΔDmean.

The paper's patients have one PTV. Where there are several targets, the one with the highest prescription stands for it;
targets that share the highest prescription count as one, their union.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.case import Case
from model.dosimetry.dvh import Dvh, dvh
from model.dosimetry.indices import homogeneity_index


class TargetDifferences(NamedTuple):
    """Absolute differences |M(predicted) − M(reference)| of one patient; less is better.

    Parameters
    ----------
    hi
        Of the homogeneity index of ICRU Report 83, (D2 − D98) / D50; NaN if a median dose is 0.
    d98, d2, d_max, d_mean
        Of the near-minimum, near-maximum, greatest and mean dose, as shares of the highest prescribed dose.
    """

    hi: float
    d98: float
    d2: float
    d_max: float
    d_mean: float


def highest_target(case: Case) -> NDArray[np.bool_]:
    """(slices, rows, columns) union of the targets that are prescribed the highest dose."""
    highest_gy = case.prescription.highest_gy
    target = np.zeros(case.grid.shape, np.bool_)
    for name, dose_gy in case.prescription.dose_gy.items():
        if dose_gy == highest_gy:
            target |= case.structures[name].mask
    return target


def target_differences(case: Case, predicted_gy: NDArray[np.floating]) -> TargetDifferences:
    """Compare the dose of the target with the highest prescription.

    Parameters
    ----------
    case
        With its reference dose.
    predicted_gy
        (slices, rows, columns) dose in Gy on the case's grid.

    Raises
    ------
    ValueError
        If the case has no reference dose, or its target is empty.
    """
    if case.dose_gy is None:
        raise ValueError(f"case {case.identifier} has no reference dose")
    target = highest_target(case)
    reference, predicted = (
        _metrics(dvh(dose_gy, target, case.grid.voxel_volume_cc), case.prescription.highest_gy)
        for dose_gy in (case.dose_gy, predicted_gy)
    )
    return TargetDifferences(*(abs(p - r) for p, r in zip(predicted, reference, strict=True)))


def _metrics(target: Dvh, prescribed_gy: float) -> tuple[float, ...]:
    """Metrics in the order of `TargetDifferences`."""
    return (
        homogeneity_index(target),
        target.dose_at_volume_percent(98.0) / prescribed_gy,
        target.dose_at_volume_percent(2.0) / prescribed_gy,
        target.max_gy / prescribed_gy,
        target.mean_gy / prescribed_gy,
    )
