"""OpenKBP's head-and-neck cases (Babier et al., Med. Phys. 48, 2021) in their two layouts → case files.

Public layout: a folder per patient with sparse CSV files, one row ``index,value`` per voxel, indices in C order of
(128, 128, 128). Packed layout: one ``pt_N.npz`` per patient with ``ct``, ``dose``, ``labels`` and ``voxel``.

Both index (row, column, slice), rows from anterior to posterior, columns to the patient's left, slices from the head
down.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from model.case import EXTERNAL, Case, Prescription, Structure, VoxelGrid
from model.errors import DatasetError
from model.training.case_file import save_case

T = TypeVar("T", bound=np.generic)

ORGANS = {
    "Brainstem": "Brainstem",
    "SpinalCord": "SpinalCord",
    "RightParotid": "Parotid_R",
    "LeftParotid": "Parotid_L",
    "Esophagus": "Esophagus",
    "Larynx": "Larynx",
    "Mandible": "Bone_Mandible",
}
"""OpenKBP's names, in the order of the packed layout's bits, and TG-263's."""

TARGETS_GY = {"PTV56": 56.0, "PTV63": 63.0, "PTV70": 70.0}
FRACTIONS = 35
MASK = "possible_dose_mask"
SHAPE = (128, 128, 128)
HU_OFFSET = 1024
"""CT is stored as HU + 1024; 0 stands for what was not scanned."""

_BITS = (*ORGANS, *TARGETS_GY, MASK)


@dataclass(frozen=True)
class _Raw:
    identifier: str
    ct: NDArray[np.int16]
    dose_gy: NDArray[np.float32]
    masks: dict[str, NDArray[np.bool_]]
    voxel_mm: NDArray[np.floating]


def import_openkbp(source: Path, destination: Path, progress: Callable[[int, int], None]) -> tuple[int, list[str]]:
    """Turn every patient below `source` into a case file below `destination`, keeping the folders in between.

    Parameters
    ----------
    progress
        Called with the number of patients done and their total.

    Returns
    -------
    number of cases written, and for each patient that was refused a line that says why

    Raises
    ------
    DatasetError
        If there is no patient below `source`.
    """
    patients = [p for p in sorted(source.rglob("pt_*")) if p.suffix == ".npz" or p.is_dir()]
    if not patients:
        raise DatasetError(f"no OpenKBP patient (pt_*) lies below {source}")
    written, refused = 0, []
    for count, patient in enumerate(patients, start=1):
        try:
            raw = _read_packed(patient) if patient.suffix == ".npz" else _read_csv(patient)
            case = _to_case(raw)
        except (OSError, EOFError, LookupError, ValueError, BadZipFile, zlib.error) as error:
            refused.append(f"{patient.name}: {error}")
        else:
            save_case(case, destination / patient.parent.relative_to(source) / f"{raw.identifier}.npz")
            written += 1
        progress(count, len(patients))
    return written, refused


def _read_packed(path: Path) -> _Raw:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
        labels = stored["labels"]
        masks = {name: (labels >> np.uint16(bit)) & 1 > 0 for bit, name in enumerate(_BITS)}
        return _Raw(path.stem, stored["ct"], stored["dose"].astype(np.float32) / 100, masks, stored["voxel"])


def _read_csv(folder: Path) -> _Raw:
    def sparse(name: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        rows = (folder / f"{name}.csv").read_text(encoding="utf-8").splitlines()[1:]
        table = np.genfromtxt(rows, delimiter=",", ndmin=2) if rows else np.empty((0, 2))
        return table[:, 0].astype(np.int64), table[:, 1]

    def dense(name: str) -> NDArray[np.float64]:
        volume = np.zeros(np.prod(SHAPE))
        indices, values = sparse(name)
        volume[indices] = values
        return volume.reshape(SHAPE)

    def mask(name: str) -> NDArray[np.bool_]:
        volume = np.zeros(np.prod(SHAPE), bool)
        if (folder / f"{name}.csv").is_file():
            volume[sparse(name)[0]] = True
        return volume.reshape(SHAPE)

    voxel = np.loadtxt(folder / "voxel_dimensions.csv").ravel()
    masks = {name: mask(name) for name in _BITS}
    return _Raw(folder.name, dense("ct").astype(np.int16), dense("dose").astype(np.float32), masks, voxel)


def _to_case(raw: _Raw) -> Case:
    masks = {name: _slices_first(mask) for name, mask in raw.masks.items() if mask.any()}
    if MASK not in masks:
        raise ValueError("the possible-dose mask is empty")
    targets = {name: dose for name, dose in TARGETS_GY.items() if name in masks}
    if not targets:
        raise ValueError("there is no target")
    structures = {EXTERNAL: Structure(EXTERNAL, masks[MASK], "external", MASK)}
    structures |= {t: Structure(t, masks[o], "oar", o) for o, t in ORGANS.items() if o in masks}
    structures |= {name: Structure(name, masks[name], "target", name) for name in targets}
    row_mm, column_mm, slice_mm = (float(v) for v in raw.voxel_mm)
    grid = VoxelGrid(
        shape=masks[MASK].shape,
        spacing_mm=(slice_mm, row_mm, column_mm),
        origin_mm=(0.0, 0.0, 0.0),
        axes=((0.0, 0.0, -1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0)),
    )
    return Case(
        hu=_slices_first(raw.ct) - np.int16(HU_OFFSET),
        grid=grid,
        structures=structures,
        prescription=Prescription(targets, FRACTIONS, "data-set"),
        dose_gy=_slices_first(raw.dose_gy),
        identifier=raw.identifier,
    )


def _slices_first(array: NDArray[T]) -> NDArray[T]:
    return np.ascontiguousarray(array.transpose(2, 0, 1))
