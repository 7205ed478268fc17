"""RT Plans (PS3.3 C.8.8.9 to C.8.8.14): prescription, fractions and beams."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from pydicom import Dataset

from model.case import Beam
from model.dicom.attributes import integer, items, number, numbers, text, uid
from model.dicom.rules import Rule, refuse

HIGHEST_PLAUSIBLE_GY = 200.0
"""Prescriptions above this are in another unit or wrong; no course of external beams gives as much."""

ALONG = {"HF": 1, "FF": -1}
"""First part of Patient Position (0018,5100): whether the head or the feet are towards the gantry."""

ROLL_DEG = {"S": 0.0, "DR": -90.0, "P": 180.0, "DL": 90.0}
"""Second part of Patient Position → turn about the long axis that leads there from supine."""

UNSUPPORTED_POSITIONS = {"LFP", "LFS", "RFP", "RFS", "AFDR", "AFDL", "PFDR", "PFDL"}
"""Patient positions of the standard in which the gantry does not turn about the patient's long axis."""

SETUP_DELIVERY = {"SETUP", "OPEN_PORTFILM", "TRMT_PORTFILM"}
"""Treatment Delivery Type (300A,00CE) of beams that take images instead of treating."""


@dataclass(frozen=True)
class PlanSummary:
    """What a prediction takes from a plan.

    Parameters
    ----------
    sop_instance_uid
        SOP Instance UID (0008,0018).
    label
        RT Plan Label (300A,0002).
    fractions
        Number of Fractions Planned (300A,0078) if there is one fraction group that states it.
    target_dose_gy
        ROI number → Target Prescription Dose (300A,0026) over all fractions.
    highest_dose_gy
        Highest Target Prescription Dose, also of targets that are no ROI but a site or a point; None if there is none.
    beams
        Treatment beams as for a patient who lies head first, supine (see `as_head_first_supine`).
    warnings
        What was left out and why.
    """

    sop_instance_uid: str
    label: str
    fractions: int | None
    target_dose_gy: Mapping[int, float]
    highest_dose_gy: float | None
    beams: tuple[Beam, ...]
    warnings: tuple[str, ...] = ()


def read_plan(plan: Dataset, patient_position: str) -> PlanSummary:
    """Summarise an RT Plan.

    Parameters
    ----------
    plan
        An RT Plan.
    patient_position
        Patient Position (0018,5100) of the CT, for a plan that does not state its own.

    Raises
    ------
    StudyError
        ``patient-position`` if the patient lies across the couch.
    """
    warnings = []
    target_dose_gy: dict[int, float] = {}
    highest_dose_gy: float | None = None
    for reference in items(plan, "DoseReferenceSequence"):
        dose_gy = number(reference, "TargetPrescriptionDose")
        if text(reference, "DoseReferenceType") != "TARGET" or dose_gy is None or dose_gy <= 0:
            continue
        if dose_gy > HIGHEST_PLAUSIBLE_GY:
            warnings.append(f"a prescription of {dose_gy:g} Gy in the plan is implausible and was left out")
            continue
        highest_dose_gy = max(dose_gy, highest_dose_gy or 0.0)
        roi_number = integer(reference, "ReferencedROINumber")
        if roi_number is not None:
            target_dose_gy[roi_number] = max(dose_gy, target_dose_gy.get(roi_number, 0.0))

    groups = items(plan, "FractionGroupSequence")
    fractions = integer(groups[0], "NumberOfFractionsPlanned") if len(groups) == 1 else None

    setups = {
        integer(setup, "PatientSetupNumber"): text(setup, "PatientPosition")
        for setup in items(plan, "PatientSetupSequence")
    }
    turned = []
    assumed = False
    for item in items(plan, "BeamSequence"):
        beam = _beam(item) if _treats(item) else None
        if beam is not None:
            stated = (setups.get(integer(item, "ReferencedPatientSetupNumber"), ""), *setups.values(), patient_position)
            known = [position for position in stated if check_position(position)]
            assumed |= not known
            turned.append(as_head_first_supine(beam, known[0] if known else "HFS"))
    if assumed:
        warnings.append("neither plan nor CT says how the patient lies: head first, supine was assumed for the beams")
    if None in turned:
        warnings.append("beams of the plan were left out: the couch is turned under a patient who lies on the side")
    return PlanSummary(
        sop_instance_uid=uid(plan, "SOPInstanceUID"),
        label=text(plan, "RTPlanLabel"),
        fractions=fractions if fractions is not None and fractions > 0 else None,
        target_dose_gy=target_dose_gy,
        highest_dose_gy=highest_dose_gy,
        beams=tuple(beam for beam in turned if beam is not None),
        warnings=tuple(warnings),
    )


def check_position(patient_position: str) -> bool:
    """Whether a Patient Position (0018,5100) says how the patient lies.

    Raises
    ------
    StudyError
        ``patient-position`` if the patient lies across the couch: beams and usual arrangements would mean something
        else.
    """
    if patient_position in UNSUPPORTED_POSITIONS:
        raise refuse(
            Rule.PATIENT_POSITION,
            f"the patient position is {patient_position}, expected one that begins with HF or FF",
            patient_position=patient_position,
        )
    return patient_position[:2] in ALONG and patient_position[2:] in ROLL_DEG


def as_head_first_supine(beam: Beam, patient_position: str) -> Beam | None:
    """Turn gantry and couch so that the beam enters a head-first supine patient as it does this one.

    IEC 61217 angles belong to the room. A patient who is turned about the long axis is made up for by the gantry, which
    reverses the couch for a prone one; one lying feet first is turned by 180° about the vertical axis, which mirrors
    the gantry angle.

    Parameters
    ----------
    beam
        As planned.
    patient_position
        One that `check_position` knows.

    Returns
    -------
    Beam or None
        None if gantry and couch alone do not suffice: the couch is turned under a patient who lies on the side.
    """
    along, roll_deg = ALONG[patient_position[:2]], ROLL_DEG[patient_position[2:]]
    return _turned(beam, along, -roll_deg, roll_deg)


def from_head_first_supine(beam: Beam, patient_position: str) -> Beam | None:
    """Undo `as_head_first_supine`."""
    along, roll_deg = ALONG[patient_position[:2]], ROLL_DEG[patient_position[2:]]
    return _turned(beam, along, along * roll_deg, roll_deg)


def _turned(beam: Beam, sign: int, offset_deg: float, roll_deg: float) -> Beam | None:
    if beam.has_turned_couch and roll_deg in (ROLL_DEG["DR"], ROLL_DEG["DL"]):
        return None
    return replace(
        beam,
        gantry_deg=tuple((sign * angle + offset_deg) % 360 for angle in beam.gantry_deg),
        couch_deg=-beam.couch_deg % 360 if roll_deg == ROLL_DEG["P"] else beam.couch_deg,
    )


def _treats(beam: Dataset) -> bool:
    return text(beam, "TreatmentDeliveryType") not in SETUP_DELIVERY


def _beam(beam: Dataset) -> Beam | None:
    """Read an item of Beam Sequence (300A,00B0); None if it has no gantry angle."""
    points = items(beam, "ControlPointSequence")
    # A control point states only what has changed since the one before
    angles: list[float] = []
    for point in points:
        angle = number(point, "GantryAngle")
        if angle is not None:
            angles.append(angle % 360)
        elif angles:
            angles.append(angles[-1])
    if not angles:
        return None
    isocentre = numbers(points[0], "IsocenterPosition", 3)
    return Beam(
        gantry_deg=(angles[0],) if len(set(angles)) == 1 else tuple(angles),
        isocentre_mm=None if isocentre is None else (float(isocentre[0]), float(isocentre[1]), float(isocentre[2])),
        couch_deg=(number(points[0], "PatientSupportAngle") or 0.0) % 360,
    )
