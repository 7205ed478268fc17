"""Case files: there and back, and what is refused."""

import json
from dataclasses import replace

import numpy as np
import pytest

from model.case import Beam, Case, Structure
from model.errors import DatasetError
from model.training.case_file import DOSE_STEP_GY, case_files, load_case, save_case


def assert_same(found: Case, expected: Case) -> None:
    assert found.grid == expected.grid
    assert found.identifier == expected.identifier
    assert dict(found.prescription.dose_gy) == dict(expected.prescription.dose_gy)
    assert found.prescription.fractions == expected.prescription.fractions
    assert found.beams == expected.beams
    np.testing.assert_array_equal(found.hu, expected.hu)
    np.testing.assert_allclose(found.dose_gy, expected.dose_gy, atol=DOSE_STEP_GY / 2 + 1e-5)
    assert list(found.structures) == list(expected.structures)
    for name, structure in found.structures.items():
        assert structure.kind == expected.structures[name].kind
        np.testing.assert_array_equal(structure.mask, expected.structures[name].mask)


def test_a_case_survives_the_disk(block_case, tmp_path):
    path = tmp_path / "new" / "folder" / "case.npz"
    save_case(block_case, path)
    assert_same(load_case(path), block_case)
    assert [p.name for p in path.parent.iterdir()] == ["case.npz"]


def test_a_case_keeps_its_orientation(block_case, reorient, tmp_path):
    case = reorient(block_case, (2, 0, 1), (True, False, True))
    save_case(case, tmp_path / "case.npz")
    assert_same(load_case(tmp_path / "case.npz"), case)


def test_beams_are_kept_and_older_files_have_none(block_case, tmp_path):
    path = tmp_path / "case.npz"
    beams = (Beam((40.0,), (1.0, -2.5, 3.1)), Beam((350.0, 0.0, 10.5), None, 15.0))
    save_case(replace(block_case, beams=beams), path)
    assert_same(load_case(path), replace(block_case, beams=beams))

    with np.load(path) as stored:
        arrays = dict(stored)
    description = json.loads(arrays["description"].tobytes())
    del description["beams"]
    np.savez(path, **arrays | {"description": np.frombuffer(json.dumps(description).encode(), np.uint8)})
    assert_same(load_case(path), block_case)


def test_hounsfield_units_never_wrap_around(block_case, tmp_path):
    hu = block_case.hu.astype(np.float32)
    hu[0, 0, :3] = (-33792.0, 64511.0, 7.4)
    save_case(replace(block_case, hu=hu), tmp_path / "case.npz")
    assert load_case(tmp_path / "case.npz").hu[0, 0, :3].tolist() == [-32768, 32767, 7]


def test_a_case_that_cannot_be_written_leaves_nothing(block_case, tmp_path, monkeypatch):
    def full(file, **arrays):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(OSError, match="No space"):
        save_case(block_case, tmp_path / "case.npz")
    assert list(tmp_path.iterdir()) == []


def test_32_structures_fit_and_33_do_not(block_case, tmp_path):
    random = np.random.default_rng(0)
    more = {
        f"organ {k}": Structure(f"organ {k}", random.random(block_case.grid.shape) < 0.5, "oar")
        for k in range(32 - len(block_case.structures))
    }
    full = replace(block_case, structures=block_case.structures | more)
    save_case(full, tmp_path / "case.npz")
    assert_same(load_case(tmp_path / "case.npz"), full)
    one_more = full.structures | {"last": Structure("last", block_case.external, "oar")}
    with pytest.raises(ValueError, match="33 structures"):
        save_case(replace(full, structures=one_more), tmp_path / "case.npz")


@pytest.mark.parametrize("dose_gy", [-1.0, 700.0, float("nan")])
def test_doses_that_cannot_be_stored_are_refused(block_case, tmp_path, dose_gy):
    wrong = block_case.dose_gy.copy()
    wrong[2, 10, 10] = dose_gy
    with pytest.raises(ValueError, match="cannot be stored"):
        save_case(replace(block_case, dose_gy=wrong), tmp_path / "case.npz")
    with pytest.raises(ValueError, match="without reference dose"):
        save_case(replace(block_case, dose_gy=None), tmp_path / "case.npz")


def test_damaged_files_are_refused(block_case, tmp_path):
    path = tmp_path / "case.npz"
    save_case(block_case, path)
    whole = path.read_bytes()
    middle = len(whole) // 3
    damaged = [b"", b"not a case", whole[: len(whole) // 2], whole[:middle] + b"\0" * 300 + whole[middle + 300 :]]
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises(DatasetError, match="not a case"):
            load_case(path)
    np.savez(path, hu=np.zeros(3))
    with pytest.raises(DatasetError, match="not a case"):
        load_case(path)
    with pytest.raises(DatasetError, match="not a case"):
        load_case(tmp_path / "absent.npz")


def test_case_files_come_in_the_order_of_their_names(tmp_path):
    with pytest.raises(DatasetError, match="no case"):
        case_files(tmp_path)
    for name in ("b.npz", "a.npz", "c.part", "d.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in case_files(tmp_path)] == ["a.npz", "b.npz"]
