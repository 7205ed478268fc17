import numpy as np
import pytest
from pydicom.uid import generate_uid

from model.case import EXTERNAL
from model.dicom.study import StructureChoice, read_study
from model.dicom.whole_study import contoured_structures, dose_on_ct, identifiers
from model.errors import StudyError

DOSE_GY = np.arange(6 * 8 * 10).reshape(6, 8, 10) / 100


def test_colours_of_rois_are_read(study) -> None:
    first, second, third = study.structure_set.ROIContourSequence
    first.ROIDisplayColor, second.ROIDisplayColor = [255, 0, 10], [300, 0, 0]
    rois = {roi.number: roi for roi in read_study(study.write()).rois}
    assert rois[first.ReferencedROINumber].display_colour == (255, 0, 10)
    assert rois[second.ReferencedROINumber].display_colour is None
    assert rois[third.ReferencedROINumber].display_colour is None


def test_a_dose_on_the_grid_of_the_ct_is_itself(study) -> None:
    dataset = study.add_dose(DOSE_GY)
    read = read_study(study.write())
    dose = dose_on_ct(read, read.reference_dose_file)
    np.testing.assert_allclose(dose.dose_gy, DOSE_GY, atol=1e-6)
    assert dose.covered.all()
    assert (dose.predicted, dose.simulated, dose.warnings) == (False, False, ())
    assert dose.sop_instance_uid == dataset.SOPInstanceUID


def test_where_a_dose_says_nothing_is_told(study) -> None:
    study.add_dose(DOSE_GY[:3])
    read = read_study(study.write())
    dose = dose_on_ct(read, read.reference_dose_file)
    assert dose.covered[:3].all()
    assert not dose.covered[3:].any()
    assert not dose.dose_gy[3:].any()


def test_a_prediction_is_recognised(study) -> None:
    dataset = study.add_dose(DOSE_GY)
    dataset.DoseComment = "predicted, not for treatment; simulated data; neck 1"
    read = read_study(study.write())
    dose = dose_on_ct(read, read.reference_dose_file)
    assert (dose.predicted, dose.simulated) == (True, True)


def test_another_dose_is_taken_with_its_reservations(study, tmp_path) -> None:
    study.add_dose(DOSE_GY)
    other = study.add_dose(DOSE_GY)
    study.doses.pop()
    other.PatientID = "P2"
    other.DoseType = "EFFECTIVE"
    other.DoseSummationType = "BEAM"
    del other.FrameOfReferenceUID
    other.save_as(tmp_path / "other.dcm", enforce_file_format=True)
    dose = dose_on_ct(read_study(study.write()), tmp_path / "other.dcm")
    assert len(dose.warnings) == 4
    assert "P2" not in " ".join(dose.warnings)


def test_a_dose_of_another_frame_of_reference_is_refused(study, tmp_path) -> None:
    other = study.add_dose(DOSE_GY)
    study.doses.pop()
    other.FrameOfReferenceUID = generate_uid()
    other.save_as(tmp_path / "other.dcm", enforce_file_format=True)
    read = read_study(study.write())
    with pytest.raises(StudyError) as error:
        dose_on_ct(read, tmp_path / "other.dcm")
    assert error.value.rule == "frame-of-reference-mismatch"
    (tmp_path / "text").write_text("nothing")
    with pytest.raises(StudyError) as error:
        dose_on_ct(read, tmp_path / "text")
    assert error.value.rule == "dose-unreadable"


def test_rois_that_cannot_be_used_are_left_out(study) -> None:
    read = read_study(study.write())
    choices = {"PTV": StructureChoice(1, "target"), "Nothing": StructureChoice(3, "oar")}
    _, structures, warnings = contoured_structures(read, choices | {EXTERNAL: StructureChoice(2, "external")})
    assert list(structures) == ["PTV", EXTERNAL]
    assert warnings == ("left out: ROI Empty, chosen as Nothing, has no closed contour",)


def test_a_target_smaller_than_a_voxel_is_reported(study) -> None:
    (ptv,) = (c for c in study.structure_set.ROIContourSequence if c.ReferencedROINumber == 1)
    ptv.ContourSequence = ptv.ContourSequence[:1]
    ptv.ContourSequence[0].ContourData = [0, 0, 23, 0.1, 0, 23, 0.1, 0.1, 23]
    read = read_study(study.write())
    choices = {"PTV": StructureChoice(1, "target"), EXTERNAL: StructureChoice(2, "external")}
    _, structures, warnings = contoured_structures(read, choices)
    assert not structures["PTV"].mask.any()
    assert warnings == ()
    # But not as the outline
    _, structures, warnings = contoured_structures(read, {EXTERNAL: StructureChoice(1, "external")})
    assert structures[EXTERNAL].mask.any()
    assert "too small" in warnings[0]


def test_identifiers_are_uids(study) -> None:
    plan = study.add_plan()
    found = identifiers(read_study(study.write()))
    assert found.structure_set == study.structure_set.SOPInstanceUID
    assert found.plan == plan.SOPInstanceUID
    assert found.study == ""
