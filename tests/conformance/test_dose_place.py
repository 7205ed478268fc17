"""Other programs see the hot spot of a study's dose where it is in the patient, on the CT's voxels and on others.

Pixels are not square, and studies come in four positions and with slices in either order. A shift by half of the finest
voxel would be 1.25 mm.
"""

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray

from model.case import EXTERNAL, Case, Prescription, Structure, Volume, VoxelGrid
from model.dicom import StructureChoice, build_case, read_study
from model.dicom.derived import Provenance, save
from model.dicom.dose_grid import dose_grid, resample
from model.dicom.dose_writer import write_dose
from model.dicom.export import write_study

Program = Callable[..., subprocess.CompletedProcess[str]]

# (slice, row, column) axes
POSITIONS = {
    "HFS": ((0, 0, 1), (0, 1, 0), (1, 0, 0)),
    "HFP": ((0, 0, 1), (0, -1, 0), (-1, 0, 0)),
    "FFS": ((0, 0, -1), (0, 1, 0), (-1, 0, 0)),
    "FFP": ((0, 0, -1), (0, -1, 0), (1, 0, 0)),
    "HFS, slices from the head": ((0, 0, -1), (0, 1, 0), (1, 0, 0)),
    "FFP, slices from the feet": ((0, 0, 1), (0, -1, 0), (1, 0, 0)),
}
SHAPE, SPACING_MM = (22, 44, 60), (4.0, 3.5, 2.5)
HOT_INDEX = np.array([10.3, 25.2, 22.1])
"""(slice, row, column) in the study as it is written, away from every plane of symmetry."""

RADIUS_MM = 9.0
TOLERANCE_MM = 0.1
"""Of the dose's centre: sampling a Gaussian and cutting it off."""


@dataclass(frozen=True)
class Written:
    path: Path
    hot_mm: NDArray[np.float64]
    scaling_gy: float


@pytest.fixture(params=POSITIONS)
def study(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[list[Path], NDArray[np.float64]]:
    """Files of a study, and the patient point of its hot spot."""
    grid = VoxelGrid(SHAPE, SPACING_MM, (-60.25, 17.5, 333.0), POSITIONS[request.param])
    _, y, x = np.indices(SHAPE)
    body = ((y - 22) / 20) ** 2 + ((x - 30) / 28) ** 2 < 1
    structures = {
        EXTERNAL: Structure(EXTERNAL, body, "external"),
        "PTV": Structure("PTV", body & (x < 30), "target"),
    }
    hu = np.where(body, 0, -1000).astype(np.int16)
    case = Case(hu, grid, structures, Prescription({"PTV": 60.0}, 30, "plan"), identifier=request.param)
    return write_study(case, tmp_path / "study"), grid.points_mm(HOT_INDEX)


@pytest.fixture(params=[None, 3.0], ids=["CT's voxels", "3 mm"])
def written(request: pytest.FixtureRequest, study: tuple[list[Path], NDArray[np.float64]], tmp_path: Path) -> Written:
    files, hot_mm = study
    read = read_study(files)
    kinds = {EXTERNAL: "external", "PTV": "target"}
    choices = {roi.name: StructureChoice(roi.number, kinds[roi.name]) for roi in read.rois}
    case = build_case(read, choices, Prescription({"PTV": 60.0}, 30, "plan"))
    points_mm = case.grid.points_mm(np.moveaxis(np.indices(case.grid.shape), 0, -1))
    distance_mm = np.linalg.norm(points_mm - hot_mm, axis=-1)
    volume = Volume((60 * np.exp(-((distance_mm / RADIUS_MM) ** 2) / 2)).astype(np.float32), case.grid)
    if request.param:
        volume = resample(volume, case.external, dose_grid(case.grid, case.external, request.param))
    dose = write_dose(
        volume,
        ct_header=read.ct_header,
        structure_set=read.structure_set,
        plan=read.plan_dataset,
        dvhs={},
        provenance=Provenance("neck", "1.0", "ab" * 32, "0.1.0"),
    )
    save(dose, tmp_path / "dose.dcm")
    return Written(tmp_path / "dose.dcm", hot_mm, float(dose.DoseGridScaling))


def assert_hot_spot(path: Path, written: Written, scaling_gy: float = 1.0) -> None:
    """Look at an image as ITK reads it."""
    image = sitk.ReadImage(str(path))
    values_gy = sitk.GetArrayFromImage(image) * scaling_gy
    corner, *neighbours = (
        np.array(image.TransformIndexToPhysicalPoint(index)) for index in ((0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0))
    )
    points_mm = corner + np.moveaxis(np.indices(values_gy.shape), 0, -1) @ (np.array(neighbours) - corner)
    hottest_mm = points_mm[np.unravel_index(values_gy.argmax(), values_gy.shape)]
    assert np.abs(hottest_mm - written.hot_mm).max() <= max(SPACING_MM)
    centre_mm = np.average(points_mm.reshape(-1, 3), axis=0, weights=values_gy.ravel())
    assert centre_mm == pytest.approx(written.hot_mm, abs=TOLERANCE_MM)
    assert values_gy.max() == pytest.approx(60, abs=5)


def test_simpleitk(written: Written) -> None:
    assert_hot_spot(written.path, written, written.scaling_gy)


def test_plastimatch(external_program: Callable[[str], Program], written: Written, tmp_path: Path) -> None:
    dose = tmp_path / "dose.mha"
    result = external_program("plastimatch")("convert", "--input", written.path, "--output-dose-img", dose)
    assert result.returncode == 0, result.stdout + result.stderr
    assert_hot_spot(dose, written)
