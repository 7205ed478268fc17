"""Case → DICOM study: CT series, RTSTRUCT, RTPLAN and, where the case has a dose, RTDOSE."""

import copy
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import UID, CTImageStorage, RTDoseStorage, RTPlanStorage, RTStructureSetStorage

from model.case import Apertures, Beam, Case, Structure, Volume, VoxelGrid
from model.dicom.contours import trace_contours
from model.dicom.derived import (
    LO_LENGTH,
    SH_LENGTH,
    ascii_text,
    decimal,
    new_instance,
    new_uid,
    own_text,
    reference,
    save,
)
from model.dicom.dose_writer import set_dose
from model.dicom.plan import from_head_first_supine
from model.dicom.plan_writer import set_plan

CREATED = datetime(2000, 1, 1, 12, tzinfo=UTC)
"""Date in every exported object: the same case gives the same files, byte for byte."""

DETACHED_STUDY = UID("1.2.840.10008.3.1.2.3.1")
"""Detached Study Management, the class by which a structure set refers to its study (PS3.3 C.8.8.5)."""

PATIENT_POSITION: dict[tuple[int, ...], str] = {
    (1, 0, 0, 0, 1, 0): "HFS",
    (-1, 0, 0, 0, -1, 0): "HFP",
    (-1, 0, 0, 0, 1, 0): "FFS",
    (1, 0, 0, 0, -1, 0): "FFP",
    (0, 1, 0, -1, 0, 0): "HFDR",
    (0, -1, 0, 1, 0, 0): "HFDL",
    (0, -1, 0, -1, 0, 0): "FFDR",
    (0, 1, 0, 1, 0, 0): "FFDL",
}
"""Image Orientation (Patient) → Patient Position (0018,5100), as planning systems pair them."""

INTERPRETED_TYPE = {"target": "PTV", "oar": "ORGAN", "external": "EXTERNAL"}
DISPLAY_COLOUR = {"target": [220, 50, 47], "oar": [38, 139, 210], "external": [133, 153, 0]}


def write_study(
    case: Case,
    folder: Path,
    *,
    identity: str | None = None,
    patient_name: str = "DiffDP^Simulated",
    patient_id: str = "DIFFDP-SIMULATED",
    description: str = "Simulated patient",
) -> list[Path]:
    """Write a case as a DICOM study and return its files.

    Contours run midway between voxel centres, so that testing voxel centres against them, even-odd, gives the masks
    back exactly. A repetition with the same case and identity gives the same bytes.

    Parameters
    ----------
    case
        Slices must be transverse, oriented as one of `PATIENT_POSITION`; Hounsfield units are rounded to integers.
    folder
        Is made if need be; files of the same names are replaced.
    identity
        Determines all UIDs; by default the case's identifier, and random ones if that is empty.
    patient_name, patient_id
        Patient's Name (0010,0010) and Patient ID (0010,0020).
    description
        Study Description (0008,1030).

    Raises
    ------
    ValueError
        If no patient position gives slices of the grid's orientation, or a beam of a patient who lies feet first has
        apertures.
    """
    identity = identity or case.identifier or new_uid(None)
    context = Dataset()
    context.SpecificCharacterSet = "ISO_IR 192"
    context.PatientName = patient_name
    context.PatientID = patient_id
    context.PatientSex = "O"
    context.StudyInstanceUID = new_uid(identity, "study")
    context.StudyDate = f"{CREATED:%Y%m%d}"
    context.StudyTime = f"{CREATED:%H%M%S}"
    context.StudyDescription = ascii_text(description, LO_LENGTH)
    context.StudyID = "1"
    context.FrameOfReferenceUID = new_uid(identity, "frame")

    slices = _ct_series(case, context, identity)
    structure_set = _structure_set(case, context, identity, slices)
    plan = _plan(case, context, identity, structure_set)
    objects = {f"CT.{index:03d}.dcm": dataset for index, dataset in enumerate(slices)}
    objects |= {"RS.dcm": structure_set, "RP.dcm": plan}
    reference_dose = case.reference()
    if reference_dose is not None:
        objects["RD.dcm"] = _reference_dose(reference_dose, context, identity, plan)

    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, dataset in objects.items():
        save(dataset, folder / name)
        paths.append(folder / name)
    return paths


def _ct_series(case: Case, context: Dataset, identity: str) -> list[Dataset]:
    """CT Image modules (PS3.3 C.8.2.1), one object per slice of the grid."""
    grid = case.grid
    bounds = np.iinfo(np.int16)
    pixels = np.clip(np.rint(case.hu), bounds.min, bounds.max).astype("<i2")
    first_slice = new_instance(context, sop_class_uid=CTImageStorage, modality="CT", identity=identity, created=CREATED)
    slices = []
    for index in range(grid.shape[0]):
        dataset = copy.deepcopy(first_slice)
        dataset.SOPInstanceUID = new_uid(identity, "CT", str(index))
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        dataset.SeriesDescription = "CT"
        dataset.PatientPosition = _patient_position(grid)
        dataset.Laterality = None
        dataset.KVP = 120
        dataset.AcquisitionNumber = 1
        dataset.InstanceNumber = index + 1
        dataset.ImagePositionPatient = [decimal(x) for x in grid.points_mm(np.array([index, 0, 0]))]
        dataset.ImageOrientationPatient = [decimal(x) for x in (*grid.axes[2], *grid.axes[1])]
        dataset.PixelSpacing = [decimal(grid.spacing_mm[1]), decimal(grid.spacing_mm[2])]
        dataset.SliceThickness = decimal(grid.spacing_mm[0])
        dataset.SamplesPerPixel = 1
        dataset.PhotometricInterpretation = "MONOCHROME2"
        dataset.Rows, dataset.Columns = grid.shape[1:]
        dataset.BitsAllocated = dataset.BitsStored = 16
        dataset.HighBit = 15
        dataset.PixelRepresentation = 1
        dataset.RescaleIntercept = 0
        dataset.RescaleSlope = 1
        dataset.RescaleType = "HU"
        dataset.PixelData = pixels[index].tobytes()
        dataset["PixelData"].VR = "OW"
        slices.append(dataset)
    return slices


def _patient_position(grid: VoxelGrid) -> str:
    orientation = tuple(round(x) for x in (*grid.axes[2], *grid.axes[1]))
    if orientation not in PATIENT_POSITION:
        raise ValueError(f"no patient position has the image orientation {orientation}")
    return PATIENT_POSITION[orientation]


def _structure_set(case: Case, context: Dataset, identity: str, slices: Sequence[Dataset]) -> Dataset:
    """Structure Set, ROI Contour and RT ROI Observations modules (PS3.3 C.8.8.5, C.8.8.6, C.8.8.8)."""
    dataset = new_instance(
        context, sop_class_uid=RTStructureSetStorage, modality="RTSTRUCT", identity=identity, created=CREATED
    )
    dataset.StructureSetLabel = "Structures"
    dataset.StructureSetDate = dataset.InstanceCreationDate
    dataset.StructureSetTime = dataset.InstanceCreationTime
    dataset.InstanceNumber = 1

    series = Dataset()
    series.SeriesInstanceUID = slices[0].SeriesInstanceUID
    series.ContourImageSequence = Items([reference(ct) for ct in slices])
    study = Dataset()
    study.ReferencedSOPClassUID = DETACHED_STUDY
    study.ReferencedSOPInstanceUID = dataset.StudyInstanceUID
    study.RTReferencedSeriesSequence = Items([series])
    frame = Dataset()
    frame.FrameOfReferenceUID = dataset.FrameOfReferenceUID
    frame.RTReferencedStudySequence = Items([study])
    dataset.ReferencedFrameOfReferenceSequence = Items([frame])

    rois, roi_contours, observations = [], [], []
    for structure, number in zip(case.structures.values(), _roi_numbers(case).values(), strict=True):
        roi = Dataset()
        roi.ROINumber = number
        roi.ReferencedFrameOfReferenceUID = dataset.FrameOfReferenceUID
        roi.ROIName = own_text(dataset, structure.name, LO_LENGTH)
        roi.ROIGenerationAlgorithm = "AUTOMATIC"
        rois.append(roi)

        roi_contour = Dataset()
        roi_contour.ReferencedROINumber = number
        roi_contour.ROIDisplayColor = DISPLAY_COLOUR[structure.kind]
        contours = _contours(structure, case.grid, slices)
        if contours:
            roi_contour.ContourSequence = Items(contours)
        roi_contours.append(roi_contour)

        observation = Dataset()
        observation.ObservationNumber = number
        observation.ReferencedROINumber = number
        observation.RTROIInterpretedType = INTERPRETED_TYPE[structure.kind]
        observation.ROIInterpreter = None
        observations.append(observation)
    dataset.StructureSetROISequence = Items(rois)
    dataset.ROIContourSequence = Items(roi_contours)
    dataset.RTROIObservationsSequence = Items(observations)
    dataset.ApprovalStatus = "UNAPPROVED"
    return dataset


def _roi_numbers(case: Case) -> dict[str, int]:
    return {name: number for number, name in enumerate(case.structures, start=1)}


def _contours(structure: Structure, grid: VoxelGrid, slices: Sequence[Dataset]) -> list[Dataset]:
    items = []
    for index, ct in enumerate(slices):
        for corners in trace_contours(structure.mask[index]):
            points_mm = grid.points_mm(np.insert(corners, 0, index, axis=1))  # (n, 3)
            item = Dataset()
            item.ContourImageSequence = Items([reference(ct)])
            item.ContourGeometricType = "CLOSED_PLANAR"
            item.NumberOfContourPoints = len(points_mm)
            # A micrometre is exact enough halfway between voxel centres
            item.ContourData = [f"{x:.3f}" for x in (points_mm.ravel() + 0.0).tolist()]
            items.append(item)
    return items


def _plan(case: Case, context: Dataset, identity: str, structure_set: Dataset) -> Dataset:
    """Prescription and beams; a beam has what describes its geometry, and its apertures where the case knows them."""
    dataset = new_instance(context, sop_class_uid=RTPlanStorage, modality="RTPLAN", identity=identity, created=CREATED)
    numbers = _roi_numbers(case)
    targets = {name: numbers[name] for name in case.prescription.dose_gy}
    set_plan(dataset, "Plan", structure_set, case.prescription, targets)
    position = _patient_position(case.grid)
    beams = [turned for beam in case.beams if (turned := from_head_first_supine(beam, position))]
    if position.startswith("FF") and any(beam.apertures for beam in beams):
        raise ValueError("apertures are known for patients who lie head first only")
    if beams:
        setup = Dataset()
        setup.PatientSetupNumber = 1
        setup.PatientPosition = position
        dataset.PatientSetupSequence = Items([setup])
        group = dataset.FractionGroupSequence[0]
        group.NumberOfBeams = len(beams)
        beam_numbers = range(1, len(beams) + 1)
        group.ReferencedBeamSequence = Items(
            [_beam_reference(beam, number) for beam, number in zip(beams, beam_numbers, strict=True)]
        )
        dataset.BeamSequence = Items([_beam(beam, number) for beam, number in zip(beams, beam_numbers, strict=True)])
    return dataset


def _beam_reference(beam: Beam, number: int) -> Dataset:
    item = Dataset()
    item.ReferencedBeamNumber = number
    if beam.apertures:
        item.BeamMeterset = decimal(sum(beam.apertures.monitor_units))
    return item


def _beam(beam: Beam, number: int) -> Dataset:
    """Item of Beam Sequence (300A,00B0), PS3.3 C.8.8.14."""
    item = Dataset()
    item.BeamNumber = number
    item.BeamName = ascii_text(f"G{beam.gantry_deg[0]:03.0f}", SH_LENGTH)
    is_arc = len(beam.gantry_deg) > 1
    item.BeamType = "DYNAMIC" if is_arc else "STATIC"
    item.RadiationType = "PHOTON"
    item.TreatmentMachineName = None
    item.PrimaryDosimeterUnit = "MU"
    item.SourceAxisDistance = 1000
    item.TreatmentDeliveryType = "TREATMENT"
    item.BeamLimitingDeviceSequence = Items([_jaw("ASYMX"), _jaw("ASYMY"), *_leaves(beam.apertures)])
    item.NumberOfWedges = item.NumberOfCompensators = item.NumberOfBoli = item.NumberOfBlocks = 0
    item.FinalCumulativeMetersetWeight = 1
    item.ReferencedPatientSetupNumber = 1

    # A static beam, too, has a first and a last control point
    angles = beam.gantry_deg if is_arc else beam.gantry_deg * 2
    item.NumberOfControlPoints = len(angles)
    weights = _cumulative_weights(beam, len(angles))
    points = []
    for index, angle in enumerate(angles):
        point = Dataset()
        point.ControlPointIndex = index
        point.CumulativeMetersetWeight = decimal(weights[index])
        if index == 0:
            point.NominalBeamEnergy = 6
            point.BeamLimitingDevicePositionSequence = Items(_jaw_positions(beam.apertures))
            point.BeamLimitingDeviceAngle = 0
            point.BeamLimitingDeviceRotationDirection = "NONE"
            point.PatientSupportAngle = decimal(beam.couch_deg)
            point.PatientSupportRotationDirection = "NONE"
            point.TableTopEccentricAngle = 0
            point.TableTopEccentricRotationDirection = "NONE"
            point.TableTopVerticalPosition = None
            point.TableTopLongitudinalPosition = None
            point.TableTopLateralPosition = None
            point.IsocenterPosition = beam.isocentre_mm and [decimal(x) for x in beam.isocentre_mm]
        if beam.apertures:
            positions = [_leaf_positions(beam.apertures, index)]
            point.BeamLimitingDevicePositionSequence = Items(
                [*point.get("BeamLimitingDevicePositionSequence", []), *positions]
            )
        if index == 0 or is_arc:
            point.GantryAngle = decimal(angle)
            point.GantryRotationDirection = _rotation(angles, index)
        points.append(point)
    item.ControlPointSequence = Items(points)
    return item


def _rotation(angles: Sequence[float], index: int) -> str:
    """Gantry Rotation Direction (300A,011F) of the segment that begins at a control point: the shorter way round."""
    if index + 1 == len(angles) or angles[index + 1] == angles[index]:
        return "NONE"
    return "CW" if (angles[index + 1] - angles[index]) % 360 < 180 else "CC"


def _jaw(kind: str) -> Dataset:
    item = Dataset()
    item.RTBeamLimitingDeviceType = kind
    item.NumberOfLeafJawPairs = 1
    return item


def _jaw_positions(apertures: Apertures | None) -> list[Dataset]:
    """Jaws around all openings of a beam; 20 cm × 20 cm where they are not known."""
    x, y = (-100.0, 100.0), (-100.0, 100.0)
    if apertures:
        ends = np.array(apertures.openings_mm)
        x, y = (float(ends.min()), float(ends.max())), (apertures.edges_mm[0], apertures.edges_mm[-1])
    return [_positions("ASYMX", x), _positions("ASYMY", y)]


def _leaves(apertures: Apertures | None) -> list[Dataset]:
    """Leaves that move along x of the beam's system (IEC 61217), whose y points to the head of who lies head first."""
    if apertures is None:
        return []
    item = Dataset()
    item.RTBeamLimitingDeviceType = "MLCX"
    item.NumberOfLeafJawPairs = len(apertures.edges_mm) - 1
    item.LeafPositionBoundaries = [decimal(edge) for edge in apertures.edges_mm]
    return [item]


def _leaf_positions(apertures: Apertures, index: int) -> Dataset:
    low, high = zip(*apertures.openings_mm[index], strict=True)
    return _positions("MLCX", (*low, *high))


def _positions(kind: str, positions_mm: Sequence[float]) -> Dataset:
    item = Dataset()
    item.RTBeamLimitingDeviceType = kind
    item.LeafJawPositions = [decimal(round(position, 2)) for position in positions_mm]
    return item


def _cumulative_weights(beam: Beam, count: int) -> NDArray[np.float64]:
    """Cumulative Meterset Weight (300A,0134): half of what is delivered about a control point comes before it."""
    if beam.apertures is None:
        return np.linspace(0, 1, count)
    units = np.array(beam.apertures.monitor_units)
    between = (units[1:] + units[:-1]) / 2
    between[0] += units[0] / 2
    between[-1] += units[-1] / 2
    return np.asarray(np.concatenate([[0.0], np.cumsum(between)]) / units.sum())


def _reference_dose(dose: Volume, context: Dataset, identity: str, plan: Dataset) -> Dataset:
    dataset = new_instance(context, sop_class_uid=RTDoseStorage, modality="RTDOSE", identity=identity, created=CREATED)
    set_dose(dataset, dose)
    dataset.ReferencedRTPlanSequence = Items([reference(plan)])
    return dataset
