"""One patient in eight positions and any order of slices, against the geometry of SimpleITK.

The patient is simulated once; each study shows the same points of the patient with other rows, columns and slices. The
pixels are not square, so a mix-up of rows and columns does not pass.
"""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
import torch
from numpy.typing import NDArray

from model.case import Case, Volume, VoxelGrid
from model.checkpoint.manifest import Manifest
from model.cohort.neck import simulated_neck
from model.dicom import StructureChoice, build_case, read_study
from model.dicom.derived import Provenance, save
from model.dicom.dose_writer import write_dose
from model.dicom.export import write_study
from model.dicom.rules import Rule
from model.errors import StudyError
from model.networks.diffdp import DiffDP
from model.prediction.predictor import Predictor, SamplingOptions

POSITIONS = {
    "HFS": (1, 0, 0, 0, 1, 0),
    "HFP": (-1, 0, 0, 0, -1, 0),
    "HFDR": (0, 1, 0, -1, 0, 0),
    "HFDL": (0, -1, 0, 1, 0, 0),
    "FFS": (-1, 0, 0, 0, 1, 0),
    "FFP": (1, 0, 0, 0, -1, 0),
    "FFDR": (0, -1, 0, -1, 0, 0),
    "FFDL": (0, 1, 0, 1, 0, 0),
}
"""Patient Position (0018,5100) → Image Orientation (Patient) (0020,0037), rows running down in the room."""

COARSE = SamplingOptions("coarse", steps=1, samples=1, seed=1)


@cache
def patient() -> Case:
    return simulated_neck(8, shape=(26, 60, 64), spacing_mm=(8.0, 5.0, 6.0))


def turned(case: Case, position: str) -> Case:
    """Return the same voxels in the rows, columns and slices of a position."""
    orientation = np.reshape(POSITIONS[position], (2, 3))
    axes = np.array([np.cross(*orientation), orientation[1], orientation[0]])
    order = tuple(int(2 - np.argmax(np.abs(axis))) for axis in axes)
    against = [k for k, axis in enumerate(axes) if axis.sum() < 0]
    index = [case.grid.shape[order[k]] - 1 if k in against else 0 for k in range(3)]
    corner = [index[order.index(k)] for k in range(3)]
    grid = VoxelGrid(
        shape=tuple(case.grid.shape[k] for k in order),
        spacing_mm=tuple(case.grid.spacing_mm[k] for k in order),
        origin_mm=tuple(case.grid.points_mm(np.array(corner))),
        axes=tuple(tuple(map(float, axis)) for axis in axes),
    )

    def turn(array: NDArray[np.generic]) -> NDArray[np.generic]:
        return np.ascontiguousarray(np.flip(array.transpose(order), against))

    structures = {name: replace(s, mask=turn(s.mask)) for name, s in case.structures.items()}
    return replace(case, hu=turn(case.hu), grid=grid, structures=structures)


def write(case: Case, folder: Path, order: str) -> list[Path]:
    """Write a study whose slices are named and numbered from the first to the last, the other way round, or anyhow."""
    paths = write_study(case, folder)
    slices = [path for path in paths if path.name.startswith("CT")]
    numbers = {
        "as-stored": np.arange(len(slices)),
        "mirrored": np.arange(len(slices))[::-1],
        "shuffled": np.random.default_rng(3).permutation(len(slices)),
    }[order]
    renamed = [folder / f"slice-{number:03d}" for number in numbers]
    for path, new_path, number in zip(slices, renamed, numbers, strict=True):
        dataset = pydicom.dcmread(path)
        dataset.InstanceNumber = int(number) + 1
        dataset.save_as(new_path)
        path.unlink()
    return sorted([*renamed, *paths[len(slices) :]])


def read(case: Case, paths: list[Path]) -> Case:
    study = read_study(paths)
    assert study.warnings == ()
    choices = {roi.name: StructureChoice(roi.number, case.structures[roi.name].kind) for roi in study.rois}
    back = build_case(study, choices, case.prescription)
    # Beams enter the patient where they did
    assert [(b.gantry_deg, b.isocentre_mm) for b in back.beams] == [(b.gantry_deg, b.isocentre_mm) for b in case.beams]
    return back


def image_of(folder: Path) -> sitk.Image:
    """Return the CT of a folder as SimpleITK sorts and places it."""
    reader = sitk.ImageSeriesReader()
    (series,) = [
        s for s in reader.GetGDCMSeriesIDs(str(folder)) if len(reader.GetGDCMSeriesFileNames(str(folder), s)) > 1
    ]
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder), series))
    return reader.Execute()


def place(array: NDArray[np.generic], image: sitk.Image) -> sitk.Image:
    placed = sitk.GetImageFromArray(array)
    placed.CopyInformation(image)
    return placed


def resampled(moving: sitk.Image, onto: sitk.Image) -> NDArray[np.generic]:
    """(slices, rows, columns) of the nearest voxels of ``moving`` at the patient points of the voxels of ``onto``."""
    identity = sitk.Transform(3, sitk.sitkIdentity)
    return sitk.GetArrayFromImage(sitk.Resample(moving, onto, identity, sitk.sitkNearestNeighbor, -1))


@pytest.fixture(scope="module")
def supine(tmp_path_factory: pytest.TempPathFactory) -> tuple[Case, sitk.Image]:
    folder = tmp_path_factory.mktemp("supine")
    case = patient()
    return read(case, write(case, folder, "as-stored")), image_of(folder)


@pytest.fixture(scope="module")
def predictor(tiny_manifest: Manifest) -> Predictor:
    torch.manual_seed(0)
    return Predictor(
        DiffDP(len(tiny_manifest.channels), tiny_manifest.architecture), tiny_manifest, torch.device("cpu")
    )


@pytest.fixture(scope="module")
def supine_dose_gy(supine: tuple[Case, sitk.Image], predictor: Predictor) -> NDArray[np.float32]:
    return predictor.predict(supine[0], COARSE).dose_gy


@pytest.mark.parametrize(
    ("position", "order"),
    [*((position, "shuffled") for position in POSITIONS), ("FFP", "as-stored"), ("HFDL", "mirrored")],
)
def test_voxels_and_masks_lie_where_simpleitk_has_them(
    supine: tuple[Case, sitk.Image], tmp_path: Path, position: str, order: str
) -> None:
    reference, reference_image = supine
    case = read(patient(), write(turned(patient(), position), tmp_path, order))
    image = image_of(tmp_path)
    assert image.GetSize() == case.grid.shape[::-1]
    indices = np.random.default_rng(0).uniform(0, np.array(case.grid.shape) - 1, (200, 3))
    theirs = [image.TransformContinuousIndexToPhysicalPoint(index[::-1]) for index in indices.tolist()]
    assert np.allclose(case.grid.points_mm(indices), theirs, atol=1e-4)
    assert (sitk.GetArrayFromImage(image) == case.hu).all()
    assert (resampled(reference_image, image) == case.hu).all()
    assert case.structures.keys() == reference.structures.keys()
    for name, structure in case.structures.items():
        mask = place(reference.structures[name].mask.astype(np.int8), reference_image)
        assert (resampled(mask, image) == structure.mask).all(), name


@pytest.mark.parametrize("position", POSITIONS)
def test_dose_is_the_same_at_the_same_points_of_the_patient(
    supine: tuple[Case, sitk.Image],
    supine_dose_gy: NDArray[np.float32],
    predictor: Predictor,
    tmp_path: Path,
    position: str,
) -> None:
    paths = write(turned(patient(), position), tmp_path, "shuffled")
    case, study = read(patient(), paths), read_study(paths)
    dose = write_dose(
        Volume(predictor.predict(case, COARSE).dose_gy, case.grid),
        ct_header=study.ct_header,
        structure_set=study.structure_set,
        plan=study.plan_dataset,
        dvhs={},
        provenance=Provenance("tiny", "1", "00", "0.1.0"),
    )
    save(dose, tmp_path / "dose.dcm")
    scaling_gy = float(dose.DoseGridScaling)
    written_gy = resampled(sitk.ReadImage(str(tmp_path / "dose.dcm")), supine[1]) * scaling_gy
    assert supine_dose_gy[supine[0].external].std() > 20 * scaling_gy
    # Half a step of the 16 bits, and the rounding of float32
    assert np.abs(written_gy - supine_dose_gy).max() < scaling_gy


def test_patient_across_the_couch_is_refused(tmp_path: Path) -> None:
    paths = write(patient(), tmp_path, "as-stored")
    for path in paths:
        dataset = pydicom.dcmread(path)
        if dataset.Modality == "CT":
            dataset.PatientPosition = "LFS"
            dataset.save_as(path)
    with pytest.raises(StudyError) as raised:
        read_study([path for path in paths if path.name != "RP.dcm"])
    assert raised.value.rule == Rule.PATIENT_POSITION
