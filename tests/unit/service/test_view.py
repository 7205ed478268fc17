"""Arrays for the viewer: read back as a viewer would, they are the case."""

import dataclasses
import gzip
from pathlib import Path

import numpy as np
import pytest

from model.case import EXTERNAL, Case, Prescription, Structure, VoxelGrid
from service.pipeline.view import View, ViewStructure, write_view
from service.storage.layout import VIEW, VIEW_ARRAYS

SHAPE = (4, 40, 50)
SPACING_MM = (3.0, 2.0, 1.0)


def make_case(grid: VoxelGrid) -> Case:
    outline = np.zeros(SHAPE, bool)
    outline[1:, 15:30, 25:45] = True
    target = np.zeros(SHAPE, bool)
    target[2, 20:25, 30:39] = True
    masks = {EXTERNAL: outline, "PTV": target, "Larynx": np.zeros(SHAPE, bool), "Cord": target[:, ::-1]}
    kinds = {EXTERNAL: "external", "PTV": "target"}
    hu = np.arange(np.prod(SHAPE), dtype=np.float32).reshape(SHAPE) - 1000.4
    return Case(
        hu=hu,
        grid=grid,
        structures={name: Structure(name, mask, kinds.get(name, "oar")) for name, mask in masks.items()},
        prescription=Prescription({"PTV": 60.0}, 30, "plan"),
    )


def read(folder: Path, name: str, kind: str, view: View) -> np.ndarray:
    return np.frombuffer(gzip.decompress((folder / VIEW_ARRAYS[name]).read_bytes()), kind).reshape(view.shape)


def mask_of(folder: Path, structure: ViewStructure, view: View) -> np.ndarray:
    mask = np.zeros(view.shape, bool)
    if structure.box is not None:
        box = tuple(slice(*side) for side in structure.box)
        packed = np.frombuffer(gzip.decompress((folder / VIEW_ARRAYS["structures"]).read_bytes()), np.uint8)
        bits = np.unpackbits(packed[structure.offset :], count=mask[box].size, bitorder="little")
        mask[box] = bits.reshape(mask[box].shape)
    return mask


def test_what_is_read_back_is_the_case_cut_to_the_patient(tmp_path: Path) -> None:
    case = make_case(VoxelGrid(SHAPE, SPACING_MM, (-10.0, -20.0, -30.0)))
    dose_gy = np.linspace(0.0, 66.0, case.hu.size).reshape(SHAPE)
    write_view(case, dose_gy, tmp_path, reference_gy=dose_gy / 2)
    view = View.model_validate_json((tmp_path / VIEW).read_text())
    # All slices; 20 mm around the outline where the CT has them
    crop = (slice(None), slice(5, 40), slice(5, 50))
    assert view.shape == case.hu[crop].shape
    assert view.origin_mm == (-5.0, -10.0, -30.0)
    assert view.spacing_mm == SPACING_MM
    np.testing.assert_array_equal(read(tmp_path, "ct", "<i2", view), np.rint(case.hu[crop]))
    half_a_unit = view.unit_gy / 2 + 1e-9
    np.testing.assert_allclose(read(tmp_path, "dose", "<u2", view) * view.unit_gy, dose_gy[crop], atol=half_a_unit)
    np.testing.assert_allclose(
        read(tmp_path, "reference", "<u2", view) * view.unit_gy, dose_gy[crop] / 2, atol=half_a_unit
    )
    assert [structure.name for structure in view.structures] == ["PTV", "Cord", "Larynx", EXTERNAL]
    for structure in view.structures:
        np.testing.assert_array_equal(
            mask_of(tmp_path, structure, view), case.structures[structure.name].mask[crop], structure.name
        )
    assert view.structures[2].box is None
    assert view.start == (2, 22 - 5, 34 - 5)
    assert (view.has_reference, view.prescription_gy) == (True, {"PTV": 60.0})
    assert view.highest_gy == pytest.approx(66.0)


def test_a_patient_on_the_belly_with_slices_from_the_head_is_turned(tmp_path: Path) -> None:
    axes = ((0.0, 0.0, -1.0), (0.0, -1.0, 0.0), (-1.0, 0.0, 0.0))
    case = make_case(VoxelGrid(SHAPE, SPACING_MM, (10.0, 20.0, 30.0), axes))
    dose_gy = np.zeros(SHAPE)
    dose_gy[2, 20, 30] = 60.0
    write_view(case, dose_gy, tmp_path)
    view = View.model_validate_json((tmp_path / VIEW).read_text())
    assert not view.has_reference
    assert not (tmp_path / VIEW_ARRAYS["reference"]).exists()
    at = np.argwhere(read(tmp_path, "dose", "<u2", view))
    spot_mm = np.asarray(view.origin_mm) + (at[0] * view.spacing_mm)[::-1]
    np.testing.assert_allclose(spot_mm, case.grid.points_mm(np.array([2, 20, 30])))


def test_a_target_outside_the_patient_is_no_place_to_start(tmp_path: Path) -> None:
    case = make_case(VoxelGrid(SHAPE, SPACING_MM, (0.0, 0.0, 0.0)))
    astray = np.zeros(SHAPE, bool)
    astray[0, 0, 0] = True
    structures = {**case.structures, "PTV": Structure("PTV", astray, "target")}
    write_view(dataclasses.replace(case, structures=structures), np.ones(SHAPE), tmp_path)
    view = View.model_validate_json((tmp_path / VIEW).read_text())
    assert view.start == (2, 22 - 5, round(34.5 - 5))
    assert view.structures[0].box is None


def test_a_dose_too_great_for_hundredths_has_a_coarser_unit(tmp_path: Path) -> None:
    case = make_case(VoxelGrid(SHAPE, SPACING_MM, (0.0, 0.0, 0.0)))
    write_view(case, np.full(SHAPE, 1000.0), tmp_path)
    view = View.model_validate_json((tmp_path / VIEW).read_text())
    np.testing.assert_allclose(read(tmp_path, "dose", "<u2", view) * view.unit_gy, 1000.0)


def test_a_repetition_writes_the_same_bytes(tmp_path: Path) -> None:
    case = make_case(VoxelGrid(SHAPE, SPACING_MM, (0.0, 0.0, 0.0)))
    written = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_view(case, np.ones(SHAPE), tmp_path / name)
        written.append({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()})
    assert written[0] == written[1]
