"""Predicted dose → RTDOSE."""

from collections.abc import Mapping
from datetime import datetime
from typing import Literal

import numpy as np
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag
from pydicom.uid import RTDoseStorage

from model.case import Volume
from model.dicom.attributes import uid
from model.dicom.derived import (
    LO_LENGTH,
    LT_LENGTH,
    WARNING,
    Provenance,
    decimal,
    declare_prediction,
    new_instance,
    own_text,
    reference,
)
from model.dosimetry import Dvh
from model.errors import PredictionError

Bits = Literal[16, 32]

DVH_STEP_GY = 0.1
DVH_POINTS = 2000
"""A DVH has at most so many: a decimal string in explicit VR holds 64 KiB, and a point takes up to 29 bytes."""


def write_dose(
    dose: Volume,
    *,
    ct_header: Dataset,
    structure_set: Dataset,
    plan: Dataset,
    dvhs: Mapping[int, Dvh],
    provenance: Provenance,
    identity: str | None = None,
    created: datetime | None = None,
    bits: Bits = 16,
) -> Dataset:
    """Return the RTDOSE of a predicted dose.

    Parameters
    ----------
    dose
        Gy, all fractions together, in the patient coordinates of the CT's frame of reference.
    ct_header
        Any slice of the CT.
    structure_set
        The RTSTRUCT that the prediction used.
    plan
        The study's RTPLAN, or our companion plan where it has none.
    dvhs
        ROI Number (3006,0022) in the structure set → DVH of this dose. A dose may refer to a structure set only
        together with DVHs (PS3.3 C.8.8.4), so without any, or without a UID of the structure set, it does neither;
        its plan refers to one.
    provenance
        What predicted the dose.
    identity, created
        See `model.dicom.derived.new_instance`.
    bits
        See `set_dose`.

    Raises
    ------
    PredictionError
        If a dose is negative or not finite.
    """
    dataset = new_instance(
        ct_header, sop_class_uid=RTDoseStorage, modality="RTDOSE", identity=identity, created=created
    )
    declare_prediction(dataset, provenance)
    set_dose(dataset, dose, bits)
    dataset.DoseComment = own_text(dataset, _dose_comment(provenance), LO_LENGTH)
    if provenance.warnings:
        dataset.ImageComments = own_text(dataset, "; ".join(provenance.warnings), LT_LENGTH)
    dataset.ReferencedRTPlanSequence = Sequence([reference(plan)])
    add_dvhs(dataset, structure_set, dvhs)
    return dataset


def add_dvhs(dataset: Dataset, structure_set: Dataset, dvhs: Mapping[int, Dvh]) -> None:
    """Fill the RT DVH module (PS3.3 C.8.8.4) of a dose; see `write_dose`."""
    if dvhs and uid(structure_set, "SOPInstanceUID"):
        dataset.ReferencedStructureSetSequence = Sequence([reference(structure_set)])
        dataset.DVHSequence = Sequence([_dvh(number, dvh) for number, dvh in dvhs.items()])


def set_dose(dataset: Dataset, dose: Volume, bits: Bits = 16) -> None:
    """Fill the Image Plane, Image Pixel, Multi-frame and RT Dose modules (PS3.3 C.7.6.2, C.7.6.3, C.7.6.6, C.8.8.3).

    Frames follow each other along the normal of Image Orientation (Patient) (0020,0037), as Grid Frame Offset
    Vector (3004,000C) requires: an array whose slices run against it is written from its last slice.

    Parameters
    ----------
    dataset
        Is changed.
    dose
        Gy, on a grid of any orientation.
    bits
        Bits per voxel. 16 is what every reader of CT can read; some image libraries refuse 32, some validators
        abort on it. The highest dose becomes the largest *signed* number, because some readers take all pixels for
        signed: at 80 Gy the quantisation error is then 1.2 mGy with 16 bits.

    Raises
    ------
    PredictionError
        If a dose is negative or not finite.
    """
    values = dose.values  # (slices, rows, columns)
    if not np.isfinite(values).all():
        raise PredictionError("the predicted dose is not finite everywhere", code="dose-not-finite")
    if values.min() < 0:
        raise PredictionError(
            "the predicted dose is negative somewhere",
            code="dose-negative",
            details={"lowest_gy": float(values.min())},
        )
    grid = dose.grid
    slice_axis, row_axis, column_axis = np.asarray(grid.axes)
    first = 0
    if slice_axis @ np.cross(column_axis, row_axis) < 0:
        first = grid.shape[0] - 1
        values = values[::-1]
    frames, rows, columns = grid.shape
    slice_mm, row_mm, column_mm = grid.spacing_mm

    dataset.InstanceNumber = 1
    dataset.ImagePositionPatient = [decimal(x) for x in grid.points_mm(np.array([first, 0, 0]))]
    # (0020,0037): first the direction along a row, in which the column index grows
    dataset.ImageOrientationPatient = [decimal(x) for x in (*column_axis, *row_axis)]
    dataset.PixelSpacing = [decimal(row_mm), decimal(column_mm)]
    dataset.SliceThickness = decimal(slice_mm)

    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.NumberOfFrames = frames
    dataset.FrameIncrementPointer = Tag("GridFrameOffsetVector")
    dataset.Rows, dataset.Columns = rows, columns
    dataset.BitsAllocated = dataset.BitsStored = bits
    dataset.HighBit = bits - 1
    dataset.PixelRepresentation = 0

    dataset.DoseUnits = "GY"
    dataset.DoseType = "PHYSICAL"
    dataset.DoseSummationType = "PLAN"
    dataset.GridFrameOffsetVector = [decimal(frame * slice_mm) for frame in range(frames)]
    # The scaling must not be zero where the dose is. Sixteen characters hold ten digits at least, which moves the
    # largest number by less than half a step: nothing overflows.
    peak_gy = float(values.max()) or 1.0
    dataset.DoseGridScaling = decimal(peak_gy / (2 ** (bits - 1) - 1))
    pixels = np.empty(values.shape, f"<u{bits // 8}")
    for frame, plane in enumerate(values):
        pixels[frame] = np.rint(plane.astype(np.float64) / float(dataset.DoseGridScaling))
    dataset.PixelData = pixels.tobytes()
    dataset["PixelData"].VR = "OW"


def _dose_comment(provenance: Provenance) -> str:
    """Dose Comment (3004,0006): what every planning system shows; warnings that do not fit are counted."""
    simulated = "; simulated data" if provenance.simulated_training_data else ""
    comment = f"{WARNING}{simulated}; {provenance.model} {provenance.version}"
    whole = "; ".join((comment, *provenance.warnings))
    if len(whole) <= LO_LENGTH:
        return whole
    count = f"; warnings: {len(provenance.warnings)}" if provenance.warnings else ""
    return comment[: LO_LENGTH - len(count)] + count


def _dvh(roi_number: int, dvh: Dvh) -> Dataset:
    """Item of DVH Sequence (3004,0050): the volume that receives at least the dose at the start of each bin."""
    roi = Dataset()
    roi.ReferencedROINumber = roi_number
    roi.DVHROIContributionType = "INCLUDED"
    item = Dataset()
    item.DVHReferencedROISequence = Sequence([roi])
    item.DVHType = "CUMULATIVE"
    item.DoseUnits = "GY"
    item.DoseType = "PHYSICAL"
    item.DVHDoseScaling = 1
    item.DVHVolumeUnits = "CM3"
    item.DVHMinimumDose = decimal(dvh.min_gy)
    item.DVHMaximumDose = decimal(dvh.max_gy)
    item.DVHMeanDose = decimal(dvh.mean_gy)
    step_gy = decimal(max(DVH_STEP_GY, dvh.max_gy / (DVH_POINTS - 2)))
    volumes_cc = dvh.curve(float(step_gy))[1] / 100 * dvh.volume_cc
    item.DVHNumberOfBins = len(volumes_cc)
    item.DVHData = [value for volume_cc in volumes_cc for value in (step_gy, f"{volume_cc:.6g}")]
    return item
