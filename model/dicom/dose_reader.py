"""RT Dose (PS3.3 C.8.8.3) → dose in Gy on its own grid."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.uid import RTDoseStorage

from model.case import Volume, VoxelGrid
from model.dicom.attributes import integer, number, numbers, text
from model.dicom.ct import MAX_VOXELS, check_codestreams
from model.dicom.files import read_file, reading
from model.dicom.rules import Rule, refuse

OFFSET_TOLERANCE_MM = 0.01
"""How far frames may be from an even stack; offsets are computed, not measured."""


def read_dose(path: Path) -> Volume:
    """Read an RT Dose.

    Returns
    -------
    Volume
        (frames, rows, columns) float32, Gy; the first axis of its grid runs in the order of the frames.

    Raises
    ------
    StudyError
        ``dose-unreadable`` if it is no dose in Gy on an even grid; ``too-large``.
    """
    with reading("the dose", Rule.DOSE_UNREADABLE):
        file = read_file(path, pixels=True)
        if file is None or file.sop_class != RTDoseStorage:
            raise refuse(Rule.DOSE_UNREADABLE, "the file is not an RT Dose")
        dataset = file.header
        units, scaling = text(dataset, "DoseUnits"), number(dataset, "DoseGridScaling")
        if units != "GY" or scaling is None or scaling <= 0:
            raise refuse(Rule.DOSE_UNREADABLE, "Dose Units (3004,0002) must be GY and Dose Grid Scaling positive")
        grid = _grid(dataset)
        check_codestreams(dataset, grid.shape[1:])
        stored = dataset.pixel_array.reshape(grid.shape)
        return Volume((stored * np.float64(scaling)).astype(np.float32), grid)


def _grid(dataset: Dataset) -> VoxelGrid:
    frames = integer(dataset, "NumberOfFrames") or 1
    rows, columns = integer(dataset, "Rows") or 0, integer(dataset, "Columns") or 0
    if frames * rows * columns > MAX_VOXELS:
        raise refuse(Rule.TOO_LARGE, f"the dose declares {frames} x {rows} x {columns} voxels, limit {MAX_VOXELS}")
    spacing = numbers(dataset, "PixelSpacing", 2)
    orientation = numbers(dataset, "ImageOrientationPatient", 6)
    position = numbers(dataset, "ImagePositionPatient", 3)
    if spacing is None or orientation is None or position is None:
        raise refuse(Rule.DOSE_UNREADABLE, "the dose does not state its position, orientation and pixel spacing")
    column_direction, row_direction = orientation.reshape(2, 3)
    slice_direction, slice_spacing = _frame_step(
        dataset, frames, np.cross(column_direction, row_direction), float(position[2])
    )
    axes = [(float(x), float(y), float(z)) for x, y, z in (slice_direction, row_direction, column_direction)]
    return VoxelGrid(
        shape=(frames, rows, columns),
        spacing_mm=(slice_spacing, float(spacing[0]), float(spacing[1])),
        origin_mm=(float(position[0]), float(position[1]), float(position[2])),
        axes=(axes[0], axes[1], axes[2]),
    )


def _frame_step(
    dataset: Dataset, frames: int, normal: NDArray[np.float64], first_z_mm: float
) -> tuple[NDArray[np.float64], float]:
    """Direction and distance in mm from one frame to the next, from Grid Frame Offset Vector (3004,000C).

    The offsets are relative, along the normal, if the first is zero; else they are z coordinates and the first is that
    of Image Position (Patient) (0020,0032).
    """
    if frames == 1:
        return normal, number(dataset, "SliceThickness") or 1.0
    offsets = numbers(dataset, "GridFrameOffsetVector", frames)
    if offsets is None:
        raise refuse(Rule.DOSE_UNREADABLE, f"Grid Frame Offset Vector (3004,000C) must hold {frames} numbers")
    step = float(offsets[-1] - offsets[0]) / (frames - 1)
    if step == 0 or np.abs(offsets - offsets[0] - step * np.arange(frames)).max() > OFFSET_TOLERANCE_MM:
        raise refuse(Rule.DOSE_UNREADABLE, "the frames of the dose are not evenly spaced")
    if offsets[0] == 0:
        direction = normal
    elif abs(offsets[0] - first_z_mm) <= OFFSET_TOLERANCE_MM:
        direction = np.array([0.0, 0.0, 1.0])
    else:
        raise refuse(
            Rule.DOSE_UNREADABLE,
            "Grid Frame Offset Vector (3004,000C) must begin with 0 or with the z coordinate of the first frame",
        )
    return direction * np.sign(step), abs(step)
