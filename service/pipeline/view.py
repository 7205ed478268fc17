"""CT, dose and structures as a viewer wants them: compact arrays that are served as they are stored.

All are cut to the patient's outline and put in canonical order, whatever the order of the CT: slices run to the head,
rows to posterior, columns to the patient's left. Numbers are little-endian, files compressed by gzip. The API needs
neither the study nor much memory to serve them.
"""

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from model.case import Case, Structure
from model.case.grid import bounding_box
from service.storage.layout import VIEW, VIEW_ARRAYS

MARGIN_MM = 20.0
"""Space around the outline that is kept, for masks and couch tops."""

UNIT_GY = 0.01
"""Finest step in which doses are stored: as many digits as the report has."""

COMPRESSION = 1
"""Noise hardly compresses: level 6 takes four times as long and saves 4 % of a CT."""

Box = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ViewStructure(_Part):
    """A structure and where its mask is."""

    name: str
    kind: Literal["target", "oar", "external"]
    prescription_gy: float | None
    box: Box | None = Field(
        description="First and last-plus-one index along slices, rows and columns; null if no voxel is inside."
    )
    offset: int = Field(
        description="First byte of the mask in `structures`: one bit per voxel of the box, the lowest bit first."
    )


class View(_Part):
    """How to read the arrays of a job's view.

    `ct` holds int16, `dose` and `reference` uint16, (slices, rows, columns) in C order: slices run to the head, rows to
    posterior, columns to the patient's left.
    """

    shape: tuple[int, int, int] = Field(description="Slices, rows, columns.")
    spacing_mm: tuple[float, float, float] = Field(description="Between slices, rows and columns.")
    origin_mm: tuple[float, float, float] = Field(description="x, y, z of the first voxel's centre, LPS.")
    start: tuple[int, int, int] = Field(description="Voxel at the centre of the highest prescribed target.")
    unit_gy: float = Field(description="Gy per unit of `dose` and `reference`.")
    highest_gy: float = Field(description="Greatest dose of both.")
    prescription_gy: dict[str, float]
    structures: tuple[ViewStructure, ...] = Field(description="Targets, organs at risk, then the External.")
    has_reference: bool


def write_view(
    case: Case, dose_gy: NDArray[np.floating], folder: Path, *, reference_gy: NDArray[np.floating] | None = None
) -> None:
    """Write the files of a view into a folder; one slice at a time is copied.

    Parameters
    ----------
    dose_gy, reference_gy
        (slices, rows, columns) in Gy, not negative, on the case's grid, which may have any aligned orientation.
    """
    grid = case.grid.canonical()
    outline = case.grid.to_canonical(case.external)
    corners = [
        (max(0, side.start - round(MARGIN_MM / step)), min(voxels, side.stop + round(MARGIN_MM / step)))
        for side, step, voxels in zip(bounding_box(outline), grid.spacing_mm, grid.shape, strict=True)
    ]
    # Slices without an outline are part of the study still
    corners[0] = (0, grid.shape[0])
    crop = tuple(slice(first, last) for first, last in corners)

    doses = {"dose": dose_gy} | ({} if reference_gy is None else {"reference": reference_gy})
    highest_gy = max(float(dose.max()) for dose in doses.values())
    unit_gy = max(UNIT_GY, highest_gy / np.iinfo(np.uint16).max)
    arrays: dict[str, tuple[NDArray[np.generic], float, str]] = {"ct": (case.hu, 1.0, "<i2")}
    arrays |= {name: (dose, unit_gy, "<u2") for name, dose in doses.items()}
    for name, (array, unit, kind) in arrays.items():
        limits = np.iinfo(kind)
        with _compressed(folder / VIEW_ARRAYS[name]) as file:
            for plane in case.grid.to_canonical(array)[crop]:
                scaled = np.rint(np.asarray(plane, np.float64) / unit)
                file.write(np.clip(scaled, limits.min, limits.max).astype(kind).tobytes())

    structures, offset = [], 0
    with _compressed(folder / VIEW_ARRAYS["structures"]) as file:
        for structure in _ordered(case):
            mask = case.grid.to_canonical(structure.mask)[crop]
            box = None
            if mask.any():
                sides = bounding_box(mask)
                box = tuple((side.start, side.stop) for side in sides)
                packed = np.packbits(mask[sides], bitorder="little").tobytes()
                file.write(packed)
            structures.append(
                ViewStructure(
                    name=structure.name,
                    kind=structure.kind,
                    prescription_gy=case.prescription.dose_gy.get(structure.name),
                    box=box,
                    offset=offset,
                )
            )
            offset += len(packed) if box else 0

    first = [side.start for side in crop]
    origin = grid.points_mm(np.asarray(first))
    prescribed = case.prescription.dose_gy
    high_target = case.structures[max(prescribed, key=lambda name: prescribed[name])].mask
    # A target may lie outside the patient
    shown = next(mask for mask in (case.grid.to_canonical(high_target)[crop], outline[crop]) if mask.any())
    view = View(
        shape=tuple(side.stop - side.start for side in crop),
        spacing_mm=grid.spacing_mm,
        origin_mm=tuple(float(x) for x in origin),
        start=tuple(int(np.rint(index.mean())) for index in np.nonzero(shown)),
        unit_gy=unit_gy,
        highest_gy=highest_gy,
        prescription_gy=dict(prescribed),
        structures=tuple(structures),
        has_reference=reference_gy is not None,
    )
    (folder / VIEW).write_text(view.model_dump_json(), encoding="utf-8")


def _ordered(case: Case) -> list[Structure]:
    """Targets by falling prescription, organs at risk by name, the External: as in the report."""
    ranks = ("target", "oar", "external")
    prescribed = case.prescription.dose_gy
    return sorted(case.structures.values(), key=lambda s: (ranks.index(s.kind), -prescribed.get(s.name, 0.0), s.name))


@contextmanager
def _compressed(path: Path) -> Iterator[gzip.GzipFile]:
    """Write a gzip file that holds no name and no time."""
    with path.open("xb") as raw, gzip.GzipFile("", "wb", COMPRESSION, raw, mtime=0) as file:
        yield file
