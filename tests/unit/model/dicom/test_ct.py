from collections.abc import Callable

import numpy as np
import pytest
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import MPEG2MPML, JPEG2000Lossless, RLELossless

from model.dicom.ct import decode_hu, group_series, order_slices
from model.dicom.files import read_headers
from model.errors import StudyError

TILTED = (1, 0, 0, 0, 0.970295726276, -0.2419218955997)
ROTATED = (0.984807753, 0.173648178, 0, -0.173648178, 0.984807753, 0)
HFP = (-1, 0, 0, 0, -1, 0)
FFS = (-1, 0, 0, 0, 1, 0)
SAGITTAL = (0, 1, 0, 0, 0, -1)


def read(study):
    files, _ = read_headers(study.write())
    (series,) = group_series([file for file in files if file.header.Modality == "CT"])
    return order_slices(series)


def test_slices_are_ordered_by_position_not_by_number_or_name(empty_study) -> None:
    stored = np.arange(480, dtype=np.int16).reshape(6, 8, 10)
    empty_study.add_ct(stored=stored)
    for number, dataset in enumerate(empty_study.ct):
        dataset.InstanceNumber = 100 - number
    empty_study.ct = [empty_study.ct[k] for k in (3, 0, 5, 1, 4, 2)]
    files, grid = read(empty_study)
    assert (decode_hu([file.path for file in files], grid) == stored).all()
    assert grid.shape == (6, 8, 10)
    # Pixel Spacing begins with the distance of rows
    assert grid.spacing_mm == pytest.approx((3.0, 2.0, 1.5))
    assert grid.origin_mm == pytest.approx((-7.0, -5.0, 20.0))
    assert grid.axes == ((0, 0, 1), (0, 1, 0), (1, 0, 0))


@pytest.mark.parametrize(
    ("orientation", "axes"),
    [
        (HFP, ((0, 0, 1), (0, -1, 0), (-1, 0, 0))),
        (FFS, ((0, 0, -1), (0, 1, 0), (-1, 0, 0))),
        (SAGITTAL, ((-1, 0, 0), (0, 0, -1), (0, 1, 0))),
    ],
)
def test_voxels_lie_where_the_standard_puts_them(empty_study, orientation, axes) -> None:
    empty_study.add_ct(orientation=orientation)
    files, grid = read(empty_study)
    assert np.allclose(grid.axes, axes)
    for index, file in enumerate(files):
        # PS3.3 equation C.7.6.2.1-1
        position = np.array(file.header.ImagePositionPatient, float)
        expected = position + np.array(orientation[:3]) * 1.5 * 4 + np.array(orientation[3:]) * 2.0 * 7
        assert np.allclose(grid.points_mm(np.array([index, 7, 4])), expected)


def test_every_slice_has_its_own_rescale(empty_study) -> None:
    empty_study.add_ct(slices=2, stored=np.full((2, 8, 10), 100, np.int16))
    empty_study.ct[0].RescaleIntercept = -1024
    empty_study.ct[1].RescaleSlope = 0.5
    files, grid = read(empty_study)
    hu = decode_hu([file.path for file in files], grid)
    assert (hu[0] == -924).all()
    assert (hu[1] == 50).all()


def test_positions_rounded_to_a_tenth_are_even(empty_study) -> None:
    empty_study.add_ct(spacing=(1.25, 2.0, 1.5))
    for dataset in empty_study.ct:
        dataset.ImagePositionPatient = [round(float(x), 1) for x in dataset.ImagePositionPatient]
    assert read(empty_study)[1].spacing_mm[0] == pytest.approx(1.25, abs=0.02)


def test_series_without_uid_are_told_apart_by_geometry(empty_study) -> None:
    empty_study.add_ct()
    empty_study.add_ct(orientation=SAGITTAL)
    for dataset in empty_study.ct:
        dataset.SeriesInstanceUID = "0"
    files, _ = read_headers(empty_study.write())
    assert [len(series.files) for series in group_series(files)] == [6, 6]


def remove(index: int) -> Callable:
    return lambda study: study.ct.pop(index)


def put(index: int, keyword: str, value: object) -> Callable:
    return lambda study: setattr(study.ct[index], keyword, value)


def move(index: int, z: float) -> Callable:
    return put(index, "ImagePositionPatient", [-7, -5, z])


@pytest.mark.parametrize(
    ("rule", "spoil"),
    [
        ("missing-slice", remove(3)),
        ("uneven-spacing", move(5, 36.5)),
        ("duplicate-slice", move(3, 26)),
        ("gantry-tilt", lambda study: [setattr(ct, "ImageOrientationPatient", list(TILTED)) for ct in study.ct]),
        ("mixed-orientation", put(2, "ImageOrientationPatient", list(HFP))),
        ("mixed-series", put(2, "PixelSpacing", [2, 2])),
        ("mixed-series", put(2, "FrameOfReferenceUID", "1.2.3")),
        ("patient-mismatch", put(2, "PatientID", "P2")),
        ("geometry-missing", put(2, "ImagePositionPatient", None)),
        ("geometry-missing", put(2, "ImagePositionPatient", [1, 2])),
        ("geometry-missing", put(2, "ImageOrientationPatient", [1, 0, 0, 1, 0, 0])),
        ("geometry-missing", put(2, "PixelSpacing", [0, 1.5])),
        ("geometry-missing", put(2, "Rows", 0)),
        ("rescale-missing", put(2, "RescaleSlope", None)),
        ("rescale-missing", put(2, "RescaleIntercept", None)),
        ("rescale-missing", put(2, "RescaleSlope", "1e300")),
        ("rescale-missing", put(2, "RescaleIntercept", "-1e6")),
        ("rescale-missing", put(2, "RescaleType", "ED")),
        ("multi-frame-ct", put(2, "NumberOfFrames", 2)),
        ("too-large", lambda study: [setattr(study.ct[0], keyword, 60000) for keyword in ("Rows", "Columns")]),
        ("pixel-format", put(2, "SamplesPerPixel", 3)),
        ("pixel-data-missing", put(2, "Rows", 80)),
        ("pixel-data-missing", lambda study: delattr(study.ct[2], "PixelData")),
        ("too-few-slices", lambda study: study.ct.__delitem__(slice(1, None))),
    ],
)
def test_broken_rule_is_named(empty_study, rule: str, spoil: Callable) -> None:
    empty_study.add_ct()
    spoil(empty_study)
    with pytest.raises(StudyError) as raised:
        read(empty_study)
    assert raised.value.rule == rule


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("ImagePositionPatient", None),
        ("ImageOrientationPatient", list(HFP)),
        ("PixelSpacing", [2, 2]),
        ("RescaleSlope", None),
        ("RescaleType", "EDW"),
        ("NumberOfFrames", 2),
        ("SamplesPerPixel", 3),
        ("Rows", 80),
    ],
)
def test_refusal_names_the_slice(empty_study, keyword: str, value: object) -> None:
    empty_study.add_ct()
    setattr(empty_study.ct[2], keyword, value)
    with pytest.raises(StudyError) as raised:
        read(empty_study)
    assert raised.value.details["object"] == empty_study.ct[2].SOPInstanceUID


@pytest.mark.parametrize("kind", ["HU", "US", "HU_MOD", ""])
def test_hounsfield_units_by_any_name(empty_study, kind: str) -> None:
    for dataset in empty_study.add_ct():
        dataset.RescaleType = kind
    assert read(empty_study)[1].shape == (6, 8, 10)


def test_oblique_slices_are_refused(empty_study) -> None:
    empty_study.add_ct(orientation=ROTATED)
    with pytest.raises(StudyError) as raised:
        read(empty_study)
    assert raised.value.rule == "oblique"


def test_missing_slices_are_counted(empty_study) -> None:
    empty_study.add_ct(slices=10)
    del empty_study.ct[3:6]
    with pytest.raises(StudyError) as raised:
        read(empty_study)
    assert raised.value.details["missing"] == 3


def test_pixels_that_are_not_what_the_header_says(empty_study) -> None:
    empty_study.add_ct()
    files, grid = read(empty_study)
    files[2].path.write_bytes(files[2].path.read_bytes()[:-50])
    with pytest.raises(StudyError) as raised:
        decode_hu([file.path for file in files], grid)
    assert raised.value.rule == "damaged-file"


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, RLELossless])
def test_compressed_pixels(empty_study, syntax) -> None:
    stored = np.random.default_rng(0).integers(-1000, 2000, (2, 40, 48)).astype(np.int16)
    empty_study.add_ct(stored=stored)
    for dataset in empty_study.ct:
        dataset.compress(syntax, generate_instance_uid=False)
    files, grid = read(empty_study)
    assert (decode_hu([file.path for file in files], grid) == stored).all()


def test_compressed_image_larger_than_its_header_is_not_decoded(empty_study) -> None:
    empty_study.add_ct(slices=2, stored=np.zeros((2, 64, 64), np.int16))
    for dataset in empty_study.ct:
        dataset.compress(JPEG2000Lossless, generate_instance_uid=False)
        dataset.Rows = dataset.Columns = 8
    files, grid = read(empty_study)
    with pytest.raises(StudyError) as raised:
        decode_hu([file.path for file in files], grid)
    assert raised.value.rule == "pixel-format"
    assert "(64, 64)" in raised.value.message


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, RLELossless])
def test_compressed_image_that_ends_too_early(empty_study, syntax) -> None:
    empty_study.add_ct(stored=np.random.default_rng(0).integers(-1000, 2000, (2, 40, 48)).astype(np.int16))
    for dataset in empty_study.ct:
        dataset.compress(syntax, generate_instance_uid=False)
        (frame,) = generate_frames(dataset.PixelData, number_of_frames=1)
        dataset.PixelData = encapsulate([frame[: len(frame) // 2]])
    files, grid = read(empty_study)
    with pytest.raises(StudyError) as raised:
        decode_hu([file.path for file in files], grid)
    assert raised.value.rule == "pixel-format"


def test_transfer_syntax_without_decoder(empty_study) -> None:
    empty_study.add_ct()
    empty_study.ct[0].compress(RLELossless, generate_instance_uid=False)
    empty_study.ct[0].file_meta.TransferSyntaxUID = MPEG2MPML
    with pytest.raises(StudyError) as raised:
        read(empty_study)
    assert raised.value.rule == "pixel-format"
