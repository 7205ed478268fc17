"""The report of any RTDOSE with its CT and structure set: a clinical plan's as well as a prediction's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.case import EXTERNAL, Structure
from model.conditioning.site import Site
from model.dicom.rasterise import sample
from model.dicom.study import Study
from model.dicom.whole_study import contoured_structures, dose_on_ct
from model.dosimetry.goals import GoalSet
from model.errors import StudyError
from service.about import software_version
from service.reports.content import Report, ReportMetadata
from service.reports.files import write_report
from service.reports.study import choose_structures, find_prescription, roi_colours, summarise_study
from service.reports.subject import Doses, Subject

WHOLLY_COVERED = 0.999
"""Share of a structure inside the dose's grid from which on nobody needs to be warned."""


@dataclass(frozen=True)
class ReportRequest:
    """What to report of a study.

    Parameters
    ----------
    dose
        RTDOSE to report; by default the study's one dose of its plan.
    compare
        RTDOSE to compare it with.
    structures
        Site's name → ROI name.
    prescription_gy, fractions
        Used instead of the plan's.
    goals
        Clinical goals to judge by; by default those of the site.
    """

    dose: Path | None = None
    compare: Path | None = None
    structures: Mapping[str, str] = field(default_factory=dict)
    prescription_gy: float | Mapping[str, float] | None = None
    fractions: int | None = None
    goals: GoalSet | None = None


def report_study(
    study: Study,
    request: ReportRequest,
    *,
    sites: Sequence[Site],
    site_goals: Mapping[str, GoalSet],
    created_at: datetime,
    folder: Path,
) -> Report:
    """Report the dose of a study in all forms, into a folder.

    Parameters
    ----------
    sites
        Whose structure names may be used.
    site_goals
        Clinical goals by site.

    Raises
    ------
    StudyError
        If the study has no dose, or something of it cannot be used.
    """
    dose_file = request.dose or study.reference_dose_file
    if dose_file is None:
        raise StudyError(
            "expected one RTDOSE of the whole plan, in Gy and in the CT's frame of reference, found none or several: "
            "name it with --dose",
            code="no-reference-dose",
        )
    dose = dose_on_ct(study, dose_file)
    reference = dose_on_ct(study, request.compare) if request.compare else None
    choice = choose_structures(study, sites, request.structures)
    hu, structures, structure_warnings = contoured_structures(study, choice.structures)
    prescription, prescription_warnings = find_prescription(study, choice, request.prescription_gy, request.fractions)
    points = {
        name: points
        for name, structure in structures.items()
        if structure.roi_number is not None
        and (points := sample(study.contours_mm.get(structure.roi_number, ()), study.grid)) is not None
    }
    covered = dose.covered if reference is None else dose.covered & reference.covered
    warnings = (
        *study.warnings,
        *dose.warnings,
        *(() if reference is None else (f"compared dose: {text}" for text in reference.warnings)),
        *structure_warnings,
        *prescription_warnings,
        *_uncovered(structures, covered),
    )
    goals = request.goals or (site_goals.get(choice.site.name) if choice.site else None)
    return write_report(
        Subject(hu, study.grid, structures, prescription, points, roi_colours(study)),
        Doses(
            dose.dose_gy,
            reference_gy=reference.dose_gy if reference else None,
            reference_name="the RTDOSE compared with" if reference else "",
        ),
        ReportMetadata(
            job_id=None,
            created_at=created_at,
            software_version=software_version(),
            study=summarise_study(study, dose, reference),
            predicted=dose.predicted,
            simulated_training_data=dose.simulated,
            missing_structures=choice.missing,
            warnings=tuple(dict.fromkeys(warnings)),
        ),
        goals,
        folder,
    )


def _uncovered(structures: Mapping[str, Structure], covered: NDArray[np.bool_]) -> list[str]:
    """Warn of structures that reach beyond the dose's grid, where the dose counts as zero."""
    warnings = []
    for name, structure in structures.items():
        voxels = np.count_nonzero(structure.mask)
        if name == EXTERNAL or not voxels:
            continue
        share = np.count_nonzero(structure.mask & covered) / voxels
        if share < WHOLLY_COVERED:
            warnings.append(f"{100 * (1 - share):.1f} % of {name} lie outside the dose's grid and count as 0 Gy")
    return warnings
