"""Scores of the OpenKBP challenge (Babier et al., Med. Phys. 48, 5549-5561, 2021)."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.dosimetry.dvh import Dvh, dvh

OAR_METRICS: Mapping[str, Callable[[Dvh], float]] = {
    "mean": lambda histogram: histogram.mean_gy,
    "D_0.1cc": lambda histogram: histogram.dose_at_volume_cc(0.1),
}
TARGET_METRICS: Mapping[str, Callable[[Dvh], float]] = {
    "D_1": lambda histogram: histogram.dose_at_volume_percent(1.0),
    "D_95": lambda histogram: histogram.dose_at_volume_percent(95.0),
    "D_99": lambda histogram: histogram.dose_at_volume_percent(99.0),
}


@dataclass(frozen=True)
class PatientErrors:
    """Errors of one patient's prediction.

    Parameters
    ----------
    dose_gy
        Sum of absolute voxel differences over the number of voxels that can receive dose.
    dvh_gy
        (structure, metric) → absolute difference; structures that the patient lacks are absent.
    """

    dose_gy: float
    dvh_gy: Mapping[tuple[str, str], float]


class OpenKbpScores(NamedTuple):
    """The challenge's two figures, in Gy; less is better."""

    dose_gy: float
    dvh_gy: float


def patient_errors(
    reference_gy: NDArray[np.floating],
    predicted_gy: NDArray[np.floating],
    possible: NDArray[np.bool_],
    *,
    oars: Mapping[str, NDArray[np.bool_]],
    targets: Mapping[str, NDArray[np.bool_]],
    voxel_volume_cc: float,
) -> PatientErrors:
    """Compare a predicted dose with the reference.

    The prediction counts as 0 outside the possible-dose mask, as the challenge's winner had it.

    Parameters
    ----------
    reference_gy, predicted_gy
        (slices, rows, columns) dose in Gy; any order of axes will do.
    possible
        Voxels that can receive dose.
    oars, targets
        Masks by name; empty ones are skipped.
    voxel_volume_cc
        Volume of one voxel in cubic centimetres.
    """
    predicted_gy = np.where(possible, predicted_gy, 0.0)
    absolute = np.abs(np.subtract(reference_gy, predicted_gy, dtype=np.float64))
    errors: dict[tuple[str, str], float] = {}
    for masks, metrics in ((oars, OAR_METRICS), (targets, TARGET_METRICS)):
        for name, mask in masks.items():
            if not mask.any():
                continue
            reference = dvh(reference_gy, mask, voxel_volume_cc)
            predicted = dvh(predicted_gy, mask, voxel_volume_cc)
            errors |= {(name, label): abs(metric(reference) - metric(predicted)) for label, metric in metrics.items()}
    return PatientErrors(float(absolute.sum() / np.count_nonzero(possible)), errors)


def openkbp_scores(patients: Iterable[PatientErrors]) -> OpenKbpScores:
    """Dose score, the mean over patients, and DVH score, the mean over all (patient, structure, metric)."""
    patients = list(patients)
    return OpenKbpScores(
        dose_gy=float(np.mean([patient.dose_gy for patient in patients])),
        dvh_gy=float(np.mean([error for patient in patients for error in patient.dvh_gy.values()])),
    )
