"""One patient, ready for the network or for dosimetry."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from model.case.grid import Volume, VoxelGrid

EXTERNAL = "External"
"""TG-263 name of the patient's outline."""

COUCH_TOLERANCE_DEG = 0.1
"""A couch that is turned by less is not: it moves a point 200 mm away by a third of a millimetre, and angles that were
computed from others are never quite 0."""

PrescriptionSource = Literal["plan", "structure-name", "parameter", "data-set"]


@dataclass(frozen=True)
class Structure:
    """A delineated region.

    Parameters
    ----------
    name
        The name by which the product knows it: the site's TG-263 name where one was matched, else the ROI's own.
    mask
        (slices, rows, columns) bool on the case's grid; a voxel belongs to the structure if its centre does.
    kind
        What the structure is for; the external outline bounds the dose.
    roi_name
        Name as found in the study (ROI Name (3006,0026)).
    roi_number
        ROI Number (3006,0022), None if the case does not come from DICOM.
    """

    name: str
    mask: NDArray[np.bool_]
    kind: Literal["target", "oar", "external"]
    roi_name: str = ""
    roi_number: int | None = None


@dataclass(frozen=True)
class Prescription:
    """Dose prescribed to each target.

    Parameters
    ----------
    dose_gy
        Target structure name → prescribed dose over all fractions, in Gy.
    fractions
        Planned number of fractions, None if not known.
    source
        Where the doses come from.
    """

    dose_gy: Mapping[str, float]
    fractions: int | None
    source: PrescriptionSource

    def __post_init__(self) -> None:
        if not self.dose_gy:
            raise ValueError("a prescription needs at least one target")
        if min(self.dose_gy.values()) <= 0:
            raise ValueError("prescribed doses must be positive")

    @property
    def highest_gy(self) -> float:
        """The highest prescribed dose; dose is scaled by it."""
        return max(self.dose_gy.values())


@dataclass(frozen=True)
class Apertures:
    """How a beam is shaped and weighted at each of its control points.

    Parameters
    ----------
    edges_mm
        Where leaf pairs meet, ascending towards the head, in the isocentre's plane: one more than there are pairs.
    openings_mm
        For each control point and pair the two ends of its opening, in the isocentre's plane; they grow towards the
        patient's left when the gantry is at 0°.
    monitor_units
        Delivered about each control point, in one fraction.
    """

    edges_mm: tuple[float, ...]
    openings_mm: tuple[tuple[tuple[float, float], ...], ...]
    monitor_units: tuple[float, ...]


@dataclass(frozen=True)
class Beam:
    """A treatment beam of the study's plan.

    Parameters
    ----------
    gantry_deg
        Gantry angles in degrees, IEC 61217, as for a patient lying head first, supine: one for a static beam, one per
        control point for an arc.
    isocentre_mm
        Patient point (x, y, z), None if the plan does not give it.
    couch_deg
        Patient support angle in degrees.
    apertures
        Of simulated plans; those of others are not read.
    """

    gantry_deg: tuple[float, ...]
    isocentre_mm: tuple[float, float, float] | None = None
    couch_deg: float = 0.0
    apertures: Apertures | None = None

    @property
    def has_turned_couch(self) -> bool:
        """Whether the couch is turned away from 0°."""
        return abs((self.couch_deg + 180.0) % 360.0 - 180.0) > COUCH_TOLERANCE_DEG


@dataclass(frozen=True)
class Case:
    """CT, structures and prescription of one patient on one grid.

    Parameters
    ----------
    hu
        (slices, rows, columns) int16 or float32, Hounsfield units.
    grid
        Where the voxels lie.
    structures
        By name; includes `EXTERNAL`.
    prescription
        Prescribed dose of each target among the structures.
    beams
        Of the study's plan; empty if it has none.
    dose_gy
        Reference dose on the same grid, if there is one.
    """

    hu: NDArray[np.int16] | NDArray[np.float32]
    grid: VoxelGrid
    structures: Mapping[str, Structure]
    prescription: Prescription
    beams: tuple[Beam, ...] = ()
    dose_gy: NDArray[np.float32] | None = None
    identifier: str = field(default="")

    def __post_init__(self) -> None:
        arrays = {"hu": self.hu, **{name: s.mask for name, s in self.structures.items()}}
        if self.dose_gy is not None:
            arrays["dose_gy"] = self.dose_gy
        for name, array in arrays.items():
            if array.shape != self.grid.shape:
                raise ValueError(f"{name} has shape {array.shape}, the grid {self.grid.shape}")
        if EXTERNAL not in self.structures:
            raise ValueError(f"a case needs the structure {EXTERNAL}")
        absent = set(self.prescription.dose_gy) - set(self.structures)
        if absent:
            raise ValueError(f"doses are prescribed to structures that the case lacks: {sorted(absent)}")

    @property
    def external(self) -> NDArray[np.bool_]:
        """Mask of the patient's outline."""
        return self.structures[EXTERNAL].mask

    def target_map_gy(self) -> NDArray[np.float32]:
        """(slices, rows, columns) prescribed dose in Gy; where targets overlap the higher prescription holds."""
        prescribed = np.zeros(self.grid.shape, np.float32)
        for name, dose_gy in self.prescription.dose_gy.items():
            np.maximum(prescribed, np.float32(dose_gy) * self.structures[name].mask, out=prescribed)
        return prescribed

    def reference(self) -> Volume | None:
        """Return the reference dose as a volume."""
        return None if self.dose_gy is None else Volume(self.dose_gy, self.grid)
