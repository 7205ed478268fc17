import copy
import random
from collections.abc import Callable

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    MRImageStorage,
    PositronEmissionTomographyImageStorage,
    RTIonPlanStorage,
    generate_uid,
)

from model.case import EXTERNAL, Prescription
from model.dicom import Rule, StructureChoice, build_case, read_study
from model.dicom.study import Study
from model.errors import StudyError

CHOICES = {"PTV": StructureChoice(1, "target"), EXTERNAL: StructureChoice(2, "external")}
PRESCRIPTION = Prescription({"PTV": 60.0}, 30, "parameter")


def read(study) -> Study:
    paths = study.write()
    random.Random(1).shuffle(paths)
    return read_study(paths)


def refusal(study) -> str:
    with pytest.raises(StudyError) as raised:
        read(study)
    assert raised.value.rule in list(Rule)
    assert "P1" not in raised.value.message
    return raised.value.rule


def contour(points: object, kind: str = "CLOSED_PLANAR") -> Dataset:
    item = Dataset()
    item.ContourGeometricType = kind
    item.ContourData = [float(x) for x in np.ravel(points)]
    return item


def test_whole_study(study) -> None:
    study.add_plan()
    dose = np.zeros((6, 8, 10))
    dose[2] = 50
    study.add_dose(dose)
    found = read(study)
    assert found.grid.shape == (6, 8, 10)
    assert [(r.number, r.name, r.interpreted_type, r.contour_count) for r in found.rois] == [
        (1, "PTV, boost", "PTV", 3),
        (2, "Body", "EXTERNAL", 6),
        (3, "Empty", "ORGAN", 0),
    ]
    assert found.plan is not None
    assert found.plan.target_dose_gy == {1: 60.0}
    assert found.plan.fractions == 30
    assert found.warnings == ()
    assert found.ct_header.ImagePositionPatient[2] == 20
    assert "PixelData" not in found.ct_header
    case = build_case(found, CHOICES, PRESCRIPTION, with_reference=True)
    assert np.allclose(case.dose_gy, dose)
    ptv = np.zeros((6, 8, 10), bool)
    ptv[1:4, 2:4, 3:6] = True
    assert (case.structures["PTV"].mask == ptv).all()
    assert case.structures["PTV"].roi_name == "PTV, boost"
    assert case.external.sum() == 6 * 6 * 8


def test_study_without_plan_or_dose(study) -> None:
    found = read(study)
    assert (found.plan, found.plan_dataset, found.reference_dose_file) == (None, None, None)
    assert build_case(found, CHOICES, PRESCRIPTION, with_reference=True).dose_gy is None


def test_outline_is_derived_without_external(study) -> None:
    for dataset in study.ct:
        pixels = np.full((8, 10), -1000, "<i2")
        pixels[1:7, 1:9] = 0
        dataset.PixelData = pixels.tobytes()
    case = build_case(read(study), {"PTV": CHOICES["PTV"]}, PRESCRIPTION)
    assert case.external.sum() == 6 * 6 * 8
    assert case.structures[EXTERNAL].roi_number is None


def test_unneeded_objects_are_left_out_with_a_warning(study) -> None:
    study.others = [
        study.new(PositronEmissionTomographyImageStorage, "PT"),
        study.new(CTImageStorage, "PT"),
        study.new(RTIonPlanStorage, "RTPLAN"),
    ]
    localiser = copy.deepcopy(study.ct[0])
    localiser.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    study.others.append(localiser)
    assert read(study).warnings == ("objects that are not needed were left out: 2 PT, 1 RTPLAN, 1 localiser",)


@pytest.mark.parametrize(
    ("rule", "sop_class", "modality"),
    [
        ("multi-frame-ct", EnhancedCTImageStorage, "CT"),
        ("unsupported-modality", MRImageStorage, "MR"),
        ("unsupported-modality", PositronEmissionTomographyImageStorage, "PT"),
        ("unsupported-modality", CTImageStorage, "PT"),
        ("no-ct", RTIonPlanStorage, "RTPLAN"),
    ],
)
def test_study_without_usable_ct(study, rule: str, sop_class: str, modality: str) -> None:
    study.ct = [study.new(sop_class, modality)]
    assert refusal(study) == rule


def test_nothing_at_all() -> None:
    with pytest.raises(StudyError) as raised:
        read_study([])
    assert raised.value.rule == "nothing-readable"


def spoil_structure_set(**values: object) -> Callable:
    return lambda study: [setattr(study.structure_set, keyword, value) for keyword, value in values.items()]


def other_frame(study) -> None:
    study.structure_set.ReferencedFrameOfReferenceSequence[0].FrameOfReferenceUID = "1.2.3"
    for roi in study.structure_set.StructureSetROISequence:
        roi.ReferencedFrameOfReferenceUID = "1.2.3"


def shift_contours(study) -> None:
    for roi in study.structure_set.ROIContourSequence:
        for item in roi.ContourSequence:
            item.ContourData = [float(x) + 100 * (k % 3 == 2) for k, x in enumerate(item.ContourData)]


@pytest.mark.parametrize(
    ("rule", "spoil"),
    [
        ("no-structure-set", lambda study: study.structure_sets.clear()),
        ("patient-mismatch", spoil_structure_set(PatientID="P2")),
        ("frame-of-reference-mismatch", other_frame),
        ("no-roi", spoil_structure_set(StructureSetROISequence=[], ROIContourSequence=[])),
        ("no-contours", spoil_structure_set(ROIContourSequence=[])),
        ("contours-outside-ct", shift_contours),
        ("missing-slice", lambda study: study.ct.__delitem__(slice(4, None))),
        ("missing-slice", lambda study: study.ct.pop(3)),
        ("several-structure-sets", lambda study: study.structure_sets.append(study.structure_set)),
    ],
)
def test_broken_rule_is_named(study, rule: str, spoil: Callable) -> None:
    spoil(study)
    assert refusal(study) == rule


def test_defect_of_the_ct_comes_before_the_lack_of_a_structure_set(study) -> None:
    study.structure_sets.clear()
    study.ct.pop(2)
    assert refusal(study) == "missing-slice"


def test_damaged_contour_data(study) -> None:
    study.structure_set.ROIContourSequence[-1].ContourSequence[0].ContourData = [1, 2, 3, 4]
    assert refusal(study) == "damaged-contours"


def test_duplicate_roi_number(study) -> None:
    study.structure_set.StructureSetROISequence[1].ROINumber = 1
    assert refusal(study) == "duplicate-roi-number"


def test_types_in_any_case(study) -> None:
    paths = study.write()
    paths[6].write_bytes(paths[6].read_bytes().replace(b"EXTERNAL", b"External"))
    assert read_study(paths).rois[1].interpreted_type == "EXTERNAL"


def test_points_and_lines_do_not_count(study) -> None:
    (ptv,) = (c for c in study.structure_set.ROIContourSequence if c.ReferencedROINumber == 1)
    ptv.ContourSequence += [
        contour([(0, 0, 23)], "POINT"),
        contour([(0, 0, 23), (1, 1, 23)]),
        contour([(0, 0, 23), (1, 1, 23), (1, 0, 23)], "OPEN_PLANAR"),
        Dataset(),
    ]
    assert read(study).rois[0].contour_count == 3


def test_contours_without_images_or_known_frames(study) -> None:
    del study.structure_set.ReferencedFrameOfReferenceSequence
    for roi in study.structure_set.StructureSetROISequence:
        del roi.ReferencedFrameOfReferenceUID
    found = read(study)
    assert found.rois[0].contour_count == 3
    assert "could not be verified" in found.warnings[0]


def test_uids_that_identify_nothing(study) -> None:
    for dataset in [*study.ct, study.structure_set]:
        dataset.SeriesInstanceUID = dataset.StudyInstanceUID = dataset.FrameOfReferenceUID = "0"
    assert read(study).grid.shape == (6, 8, 10)


def test_structure_set_decides_between_series(study) -> None:
    # The same frame of reference, but another acquisition
    study.add_ct(slices=4)
    found = read(study)
    assert found.grid.shape[0] == 6
    assert len(found.warnings) == 1


def test_contours_of_another_series_of_the_same_frame(study) -> None:
    referenced = study.structure_set.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0]
    referenced.RTReferencedSeriesSequence[0].SeriesInstanceUID = "1.2.3"
    referenced.RTReferencedSeriesSequence[0].ContourImageSequence = []
    assert read(study).warnings == ("the contours were drawn on another series of the CT's frame of reference",)


def test_series_that_nothing_decides_between(study) -> None:
    study.add_ct(slices=4)
    del study.structure_set.ReferencedFrameOfReferenceSequence
    assert refusal(study) == "several-ct-series"


@pytest.mark.parametrize("plan_decides", [False, True])
def test_newest_structure_set_unless_the_plan_refers_to_another(study, plan_decides: bool) -> None:
    newer = copy.deepcopy(study.structure_set)
    newer.SOPInstanceUID = generate_uid()
    newer.StructureSetDate = "20210101"
    study.structure_sets.append(newer)
    if plan_decides:
        study.add_plan()
    found = read(study)
    expected = study.structure_sets[0 if plan_decides else 1]
    assert found.structure_set.SOPInstanceUID == expected.SOPInstanceUID
    assert len(found.warnings) == 1


def test_structure_set_of_another_frame_is_no_rival(study) -> None:
    rival = copy.deepcopy(study.structure_set)
    rival.StructureSetDate = "20300101"
    study.structure_sets.append(rival)
    rival.ReferencedFrameOfReferenceSequence[0].FrameOfReferenceUID = "1.2.3"
    for roi in rival.StructureSetROISequence:
        roi.ReferencedFrameOfReferenceUID = "1.2.3"
    assert read(study).structure_set.StructureSetDate == "20200101"


@pytest.mark.parametrize(("keyword", "value"), [("PatientID", "P2"), ("FrameOfReferenceUID", "1.2.3")])
def test_plan_of_something_else_is_left_out(study, keyword: str, value: str) -> None:
    setattr(study.add_plan(), keyword, value)
    found = read(study)
    assert found.plan is None
    assert len(found.warnings) == 1


def test_plan_of_another_structure_set_lends_no_roi_doses(study) -> None:
    study.add_plan().ReferencedStructureSetSequence[0].ReferencedSOPInstanceUID = "1.2.3"
    found = read(study)
    assert found.plan is not None
    assert found.plan.target_dose_gy == {}
    assert found.plan.highest_dose_gy == 60.0
    assert len(found.warnings) == 1


def test_objects_without_identifier_are_used_but_not_referred_to(study) -> None:
    plan = study.add_plan()
    del plan.ReferencedStructureSetSequence
    plan.SOPInstanceUID = study.structure_set.SOPInstanceUID = "0"
    found = read(study)
    assert found.plan is not None
    assert found.plan.highest_dose_gy == 60.0
    assert found.plan_dataset is None
    assert len(found.warnings) == 2


def test_newest_plan(study) -> None:
    study.add_plan(50).RTPlanDate = "20200303"
    study.add_plan(60)
    found = read(study)
    assert found.plan is not None
    assert found.plan.highest_dose_gy == 50
    study.plans[0].RTPlanDate = "20200102"
    assert read(study).plan is None


def test_one_contour_beyond_the_ct(study) -> None:
    (ptv,) = (c for c in study.structure_set.ROIContourSequence if c.ReferencedROINumber == 1)
    ptv.ContourSequence.append(contour([(-3, -2, 38), (1.5, -2, 38), (1.5, 2, 38)]))
    found = read(study)
    assert found.warnings == ("1 of 4 contours of ROI PTV, boost lie outside the CT",)
    with pytest.raises(StudyError) as raised:
        build_case(found, CHOICES, PRESCRIPTION)
    assert raised.value.rule == "contours-outside-ct"


@pytest.mark.parametrize(
    ("rule", "choices"),
    [
        ("no-target", {EXTERNAL: StructureChoice(2, "external")}),
        ("no-target", {"PTV": StructureChoice(1, "oar")}),
        ("unknown-roi", {"PTV": StructureChoice(9, "target")}),
        ("no-contours", {"PTV": StructureChoice(3, "target")}),
        ("no-outline", {"PTV": StructureChoice(1, "target")}),
    ],
)
def test_choice_that_cannot_be_made(study, rule: str, choices: dict[str, StructureChoice]) -> None:
    for dataset in study.ct:
        dataset.RescaleIntercept = -1000
    with pytest.raises(StudyError) as raised:
        build_case(read(study), choices, PRESCRIPTION)
    assert raised.value.rule == rule


def test_target_smaller_than_a_voxel(study) -> None:
    (ptv,) = (c for c in study.structure_set.ROIContourSequence if c.ReferencedROINumber == 1)
    ptv.ContourSequence = [contour([(0, 0, 23), (0.1, 0, 23), (0.1, 0.1, 23)])]
    with pytest.raises(StudyError) as raised:
        build_case(read(study), CHOICES, PRESCRIPTION)
    assert raised.value.rule == "empty-structure"


def test_contours_across_the_slices(study) -> None:
    (ptv,) = (c for c in study.structure_set.ROIContourSequence if c.ReferencedROINumber == 1)
    ptv.ContourSequence = [contour([(0, 0, 23), (0, 3, 23), (0, 3, 32)])]
    with pytest.raises(StudyError) as raised:
        build_case(read(study), CHOICES, PRESCRIPTION)
    assert raised.value.rule == "contours-not-planar"


def test_reference_dose_is_interpolated_to_the_ct(study) -> None:
    coarse = study.add_dose(np.tile(np.arange(6.0)[:, None, None], (1, 4, 5)))
    coarse.PixelSpacing = [4, 3]
    coarse.PatientID = "P2"
    found = read(study)
    assert len(found.warnings) == 1
    dose_gy = build_case(found, CHOICES, PRESCRIPTION, with_reference=True).dose_gy
    assert dose_gy is not None
    assert np.allclose(dose_gy[:, :7, :9], np.arange(6.0)[:, None, None], atol=1e-5)


def test_reference_dose_that_is_not_clear(study) -> None:
    study.add_dose(np.ones((2, 3, 4)))
    study.add_dose(np.ones((2, 3, 4)))
    assert read(study).reference_dose_file is None
    study.doses[0].DoseSummationType = "BEAM"
    study.doses[1].FrameOfReferenceUID = "1.2.3"
    assert read(study).reference_dose_file is None


@pytest.mark.parametrize(
    "orientation", [(1, 0, 0, 0, 1, 0), (-1, 0, 0, 0, -1, 0), (-1, 0, 0, 0, 1, 0), (1, 0, 0, 0, -1, 0)]
)
def test_position_on_the_couch_does_not_move_structures(study, orientation) -> None:
    """The same voxels, stored as for HFS, HFP, FFS and FFP."""
    straight = build_case(read(study), CHOICES, PRESCRIPTION)
    study.ct.clear()
    corner = np.array([-7.0, -5.0, 20.0])
    normal = np.cross(orientation[:3], orientation[3:])
    reversal = np.array([orientation[0] < 0, orientation[4] < 0, normal[2] < 0])
    study.add_ct(orientation=orientation, origin=corner + reversal * (9 * 1.5, 7 * 2.0, 5 * 3.0))
    turned = build_case(read(study), CHOICES, PRESCRIPTION)
    assert turned.grid.canonical().same_as(straight.grid)
    for name, structure in straight.structures.items():
        assert (turned.grid.to_canonical(turned.structures[name].mask) == structure.mask).all()


def test_every_rule_has_its_sentence() -> None:
    assert all(rule.meaning.endswith(".") and rule.value == rule.value.lower() for rule in Rule)
