"""Small DICOM studies, written with pydicom alone so that our writers cannot hide our readers' faults."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
    RTDoseStorage,
    RTPlanStorage,
    RTStructureSetStorage,
    generate_uid,
)

HFS = (1, 0, 0, 0, 1, 0)


@dataclass
class SyntheticStudy:
    """CT of 6 slices, 8 rows and 10 columns of 3 x 2 x 1.5 mm with a structure set; all of it may be spoilt."""

    folder: Path
    ct: list[Dataset] = field(default_factory=list)
    structure_sets: list[Dataset] = field(default_factory=list)
    plans: list[Dataset] = field(default_factory=list)
    doses: list[Dataset] = field(default_factory=list)
    others: list[Dataset] = field(default_factory=list)
    frame_of_reference: str = field(default_factory=generate_uid)

    @property
    def structure_set(self) -> Dataset:
        return self.structure_sets[0]

    def write(self) -> list[Path]:
        self.folder.mkdir(exist_ok=True)
        paths = []
        for number, dataset in enumerate(self.ct + self.structure_sets + self.plans + self.doses + self.others):
            path = self.folder / f"{number:03d}"
            dataset.save_as(path, enforce_file_format=True)
            paths.append(path)
        return paths

    def new(self, sop_class: str, modality: str) -> Dataset:
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.SOPClassUID = sop_class
        dataset.SOPInstanceUID = generate_uid()
        dataset.Modality = modality
        dataset.PatientID = "P1"
        dataset.FrameOfReferenceUID = self.frame_of_reference
        return dataset

    def add_ct(
        self,
        *,
        slices: int = 6,
        orientation: Sequence[float] = HFS,
        origin: Sequence[float] = (-7.0, -5.0, 20.0),
        spacing: Sequence[float] = (3.0, 2.0, 1.5),
        stored: NDArray[np.integer] | None = None,
    ) -> list[Dataset]:
        """Add a series whose slices follow each other along the normal; ``stored`` is (slices, rows, columns)."""
        normal = np.cross(orientation[:3], orientation[3:])
        stored = np.zeros((slices, 8, 10), np.int16) if stored is None else stored
        series = []
        series_uid = generate_uid()
        for index, pixels in enumerate(stored):
            dataset = self.new(CTImageStorage, "CT")
            dataset.SeriesInstanceUID = series_uid
            dataset.PatientPosition = "HFS"
            dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
            dataset.ImageOrientationPatient = list(orientation)
            dataset.ImagePositionPatient = list(np.round(np.array(origin) + index * spacing[0] * normal, 6))
            dataset.PixelSpacing = [spacing[1], spacing[2]]
            dataset.Rows, dataset.Columns = pixels.shape
            dataset.SamplesPerPixel = 1
            dataset.PhotometricInterpretation = "MONOCHROME2"
            dataset.BitsAllocated = dataset.BitsStored = 16
            dataset.HighBit = 15
            dataset.PixelRepresentation = 1
            dataset.RescaleSlope = 1
            dataset.RescaleIntercept = 0
            dataset.PixelData = pixels.astype("<i2").tobytes()
            dataset["PixelData"].VR = "OW"
            series.append(dataset)
        self.ct += series
        return series

    def add_structure_set(self, rois: Iterable[tuple[int, str, str, Sequence[object]]]) -> Dataset:
        """Add a structure set of ROIs (number, name, type, contours (n, 3))."""
        dataset = self.new(RTStructureSetStorage, "RTSTRUCT")
        del dataset.FrameOfReferenceUID
        dataset.StructureSetDate = "20200101"
        series = Dataset()
        series.SeriesInstanceUID = self.ct[0].SeriesInstanceUID
        series.ContourImageSequence = [_reference(ct) for ct in self.ct]
        study = Dataset()
        study.RTReferencedSeriesSequence = [series]
        frame = Dataset()
        frame.FrameOfReferenceUID = self.frame_of_reference
        frame.RTReferencedStudySequence = [study]
        dataset.ReferencedFrameOfReferenceSequence = [frame]
        dataset.StructureSetROISequence = []
        dataset.ROIContourSequence = []
        dataset.RTROIObservationsSequence = []
        for number, name, kind, contours in rois:
            roi = Dataset()
            roi.ROINumber = number
            roi.ROIName = name
            roi.ReferencedFrameOfReferenceUID = self.frame_of_reference
            dataset.StructureSetROISequence.append(roi)
            roi_contour = Dataset()
            roi_contour.ReferencedROINumber = number
            roi_contour.ContourSequence = [contour(points) for points in contours]
            dataset.ROIContourSequence.insert(0, roi_contour)
            observation = Dataset()
            observation.ReferencedROINumber = number
            observation.RTROIInterpretedType = kind
            dataset.RTROIObservationsSequence.append(observation)
        self.structure_sets.append(dataset)
        return dataset

    def add_plan(self, dose_gy: float = 60.0, roi_number: int = 1) -> Dataset:
        dataset = self.new(RTPlanStorage, "RTPLAN")
        dataset.RTPlanLabel = "Plan"
        dataset.RTPlanDate = "20200102"
        dataset.ReferencedStructureSetSequence = [_reference(self.structure_set)]
        target = Dataset()
        target.DoseReferenceStructureType = "VOLUME"
        target.DoseReferenceType = "TARGET"
        target.ReferencedROINumber = roi_number
        target.TargetPrescriptionDose = dose_gy
        dataset.DoseReferenceSequence = [target]
        group = Dataset()
        group.NumberOfFractionsPlanned = 30
        dataset.FractionGroupSequence = [group]
        dataset.BeamSequence = []
        self.plans.append(dataset)
        return dataset

    def add_dose(self, values_gy: NDArray[np.floating], *, orientation: Sequence[float] = HFS) -> Dataset:
        """Add a plan dose in steps of 10 mGy on a grid of 3 x 2 x 1.5 mm that begins where the CT does."""
        dataset = self.new(RTDoseStorage, "RTDOSE")
        dataset.DoseUnits = "GY"
        dataset.DoseType = "PHYSICAL"
        dataset.DoseSummationType = "PLAN"
        dataset.DoseGridScaling = 0.01
        dataset.ImageOrientationPatient = list(orientation)
        dataset.ImagePositionPatient = [-7.0, -5.0, 20.0]
        dataset.PixelSpacing = [2.0, 1.5]
        dataset.NumberOfFrames, dataset.Rows, dataset.Columns = values_gy.shape
        dataset.GridFrameOffsetVector = [3.0 * k for k in range(len(values_gy))]
        dataset.SamplesPerPixel = 1
        dataset.PhotometricInterpretation = "MONOCHROME2"
        dataset.BitsAllocated = dataset.BitsStored = 16
        dataset.HighBit = 15
        dataset.PixelRepresentation = 0
        dataset.PixelData = np.rint(values_gy / 0.01).astype("<u2").tobytes()
        dataset["PixelData"].VR = "OW"
        self.doses.append(dataset)
        return dataset


def contour(points: object, kind: str = "CLOSED_PLANAR") -> Dataset:
    item = Dataset()
    item.ContourGeometricType = kind
    item.ContourData = [float(x) for x in np.ravel(points)]  # type: ignore[call-overload]
    item.NumberOfContourPoints = len(item.ContourData) // 3
    return item


def rectangle(x0: float, x1: float, y0: float, y1: float, z: float) -> NDArray[np.float64]:
    return np.array([(x0, y0, z), (x1, y0, z), (x1, y1, z), (x0, y1, z)])


def _reference(dataset: Dataset) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = dataset.SOPClassUID
    item.ReferencedSOPInstanceUID = dataset.SOPInstanceUID
    return item


@pytest.fixture
def empty_study(tmp_path: Path) -> SyntheticStudy:
    return SyntheticStudy(tmp_path / "study")


@pytest.fixture
def study(empty_study: SyntheticStudy) -> SyntheticStudy:
    """A PTV of 3 slices x 2 rows x 3 columns and an outline of all slices, 6 rows and 8 columns."""
    empty_study.add_ct()
    empty_study.add_structure_set(
        [
            (1, "PTV, boost", "PTV", [rectangle(-3, 1.5, -2, 2, z) for z in (23, 26, 29)]),
            (2, "Body", "EXTERNAL", [rectangle(-6.25, 5.75, -4, 8, z) for z in range(20, 38, 3)]),
            (3, "Empty", "ORGAN", []),
        ]
    )
    return empty_study
