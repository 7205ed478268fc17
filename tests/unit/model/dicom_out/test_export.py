from dataclasses import replace

import numpy as np
import pytest
from pydicom import dcmread

from model.case import Apertures, Beam, Case, Prescription, Structure, VoxelGrid
from model.dicom.export import write_study

AXES = {
    "HFS": ((0, 0, 1), (0, 1, 0), (1, 0, 0)),
    "HFP": ((0, 0, 1), (0, -1, 0), (-1, 0, 0)),
    "FFS": ((0, 0, 1), (0, 1, 0), (-1, 0, 0)),
    "FFP": ((0, 0, -1), (0, -1, 0), (1, 0, 0)),
    "HFDR": ((0, 0, 1), (-1, 0, 0), (0, 1, 0)),
    "HFDL": ((0, 0, 1), (1, 0, 0), (0, -1, 0)),
    "FFDR": ((0, 0, -1), (-1, 0, 0), (0, -1, 0)),
    "FFDL": ((0, 0, -1), (1, 0, 0), (0, 1, 0)),
}


@pytest.fixture
def case() -> Case:
    random = np.random.default_rng(5)
    shape = (3, 7, 9)
    external = np.ones(shape, bool)
    target = np.zeros(shape, bool)
    target[1, 2:6, 2:7] = True
    target[1, 3, 4] = False
    return Case(
        hu=random.integers(-1100, 3000, shape).astype(np.int16),
        grid=VoxelGrid(shape, (3.0, 2.0, 1.25), (-5.5, 10.0, 40.0)),
        structures={
            "PTV": Structure("PTV", target, "target"),
            "Cord": Structure("Cord", np.zeros(shape, bool), "oar"),
            "External": Structure("External", external, "external"),
        },
        prescription=Prescription({"PTV": 70.0}, 35, "data-set"),
        beams=(Beam((40.0,), (1.0, 2.0, 3.0)), Beam((350.0, 0.0, 10.0), None, 15.0)),
        dose_gy=random.uniform(0, 75, shape).astype(np.float32),
        identifier="a case",
    )


@pytest.fixture
def study(case, tmp_path):
    return [dcmread(path) for path in write_study(case, tmp_path)]


def test_objects_belong_together(study):
    slices, (structure_set, plan, dose) = study[:3], study[3:]
    assert [d.Modality for d in study] == ["CT", "CT", "CT", "RTSTRUCT", "RTPLAN", "RTDOSE"]
    assert len({d.SOPInstanceUID for d in study}) == 6
    assert len({d.SeriesInstanceUID for d in study}) == 4
    for keyword in ("StudyInstanceUID", "FrameOfReferenceUID", "PatientID", "PatientName"):
        assert len({str(d[keyword].value) for d in study}) == 1
    referenced = structure_set.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0]
    (series,) = referenced.RTReferencedSeriesSequence
    assert series.SeriesInstanceUID == slices[0].SeriesInstanceUID
    assert [i.ReferencedSOPInstanceUID for i in series.ContourImageSequence] == [d.SOPInstanceUID for d in slices]
    assert plan.ReferencedStructureSetSequence[0].ReferencedSOPInstanceUID == structure_set.SOPInstanceUID
    assert dose.ReferencedRTPlanSequence[0].ReferencedSOPInstanceUID == plan.SOPInstanceUID


def test_ct_keeps_numbers_and_places(case, study):
    for index, ct in enumerate(study[:3]):
        assert np.array_equal(ct.pixel_array * ct.RescaleSlope + ct.RescaleIntercept, case.hu[index])
        assert ct.ImagePositionPatient == [-5.5, 10.0, 40.0 + 3 * index]
        assert ct.PixelSpacing == [2.0, 1.25]


def test_rois_have_types_and_contours_halfway_between_voxels(study):
    structure_set = study[3]
    assert [r.ROIName for r in structure_set.StructureSetROISequence] == ["PTV", "Cord", "External"]
    types = [o.RTROIInterpretedType for o in structure_set.RTROIObservationsSequence]
    assert types == ["PTV", "ORGAN", "EXTERNAL"]
    target, cord, external = structure_set.ROIContourSequence
    assert "ContourSequence" not in cord
    assert len(external.ContourSequence) == 3
    outline, hole = target.ContourSequence
    assert outline.ContourImageSequence[0].ReferencedSOPInstanceUID == study[1].SOPInstanceUID
    points = np.reshape([float(v) for v in hole.ContourData], (-1, 3))
    # Voxel (1, 3, 4): x = -5.5 + 4 * 1.25, y = 10 + 3 * 2
    assert sorted(map(tuple, points)) == [(-1.125, 15, 43), (-1.125, 17, 43), (0.125, 15, 43), (0.125, 17, 43)]


def test_plan_has_the_geometry_of_the_beams(study):
    plan = study[4]
    assert plan.FractionGroupSequence[0].NumberOfBeams == 2
    static, arc = plan.BeamSequence
    assert [p.get("GantryAngle") for p in static.ControlPointSequence] == [40, None]
    assert static.ControlPointSequence[0].IsocenterPosition == [1, 2, 3]
    assert arc.BeamType == "DYNAMIC"
    assert [p.GantryAngle for p in arc.ControlPointSequence] == [350, 0, 10]
    assert [p.GantryRotationDirection for p in arc.ControlPointSequence] == ["CW", "CW", "NONE"]
    assert arc.ControlPointSequence[0].PatientSupportAngle == 15
    assert arc.ControlPointSequence[0]["IsocenterPosition"].is_empty


def test_plan_has_the_apertures_of_the_beams(case, tmp_path):
    openings = (((-5.0, 12.5), (0.0, 0.0)), ((-4.0, 20.0), (-30.0, 1.0)), ((3.0, 4.0), (-1.0, 1.0)))
    apertures = Apertures((-5.0, 0.0, 5.0), openings, (10.0, 30.0, 20.0))
    beam = replace(case.beams[1], apertures=apertures)
    *_, plan, _ = (dcmread(path) for path in write_study(replace(case, beams=(beam,)), tmp_path))
    (arc,) = plan.BeamSequence
    assert plan.FractionGroupSequence[0].ReferencedBeamSequence[0].BeamMeterset == 60
    assert arc.BeamLimitingDeviceSequence[2].LeafPositionBoundaries == [-5, 0, 5]
    first, second, third = arc.ControlPointSequence
    jaws_x, jaws_y, leaves = first.BeamLimitingDevicePositionSequence
    assert (jaws_x.LeafJawPositions, jaws_y.LeafJawPositions) == ([-30, 20], [-5, 5])
    assert leaves.LeafJawPositions == [-5, 0, 12.5, 0]
    assert second.BeamLimitingDevicePositionSequence[0].LeafJawPositions == [-4, -30, 20, 1]
    assert [p.CumulativeMetersetWeight for p in (first, second, third)] == pytest.approx([0, 25 / 60, 1])

    feet_first = replace(case, beams=(beam,), grid=replace(case.grid, axes=AXES["FFS"]))
    with pytest.raises(ValueError, match="head first"):
        write_study(feet_first, tmp_path)


def test_dose_is_the_cases(case, study):
    dose = study[5]
    assert np.abs(dose.pixel_array * float(dose.DoseGridScaling) - case.dose_gy).max() < 0.0013


@pytest.mark.parametrize(("position", "axes"), AXES.items())
def test_patient_position_follows_the_axes(case, tmp_path, position, axes):
    turned = replace(case, grid=replace(case.grid, axes=axes))
    paths = write_study(turned, tmp_path)
    assert dcmread(paths[0]).PatientPosition == position


def test_slices_that_are_not_transverse_are_refused(case, tmp_path):
    with pytest.raises(ValueError, match="no patient position"):
        write_study(replace(case, grid=replace(case.grid, axes=((1, 0, 0), (0, 0, -1), (0, 1, 0)))), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_repetition_gives_the_same_bytes(case, tmp_path):
    first = [path.read_bytes() for path in write_study(case, tmp_path / "a")]
    assert [path.read_bytes() for path in write_study(case, tmp_path / "b")] == first
    assert [path.read_bytes() for path in write_study(case, tmp_path / "c", identity="x")] != first


def test_a_case_without_dose_has_no_rtdose(case, tmp_path):
    paths = write_study(replace(case, dose_gy=None), tmp_path)
    assert [path.name for path in paths] == ["CT.000.dcm", "CT.001.dcm", "CT.002.dcm", "RS.dcm", "RP.dcm"]
