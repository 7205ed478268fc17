from dataclasses import replace

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRLittleEndian, RTDoseStorage

from model.case import Volume, VoxelGrid
from model.dicom.derived import Provenance, save
from model.dicom.dose_writer import write_dose
from model.dosimetry import Dvh
from model.errors import PredictionError

X, Y, Z = np.eye(3)
# (slice, row, column) axes
ORIENTATIONS = {
    "HFS": (Z, Y, X),
    "HFP": (Z, -Y, -X),
    "FFS": (-Z, Y, -X),
    "FFP": (-Z, -Y, X),
    "HFDR": (Z, X, -Y),
    "HFS from the head down": (-Z, Y, X),
    "FFS from the feet up": (Z, Y, -X),
    "sagittal": (X, -Z, Y),
    "coronal against the normal": (Y, Z, X),
}


def grid_with(axes, shape=(4, 5, 6), spacing_mm=(3.0, 2.5, 1.25)):
    return VoxelGrid(shape, spacing_mm, (-100.25, 17.5, 333.0), tuple(tuple(float(c) for c in axis) for axis in axes))


def dose_at(points_mm):
    """A dose that differs everywhere and along every axis."""
    return 30 + 0.01 * points_mm[..., 0] - 0.03 * points_mm[..., 1] + 0.05 * points_mm[..., 2]


def positions(dataset):
    """Patient points of all pixels as PS3.3 equation C.7.6.2.1-1 and section C.8.8.3.2 define them."""
    along_row, along_column = np.reshape([float(v) for v in dataset.ImageOrientationPatient], (2, 3))
    row_mm, column_mm = (float(v) for v in dataset.PixelSpacing)
    offsets = np.array([float(v) for v in dataset.GridFrameOffsetVector])
    frame, row, column = (
        n[..., None] for n in np.indices((dataset.NumberOfFrames, dataset.Rows, dataset.Columns)).astype(int)
    )
    return (
        np.array([float(v) for v in dataset.ImagePositionPatient])
        + offsets[frame] * np.cross(along_row, along_column)
        + row * row_mm * along_column
        + column * column_mm * along_row
    )


@pytest.fixture
def write(ct_header, structure_set, plan, provenance, created):
    def write(dose, **options):
        options = {"ct_header": ct_header, "dvhs": {}, "provenance": provenance, "created": created, **options}
        return write_dose(dose, structure_set=structure_set, plan=plan, **{"identity": "job", **options})

    return write


@pytest.fixture
def volume():
    grid = grid_with(ORIENTATIONS["HFS"])
    return Volume(dose_at(grid.points_mm(np.moveaxis(np.indices(grid.shape), 0, -1))).astype(np.float32), grid)


@pytest.mark.parametrize("axes", ORIENTATIONS.values(), ids=ORIENTATIONS.keys())
def test_every_voxel_keeps_its_place_in_the_patient(write, axes):
    grid = grid_with(axes)
    points = grid.points_mm(np.moveaxis(np.indices(grid.shape), 0, -1))
    dataset = write(Volume(dose_at(points), grid))
    offsets = [float(v) for v in dataset.GridFrameOffsetVector]
    assert offsets == [0.0, 3.0, 6.0, 9.0]
    where = positions(dataset)
    assert where.reshape(-1, 3).min(axis=0) == pytest.approx(points.reshape(-1, 3).min(axis=0))
    assert where.reshape(-1, 3).max(axis=0) == pytest.approx(points.reshape(-1, 3).max(axis=0))
    pixels = np.frombuffer(dataset.PixelData, "<u2").reshape(grid.shape)
    scaling = float(dataset.DoseGridScaling)
    assert np.abs(pixels * scaling - dose_at(where)).max() <= scaling / 2 * (1 + 1e-9)


@pytest.mark.parametrize("bits", [16, 32])
@pytest.mark.parametrize("peak_gy", [1e-3, 0.3, 70.0, 73.123456789, 199.99])
def test_quantisation_error_is_at_most_half_a_step(write, bits, peak_gy):
    values = np.random.default_rng(3).uniform(0, peak_gy, (3, 8, 9))
    values[1, 2, 3], values[0, 0, 0] = peak_gy, 0
    dataset = write(Volume(values, grid_with(ORIENTATIONS["HFS"], values.shape)), bits=bits)
    assert len(str(dataset.DoseGridScaling)) <= 16
    scaling = float(dataset.DoseGridScaling)
    pixels = np.frombuffer(dataset.PixelData, f"<u{bits // 8}").reshape(values.shape)
    assert np.abs(pixels * scaling - values).max() <= scaling / 2 * (1 + 1e-6)
    assert scaling <= 1.0001 * peak_gy / 2 ** (bits - 1)
    assert pixels.max() < 2 ** (bits - 1)


def test_a_dose_of_zero_can_be_written(write):
    dataset = write(Volume(np.zeros((2, 3, 4)), grid_with(ORIENTATIONS["HFS"], (2, 3, 4))))
    assert not any(dataset.PixelData)
    assert float(dataset.DoseGridScaling) > 0


@pytest.mark.parametrize(
    ("value", "rule"), [(-0.01, "dose-negative"), (np.nan, "dose-not-finite"), (np.inf, "dose-not-finite")]
)
def test_impossible_dose_is_refused(write, volume, value, rule):
    values = np.array(volume.values)
    values[1, 1, 1] = value
    with pytest.raises(PredictionError) as error:
        write(Volume(values, volume.grid))
    assert error.value.rule == rule


@pytest.mark.parametrize("bits", [16, 32])
def test_attributes(write, volume, ct_header, bits):
    dataset = write(volume, bits=bits)
    expected = {
        "SOPClassUID": RTDoseStorage,
        "Modality": "RTDOSE",
        "DoseUnits": "GY",
        "DoseType": "PHYSICAL",
        "DoseSummationType": "PLAN",
        "FrameIncrementPointer": Tag(0x3004, 0x000C),
        "PhotometricInterpretation": "MONOCHROME2",
        "SamplesPerPixel": 1,
        "BitsAllocated": bits,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelRepresentation": 0,
        "NumberOfFrames": 4,
        "Rows": 5,
        "Columns": 6,
        "PixelSpacing": [2.5, 1.25],
        "ImagePositionPatient": [-100.25, 17.5, 333.0],
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "SeriesDescription": "DiffDP: predicted, not for treatment",
        "DoseComment": "predicted, not for treatment; neck 1.2",
        "SoftwareVersions": "0.1.0",
    }
    assert {keyword: dataset[keyword].value for keyword in expected} == expected
    assert not {"RescaleSlope", "RescaleIntercept", "TissueHeterogeneityCorrection"} & set(dataset.dir())
    for keyword in (
        "PatientName",
        "PatientID",
        "PatientBirthDate",
        "StudyInstanceUID",
        "StudyID",
        "FrameOfReferenceUID",
        "PositionReferenceIndicator",
    ):
        assert dataset[keyword].value == ct_header[keyword].value
    assert dataset.ReferencedRTPlanSequence[0].ReferencedSOPInstanceUID == "1.2.3.30"
    (equipment,) = dataset.ContributingEquipmentSequence
    assert (equipment.ManufacturerModelName, equipment.SoftwareVersions) == ("neck", "1.2")
    assert "ab" * 32 in equipment.ContributionDescription
    assert "seed 7" in equipment.ContributionDescription


def test_no_dvhs_without_a_structure_set_to_refer_to(write, volume, structure_set):
    del structure_set.SOPInstanceUID
    dataset = write(volume, dvhs={4: Dvh(np.array([0.0, 1.0]), voxel_volume_cc=0.5)})
    assert not {"DVHSequence", "ReferencedStructureSetSequence"} & set(dataset.dir())


def test_dvhs_come_with_their_structure_set(write, volume):
    doses_gy = np.array([0.0, 0.05, 0.12, 0.13, 0.35, 0.35])
    dataset = write(volume, dvhs={4: Dvh(doses_gy, voxel_volume_cc=0.5)})
    assert dataset.ReferencedStructureSetSequence[0].ReferencedSOPInstanceUID == "1.2.3.20"
    (item,) = dataset.DVHSequence
    assert item.DVHReferencedROISequence[0].ReferencedROINumber == 4
    assert (item.DVHType, item.DoseUnits, item.DVHVolumeUnits) == ("CUMULATIVE", "GY", "CM3")
    # Bin width and volume that receives at least 0, 0.1, 0.2, 0.3 and 0.4 Gy
    assert item.DVHData == [0.1, 3.0, 0.1, 2.0, 0.1, 1.0, 0.1, 1.0, 0.1, 0.0]
    assert item.DVHNumberOfBins == 5
    assert (item.DVHMinimumDose, item.DVHMaximumDose, item.DVHMeanDose) == (0, 0.35, pytest.approx(1 / 6))


def test_a_dvh_of_a_high_dose_fits_an_explicit_vr(write, volume, tmp_path):
    dataset = write(volume, dvhs={1: Dvh(np.linspace(0, 12345.678, 7000), voxel_volume_cc=1 / 3)})
    save(dataset, tmp_path / "dose.dcm")
    (item,) = dcmread(tmp_path / "dose.dcm").DVHSequence
    assert item["DVHData"].VR == "DS"
    assert len("\\".join(map(str, item.DVHData))) < 2**16
    assert item.DVHData[-1] == 0


def test_without_dvhs_no_structure_set_is_referred_to(write, volume):
    assert not {"ReferencedStructureSetSequence", "DVHSequence"} & set(write(volume).dir())


def test_simulated_training_data_is_declared(write, volume):
    dataset = write(volume, provenance=Provenance("neck", "1", "00", "0.1.0", simulated_training_data=True))
    assert dataset.DoseComment == "predicted, not for treatment; simulated data; neck 1"
    assert dataset.SeriesDescription == "DiffDP: predicted, not for treatment; trained on simulated data"
    assert "simulated patients only" in dataset.ContributingEquipmentSequence[0].ContributionDescription


@pytest.mark.parametrize(
    ("warnings", "comment"),
    [
        ((), "predicted, not for treatment; neck 1.2"),
        (("no outline",), "predicted, not for treatment; neck 1.2; no outline"),
        (("a" * 30, "b"), "predicted, not for treatment; neck 1.2; warnings: 2"),
    ],
)
def test_warnings_come_with_the_dose(write, volume, provenance, warnings, comment):
    dataset = write(volume, provenance=replace(provenance, warnings=warnings))
    assert dataset.DoseComment == comment
    assert dataset.get("ImageComments", "") == "; ".join(warnings)


def test_texts_fit_their_attributes(write, volume):
    provenance = Provenance(
        "n" * 100, "v" * 100, "ab" * 32, "s" * 100, "Größe \\\r\n " * 200, warnings=("ROI ÄÖ\x1b\n",) * 2000
    )
    dataset = write(volume, provenance=provenance)
    assert len(dataset.DoseComment) == 64
    assert dataset.DoseComment.endswith("n; warnings: 2000")
    assert len(dataset.ImageComments) == 10240
    assert dataset.ImageComments.startswith("ROI ÄÖ??; ROI")
    (equipment,) = dataset.ContributingEquipmentSequence
    assert len(equipment.ContributionDescription) == 1024
    assert "Gr??e /?? " in equipment.ContributionDescription


def test_uids_follow_from_the_identity(write, volume):
    first, again, other = write(volume), write(volume), write(volume, identity="another job")
    assert first == again
    assert {first.SOPInstanceUID, first.SeriesInstanceUID}.isdisjoint({other.SOPInstanceUID, other.SeriesInstanceUID})
    assert write(volume, identity=None).SOPInstanceUID != write(volume, identity=None).SOPInstanceUID


def test_missing_context_is_filled_where_the_standard_demands_it(volume, structure_set, plan, provenance):
    dataset = write_dose(
        volume, ct_header=Dataset(), structure_set=structure_set, plan=plan, dvhs={}, provenance=provenance
    )
    assert dataset.StudyInstanceUID
    assert dataset.FrameOfReferenceUID
    assert "PatientID" in dataset
    assert not dataset.PatientID


@pytest.mark.parametrize(
    ("character_set", "name"),
    [
        (None, "Müller^Jürgen".encode("latin-1")),
        (None, "Müller^Jürgen".encode()),
        ("ISO_IR 100", "Müller^Jürgen".encode("latin-1")),
        ("ISO_IR 192", "Müller^Jürgen".encode()),
        ("ISO_IR 144", "Люкceмбypг".encode("iso8859-5")),
        (["", "ISO 2022 IR 87"], b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B"),
        (["", "ISO 2022 IR 149"], b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7"),
        ("GB18030", "Wang^XiaoDong=王^小东".encode("gb18030")),
    ],
)
def test_names_keep_their_bytes(write, volume, ct_header, tmp_path, character_set, name):
    name += b" " * (len(name) % 2)
    ct_header.PatientName = "N" * len(name)
    ct_header.SpecificCharacterSet = character_set
    save(ct_header, tmp_path / "ct.dcm")
    (tmp_path / "ct.dcm").write_bytes((tmp_path / "ct.dcm").read_bytes().replace(b"N" * len(name), name))
    save(write(volume, ct_header=dcmread(tmp_path / "ct.dcm")), tmp_path / "dose.dcm")
    assert dcmread(tmp_path / "dose.dcm").get_item("PatientName").value == name


def test_damaged_context_is_left_out(write, volume, ct_header, tmp_path):
    for keyword, vr in (("OtherPatientIDsSequence", "SQ"), ("PatientWeight", "DS")):
        ct_header[keyword] = RawDataElement(Tag(keyword), vr, 4, b"abc\xff", 0, False, True)
    ct_header.SpecificCharacterSet = "ISO_IR 192"
    save(write(volume), tmp_path / "dose.dcm")
    dose = dcmread(tmp_path / "dose.dcm")
    assert dose.PatientID == "4711"
    assert not {"OtherPatientIDsSequence", "PatientWeight"} & set(dose.dir())


def test_file_is_explicit_little_endian_and_reads_back(write, volume, tmp_path):
    dataset = write(volume)
    save(dataset, tmp_path / "dose.dcm")
    back = dcmread(tmp_path / "dose.dcm")
    assert back.to_json_dict() == dataset.to_json_dict()
    assert back.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert back.PatientName == "Müller^Jürgen"
    assert np.array_equal(back.pixel_array.ravel(), np.frombuffer(dataset.PixelData, "<u2"))
    assert [path.name for path in tmp_path.iterdir()] == ["dose.dcm"]


def test_a_failed_write_leaves_the_old_file(write, volume, tmp_path, monkeypatch):
    path = tmp_path / "dose.dcm"
    path.write_bytes(b"old")
    dataset = write(volume)
    del dataset.SOPClassUID
    with pytest.raises(AttributeError):
        save(dataset, path)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["dose.dcm"]
