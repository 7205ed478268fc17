import copy
import random
from collections.abc import Callable

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    EnhancedPETImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
    MRImageStorage,
    PositronEmissionTomographyImageStorage,
    RTIonPlanStorage,
    SecondaryCaptureImageStorage,
    generate_uid,
)

from model.case import EXTERNAL, Prescription, Volume, VoxelGrid
from model.dicom import Rule, StructureChoice, build_case, check_choice, read_study
from model.dicom.study import Study, check_not_empty, covered, resample_dose
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
        ("unsupported-modality", CTImageStorage, "MR"),
        ("unsupported-modality", EnhancedMRImageStorage, "MR"),
        ("unsupported-modality", EnhancedPETImageStorage, "PT"),
        ("unsupported-modality", SecondaryCaptureImageStorage, "MR"),
        ("multi-frame-ct", LegacyConvertedEnhancedCTImageStorage, "CT"),
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


def other_frame_of_rois(study) -> None:
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
        ("frame-of-reference-mismatch", other_frame_of_rois),
        ("no-roi", spoil_structure_set(StructureSetROISequence=[], ROIContourSequence=[])),
        ("no-contours", spoil_structure_set(ROIContourSequence=[])),
        ("contours-outside-ct", shift_contours),
        ("missing-slice", lambda study: study.ct.__delitem__(slice(4, None))),
        ("missing-slice", lambda study: study.ct.pop(3)),
    ],
)
def test_broken_rule_is_named(study, rule: str, spoil: Callable) -> None:
    spoil(study)
    assert refusal(study) == rule


def test_defect_of_the_ct_comes_before_the_lack_of_a_structure_set(study) -> None:
    study.structure_sets.clear()
    study.ct.pop(2)
    assert refusal(study) == "missing-slice"


@pytest.mark.parametrize("data", [[1, 2, 3, 4], [0, 0, 1, 1, 0, "1e308", 0, 1, 1], [0, 0, 1, "-1e7", 0, 1, 0, 1, 1]])
def test_damaged_contour_data(study, data: list[object]) -> None:
    study.structure_set.ROIContourSequence[-1].ContourSequence[0].ContourData = data
    assert refusal(study) == "damaged-contours"


def test_duplicate_roi_number(study) -> None:
    study.structure_set.StructureSetROISequence[1].ROINumber = 1
    assert refusal(study) == "duplicate-roi-number"


def roi_contour(study, number: int) -> Dataset:
    (found,) = (c for c in study.structure_set.ROIContourSequence if c.ReferencedROINumber == number)
    return found


@pytest.mark.parametrize("spoil", [lambda item: delattr(item, "ContourSequence"), lambda item: item.clear()])
def test_roi_without_contour_sequence(study, spoil: Callable) -> None:
    item = roi_contour(study, 2)
    spoil(item)
    item.ReferencedROINumber = 2
    assert [roi.contour_count for roi in read(study).rois] == [3, 0, 0]


def test_roi_dropped_from_the_contours_does_not_shift_the_others(study) -> None:
    """As many items as ROIs would be there again, in another order, with one that belongs to none."""
    stray = copy.deepcopy(roi_contour(study, 1))
    stray.ReferencedROINumber = 77
    study.structure_set.ROIContourSequence = [roi_contour(study, 2), stray, roi_contour(study, 1)]
    found = read(study)
    assert [(roi.name, roi.contour_count) for roi in found.rois] == [("PTV, boost", 3), ("Body", 6), ("Empty", 0)]
    assert found.warnings == ("contours of ROIs that the structure set does not define were left out: 1 ROIs",)
    study.structure_set.ROIContourSequence = [roi_contour(study, 2)]
    assert [roi.contour_count for roi in read(study).rois] == [0, 6, 0]


def test_observations_in_another_order_or_absent(study) -> None:
    observations = study.structure_set.RTROIObservationsSequence
    study.structure_set.RTROIObservationsSequence = [observations[1], observations[0]]
    assert [roi.interpreted_type for roi in read(study).rois] == ["PTV", "EXTERNAL", ""]
    del study.structure_set.RTROIObservationsSequence
    assert [roi.interpreted_type for roi in read(study).rois] == ["", "", ""]


@pytest.mark.parametrize("image_uid", ["1.2.3.4.5", "0", ""])
def test_images_of_contours_may_dangle(study, image_uid: str) -> None:
    """The contour's own points say where it lies."""
    expected = build_case(read(study), CHOICES, PRESCRIPTION)
    for roi in study.structure_set.ROIContourSequence:
        for item in roi.ContourSequence:
            image = Dataset()
            image.ReferencedSOPClassUID = CTImageStorage
            image.ReferencedSOPInstanceUID = image_uid
            item.ContourImageSequence = [image]
    found = read(study)
    assert found.warnings == ()
    case = build_case(found, CHOICES, PRESCRIPTION)
    assert (case.structures["PTV"].mask == expected.structures["PTV"].mask).all()


def test_contours_between_slices_count_for_the_nearest(study) -> None:
    expected = build_case(read(study), CHOICES, PRESCRIPTION)
    for roi in study.structure_set.ROIContourSequence:
        for item in roi.ContourSequence:
            item.ContourData = [float(x) + 1.2 * (k % 3 == 2) for k, x in enumerate(item.ContourData)]
    case = build_case(read(study), CHOICES, PRESCRIPTION)
    assert (case.structures["PTV"].mask == expected.structures["PTV"].mask).all()


def test_contours_that_are_repeated_count_once(study) -> None:
    expected = build_case(read(study), CHOICES, PRESCRIPTION)
    (ptv,) = (c for c in study.structure_set.ROIContourSequence if c.ReferencedROINumber == 1)
    ptv.ContourSequence += copy.deepcopy(ptv.ContourSequence[:2])
    found = read(study)
    assert found.warnings == ("2 contours of ROI PTV, boost are drawn more than once and count once",)
    assert (build_case(found, CHOICES, PRESCRIPTION).structures["PTV"].mask == expected.structures["PTV"].mask).all()


def test_contours_in_another_frame_of_reference_are_left_out(study) -> None:
    study.structure_set.StructureSetROISequence[0].ReferencedFrameOfReferenceUID = "1.2.3"
    found = read(study)
    assert found.rois[0].contour_count == 0
    assert found.warnings == (
        "ROI PTV, boost lies in another frame of reference than the CT: its contours were left out",
    )


def test_rois_without_a_number_are_of_no_use(study) -> None:
    study.structure_set.StructureSetROISequence += [Dataset(), Dataset()]
    assert [roi.number for roi in read(study).rois] == [1, 2, 3]


@pytest.mark.parametrize("drawn_on", [True, False])
def test_slices_that_the_structure_set_lists_are_missed_though_spacing_is_even(study, drawn_on: bool) -> None:
    """Every second slice is there: nothing but the references tells."""
    absent = study.ct[1::2]
    study.ct = study.ct[::2]
    if drawn_on:
        image = Dataset()
        image.ReferencedSOPInstanceUID = absent[0].SOPInstanceUID
        roi_contour(study, 1).ContourSequence[0].ContourImageSequence = [image]
        assert refusal(study) == "missing-slice"
    else:
        roi_contour(study, 2).ContourSequence.pop()
        assert read(study).warnings == (
            "3 of the 6 slices that the structure set refers to are missing; none of them bears a contour",
        )


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
    other = study.add_ct(slices=4)[0].SeriesInstanceUID
    found = read(study)
    assert found.grid.shape[0] == 6
    used = study.ct[0].SeriesInstanceUID
    assert found.ct_series_uid == used
    assert found.warnings == (
        f"of 2 CT series {used} was used, because the structure set refers to it; not used: {other}",
    )


def test_caller_decides_between_series(study) -> None:
    used, other = study.ct[0].SeriesInstanceUID, study.add_ct(slices=5)[0].SeriesInstanceUID
    paths = study.write()
    found = read_study(paths, ct_series=other)
    assert (found.grid.shape[0], found.ct_series_uid) == (5, other)
    assert f"of 2 CT series {other} was used, because the parameter 'ct_series' names it; not used: {used}" in (
        found.warnings
    )
    with pytest.raises(StudyError) as raised:
        read_study(paths, ct_series="1.2.3")
    assert raised.value.rule == "unknown-ct-series"
    assert raised.value.details["series"] == sorted([used, other])
    assert used in raised.value.message


def test_caller_decides_between_series_that_nothing_else_does(study) -> None:
    study.add_ct(slices=5)
    del study.structure_set.ReferencedFrameOfReferenceSequence
    with pytest.raises(StudyError) as raised:
        read(study)
    assert raised.value.rule == "several-ct-series"
    for series_uid in raised.value.details["series"]:
        assert read_study(study.write(), ct_series=series_uid).ct_series_uid == series_uid


def test_the_only_series_and_structure_set_may_be_named(study) -> None:
    names = {
        "ct_series": str(study.ct[0].SeriesInstanceUID),
        "structure_set": str(study.structure_set.SOPInstanceUID),
    }
    found = read_study(study.write(), **names)
    assert found.warnings == ()
    assert (found.ct_series_uid, found.structure_set_uid) == tuple(names.values())


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
    used, other = (dataset.SOPInstanceUID for dataset in study.structure_sets[:: 1 if plan_decides else -1])
    assert found.structure_set_uid == used
    reason = "the plan refers to it" if plan_decides else "it is the newest"
    assert found.warnings == (f"of 2 structure sets {used} was used, because {reason}; not used: {other}",)


def add_copy(study, **values: object) -> Dataset:
    """Add the same structure set once more, under another identifier."""
    dataset = copy.deepcopy(study.structure_set)
    dataset.SOPInstanceUID = generate_uid()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    study.structure_sets.append(dataset)
    return dataset


def test_caller_decides_between_structure_sets(study) -> None:
    older = study.structure_set.SOPInstanceUID
    newer = add_copy(study, StructureSetDate="20210101").SOPInstanceUID
    paths = study.write()
    found = read_study(paths, structure_set=older)
    assert found.structure_set_uid == older
    assert found.warnings == (
        f"of 2 structure sets {older} was used, because the parameter 'structure_set' names it; not used: {newer}",
    )
    with pytest.raises(StudyError) as raised:
        read_study(paths, structure_set="1.2.3")
    assert raised.value.rule == "unknown-structure-set"
    assert raised.value.details["structure_sets"] == sorted([older, newer])


def test_structure_sets_of_one_date_are_named_in_the_refusal(study) -> None:
    uids = sorted([study.structure_set.SOPInstanceUID, add_copy(study).SOPInstanceUID])
    with pytest.raises(StudyError) as raised:
        read(study)
    assert raised.value.rule == "several-structure-sets"
    assert raised.value.details["structure_sets"] == uids
    assert read_study(study.write(), structure_set=uids[0]).structure_set_uid == uids[0]


def test_files_that_came_twice_count_once(study) -> None:
    study.add_plan()
    study.structure_sets.append(study.structure_set)
    study.plans *= 3
    found = read(study)
    assert found.plan is not None
    assert found.warnings == (
        "copies of the same RT Structure Set Storage were left out: 1",
        "copies of the same RT Plan Storage were left out: 2",
    )
    add_copy(study, SOPInstanceUID=study.structure_set.SOPInstanceUID, StructureSetLabel="Another")
    assert refusal(study) == "several-structure-sets"


def test_images_of_a_series_may_be_listed_in_parts(study) -> None:
    (frame,) = study.structure_set.ReferencedFrameOfReferenceSequence
    (series,) = frame.RTReferencedStudySequence[0].RTReferencedSeriesSequence
    parts = [copy.deepcopy(series), copy.deepcopy(series)]
    parts[0].ContourImageSequence = series.ContourImageSequence[:3]
    parts[1].ContourImageSequence = series.ContourImageSequence[3:]
    frame.RTReferencedStudySequence[0].RTReferencedSeriesSequence = parts
    study.ct.pop(0)
    assert refusal(study) == "missing-slice"


def test_what_the_caller_names_must_fit_all_the_same(study) -> None:
    other = add_copy(study, PatientID="P2").SOPInstanceUID
    with pytest.raises(StudyError) as raised:
        read_study(study.write(), structure_set=other)
    assert raised.value.rule == "patient-mismatch"


@pytest.mark.parametrize("date", ["ffffffff-1b2c-4d5e", "", "9999"])
def test_what_is_no_date_does_not_make_a_structure_set_newer(study, date: str) -> None:
    other = add_copy(study)
    paths = study.write()
    written = paths[len(study.ct) + 1]
    # A value that pydicom would not write
    written.write_bytes(written.read_bytes().replace(b"20200101", date.ljust(8)[:8].encode()))
    assert read_study(paths).structure_set_uid == study.structure_set.SOPInstanceUID != other.SOPInstanceUID


def test_structure_set_of_another_frame_is_no_rival(study) -> None:
    rival = copy.deepcopy(study.structure_set)
    rival.StructureSetDate = "20300101"
    study.structure_sets.append(rival)
    rival.SOPInstanceUID = "1.2.4"
    rival.ReferencedFrameOfReferenceSequence[0].FrameOfReferenceUID = "1.2.3"
    for roi in rival.StructureSetROISequence:
        roi.ReferencedFrameOfReferenceUID = "1.2.3"
    found = read(study)
    assert found.structure_set.StructureSetDate == "20200101"
    used = study.structure_set.SOPInstanceUID
    assert found.warnings == (f"of 2 structure sets {used} was used, because it alone fits the CT; not used: 1.2.4",)


def test_odd_but_usable_objects_are_told(study) -> None:
    study.ct[3].LossyImageCompression = "01"
    study.structure_set.ApprovalStatus = "REJECTED"
    study.add_plan().ApprovalStatus = "REJECTED"
    assert read(study).warnings == (
        "the CT was compressed with loss",
        "the structure set is marked as rejected",
        "the plan is marked as rejected",
    )


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


def test_chosen_rois_are_checked_before_anything_is_decoded(study) -> None:
    roi_contour(study, 1).ContourSequence.append(contour([(-3, -2, 38), (1.5, -2, 38), (1.5, 2, 38)]))
    found = read(study)
    assert check_choice(found, "External", CHOICES[EXTERNAL]).name == "Body"
    for choice, rule in (
        (CHOICES["PTV"], "contours-outside-ct"),
        (StructureChoice(3, "oar"), "no-contours"),
        (StructureChoice(9, "oar"), "unknown-roi"),
    ):
        with pytest.raises(StudyError) as raised:
            check_choice(found, "PTV", choice)
        assert raised.value.rule == rule


def test_target_smaller_than_a_voxel(study) -> None:
    (ptv,) = (c for c in study.structure_set.ROIContourSequence if c.ReferencedROINumber == 1)
    ptv.ContourSequence = [contour([(0, 0, 23), (0.1, 0, 23), (0.1, 0.1, 23)])]
    found = read(study)
    for check in (
        lambda: check_not_empty(found, "PTV", CHOICES["PTV"]),
        lambda: build_case(found, CHOICES, PRESCRIPTION),
    ):
        with pytest.raises(StudyError, match="too small for this CT") as raised:
            check()
        assert raised.value.rule == "empty-structure"
        assert raised.value.details["roi"] == 1
    check_not_empty(found, "PTV", StructureChoice(1, "oar"))
    check_not_empty(found, EXTERNAL, CHOICES[EXTERNAL])


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


@pytest.mark.parametrize("spacing_mm", [0.1, 0.7, 1.1, 2.5, 3.0])
def test_rounding_does_not_cut_off_the_ends_of_a_dose(spacing_mm: float) -> None:
    for origin_mm in np.arange(-300, 300, 7) / 10:
        ct = VoxelGrid((9, 2, 2), (spacing_mm, 1.0, 1.0), (0.0, 0.0, 6 * spacing_mm + origin_mm))
        dose = VoxelGrid((12, 2, 3), (spacing_mm, 1.0, 1.0), (0.0, 0.0, origin_mm))
        resampled = resample_dose(Volume(np.ones(dose.shape), dose), ct)
        assert (resampled[:6] == 1).all()
        assert (resampled[6:] == 0).all()
        assert (covered(dose, ct) == (resampled == 1)).all()


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
