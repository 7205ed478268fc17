"""OpenKBP patients in both layouts, written here from one set of arrays."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from model.case import EXTERNAL
from model.errors import DatasetError
from model.training.case_file import load_case
from model.training.openkbp import import_openkbp

# The order of bits that the packed layout documents
NAMES = (
    "Brainstem", "SpinalCord", "RightParotid", "LeftParotid", "Esophagus", "Larynx", "Mandible",
    "PTV56", "PTV63", "PTV70", "possible_dose_mask",
)  # fmt: skip
VOXEL_MM = (3.9, 3.8, 2.5)
SHAPE = (128, 128, 128)


@dataclass
class Patient:
    """Arrays (row, column, slice), rows to posterior, columns to the patient's left, slices down from the head."""

    ct: np.ndarray
    dose_cgy: np.ndarray
    masks: dict[str, np.ndarray]

    @classmethod
    def small(cls) -> "Patient":
        random = np.random.default_rng(0)
        body = np.zeros(SHAPE, bool)
        body[60:70, 50:62, 40:44] = True
        boxes = {
            "Brainstem": (66, 55, 40), "SpinalCord": (67, 55, 42), "RightParotid": (63, 51, 41),
            "LeftParotid": (63, 59, 41), "PTV56": (61, 54, 42), "PTV70": (63, 55, 42),
        }  # fmt: skip
        masks = {}
        for name, (row, column, level) in boxes.items():
            masks[name] = np.zeros(SHAPE, bool)
            masks[name][row : row + 2, column : column + 2, level : level + 2] = True
        masks["possible_dose_mask"] = body
        dose = (random.integers(1, 7200, SHAPE) * body).astype(np.uint16)
        return cls((random.integers(1, 3000, SHAPE) * body).astype(np.int16), dose, masks)

    def pack(self, path: Path) -> None:
        labels = np.zeros(SHAPE, np.uint16)
        for bit, name in enumerate(NAMES):
            if name in self.masks:
                labels[self.masks[name]] += 2**bit
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, ct=self.ct, dose=self.dose_cgy, labels=labels, voxel=np.array(VOXEL_MM, np.float32))

    def write_csv(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        for name, values in (("ct", self.ct), ("dose", self.dose_cgy / 100)):
            flat = values.ravel()
            rows = [f"{k},{flat[k]}" for k in np.flatnonzero(flat)]
            (folder / f"{name}.csv").write_text("\n".join([",data", *rows]) + "\n")
        for name, mask in self.masks.items():
            rows = [f"{k}," for k in np.flatnonzero(mask.ravel())]
            (folder / f"{name}.csv").write_text("\n".join([",data", *rows]) + "\n")
        (folder / "voxel_dimensions.csv").write_text("".join(f"{mm}\n" for mm in VOXEL_MM))


def imported(source: Path, destination: Path) -> tuple[int, list[str]]:
    return import_openkbp(source, destination, lambda *_: None)


def test_both_layouts_give_the_same_case_and_it_lies_in_the_patient_as_documented(tmp_path):
    patient = Patient.small()
    patient.pack(tmp_path / "data" / "train" / "pt_1.npz")
    patient.write_csv(tmp_path / "data" / "val" / "pt_2")
    told = []
    result = import_openkbp(tmp_path / "data", tmp_path / "cases", lambda done, total: told.append((done, total)))
    assert result == (2, [])
    assert told == [(1, 2), (2, 2)]
    packed, sparse = (load_case(tmp_path / "cases" / name) for name in ("train/pt_1.npz", "val/pt_2.npz"))

    assert (packed.identifier, sparse.identifier) == ("pt_1", "pt_2")
    np.testing.assert_allclose(packed.grid.spacing_mm, (2.5, 3.9, 3.8), rtol=1e-6)
    assert packed.grid.axes == sparse.grid.axes
    np.testing.assert_array_equal(packed.hu, sparse.hu)
    np.testing.assert_array_equal(packed.dose_gy, sparse.dose_gy)
    assert list(packed.structures) == list(sparse.structures)
    for name, structure in packed.structures.items():
        np.testing.assert_array_equal(structure.mask, sparse.structures[name].mask)

    assert list(packed.structures) == [
        EXTERNAL, "Brainstem", "SpinalCord", "Parotid_R", "Parotid_L", "PTV56", "PTV70",
    ]  # fmt: skip
    assert packed.prescription.dose_gy == {"PTV56": 56.0, "PTV70": 70.0}
    assert packed.prescription.fractions == 35

    grid = packed.grid
    centre = {name: grid.points_mm(np.argwhere(s.mask)).mean(axis=0) for name, s in packed.structures.items()}
    assert centre["Parotid_L"][0] - centre["Parotid_R"][0] == pytest.approx(8 * 3.8, rel=1e-5)  # x to the left
    assert centre["SpinalCord"][1] - centre["PTV56"][1] == pytest.approx(6 * 3.9, rel=1e-5)  # y to posterior
    assert centre["Brainstem"][2] - centre["SpinalCord"][2] == pytest.approx(2 * 2.5, rel=1e-5)  # z to the head
    row, column, level = 65, 57, 41
    assert packed.dose_gy[level, row, column] == pytest.approx(patient.dose_cgy[row, column, level] / 100, abs=1e-3)
    assert packed.hu[level, row, column] == patient.ct[row, column, level] - 1024
    assert packed.hu[0, 0, 0] == -1024


def test_patients_that_cannot_be_used_are_told_and_the_others_imported(tmp_path):
    data = tmp_path / "data"
    patient = Patient.small()
    patient.pack(data / "pt_5.npz")
    whole = (data / "pt_5.npz").read_bytes()
    (data / "pt_6.npz").write_bytes(whole[: len(whole) // 2])
    (data / "pt_7.npz").write_bytes(b"")
    np.savez(data / "pt_8.npz", ct=patient.ct)
    (data / "pt_9").mkdir()
    (data / "pt_9" / "voxel_dimensions.csv").write_text("1\n1\n1\n")
    Patient(patient.ct, patient.dose_cgy, patient.masks | {"possible_dose_mask": np.zeros(SHAPE, bool)}).pack(
        data / "pt_3.npz"
    )
    outline = {"possible_dose_mask": patient.masks["possible_dose_mask"]}
    Patient(patient.ct, patient.dose_cgy, outline).pack(data / "pt_4.npz")
    written, refused = imported(data, tmp_path / "cases")
    assert written == 1
    assert [line.split(":")[0] for line in refused] == [
        "pt_3.npz", "pt_4.npz", "pt_6.npz", "pt_7.npz", "pt_8.npz", "pt_9",
    ]  # fmt: skip
    assert "possible-dose mask is empty" in refused[0]
    assert "no target" in refused[1]
    assert [p.name for p in (tmp_path / "cases").iterdir()] == ["pt_5.npz"]


def test_an_empty_list_of_voxels_does_not_stop_the_import(tmp_path):
    Patient.small().write_csv(tmp_path / "data" / "pt_1")
    (tmp_path / "data" / "pt_1" / "Larynx.csv").write_text(",data\n")
    assert imported(tmp_path / "data", tmp_path / "cases") == (1, [])
    assert "Larynx" not in load_case(tmp_path / "cases" / "pt_1.npz").structures


def test_a_folder_without_patients_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="no OpenKBP patient"):
        imported(tmp_path, tmp_path / "cases")
