"""RT Plans (PS3.3 C.8.8.9 to C.8.8.14): prescription, fractions and beams."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from pydicom import Dataset

from model.case import Beam
from model.dicom.attributes import integer, items, number, numbers, text, uid

HIGHEST_PLAUSIBLE_GY = 200.0
"""Prescriptions above this are in another unit or wrong; no course of external beams gives as much."""

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

    setups = [text(setup, "PatientPosition") for setup in items(plan, "PatientSetupSequence")]
    position = next(filter(None, setups), patient_position) or "HFS"
    beams = [_beam(beam) for beam in items(plan, "BeamSequence") if _treats(beam)]
    turned = [as_head_first_supine(beam, position) for beam in beams if beam is not None]
    if None in turned:
        warnings.append(f"beams of the plan were left out: the patient position {position[:4]} is not supported")
    return PlanSummary(
        sop_instance_uid=uid(plan, "SOPInstanceUID"),
        label=text(plan, "RTPlanLabel"),
        fractions=fractions if fractions is not None and fractions > 0 else None,
        target_dose_gy=target_dose_gy,
        highest_dose_gy=highest_dose_gy,
        beams=tuple(beam for beam in turned if beam is not None),
        warnings=tuple(warnings),
    )


def as_head_first_supine(beam: Beam, patient_position: str) -> Beam | None:
    """Turn gantry and couch so that the beam enters a head-first supine patient as it does this one.

    IEC 61217 angles belong to the room. A prone patient is turned by 180° about the long axis, which the gantry makes
    up for and which reverses the couch; one lying feet first is turned by 180° about the vertical axis, which mirrors
    the gantry angle. The rule is its own inverse.

    Returns
    -------
    Beam or None
        None for a decubitus or unknown position, where gantry and couch alone do not suffice.
    """
    match patient_position:
        case "HFS":
            return beam
        case "HFP":
            return replace(
                beam,
                gantry_deg=tuple((180 + angle) % 360 for angle in beam.gantry_deg),
                couch_deg=-beam.couch_deg % 360,
            )
        case "FFS":
            return replace(beam, gantry_deg=tuple(-angle % 360 for angle in beam.gantry_deg))
        case "FFP":
            return replace(
                beam,
                gantry_deg=tuple((180 - angle) % 360 for angle in beam.gantry_deg),
                couch_deg=-beam.couch_deg % 360,
            )
        case _:
            return None


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
