"""Cases on disk, for training: one compressed ``.npz`` each, without pickles.

Files from before beams were kept have no entry for them and give cases without beams.
"""

import json
import zlib
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from model.case import Beam, Case, Prescription, Structure, VoxelGrid
from model.errors import DatasetError

Direction = tuple[float, float, float]

DOSE_STEP_GY = 0.01
"""Dose is stored as uint16 in these steps: up to 655 Gy, an error of at most 5 mGy."""


def save_case(case: Case, path: Path) -> None:
    """Write a case with its reference dose; a reader sees the whole file or none.

    Hounsfield units are rounded, and those that 16 bits cannot hold are the nearest that they can.

    Raises
    ------
    ValueError
        If the case has no reference dose, one that does not fit, or more than 32 structures.
    """
    if case.dose_gy is None:
        raise ValueError("a case without reference dose is of no use for training")
    steps = np.round(case.dose_gy / DOSE_STEP_GY)
    if not (steps.min() >= 0 and steps.max() <= np.iinfo(np.uint16).max):
        raise ValueError(f"a dose of {case.dose_gy.min():g} to {case.dose_gy.max():g} Gy cannot be stored")
    names = list(case.structures)
    if len(names) > 32:
        raise ValueError(f"{len(names)} structures do not fit into 32 bits")
    labels = np.zeros(case.grid.shape, np.uint32)
    for bit, name in enumerate(names):
        labels |= case.structures[name].mask.astype(np.uint32) << np.uint32(bit)
    description = {
        "identifier": case.identifier,
        "grid": {"spacing_mm": case.grid.spacing_mm, "origin_mm": case.grid.origin_mm, "axes": case.grid.axes},
        "structures": [{"name": name, "kind": case.structures[name].kind} for name in names],
        "prescription_gy": dict(case.prescription.dose_gy),
        "fractions": case.prescription.fractions,
        "beams": [
            {"gantry_deg": b.gantry_deg, "isocentre_mm": b.isocentre_mm, "couch_deg": b.couch_deg} for b in case.beams
        ],
    }
    bounds = np.iinfo(np.int16)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part")
    try:
        with partial.open("wb") as file:
            np.savez_compressed(
                file,
                hu=np.clip(np.round(case.hu), bounds.min, bounds.max).astype(np.int16),
                labels=labels,
                dose=steps.astype(np.uint16),
                description=np.frombuffer(json.dumps(description).encode(), np.uint8),
            )
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def load_case(path: Path) -> Case:
    """Read a case that `save_case` wrote.

    Raises
    ------
    DatasetError
        If the file is not such a case.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            hu, labels, dose = stored["hu"], stored["labels"], stored["dose"]
            description = json.loads(stored["description"].tobytes())
        grid = description["grid"]
        masks = {s["name"]: (labels >> np.uint32(bit)) & 1 for bit, s in enumerate(description["structures"])}
        return Case(
            hu=hu,
            grid=VoxelGrid(hu.shape, tuple(grid["spacing_mm"]), tuple(grid["origin_mm"]), _axes(grid["axes"])),
            structures={
                s["name"]: Structure(s["name"], masks[s["name"]].astype(bool), s["kind"], s["name"])
                for s in description["structures"]
            },
            prescription=Prescription(description["prescription_gy"], description["fractions"], "data-set"),
            beams=tuple(_beam(beam) for beam in description.get("beams", [])),
            dose_gy=(dose * np.float32(DOSE_STEP_GY)).astype(np.float32),
            identifier=description["identifier"],
        )
    except (OSError, EOFError, KeyError, ValueError, BadZipFile, zlib.error) as error:
        raise DatasetError(f"{path} is not a case: {error}") from error


def _beam(stored: dict[str, Any]) -> Beam:
    isocentre = stored["isocentre_mm"]
    return Beam(tuple(stored["gantry_deg"]), isocentre and tuple(isocentre), stored["couch_deg"])


def _axes(rows: list[list[float]]) -> tuple[Direction, Direction, Direction]:
    slices, lines, columns = ((float(x), float(y), float(z)) for x, y, z in rows)
    return slices, lines, columns


def case_files(folder: Path) -> list[Path]:
    """All case files of a folder, in the order of their names.

    Raises
    ------
    DatasetError
        If there are none.
    """
    files = sorted(folder.glob("*.npz"))
    if not files:
        raise DatasetError(f"{folder} holds no case; make some with 'diffdp import'")
    return files
