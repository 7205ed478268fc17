"""A study's reference dose as a label for training: whose it is, of which kind, and where it says something."""

import numpy as np
from numpy.typing import NDArray

from model.dicom.attributes import items, text, uid
from model.dicom.dose_reader import read_dose
from model.dicom.files import read_file, reading
from model.dicom.rules import Rule
from model.dicom.study import Study, covered
from model.errors import DatasetError


def check_reference_dose(study: Study) -> None:
    """Check that the reference dose is the physical dose of the study's plan.

    Dose Type (3004,0004) must be PHYSICAL: EFFECTIVE is dose after correction for biological effect, another quantity,
    and ERROR a difference. A study without a plan is taken at its word.

    Raises
    ------
    DatasetError
        ``no-reference-dose``, ``dose-not-physical`` or ``dose-of-another-plan``.
    StudyError
        ``dose-unreadable``.
    """
    if study.reference_dose_file is None:
        raise DatasetError(
            "expected one RTDOSE of the whole plan, in Gy and in the CT's frame of reference, found none or several",
            code="no-reference-dose",
        )
    with reading("the dose", Rule.DOSE_UNREADABLE):
        file = read_file(study.reference_dose_file, pixels=False)
        kind = text(file.header, "DoseType") if file else ""
        plans = {
            uid(item, "ReferencedSOPInstanceUID")
            for item in (items(file.header, "ReferencedRTPlanSequence") if file else [])
        } - {""}
    if kind != "PHYSICAL":
        raise DatasetError(
            f"expected a dose of type PHYSICAL, found {kind[:16] or 'no type'}",
            code="dose-not-physical",
            details={"dose_type": kind[:16]},
        )
    if study.plan is not None and study.plan.sop_instance_uid not in plans:
        raise DatasetError("the dose does not refer to the plan that was used", code="dose-of-another-plan")


def dose_coverage(study: Study) -> NDArray[np.bool_]:
    """(slices, rows, columns) where `build_case` interpolates the reference dose; elsewhere its zeros mean nothing.

    Raises
    ------
    StudyError
        ``dose-unreadable`` or ``too-large``.
    ValueError
        If the study has no reference dose.
    """
    if study.reference_dose_file is None:
        raise ValueError("the study has no reference dose")
    return covered(read_dose(study.reference_dose_file).grid, study.grid)
