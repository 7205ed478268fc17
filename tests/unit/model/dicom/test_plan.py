import numpy as np
import pytest
from pydicom import Dataset

from model.case import Beam
from model.dicom.plan import as_head_first_supine, from_head_first_supine, read_plan
from model.dicom.rules import Rule
from model.errors import StudyError


def dose_reference(**values: object) -> Dataset:
    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return item


def beam(*angles: float | None, **values: object) -> Dataset:
    item = dose_reference(**values)
    item.ControlPointSequence = []
    for angle in angles:
        point = Dataset()
        if angle is not None:
            point.GantryAngle = angle
        item.ControlPointSequence.append(point)
    item.ControlPointSequence[0].IsocenterPosition = [1, 2, 3]
    item.ControlPointSequence[0].PatientSupportAngle = 10
    return item


def test_prescription_of_each_target() -> None:
    plan = Dataset()
    target = {"DoseReferenceType": "TARGET"}
    plan.DoseReferenceSequence = [
        dose_reference(**target, ReferencedROINumber=4, TargetPrescriptionDose=56),
        dose_reference(**target, ReferencedROINumber=4, TargetPrescriptionDose=50),
        dose_reference(**target, DoseReferenceStructureType="SITE", TargetPrescriptionDose=60),
        dose_reference(**target, ReferencedROINumber=5, TargetPrescriptionDose=7000),
        dose_reference(**target, ReferencedROINumber=6),
        dose_reference(DoseReferenceType="ORGAN_AT_RISK", ReferencedROINumber=7, TargetPrescriptionDose=99),
    ]
    summary = read_plan(plan, "HFS")
    assert summary.target_dose_gy == {4: 56.0}
    assert summary.highest_dose_gy == 60.0
    assert summary.fractions is None
    assert len(summary.warnings) == 1


def test_beams() -> None:
    plan = Dataset()
    plan.BeamSequence = [
        beam(40, None),
        beam(350, None, 10, 20),
        beam(0, TreatmentDeliveryType="SETUP"),
    ]
    static, arc = read_plan(plan, "HFS").beams
    assert static == Beam((40.0,), (1.0, 2.0, 3.0), 10.0)
    assert arc.gantry_deg == (350.0, 350.0, 10.0, 20.0)


def test_empty_plan() -> None:
    summary = read_plan(Dataset(), "")
    assert (summary.target_dose_gy, summary.highest_dose_gy, summary.beams) == ({}, None, ())


@pytest.mark.parametrize(("couch", "is_left_out"), [("10", True), ("359.5", True), ("8e-10", False), ("359.99", False)])
def test_turned_couch_under_a_patient_on_the_side_leaves_the_beam_out(couch: str, is_left_out: bool) -> None:
    plan = Dataset()
    plan.BeamSequence = [beam(40)]
    plan.BeamSequence[0].ControlPointSequence[0].PatientSupportAngle = couch
    summary = read_plan(plan, "HFDR")
    assert (not summary.beams) == is_left_out
    assert len(summary.warnings) == is_left_out


def test_position_of_a_beam_is_that_of_its_own_setup() -> None:
    plan = Dataset()
    plan.PatientSetupSequence = [
        dose_reference(PatientSetupNumber=1, PatientPosition="HFS"),
        dose_reference(PatientSetupNumber=2, PatientPosition="FFS"),
    ]
    plan.BeamSequence = [beam(40, ReferencedPatientSetupNumber=2), beam(40, ReferencedPatientSetupNumber=1), beam(40)]
    assert [b.gantry_deg for b in read_plan(plan, "HFP").beams] == [(320,), (40,), (40,)]


def test_position_that_nothing_states_is_assumed_and_said() -> None:
    plan = Dataset()
    plan.BeamSequence = [beam(40)]
    summary = read_plan(plan, "on the table")
    assert summary.beams[0].gantry_deg == (40,)
    assert "head first, supine was assumed" in summary.warnings[0]


@pytest.mark.parametrize("position", ["LFS", "AFDR"])
def test_patient_across_the_couch_is_refused(position: str) -> None:
    plan = Dataset()
    plan.BeamSequence = [beam(40)]
    with pytest.raises(StudyError) as error:
        read_plan(plan, position)
    assert error.value.rule == Rule.PATIENT_POSITION


def turn(axis: int, degrees: float) -> np.ndarray:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    matrix = np.eye(3)
    j, k = [(1, 2), (2, 0), (0, 1)][axis]
    matrix[j, j] = matrix[k, k] = c
    matrix[j, k], matrix[k, j] = -s, s
    return matrix


def direction_in_patient(item: Beam, lying: np.ndarray) -> np.ndarray:
    """Where the beam comes from, in the patient: IEC 61217 turns the gantry about y and the couch about z."""
    source = turn(1, item.gantry_deg[0]) @ (0, 0, 1)
    return lying.T @ turn(2, item.couch_deg).T @ source


LYING = {
    "HFS": np.eye(3),
    "HFP": turn(1, 180),
    "HFDR": turn(1, -90),
    "HFDL": turn(1, 90),
    "FFS": turn(2, 180),
    "FFP": turn(2, 180) @ turn(1, 180),
    "FFDR": turn(2, 180) @ turn(1, -90),
    "FFDL": turn(2, 180) @ turn(1, 90),
}
"""From axes to the patient's left, head and anterior to the room's."""


@pytest.mark.parametrize(
    ("position", "down"),
    [("S", (0, 0, -1)), ("P", (0, 0, 1)), ("DR", (-1, 0, 0)), ("DL", (1, 0, 0))],
)
def test_patient_lies_on_the_side_that_the_position_names(position: str, down: tuple[int, ...]) -> None:
    """Back, belly, right and left side: DICOM PS3.3 C.7.3.1.1.2."""
    assert np.allclose(LYING["HF" + position] @ down, (0, 0, -1))
    assert np.allclose(LYING["FF" + position] @ down, (0, 0, -1))


@pytest.mark.parametrize("position", LYING)
@pytest.mark.parametrize("gantry", [0, 40, 170, 260])
@pytest.mark.parametrize("couch", [0, 15, 345])
def test_beam_enters_the_patient_where_the_plan_says(position: str, gantry: int, couch: int) -> None:
    planned = Beam((float(gantry),), couch_deg=float(couch))
    turned = as_head_first_supine(planned, position)
    if couch and "D" in position:
        assert turned is None
        return
    assert turned is not None
    assert np.allclose(direction_in_patient(turned, np.eye(3)), direction_in_patient(planned, LYING[position]))
    assert from_head_first_supine(turned, position) == planned
