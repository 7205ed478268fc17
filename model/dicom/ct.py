"""CT series: which files belong together, where their slices lie, and Hounsfield units.

Slices are ordered by their position along the normal of Image Orientation (Patient) (0020,0037), never by number or
file name, and every rule of a regular volume is checked before it is called one (PS3.3 C.7.6.2).
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import libjpeg.utils
import numpy as np
import openjpeg.utils
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.encaps import generate_frames
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID, JPEG2000TransferSyntaxes, JPEGLSTransferSyntaxes, JPEGTransferSyntaxes

from model.case import VoxelGrid
from model.case.grid import AXIS_TOLERANCE
from model.dicom.attributes import integer, number, numbers, text, uid
from model.dicom.files import DicomFile, read_file, reading
from model.dicom.rules import Rule, refuse

MAX_VOXELS = 2**28
"""Largest volume that is decoded: 1024 slices of 512 x 512, 1 GiB as float32."""

MAX_SLICE_PIXELS = 4096**2
"""Largest slice: twice the 2048 x 2048 of the finest CT, along each axis."""

DUPLICATE_TOLERANCE_MM = 0.01
"""Slices closer than this are at the same place: the thinnest CT slices are 0.2 mm apart."""

POSITION_TOLERANCE_MM = 0.1
"""How far a slice may lie from its place in an even stack: positions are often written with one decimal."""

TILT_TOLERANCE_MM = 0.5
"""How far slices may be shifted in their plane: below the pixel of nearly every CT."""

GAP_TOLERANCE = 0.1
"""How far a gap may be from a whole number of slice spacings, in spacings, to say that slices are missing."""

MOST_SLOPE_HU, MOST_INTERCEPT_HU = 100.0, 1e5
"""Far more than any CT needs: slopes are 1 or less, intercepts −1024 or −8192. What is computed from more overflows."""

NOT_HOUNSFIELD = {"OD", "MGML", "Z_EFF", "ED", "EDW", "PCT"}
"""Values of Rescale Type (0028,1054) that are another quantity (PS3.3 C.11.1.1.2), as in images of dual-energy CT."""

END_OF_IMAGE = b"\xff\xd9"
"""Marker with which JPEG, JPEG-LS and JPEG 2000 end alike; zeros may pad it to an even length (PS3.5 A.4)."""

SAME_SPACING_MM = 1e-3
"""Pixel spacings that differ less are the same number written with other digits: 0.5 mm over 512 pixels."""


@dataclass(frozen=True)
class CtSeries:
    """Files that belong together, in no order.

    Parameters
    ----------
    files
        At least one.
    uid
        Series Instance UID (0020,000E), empty if it identifies nothing.
    frame_of_reference
        Frame of Reference UID (0020,0052), empty if it identifies nothing.
    """

    files: tuple[DicomFile, ...]
    uid: str
    frame_of_reference: str

    @property
    def patient_id(self) -> str:
        """Patient ID (0010,0020)."""
        return text(self.files[0].header, "PatientID")

    @property
    def image_uids(self) -> frozenset[str]:
        """SOP Instance UIDs (0008,0018) that identify something."""
        return frozenset(uid(file.header, "SOPInstanceUID") for file in self.files) - {""}

    @property
    def is_lossy(self) -> bool:
        """Whether any image was compressed with loss, see Lossy Image Compression (0028,2110)."""
        return any(text(file.header, "LossyImageCompression") == "01" for file in self.files)


@dataclass(frozen=True)
class _Slice:
    file: DicomFile
    matrix: tuple[int, int]
    spacing_mm: NDArray[np.float64]  # (2,): between rows, between columns
    orientation: NDArray[np.float64]  # (2, 3): direction of growing column index, of growing row index
    position_mm: NDArray[np.float64]  # (3,)


def group_series(files: Sequence[DicomFile]) -> tuple[CtSeries, ...]:
    """Group CT images into series; where series UIDs are unusable, by frame of reference, matrix and orientation."""
    groups: dict[tuple[str, ...], list[DicomFile]] = {}
    for file in files:
        series_uid = uid(file.header, "SeriesInstanceUID")
        stand_in = ("FrameOfReferenceUID", "Rows", "Columns", "PixelSpacing", "ImageOrientationPatient")
        key = (series_uid,) if series_uid else tuple(text(file.header, keyword) for keyword in stand_in)
        groups.setdefault(key, []).append(file)
    return tuple(
        CtSeries(tuple(group), uid(group[0].header, "SeriesInstanceUID"), uid(group[0].header, "FrameOfReferenceUID"))
        for group in groups.values()
    )


def order_slices(series: CtSeries) -> tuple[tuple[DicomFile, ...], VoxelGrid]:
    """Sort slices along their normal and check that they form a regular, aligned volume.

    Returns
    -------
    files, grid
        The files by ascending position; the grid's first axis is the normal, the others are the image's rows and
        columns as stored.

    Raises
    ------
    StudyError
        One of the rules on patient, series, geometry, spacing, size and presence of pixels.
    """
    slices = [_read_slice(file) for file in series.files]
    first = slices[0]
    _check_uniform(series, slices)
    column_direction, row_direction = first.orientation
    normal = np.cross(column_direction, row_direction)
    slices.sort(key=lambda slice_: float(normal @ slice_.position_mm))
    positions = np.array([slice_.position_mm for slice_ in slices]) @ normal  # (slices,)
    _check_duplicates(positions)
    _check_stack(np.array([slice_.position_mm for slice_ in slices]), first.orientation)
    spacing_mm = _even_spacing(positions)
    grid = VoxelGrid(
        shape=(len(slices), *first.matrix),
        spacing_mm=(spacing_mm, float(first.spacing_mm[0]), float(first.spacing_mm[1])),
        origin_mm=_triple(slices[0].position_mm),
        axes=(_triple(normal), _triple(row_direction), _triple(column_direction)),
    )
    if not grid.is_aligned:
        raise refuse(
            Rule.OBLIQUE,
            "the slices are oblique to the patient's axes: their normal is "
            f"({normal[0]:.4f}, {normal[1]:.4f}, {normal[2]:.4f})",
            normal=normal.tolist(),
        )
    if np.prod(grid.shape, dtype=np.int64) > MAX_VOXELS:
        raise refuse(
            Rule.TOO_LARGE,
            f"the CT declares {grid.shape[0]} x {grid.shape[1]} x {grid.shape[2]} voxels, the limit is {MAX_VOXELS}",
            shape=list(grid.shape),
            limit=MAX_VOXELS,
        )
    return tuple(slice_.file for slice_ in slices), grid


def decode_hu(paths: Sequence[Path], grid: VoxelGrid) -> NDArray[np.float32]:
    """Decode the pixels of slices that `order_slices` has checked and ordered.

    Returns
    -------
    (slices, rows, columns)
        Hounsfield units: Rescale Slope (0028,1053) x stored + Rescale Intercept (0028,1052) of each slice.

    Raises
    ------
    StudyError
        ``pixel-format`` if a slice cannot be decoded or is not what its header says.
    """
    hu = np.empty(grid.shape, np.float32)
    for index, path in enumerate(paths):
        with reading(f"the pixels of slice {index + 1} of {len(paths)}", Rule.PIXEL_FORMAT):
            file = read_file(path, pixels=True)
            if file is None:
                raise refuse(Rule.DAMAGED_FILE, f"slice {index + 1} of {len(paths)} is no longer a DICOM file")
            dataset = file.header
            check_codestreams(dataset, grid.shape[1:])
            slope, intercept = np.float64(dataset.RescaleSlope), np.float64(dataset.RescaleIntercept)
            hu[index] = dataset.pixel_array * slope + intercept
    return hu


def check_codestreams(dataset: Dataset, matrix: tuple[int, int]) -> None:
    """Check that compressed frames are whole, and as large as the header says, before a decoder makes room for them.

    Decoders fill what is missing at a frame's end with zeros.

    Raises
    ------
    StudyError
        ``pixel-format`` if one is not.
    """
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax in JPEG2000TransferSyntaxes:
        get_parameters: Callable[[bytes], Mapping[str, int | str | bool]] = openjpeg.utils.get_parameters
    elif syntax in JPEGTransferSyntaxes or syntax in JPEGLSTransferSyntaxes:
        get_parameters = libjpeg.utils.get_parameters
    else:
        return
    for frame in generate_frames(dataset.PixelData, number_of_frames=integer(dataset, "NumberOfFrames") or 1):
        parameters = get_parameters(frame)
        size = (int(parameters["rows"]), int(parameters["columns"]))
        if size != matrix:
            raise refuse(Rule.PIXEL_FORMAT, f"a compressed frame holds {size} pixels, its header says {matrix}")
        if not frame.rstrip(b"\0").endswith(END_OF_IMAGE):
            raise refuse(Rule.PIXEL_FORMAT, "a compressed frame ends too early")


def _triple(values: NDArray[np.float64]) -> tuple[float, float, float]:
    return float(values[0]), float(values[1]), float(values[2])


def _read_slice(file: DicomFile) -> _Slice:
    """Take from a header what the volume needs, or say which attribute is absent or wrong."""
    header = file.header
    frames = integer(header, "NumberOfFrames") or 1
    if frames > 1:
        raise refuse(
            Rule.MULTI_FRAME_CT, f"a CT image holds {frames} frames, expected 1", frames=frames, object=_object(file)
        )
    spacing = numbers(header, "PixelSpacing", 2)
    orientation = numbers(header, "ImageOrientationPatient", 6)
    position = numbers(header, "ImagePositionPatient", 3)
    rows, columns = integer(header, "Rows") or 0, integer(header, "Columns") or 0
    absent = [
        keyword
        for keyword, is_absent in {
            "PixelSpacing (0028,0030)": spacing is None or spacing.min() <= 0,
            "ImageOrientationPatient (0020,0037)": orientation is None or not _is_orthonormal(orientation),
            "ImagePositionPatient (0020,0032)": position is None,
            "Rows (0028,0010)": rows < 1,
            "Columns (0028,0011)": columns < 1,
        }.items()
        if is_absent
    ]
    if absent or spacing is None or orientation is None or position is None:
        raise refuse(
            Rule.GEOMETRY_MISSING,
            f"a CT slice lacks a valid {' and '.join(absent)}",
            attributes=absent,
            object=_object(file),
        )
    _check_pixels(file, rows, columns)
    directions = orientation.reshape(2, 3)
    return _Slice(
        file, (rows, columns), spacing, directions / np.linalg.norm(directions, axis=1, keepdims=True), position
    )


def _object(file: DicomFile) -> str:
    """SOP Instance UID of an image, for the details of a refusal."""
    return uid(file.header, "SOPInstanceUID")


def _is_orthonormal(orientation: NDArray[np.float64]) -> bool:
    directions = orientation.reshape(2, 3)
    return bool(np.allclose(directions @ directions.T, np.eye(2), atol=AXIS_TOLERANCE))


def _check_pixels(file: DicomFile, rows: int, columns: int) -> None:
    header = file.header
    if rows * columns > MAX_SLICE_PIXELS:
        raise refuse(
            Rule.TOO_LARGE,
            f"a CT slice declares {rows} x {columns} pixels, the limit is {MAX_SLICE_PIXELS}",
            rows=rows,
            columns=columns,
            limit=MAX_SLICE_PIXELS,
            object=_object(file),
        )
    samples, interpretation = integer(header, "SamplesPerPixel"), text(header, "PhotometricInterpretation")
    bits = integer(header, "BitsAllocated")
    if samples != 1 or interpretation != "MONOCHROME2" or bits not in (8, 16, 32):
        raise refuse(
            Rule.PIXEL_FORMAT,
            f"a CT slice has {samples} samples of {bits} bits per pixel, expected 1 sample of 8, 16 or 32 bits, "
            "MONOCHROME2",
            samples=samples,
            bits=bits,
            object=_object(file),
        )
    slope, intercept = number(header, "RescaleSlope"), number(header, "RescaleIntercept")
    if not slope or intercept is None:
        raise refuse(
            Rule.RESCALE_MISSING,
            "a CT slice lacks Rescale Slope (0028,1053) or Rescale Intercept (0028,1052)",
            object=_object(file),
        )
    if abs(slope) > MOST_SLOPE_HU or abs(intercept) > MOST_INTERCEPT_HU:
        raise refuse(
            Rule.RESCALE_MISSING,
            f"Rescale Slope {slope:g} and Rescale Intercept {intercept:g} of a CT slice give no Hounsfield units",
            slope=slope,
            intercept=intercept,
            object=_object(file),
        )
    rescale_type = text(header, "RescaleType").upper()
    if rescale_type in NOT_HOUNSFIELD:
        raise refuse(
            Rule.RESCALE_MISSING,
            f"Rescale Type (0028,1054) of a CT slice is {rescale_type}, expected HU",
            rescale_type=rescale_type,
            object=_object(file),
        )
    syntax = header.file_meta.TransferSyntaxUID
    if not _can_decode(syntax):
        raise refuse(
            Rule.PIXEL_FORMAT,
            f"CT slices of transfer syntax {uid(header.file_meta, 'TransferSyntaxUID')} cannot be decoded",
            syntax=uid(header.file_meta, "TransferSyntaxUID"),
            object=_object(file),
        )
    expected = 1 if syntax.is_encapsulated else rows * columns * bits // 8
    if file.pixel_bytes < expected:
        raise refuse(
            Rule.PIXEL_DATA_MISSING,
            f"a CT slice needs {expected} bytes of pixels, {file.pixel_bytes} are there",
            expected_bytes=expected,
            found_bytes=file.pixel_bytes,
            object=_object(file),
        )


def _can_decode(syntax: UID) -> bool:
    try:
        return get_decoder(syntax).is_available
    except NotImplementedError:
        return False


def _check_uniform(series: CtSeries, slices: Sequence[_Slice]) -> None:
    if len({text(file.header, "PatientID") for file in series.files}) > 1:
        raise refuse(Rule.PATIENT_MISMATCH, "slices of one CT series belong to different patients")
    if len({uid(file.header, "FrameOfReferenceUID") for file in series.files}) > 1:
        raise refuse(Rule.MIXED_SERIES, "slices of one CT series have different frames of reference")
    first = slices[0]
    for slice_ in slices:
        if slice_.matrix != first.matrix or np.abs(slice_.spacing_mm - first.spacing_mm).max() > SAME_SPACING_MM:
            raise refuse(
                Rule.MIXED_SERIES,
                f"slices of one CT series differ: {first.matrix} pixels of {first.spacing_mm.tolist()} mm and "
                f"{slice_.matrix} pixels of {slice_.spacing_mm.tolist()} mm",
                object=_object(slice_.file),
            )
        if np.abs(slice_.orientation - first.orientation).max() > AXIS_TOLERANCE:
            raise refuse(
                Rule.MIXED_ORIENTATION,
                f"slices of one CT series are oriented along {first.orientation.ravel().tolist()} and "
                f"{slice_.orientation.ravel().tolist()}",
                object=_object(slice_.file),
            )
    if len(slices) < 2:
        raise refuse(Rule.TOO_FEW_SLICES, "the CT has 1 slice, at least 2 are needed", slices=1)


def _check_duplicates(positions: NDArray[np.float64]) -> None:
    duplicates = np.flatnonzero(np.diff(positions) < DUPLICATE_TOLERANCE_MM)
    if duplicates.size:
        raise refuse(
            Rule.DUPLICATE_SLICE,
            f"{duplicates.size} of {positions.size} slices lie where another one does, the first at "
            f"{positions[duplicates[0]]:.2f} mm along the normal",
            duplicates=int(duplicates.size),
            slices=int(positions.size),
        )


def _check_stack(points_mm: NDArray[np.float64], orientation: NDArray[np.float64]) -> None:
    shift_mm = float(np.abs((points_mm - points_mm[0]) @ orientation.T).max())
    if shift_mm > TILT_TOLERANCE_MM:
        raise refuse(
            Rule.GANTRY_TILT,
            f"slices are shifted by up to {shift_mm:.2f} mm within their plane, as by a tilted gantry; "
            f"at most {TILT_TOLERANCE_MM} mm is accepted",
            shift_mm=shift_mm,
            limit_mm=TILT_TOLERANCE_MM,
        )


def _even_spacing(positions: NDArray[np.float64]) -> float:
    """Spacing of ascending positions, in mm; refuses a stack with gaps, and tells missing slices from uneven ones."""
    gaps = np.diff(positions)
    spacing = float(positions[-1] - positions[0]) / gaps.size
    even = positions[0] + spacing * np.arange(positions.size)
    if np.abs(positions - even).max() <= POSITION_TOLERANCE_MM:
        return spacing
    usual = float(statistics.median_low(gaps.tolist()))
    steps = gaps / usual
    if np.abs(steps - np.rint(steps)).max() <= GAP_TOLERANCE and np.rint(steps).min() >= 1:
        missing = int(np.rint(steps - 1).sum())
        widest = int(np.argmax(gaps))
        raise refuse(
            Rule.MISSING_SLICE,
            f"slices missing: {missing}; {positions.size} are there, usually {usual:.2f} mm apart, but "
            f"{gaps[widest]:.2f} mm after the one at {positions[widest]:.2f} mm along the normal",
            missing=missing,
            slices=int(positions.size),
            spacing_mm=usual,
        )
    raise refuse(
        Rule.UNEVEN_SPACING,
        f"slices are {gaps.min():.2f} to {gaps.max():.2f} mm apart, expected one spacing",
        smallest_mm=float(gaps.min()),
        largest_mm=float(gaps.max()),
    )
