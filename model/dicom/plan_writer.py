"""The companion RTPLAN that gives a predicted dose a plan to belong to."""

from collections.abc import Mapping
from datetime import datetime

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import RTPlanStorage

from model.case import Prescription
from model.dicom.attributes import uid
from model.dicom.derived import (
    LO_LENGTH,
    WARNING,
    Provenance,
    decimal,
    declare_prediction,
    new_instance,
    own_text,
    reference,
)


def companion_plan(
    *,
    ct_header: Dataset,
    structure_set: Dataset,
    prescription: Prescription,
    target_roi_numbers: Mapping[str, int],
    provenance: Provenance,
    identity: str | None = None,
    created: datetime | None = None,
) -> Dataset:
    """Return an RTPLAN without beams for a study that has no plan.

    Planning systems refuse or misplace a dose whose plan they cannot resolve, and Referenced RT Plan Sequence
    (300C,0002) is mandatory for a dose of summation type PLAN (PS3.3 C.8.8.3).

    Parameters
    ----------
    ct_header
        Any slice of the CT.
    structure_set
        The RTSTRUCT that the prediction used.
    prescription
        Becomes the plan's dose references.
    target_roi_numbers
        Target → ROI Number (3006,0022) in the structure set; a target without is described by its name only.
    provenance
        What predicted the dose.
    identity, created
        See `model.dicom.derived.new_instance`.
    """
    dataset = new_instance(
        ct_header, sop_class_uid=RTPlanStorage, modality="RTPLAN", identity=identity, created=created
    )
    declare_prediction(dataset, provenance)
    set_plan(dataset, "DiffDP predicted", structure_set, prescription, target_roi_numbers)
    dataset.RTPlanDescription = f"Holds the prescription of a dose that was {WARNING}; it has no beams."
    dataset.PlanIntent = "RESEARCH"
    if ct_header.get("PatientPosition"):
        setup = Dataset()
        setup.PatientSetupNumber = 1
        setup.PatientPosition = ct_header.PatientPosition
        dataset.PatientSetupSequence = Sequence([setup])
    return dataset


def set_plan(
    dataset: Dataset,
    label: str,
    structure_set: Dataset,
    prescription: Prescription,
    target_roi_numbers: Mapping[str, int],
) -> None:
    """Fill the RT General Plan, RT Prescription, RT Fraction Scheme (no beams) and Approval modules.

    PS3.3 C.8.8.9, C.8.8.10, C.8.8.13 and C.8.8.16. A structure set without a UID cannot be referred to; the standard
    then wants RT Plan Geometry (300A,000C) to be TREATMENT_DEVICE.
    """
    has_structure_set = bool(uid(structure_set, "SOPInstanceUID"))
    dataset.RTPlanLabel = label
    dataset.RTPlanDate = dataset.InstanceCreationDate
    dataset.RTPlanTime = dataset.InstanceCreationTime
    dataset.RTPlanGeometry = "PATIENT" if has_structure_set else "TREATMENT_DEVICE"
    if has_structure_set:
        dataset.ReferencedStructureSetSequence = Sequence([reference(structure_set)])

    references = []
    for number, (target, dose_gy) in enumerate(prescription.dose_gy.items(), start=1):
        item = Dataset()
        item.DoseReferenceNumber = number
        if has_structure_set and target in target_roi_numbers:
            item.DoseReferenceStructureType = "VOLUME"
            item.ReferencedROINumber = target_roi_numbers[target]
        else:
            item.DoseReferenceStructureType = "SITE"
        item.DoseReferenceDescription = own_text(dataset, target, LO_LENGTH)
        item.DoseReferenceType = "TARGET"
        item.TargetPrescriptionDose = decimal(dose_gy)
        references.append(item)
    dataset.DoseReferenceSequence = Sequence(references)

    group = Dataset()
    group.FractionGroupNumber = 1
    group.NumberOfFractionsPlanned = prescription.fractions
    group.NumberOfBeams = 0
    group.NumberOfBrachyApplicationSetups = 0
    dataset.FractionGroupSequence = Sequence([group])
    dataset.ApprovalStatus = "UNAPPROVED"
