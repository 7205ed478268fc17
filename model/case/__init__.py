"""The patient as numbers: grid, volumes, structures, prescription, beams."""

from model.case.case import EXTERNAL, Apertures, Beam, Case, Prescription, PrescriptionSource, Structure
from model.case.grid import Volume, VoxelGrid

__all__ = [
    "EXTERNAL",
    "Apertures",
    "Beam",
    "Case",
    "Prescription",
    "PrescriptionSource",
    "Structure",
    "Volume",
    "VoxelGrid",
]
