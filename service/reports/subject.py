"""What a report is about: a patient as numbers, and the doses to report."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

from model.case import EXTERNAL, Case, Prescription, Structure, VoxelGrid
from model.dosimetry import Dvh, Samples, dvh, sampled_dvh
from model.dosimetry.gamma import gamma, passing_rate
from service.reports.content import GammaSummary

GAMMA_DOSE_PERCENT, GAMMA_DISTANCE_MM, GAMMA_CUTOFF_PERCENT = 3.0, 3.0, 10.0
"""The usual criteria; the percentages are of the normalisation dose (global gamma)."""

MOST_GAMMA_VOXELS = 200_000
"""Of more voxels every second, third, … along each axis is judged: 4 s, and 0.1 points of the passing rate."""


@dataclass(frozen=True, eq=False)
class Subject:
    """CT, structures and, as far as it is known, prescription of a patient on one grid.

    Parameters
    ----------
    hu
        (slices, rows, columns) Hounsfield units.
    grid
        Where the voxels lie; must be aligned with the patient's axes.
    structures
        By name; includes `EXTERNAL`.
    prescription
        Prescribed dose of targets among the structures, None if not known.
    points
        Structure name → points in it, for structures that are too small for whole voxels.
    roi_colours
        ROI number → red, green and blue in 0 … 255.
    """

    hu: NDArray[np.int16] | NDArray[np.float32]
    grid: VoxelGrid
    structures: Mapping[str, Structure]
    prescription: Prescription | None
    points: Mapping[str, Samples] = field(default_factory=dict)
    roi_colours: Mapping[int, tuple[int, int, int]] = field(default_factory=dict)

    @classmethod
    def of(cls, case: Case, points: Mapping[str, Samples], roi_colours: Mapping[int, tuple[int, int, int]]) -> Self:
        """Take a case; its reference dose is not looked at."""
        return cls(case.hu, case.grid, case.structures, case.prescription, points, roi_colours)

    @property
    def external(self) -> NDArray[np.bool_]:
        """Mask of the patient's outline."""
        return self.structures[EXTERNAL].mask

    @property
    def prescribed_gy(self) -> Mapping[str, float]:
        """Prescribed dose by target; empty if none is known."""
        return self.prescription.dose_gy if self.prescription else {}

    def histograms(self, dose_gy: NDArray[np.floating]) -> dict[str, Dvh]:
        """DVH of every structure that has a volume: of its points where there are some, else of its voxels.

        Raises
        ------
        ValueError
            If the dose does not fit the grid or is not finite within a structure.
        """
        found = {}
        for name, structure in self.structures.items():
            if name in self.points:
                found[name] = sampled_dvh(dose_gy, self.points[name], self.external)
            elif structure.mask.any():
                found[name] = dvh(dose_gy, structure.mask, self.grid.voxel_volume_cc)
        return found


@dataclass(frozen=True, eq=False)
class Doses:
    """A dose on a subject's grid, and what it is compared with.

    Parameters
    ----------
    dose_gy
        (slices, rows, columns) as it is written in the RTDOSE.
    spread_gy
        (slices, rows, columns) standard deviation between samples, if there are several.
    reference_gy
        (slices, rows, columns) dose to compare with.
    reference_name
        What that is: "plan dose of the study".
    spread_is_calibrated
        Whether the spread is the standard deviation of the dose's error instead.
    """

    dose_gy: NDArray[np.float32]
    spread_gy: NDArray[np.float32] | None = None
    reference_gy: NDArray[np.float32] | None = None
    reference_name: str = ""
    spread_is_calibrated: bool = False


@dataclass(frozen=True, eq=False)
class GammaMap:
    """Gamma of a dose against its reference.

    Parameters
    ----------
    values
        (slices, rows, columns) of the subject's grid; where not every voxel was judged, neighbours share a value.
        NaN outside the External and below the cut-off.
    summary
        Criteria and passing rate.
    """

    values: NDArray[np.float32]
    summary: GammaSummary


def gamma_map(
    subject: Subject, dose_gy: NDArray[np.floating], reference_gy: NDArray[np.floating], normalisation_gy: float
) -> GammaMap:
    """Judge a dose against a reference within the External.

    Raises
    ------
    ValueError
        If the doses do not fit the grid or are not finite.
    """
    above = subject.external & (reference_gy >= GAMMA_CUTOFF_PERCENT / 100.0 * normalisation_gy)
    step = 1
    while np.count_nonzero(above[::step, ::step, ::step]) > MOST_GAMMA_VOXELS:
        step += 1
    judged = np.zeros_like(above)
    judged[::step, ::step, ::step] = subject.external[::step, ::step, ::step]
    values = gamma(
        reference_gy,
        dose_gy,
        subject.grid.spacing_mm,
        dose_percent=GAMMA_DOSE_PERCENT,
        distance_mm=GAMMA_DISTANCE_MM,
        normalisation_gy=normalisation_gy,
        cutoff_percent=GAMMA_CUTOFF_PERCENT,
        mask=judged,
    )
    summary = GammaSummary(
        dose_percent=GAMMA_DOSE_PERCENT,
        distance_mm=GAMMA_DISTANCE_MM,
        normalisation_gy=normalisation_gy,
        cutoff_percent=GAMMA_CUTOFF_PERCENT,
        judged_voxels=int(np.count_nonzero(~np.isnan(values))),
        every_nth=step,
        passing_percent=passing_rate(values),
    )
    if step > 1:
        coarse = values[::step, ::step, ::step]
        for axis, size in enumerate(values.shape):
            coarse = coarse.repeat(step, axis).take(range(size), axis)
        values = coarse
    return GammaMap(values, summary)
