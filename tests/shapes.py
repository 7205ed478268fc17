"""Solids in a linear dose gradient: figures of their DVHs in closed form, and the contours of their sections.

After Nelms et al. (Med. Phys. 42, 4435, 2015), who tested planning systems with them.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from unittest import mock

import numpy as np
import pydicom.dicomio
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, RTDoseStorage, RTStructureSetStorage, generate_uid
from scipy.optimize import brentq

from model.case import VoxelGrid
from model.dicom.rasterise import rasterise, sample
from model.dosimetry import Dvh, dvh, sampled_dvh

CENTRE_GY, GRADIENT_GY_PER_MM = 60.0, 1.0
FIGURES = ("volume", "Dmean", "D98%", "D2%", "V")
"""Volume in percent; doses in Gy, which is mm in this gradient; V, the worst of three levels, in percent of volume."""

SPACING_MM = (3.0, 1.0, 1.0)
RADII_MM = (3.0, 5.0, 10.0, 20.0)
CORNERS = 720


@dataclass(frozen=True)
class Solid:
    """A solid of revolution about z, as wide as it is high.

    Parameters
    ----------
    radius_at
        Radius of the section at a height between -1 and 1, relative to half of the solid's height.
    volume
        Relative to the cube of that.
    share_beyond
        Axis of the gradient, z or x → share of the volume beyond a place between -1 and 1 on it.
    mean
        Mean place along z.
    """

    radius_at: Callable[[float], float]
    volume: float
    share_beyond: Mapping[str, Callable[[float], float]]
    mean: float = 0.0


def _cap(place: float) -> float:
    return (1 - place) ** 2 * (2 + place) / 4


SOLIDS = {
    "sphere": Solid(lambda z: np.sqrt(1 - z**2), 4 / 3 * np.pi, {"z": _cap, "x": _cap}),
    "cylinder": Solid(
        lambda z: 1.0,
        2 * np.pi,
        {"z": lambda z: (1 - z) / 2, "x": lambda x: (np.arccos(x) - x * np.sqrt(1 - x**2)) / np.pi},
    ),
    # Pointing to the head
    "cone": Solid(lambda z: (1 - z) / 2, 2 / 3 * np.pi, {"z": lambda z: ((1 - z) / 2) ** 3}, -0.5),
}
CASES = [(name, axis, radius) for name, solid in SOLIDS.items() for axis in solid.share_beyond for radius in RADII_MM]


@dataclass(frozen=True)
class Placed:
    """A solid somewhere between the voxels of a grid, in a gradient along z or x."""

    solid: Solid
    axis: str
    radius_mm: float
    centre_mm: NDArray[np.float64]
    grid: VoxelGrid

    @property
    def contours_mm(self) -> list[NDArray[np.float64]]:
        """Sections through the grid's slices."""
        angle = np.linspace(0, 2 * np.pi, CORNERS, endpoint=False)
        sections = []
        for index in range(self.grid.shape[0]):
            z_mm = self.grid.origin_mm[2] + index * self.grid.spacing_mm[0]
            height = (z_mm - self.centre_mm[2]) / self.radius_mm
            if abs(height) < 1:
                radius_mm = self.radius_mm * self.solid.radius_at(height)
                x_mm = self.centre_mm[0] + radius_mm * np.cos(angle)
                y_mm = self.centre_mm[1] + radius_mm * np.sin(angle)
                sections.append(np.stack([x_mm, y_mm, np.full(CORNERS, z_mm)], axis=1))
        return sections

    @property
    def dose_gy(self) -> NDArray[np.float64]:
        """(slices, rows, columns) dose at the voxel centres."""
        along = 2 if self.axis == "z" else 0
        points = self.grid.points_mm(np.moveaxis(np.indices(self.grid.shape), 0, -1))
        return CENTRE_GY + GRADIENT_GY_PER_MM * (points[..., along] - self.centre_mm[along])

    def errors(
        self,
        volume_cc: float,
        mean_gy: float,
        dose_at_volume_percent: Callable[[float], float],
        volume_percent_at: Callable[[float], float],
    ) -> NDArray[np.float64]:
        """(figures,) deviations of a DVH from the closed forms."""
        scale_gy = GRADIENT_GY_PER_MM * self.radius_mm
        share_beyond = self.solid.share_beyond[self.axis]

        def exact_gy(percent: float) -> float:
            return CENTRE_GY + scale_gy * brentq(lambda place: share_beyond(place) - percent / 100, -1, 1)

        exact_cc = self.solid.volume * self.radius_mm**3 / 1000
        mean = self.solid.mean if self.axis == "z" else 0.0
        volumes = [
            volume_percent_at(CENTRE_GY + scale_gy * place) - 100 * share_beyond(place) for place in (-0.5, 0.0, 0.5)
        ]
        return np.array(
            [
                100 * (volume_cc / exact_cc - 1),
                mean_gy - CENTRE_GY - scale_gy * mean,
                dose_at_volume_percent(98) - exact_gy(98),
                dose_at_volume_percent(2) - exact_gy(2),
                max(volumes, key=abs),
            ]
        )


def placed(name: str, axis: str, radius_mm: float, count: int) -> Sequence[Placed]:
    """Return a solid at places that fill a slice's thickness evenly, anywhere in a pixel; the same at every call."""
    random = np.random.default_rng(0)
    shape = tuple(2 * (int(radius_mm / step) + 2) + 1 for step in SPACING_MM)
    corner = tuple(-step * (size // 2) for size, step in zip(shape[::-1], SPACING_MM[::-1], strict=True))
    grid = VoxelGrid(shape, SPACING_MM, corner)
    places = []
    for index in range(count):
        share = np.array([*random.uniform(-0.5, 0.5, 2), (index + 0.5) / count - 0.5])
        places.append(Placed(SOLIDS[name], axis, radius_mm, share * SPACING_MM[::-1], grid))
    return places


def our_dvh(place: Placed) -> Dvh:
    """DVH as in a report."""
    contours, grid = place.contours_mm, place.grid
    points = sample(contours, grid)
    if points is None:
        return dvh(place.dose_gy, rasterise(contours, grid), grid.voxel_volume_cc)
    return sampled_dvh(place.dose_gy, points, np.ones(grid.shape, bool))


def our_errors(place: Placed) -> NDArray[np.float64]:
    """(figures,) deviations of our DVH."""
    ours = our_dvh(place)
    return place.errors(ours.volume_cc, ours.mean_gy, ours.dose_at_volume_percent, ours.volume_percent_at)


def their_errors(place: Placed) -> NDArray[np.float64]:
    """(figures,) deviations of dicompyler-core's DVH, with its own settings.

    D98% and D2% are read from its histogram: its own lookup of a dose takes the bin with the nearest volume, which is
    0 Gy where the first step of the curve is high.
    """
    theirs = dicompyler_dvh(*as_dicom(place))
    share, edges = theirs.relative_volume.counts, theirs.bins[:-1]
    return place.errors(
        theirs.volume,
        theirs.mean,
        lambda percent: float(edges[np.flatnonzero(share >= percent)[-1]]),
        lambda dose_gy: float(np.interp(dose_gy, edges, share)),
    )


def dicompyler_dvh(structure_set: Dataset, dose: Dataset, roi_number: int = 1) -> Any:
    """Cumulative DVH by dicompyler-core."""
    # It asks for a name that pydicom 3 has dropped
    with mock.patch.object(pydicom.dicomio, "read_file", pydicom.dcmread, create=True), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from dicompylercore import dvhcalc

        return dvhcalc.get_dvh(structure_set, dose, roi_number)


def as_dicom(place: Placed) -> tuple[Dataset, Dataset]:
    """RTSTRUCT with the contours as ROI 1, and RTDOSE in steps of 0.1 mGy, with what a calculator of DVHs reads."""
    structure_set = dicom_object(RTStructureSetStorage)
    roi = Dataset()
    roi.ROINumber, roi.ROIName = 1, "solid"
    structure_set.StructureSetROISequence = [roi]
    roi_contour = Dataset()
    roi_contour.ReferencedROINumber = 1
    roi_contour.ROIDisplayColor = [255, 0, 0]
    roi_contour.ContourSequence = [_contour(points) for points in place.contours_mm]
    structure_set.ROIContourSequence = [roi_contour]
    observation = Dataset()
    observation.ReferencedROINumber, observation.RTROIInterpretedType = 1, "ORGAN"
    structure_set.RTROIObservationsSequence = [observation]

    grid = place.grid
    dose = dicom_object(RTDoseStorage)
    dose.DoseUnits, dose.DoseType, dose.DoseSummationType, dose.DoseGridScaling = "GY", "PHYSICAL", "PLAN", 1e-4
    dose.ImagePositionPatient, dose.ImageOrientationPatient = list(grid.origin_mm), [1, 0, 0, 0, 1, 0]
    dose.PixelSpacing, dose.PatientPosition = list(grid.spacing_mm[1:]), "HFS"
    dose.NumberOfFrames, dose.Rows, dose.Columns = grid.shape
    dose.GridFrameOffsetVector = [grid.spacing_mm[0] * index for index in range(grid.shape[0])]
    dose.SamplesPerPixel, dose.PhotometricInterpretation = 1, "MONOCHROME2"
    dose.BitsAllocated = dose.BitsStored = 32
    dose.HighBit, dose.PixelRepresentation = 31, 0
    dose.PixelData = np.rint(place.dose_gy * 1e4).astype("<u4").tobytes()
    dose["PixelData"].VR = "OW"
    return structure_set, dose


def dicom_object(sop_class: str) -> Dataset:
    """Data set of a class, with a UID of its own and the file meta information that it needs."""
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, generate_uid()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = sop_class
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return dataset


def _contour(points_mm: NDArray[np.float64]) -> Dataset:
    contour = Dataset()
    contour.ContourGeometricType = "CLOSED_PLANAR"
    contour.NumberOfContourPoints = len(points_mm)
    contour.ContourData = [round(x, 6) for x in points_mm.ravel().tolist()]
    return contour
