"""The spread of a prediction as the standard deviation of its error: whether it is, and what makes it so."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from model.case import Case
from model.checkpoint.manifest import SpreadCalibration
from model.errors import CheckpointError
from model.prediction.predictor import Predictor, SamplingOptions

CENTRAL = 0.9
"""Share of voxels that the interval is to hold."""

WITHIN = float(stats.norm.ppf((1.0 + CENTRAL) / 2.0))
"""Standard deviations on each side of the mean that hold 90 % of a normal distribution: 1.645."""


def spread_coverage(
    reference_gy: NDArray[np.floating],
    dose_gy: NDArray[np.floating],
    spread_gy: NDArray[np.floating],
    mask: NDArray[np.bool_],
) -> float:
    """Share of the mask's voxels whose reference is no more than `WITHIN` spreads from the dose; 0.9 is right.

    Parameters
    ----------
    reference_gy, dose_gy, spread_gy
        (slices, rows, columns) in Gy; the spread is a standard deviation.
    mask
        (slices, rows, columns) voxels that count.
    """
    return float((np.abs(reference_gy - dose_gy) <= WITHIN * spread_gy)[mask].mean())


def spread_scale(
    reference_gy: NDArray[np.floating],
    dose_gy: NDArray[np.floating],
    spread_gy: NDArray[np.floating],
    mask: NDArray[np.bool_],
) -> float:
    """Return by what a spread must be multiplied so that its `spread_coverage` is 0.9; parameters are those.

    Raises
    ------
    ValueError
        If the spread is zero where the dose is off in more than a tenth of the voxels.
    """
    off_gy, spread_gy = np.abs(reference_gy - dose_gy)[mask], spread_gy[mask]
    with np.errstate(divide="ignore", invalid="ignore"):
        spreads = np.where(off_gy > 0, off_gy / (WITHIN * spread_gy), 0.0)
    scale = float(np.percentile(spreads, 100.0 * CENTRAL, method="higher"))
    if not np.isfinite(scale):
        raise ValueError("the spread is zero where the dose is wrong")
    return scale


def calibrate_spread(
    predictor: Predictor, cases: Sequence[Case], pooling_mm: float, done: Callable[[], object] = lambda: None
) -> SpreadCalibration:
    """Find what makes the spread of the default sampler's samples the standard deviation of their mean's error.

    Parameters
    ----------
    cases
        With reference doses; patients that the network has learnt from would make it too sure of itself.
    pooling_mm
        See `SpreadCalibration`.
    done
        Called after each patient.

    Raises
    ------
    CheckpointError
        If the default sampler makes no two samples that differ.
    ValueError
        If there is no case, or one without a reference dose.
    """
    manifest, options = predictor.manifest, SamplingOptions.by(predictor.manifest.defaults)
    if options.samples < 2:
        raise CheckpointError(f"{manifest.name} has no spread: by default it makes one sample")
    unscaled = SpreadCalibration(pooling_mm=pooling_mm, scale=1.0, patients=1)
    pooled = Predictor(predictor.network, manifest.model_copy(update={"spread": unscaled}), predictor.device)
    scales = []
    for case in cases:
        if case.dose_gy is None:
            raise ValueError(f"case {case.identifier} has no reference dose")
        prediction = pooled.predict(case, options)
        assert prediction.spread_gy is not None  # noqa: S101 - there are two samples
        scales.append(spread_scale(case.dose_gy, prediction.dose_gy, prediction.spread_gy, case.external))
        done()
    if not scales:
        raise ValueError("a spread cannot be calibrated without patients")
    return unscaled.model_copy(update={"scale": round(float(np.mean(scales)), 4), "patients": len(scales)})
