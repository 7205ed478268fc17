"""DICOM files <-> cases and doses; nothing outside this package knows DICOM's data sets."""

from model.dicom.dose_reader import read_dose
from model.dicom.plan import PlanSummary
from model.dicom.rules import Rule
from model.dicom.structure_set import Roi
from model.dicom.study import DERIVED_OUTLINE_WARNING, StructureChoice, Study, build_case, check_choice, read_study

__all__ = [
    "DERIVED_OUTLINE_WARNING",
    "PlanSummary",
    "Roi",
    "Rule",
    "StructureChoice",
    "Study",
    "build_case",
    "check_choice",
    "read_dose",
    "read_study",
]
