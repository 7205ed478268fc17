"""What a report takes from a study, whatever it holds: all its contoured ROIs, any dose, and the objects' UIDs."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.case import EXTERNAL, Structure
from model.dicom.attributes import text, uid
from model.dicom.ct import decode_hu
from model.dicom.derived import WARNING
from model.dicom.dose_reader import read_dose
from model.dicom.files import read_file, reading
from model.dicom.outline import derive_outline
from model.dicom.rules import Rule, refuse
from model.dicom.study import (
    DERIVED_OUTLINE_WARNING,
    StructureChoice,
    Study,
    check_not_empty,
    covered,
    make_structure,
    resample_dose,
)
from model.errors import StudyError


@dataclass(frozen=True)
class StudyIdentifiers:
    """SOP Instance UIDs (0008,0018) of a study's objects, and its Study Instance UID (0020,000D); empty if absent.

    They tell which objects are meant to whoever has them, and nothing about the patient to others.
    """

    study: str
    structure_set: str
    plan: str


@dataclass(frozen=True, eq=False)
class DoseOnCt:
    """An RTDOSE as it lies on the study's CT.

    Parameters
    ----------
    dose_gy
        (slices, rows, columns) on the CT's grid, linearly interpolated; zero outside the dose's own grid.
    covered
        (slices, rows, columns) where it was interpolated; elsewhere its zeros mean nothing.
    sop_instance_uid
        SOP Instance UID (0008,0018).
    predicted, simulated
        Whether the object says that it was predicted, and by a model that has seen only simulated data.
    warnings
        What a user should know; no patient data.
    """

    dose_gy: NDArray[np.float32]
    covered: NDArray[np.bool_]
    sop_instance_uid: str
    predicted: bool
    simulated: bool
    warnings: tuple[str, ...]


def identifiers(study: Study) -> StudyIdentifiers:
    """Return the UIDs of a study's objects."""
    return StudyIdentifiers(
        study=uid(study.ct_header, "StudyInstanceUID"),
        structure_set=uid(study.structure_set, "SOPInstanceUID"),
        plan="" if study.plan_dataset is None else uid(study.plan_dataset, "SOPInstanceUID"),
    )


def dose_on_ct(study: Study, path: Path) -> DoseOnCt:
    """Read an RTDOSE that belongs to a study.

    Raises
    ------
    StudyError
        ``dose-unreadable`` or ``too-large``; ``frame-of-reference-mismatch`` if it lies in another frame of reference
        than the CT.
    """
    with reading("the dose", Rule.DOSE_UNREADABLE):
        file = read_file(path, pixels=False)
        header = file.header if file else None
        if header is None:
            raise refuse(Rule.DOSE_UNREADABLE, "the file is not an RT Dose")
        frames = {uid(header, "FrameOfReferenceUID"), uid(study.ct_header, "FrameOfReferenceUID")}
        patients = {text(header, "PatientID"), text(study.ct_header, "PatientID")}
        said = " ".join(text(header, name) for name in ("DoseComment", "SeriesDescription"))
        kind = text(header, "DoseType")
        summation = text(header, "DoseSummationType")
    if len(frames - {""}) > 1:
        raise refuse(Rule.FRAME_OF_REFERENCE_MISMATCH, "the dose lies in another frame of reference than the CT")
    warnings = []
    if "" in frames:
        warnings.append("frame of reference missing: that the dose belongs to the CT could not be verified")
    # Of the study's own dose that is told already
    if len(patients - {""}) > 1 and path != study.reference_dose_file:
        warnings.append("the dose has another patient identifier than the CT")
    if kind != "PHYSICAL":
        warnings.append(f"the dose is of type {kind[:16] or 'unknown'}, not PHYSICAL")
    if summation != "PLAN":
        warnings.append(f"the dose sums up {summation[:16] or 'an unknown part'}, not the plan")
    dose = read_dose(path)
    return DoseOnCt(
        dose_gy=resample_dose(dose, study.grid),
        covered=covered(dose.grid, study.grid),
        sop_instance_uid=uid(header, "SOPInstanceUID"),
        predicted=WARNING in said.lower(),
        simulated="simulated data" in said.lower(),
        warnings=tuple(warnings),
    )


def contoured_structures(
    study: Study, choices: Mapping[str, StructureChoice]
) -> tuple[NDArray[np.int16] | NDArray[np.float32], dict[str, Structure], tuple[str, ...]]:
    """Decode the CT and make masks of ROIs; those that cannot be used are left out.

    Parameters
    ----------
    study
        From `read_study`; its files must still be there.
    choices
        Structure name → ROI. Without `EXTERNAL`, or with one that cannot be used, the outline is derived from the CT.

    Returns
    -------
    hu, structures, warnings
        The warnings say which ROIs were left out and why.

    Raises
    ------
    StudyError
        ``pixel-format`` or ``no-outline``.
    """
    structures: dict[str, Structure] = {}
    warnings = []
    for name, choice in choices.items():
        try:
            if name == EXTERNAL:
                check_not_empty(study, name, choice)
            structures[name] = make_structure(study, name, choice)
        except StudyError as error:
            warnings.append(f"left out: {error.message}")
    hu = decode_hu(study.ct_files, study.grid)
    if EXTERNAL not in structures:
        structures[EXTERNAL] = Structure(EXTERNAL, derive_outline(hu, study.grid), "external")
        warnings.append(DERIVED_OUTLINE_WARNING)
    return hu, structures, tuple(warnings)
