import pytest
from pydicom import dcmread
from pydicom.uid import RTPlanStorage

from model.case import Prescription
from model.dicom.derived import save
from model.dicom.plan_writer import companion_plan


@pytest.fixture
def plan(ct_header, structure_set, provenance, created):
    return companion_plan(
        ct_header=ct_header,
        structure_set=structure_set,
        prescription=Prescription({"PTV_7000": 70.0, "PTV gröss": 56.1}, 35, "parameter"),
        target_roi_numbers={"PTV_7000": 4},
        provenance=provenance,
        identity="job",
        created=created,
    )


def test_companion_plan_has_a_prescription_and_no_beams(plan, structure_set):
    assert plan.SOPClassUID == RTPlanStorage
    assert plan.RTPlanGeometry == "PATIENT"
    assert plan.ApprovalStatus == "UNAPPROVED"
    assert plan.PlanIntent == "RESEARCH"
    assert "BeamSequence" not in plan
    (group,) = plan.FractionGroupSequence
    assert (group.NumberOfFractionsPlanned, group.NumberOfBeams, group.NumberOfBrachyApplicationSetups) == (35, 0, 0)
    assert plan.ReferencedStructureSetSequence[0].ReferencedSOPInstanceUID == structure_set.SOPInstanceUID
    assert plan.PatientSetupSequence[0].PatientPosition == "HFS"


def test_dose_references_name_the_targets(plan):
    known, unknown = plan.DoseReferenceSequence
    assert (known.DoseReferenceStructureType, known.ReferencedROINumber) == ("VOLUME", 4)
    assert (known.DoseReferenceType, known.TargetPrescriptionDose) == ("TARGET", 70)
    assert unknown.DoseReferenceStructureType == "SITE"
    assert unknown.DoseReferenceDescription == "PTV gröss"
    assert "ReferencedROINumber" not in unknown


def test_companion_plan_says_that_it_is_predicted(plan):
    assert "not for treatment" in plan.SeriesDescription
    assert "not for treatment" in plan.RTPlanDescription
    assert plan.ContributingEquipmentSequence[0].ManufacturerModelName == "neck"


def test_unknown_number_of_fractions_is_empty(ct_header, structure_set, provenance):
    plan = companion_plan(
        ct_header=ct_header,
        structure_set=structure_set,
        prescription=Prescription({"PTV": 60.0}, None, "structure-name"),
        target_roi_numbers={},
        provenance=provenance,
    )
    assert plan.FractionGroupSequence[0]["NumberOfFractionsPlanned"].is_empty


def test_plan_reads_back(plan, tmp_path):
    save(plan, tmp_path / "plan.dcm")
    assert dcmread(tmp_path / "plan.dcm").to_json_dict() == plan.to_json_dict()


def test_a_structure_set_without_identifier_is_not_referred_to(ct_header, structure_set, provenance):
    del structure_set.SOPInstanceUID
    plan = companion_plan(
        ct_header=ct_header,
        structure_set=structure_set,
        prescription=Prescription({"PTV_7000": 70.0}, 35, "parameter"),
        target_roi_numbers={"PTV_7000": 4},
        provenance=provenance,
    )
    assert plan.RTPlanGeometry == "TREATMENT_DEVICE"
    assert "ReferencedStructureSetSequence" not in plan
    assert plan.DoseReferenceSequence[0].DoseReferenceStructureType == "SITE"
