"""The named rules that a DICOM study must keep; a broken one refuses the study.

Each member of `Rule` is the ``rule`` of the `StudyError` it raises; the table of refusals in the documentation is made
from this enumeration.
"""

from enum import StrEnum

from model.errors import StudyError


class Rule(StrEnum):
    """Why a study is refused: a stable code and one sentence, in `meaning`, that says what was expected."""

    meaning: str

    def __new__(cls, code: str, meaning: str) -> "Rule":
        """Make a member that is the string ``code`` and carries its sentence."""
        member = str.__new__(cls, code)
        member._value_ = code
        member.meaning = meaning
        return member

    NOTHING_READABLE = "nothing-readable", "At least one file must be a DICOM object."
    DAMAGED_FILE = "damaged-file", "Every DICOM file must be readable to its end."
    TOO_LARGE = "too-large", "Declared and inflated sizes must stay below the limits."
    NO_CT = "no-ct", "The study must hold CT images."
    UNSUPPORTED_MODALITY = "unsupported-modality", "The images must be CT; PET, MR and others are not used."
    MULTI_FRAME_CT = "multi-frame-ct", "Every CT image must hold one slice; multi-frame objects are not supported yet."
    SEVERAL_CT_SERIES = (
        "several-ct-series",
        "The structure set or the parameter `ct_series` must decide which one of several CT series is meant.",
    )
    UNKNOWN_CT_SERIES = (
        "unknown-ct-series",
        "The parameter `ct_series` must be the Series Instance UID of CT images of the study.",
    )
    PATIENT_MISMATCH = "patient-mismatch", "CT and structure set must belong to the same patient."
    FRAME_OF_REFERENCE_MISMATCH = (
        "frame-of-reference-mismatch",
        "CT and structure set must share a frame of reference.",
    )
    MIXED_SERIES = "mixed-series", "All slices must share matrix, pixel spacing and frame of reference."
    MIXED_ORIENTATION = "mixed-orientation", "All slices must have the same orientation."
    GEOMETRY_MISSING = "geometry-missing", "Every slice must state its position, orientation, spacing and matrix."
    TOO_FEW_SLICES = "too-few-slices", "A CT needs at least two slices."
    DUPLICATE_SLICE = "duplicate-slice", "No two slices may lie at the same position."
    MISSING_SLICE = "missing-slice", "No slice of the CT may be absent."
    UNEVEN_SPACING = "uneven-spacing", "Slices must be evenly spaced."
    GANTRY_TILT = "gantry-tilt", "Slices must be stacked along their normal, so the gantry must not be tilted."
    PATIENT_POSITION = "patient-position", "The patient must lie along the couch, head or feet first."
    OBLIQUE = "oblique", "Slices must be parallel to a plane of the patient's axes."
    PIXEL_DATA_MISSING = "pixel-data-missing", "Every slice must hold as many pixels as it declares."
    PIXEL_FORMAT = "pixel-format", "Pixels must be single-sample grey values that can be decoded."
    RESCALE_MISSING = (
        "rescale-missing",
        "Every slice must say how stored values become Hounsfield units, by plausible numbers.",
    )
    NO_STRUCTURE_SET = "no-structure-set", "The study must hold an RT Structure Set."
    SEVERAL_STRUCTURE_SETS = (
        "several-structure-sets",
        "The plan, the date or the parameter `structure_set` must decide which one of several structure sets is meant.",
    )
    UNKNOWN_STRUCTURE_SET = (
        "unknown-structure-set",
        "The parameter `structure_set` must be the SOP Instance UID of a structure set of the study.",
    )
    NO_ROI = "no-roi", "The structure set must define ROIs; none is left when the file was damaged on its way."
    DUPLICATE_ROI_NUMBER = "duplicate-roi-number", "Every ROI of the structure set must have its own number."
    NO_CONTOURS = "no-contours", "At least one ROI, and every ROI that is used, must have closed contours."
    DAMAGED_CONTOURS = "damaged-contours", "Contour data must be triplets of numbers, less than a kilometre."
    CONTOURS_OUTSIDE_CT = "contours-outside-ct", "Contours must lie within the CT."
    CONTOURS_NOT_PLANAR = "contours-not-planar", "Contours must lie in the planes of the CT slices."
    UNKNOWN_ROI = "unknown-roi", "The chosen ROI numbers must exist in the structure set."
    NO_TARGET = (
        "no-target",
        "At least one ROI must be a planning target, and every prescribed dose must belong to a chosen one.",
    )
    EMPTY_STRUCTURE = "empty-structure", "Targets and the outline must hold at least one voxel."
    NO_OUTLINE = "no-outline", "Without an external ROI the CT must show a body."
    DOSE_UNREADABLE = "dose-unreadable", "An RT Dose must be a dose in Gy on an evenly spaced grid."


def refuse(rule: Rule, message: str, **details: object) -> StudyError:
    """Return the error for a broken rule: what was found and expected, without patient data."""
    return StudyError(message, code=rule.value, details=details)
