"""How fast, how small and how exact the way from a DICOM study to dose and DVHs is: `make bench` writes the tables.

Nothing here is asserted. Times are of one run, whatever the machine does besides; so what counts are processor time and
the ratios of programs that ran one after the other.
"""

import argparse
import json
import logging
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.uid import CTImageStorage, RTStructureSetStorage, generate_uid

from model.case import EXTERNAL, Prescription, Volume, VoxelGrid
from model.dicom import StructureChoice, build_case, read_dose, read_study
from model.dicom.derived import Provenance, save
from model.dicom.dose_writer import write_dose
from model.dicom.plan_writer import companion_plan
from model.dicom.rasterise import rasterise, sample
from model.dicom.structure_set import read_rois
from model.dosimetry import dvh, sampled_dvh, structure_dvhs
from tests.shapes import (
    CASES,
    FIGURES,
    RADII_MM,
    as_dicom,
    dicom_object,
    dicompyler_dvh,
    our_errors,
    placed,
    their_errors,
)

GRID = VoxelGrid((200, 512, 512), (2.0, 0.9765625, 0.9765625), (-249.5, -249.5, -200.0))
ORGANS = 12
CORNERS = 240
PLACES = 10
HALF_LENGTH_MM = 1e6
"""Of the body, which is a cylinder."""

TEXT = """# From a DICOM study to dose and DVHs

Written by `make bench`. Times depend on the machine and on what else it does; processor time, and the ratios of two
programs that ran one after the other, hardly do. Here: {cores} cores, {used} of them for this run, load average
{load:.1f} before it.

## The whole way

CT of 200 slices of 512 × 512, RTSTRUCT of 15 structures, RTDOSE on the CT's voxels, in a fresh process.

| step | s |
|---|---|
{path}

Processor time: {processor_s:.2f} s. Most memory: {memory_gb:.2f} GB. The goal is 5 s and 2 GB on two cores.

## Against other programs

Each program begins with the RTSTRUCT, and the RTDOSE, as they lie on disk or in memory. Processor time.

| what | other program | ours, s | theirs, s | ratio |
|---|---|---|---|---|
{speed}

## Masks against analytic shapes

Spheres on voxels of 1 × 1 × 3 mm: area of the mask's pixels against that of the sections, in percent, root mean square
over {places} places.

| radius, mm | ours | rt-utils |
|---|---|---|
{masks}

## DVHs against analytic shapes

Solids of revolution about z, as high as wide, on voxels of 1 × 1 × 3 mm in a gradient of 1 Gy/mm; a cone points to
the head. Deviations from the closed form, root mean square over {places} places between the slices: volume in percent,
doses in Gy, V (the worst of three levels) in percent of the volume. Each pair is ours / dicompyler-core's. Volume, and
figures along z, are bounded by what contours every 3 mm can tell.

| solid | {figures} |
|{rule}
{dvhs}
"""

Ellipsoid = tuple[tuple[float, float, float], tuple[float, float, float]]
"""Centre and half axes (x, y, z) in mm."""


def anatomy() -> dict[str, Ellipsoid]:
    """Body, two targets and organs of all sizes, the smallest one of a lens's."""
    random = np.random.default_rng(0)
    shapes: dict[str, Ellipsoid] = {
        "BODY": ((0.0, 0.0, 0.0), (200.0, 130.0, HALF_LENGTH_MM)),
        "PTV_LOW": ((5.0, 0.0, 0.0), (60.0, 50.0, 70.0)),
        "PTV_HIGH": ((5.0, 0.0, 0.0), (40.0, 35.0, 40.0)),
    }
    for index in range(ORGANS):
        radii = random.uniform(8, 60, 3) if index else np.full(3, 4.0)
        centre = random.uniform(-1, 1, 3) * (120, 60, 100)
        shapes[f"ORGAN_{index}"] = (tuple(centre.tolist()), tuple(radii.tolist()))
    return shapes


def contours_of(ellipsoid: Ellipsoid, grid: VoxelGrid) -> list[NDArray[np.float64]]:
    """Sections through the grid's slices, to a hundredth of a millimetre as planning systems write them."""
    (x, y, z), (rx, ry, rz) = ellipsoid
    angle = np.linspace(0, 2 * np.pi, CORNERS, endpoint=False)
    sections = []
    for index in range(grid.shape[0]):
        height_mm = grid.origin_mm[2] + index * grid.spacing_mm[0]
        if abs(height_mm - z) < rz:
            share = np.sqrt(1 - ((height_mm - z) / rz) ** 2)
            section = [x + rx * share * np.cos(angle), y + ry * share * np.sin(angle), np.full(CORNERS, height_mm)]
            sections.append(np.round(np.stack(section, axis=1), 2))
    return sections


def write_bench_study(folder: Path) -> None:
    """Write CT and RTSTRUCT with pydicom alone."""
    random = np.random.default_rng(0)
    frame, study, series = generate_uid(), generate_uid(), generate_uid()
    y, x = (GRID.origin_mm[1 - k] + GRID.spacing_mm[1 + k] * np.arange(GRID.shape[1 + k]) for k in range(2))
    body = (x / 200) ** 2 + (y[:, None] / 130) ** 2 < 1
    references = []
    for index in range(GRID.shape[0]):
        image = _object(CTImageStorage, "CT", study, frame)
        image.SeriesInstanceUID, image.PatientPosition, image.InstanceNumber = series, "HFS", index + 1
        image.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        image.ImagePositionPatient = [*GRID.origin_mm[:2], GRID.origin_mm[2] + index * GRID.spacing_mm[0]]
        image.PixelSpacing = list(GRID.spacing_mm[1:])
        image.Rows, image.Columns = GRID.shape[1:]
        image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
        image.BitsAllocated = image.BitsStored = 16
        image.HighBit, image.PixelRepresentation = 15, 1
        image.RescaleSlope, image.RescaleIntercept = 1, -1024
        noise = random.integers(-20, 20, GRID.shape[1:])
        image.PixelData = (np.where(body, 1064, 24) + noise).astype("<i2").tobytes()
        image["PixelData"].VR = "OW"
        image.save_as(folder / f"CT.{index:03d}.dcm", enforce_file_format=True)
        references.append(_reference(image))

    structure_set = _object(RTStructureSetStorage, "RTSTRUCT", study, frame)
    structure_set.SeriesInstanceUID, structure_set.StructureSetLabel = generate_uid(), "bench"
    images = Dataset()
    images.SeriesInstanceUID, images.ContourImageSequence = series, references
    referenced_study = Dataset()
    referenced_study.RTReferencedSeriesSequence = [images]
    referenced_frame = Dataset()
    referenced_frame.FrameOfReferenceUID = frame
    referenced_frame.RTReferencedStudySequence = [referenced_study]
    structure_set.ReferencedFrameOfReferenceSequence = [referenced_frame]
    rois, roi_contours, observations = [], [], []
    for number, (name, ellipsoid) in enumerate(anatomy().items(), start=1):
        roi = Dataset()
        roi.ROINumber, roi.ROIName, roi.ReferencedFrameOfReferenceUID = number, name, frame
        rois.append(roi)
        roi_contour = Dataset()
        roi_contour.ReferencedROINumber, roi_contour.ROIDisplayColor = number, [255, 0, 0]
        roi_contour.ContourSequence = [_contour(points, references) for points in contours_of(ellipsoid, GRID)]
        roi_contours.append(roi_contour)
        observation = Dataset()
        observation.ObservationNumber = observation.ReferencedROINumber = number
        observation.RTROIInterpretedType = {"B": "EXTERNAL", "P": "PTV", "O": "ORGAN"}[name[0]]
        observations.append(observation)
    structure_set.StructureSetROISequence = rois
    structure_set.ROIContourSequence = roi_contours
    structure_set.RTROIObservationsSequence = observations
    structure_set.save_as(folder / "RS.dcm", enforce_file_format=True)


def _object(sop_class: str, modality: str, study: str, frame: str) -> Dataset:
    dataset = dicom_object(sop_class)
    dataset.Modality, dataset.PatientID, dataset.PatientName = modality, "BENCH", "Bench"
    dataset.StudyInstanceUID, dataset.FrameOfReferenceUID = study, frame
    return dataset


def _reference(dataset: Dataset) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = dataset.SOPClassUID, dataset.SOPInstanceUID
    return item


def _contour(points_mm: NDArray[np.float64], references: Sequence[Dataset]) -> Dataset:
    contour = Dataset()
    contour.ContourImageSequence = [references[round((points_mm[0, 2] - GRID.origin_mm[2]) / GRID.spacing_mm[0])]]
    contour.ContourGeometricType = "CLOSED_PLANAR"
    contour.NumberOfContourPoints = len(points_mm)
    contour.ContourData = [f"{value:.2f}" for value in points_mm.ravel()]
    return contour


def dose_gy(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """(slices, rows, columns) dose that differs from voxel to voxel, inside a mask."""
    slices, rows, columns = (np.arange(size, dtype=np.float32) for size in mask.shape)
    dose = 20 + 0.1 * slices[:, None, None] + 0.02 * rows[:, None] + 0.05 * columns
    return np.asarray(dose * mask, np.float32)


def measure_path(folder: Path) -> dict[str, float]:
    """Go the whole way in this process: seconds by step, processor seconds, and the most memory that it held, in GB."""
    seconds: dict[str, float] = {}
    processor_s = 0.0

    def timed(step: str, do: Callable[[], Any]) -> Any:
        nonlocal processor_s
        begun, begun_processor = time.perf_counter(), time.process_time()
        result = do()
        seconds[step] = time.perf_counter() - begun
        processor_s += time.process_time() - begun_processor
        return result

    study = timed("headers and contours", lambda: read_study(sorted(folder.glob("*.dcm"))))
    kinds = {"EXTERNAL": "external", "PTV": "target", "ORGAN": "oar"}
    choices = {
        EXTERNAL if roi.interpreted_type == "EXTERNAL" else roi.name: StructureChoice(
            roi.number, kinds[roi.interpreted_type]
        )
        for roi in study.rois
    }
    prescription = Prescription({"PTV_LOW": 50.0, "PTV_HIGH": 60.0}, 30, "parameter")
    case = timed("pixels and 15 masks", lambda: build_case(study, choices, prescription))
    dose = dose_gy(case.external)

    def histograms() -> dict[int, object]:
        points = {
            name: found
            for name, structure in case.structures.items()
            if (found := sample(study.contours_mm[structure.roi_number], case.grid)) is not None
        }
        return {case.structures[name].roi_number: found for name, found in structure_dvhs(case, dose, points).items()}

    dvhs = timed("15 DVHs", histograms)
    provenance = Provenance("bench", "1", "00", "0")

    def write() -> None:
        context = {"ct_header": study.ct_header, "structure_set": study.structure_set, "provenance": provenance}
        plan = companion_plan(prescription=prescription, target_roi_numbers={"PTV_LOW": 2, "PTV_HIGH": 3}, **context)
        save(write_dose(Volume(dose, case.grid), plan=plan, dvhs=dvhs, **context), folder.parent / "dose")

    timed("RTDOSE", write)
    seconds["all"] = sum(seconds.values())
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {**seconds, "processor": processor_s, "memory_gb": usage.ru_maxrss / 1e6}


def read_with_rt_utils(folder: Path) -> Any:
    """CT and structure set of a folder as rt-utils reads them."""
    from rt_utils import RTStructBuilder

    return RTStructBuilder.create_from(str(folder), str(folder / "RS.dcm"))


def compare_speed(folder: Path) -> list[tuple[str, str, float, float]]:
    """(what, other program, our seconds, theirs) for the same files."""
    structure_set = pydicom.dcmread(folder / "RS.dcm")
    names = [roi.ROIName for roi in structure_set.StructureSetROISequence]
    theirs = read_with_rt_utils(folder)
    their_s = _seconds(lambda: [theirs.get_roi_mask_by_name(name) for name in names])

    def contours() -> list[Sequence[NDArray[np.float64]]]:
        fresh = pydicom.dcmread(folder / "RS.dcm")
        return list(read_rois(fresh, fresh.FrameOfReferenceUID, [])[1].values())

    our_s = _seconds(lambda: [rasterise(roi, GRID) for roi in contours()])
    rows = [("15 masks of the RTSTRUCT", "rt-utils", our_s, their_s)]

    everywhere = np.ones(GRID.shape, bool)

    def our_dvhs() -> None:
        dose = read_dose(folder.parent / "dose").values
        for roi in contours():
            points = sample(roi, GRID)
            if points is None:
                dvh(dose, rasterise(roi, GRID), GRID.voxel_volume_cc)
            else:
                sampled_dvh(dose, points, everywhere)

    rt_dose = pydicom.dcmread(folder.parent / "dose")
    our_s = _seconds(our_dvhs)
    their_s = _seconds(lambda: [dicompyler_dvh(structure_set, rt_dose, number + 1) for number in range(len(names))])
    rows.append(("15 DVHs of RTSTRUCT and RTDOSE", "dicompyler-core", our_s, their_s))
    return rows


def _seconds(do: Callable[[], object]) -> float:
    """Processor time, which other programs on the machine disturb least."""
    begun = time.process_time()
    do()
    return time.process_time() - begun


def compare_masks(folder: Path) -> list[tuple[float, float, float]]:
    """(radius, our error, theirs): area of a sphere's mask against that of its sections, percent, root mean square."""
    rows = []
    for radius_mm in RADII_MM:
        errors = []
        for number, place in enumerate(placed("sphere", "z", radius_mm, PLACES)):
            of_place = folder / f"{radius_mm:g}-{number}"
            of_place.mkdir(parents=True)
            sections = sum(
                np.pi * np.square(points[:, :2] - place.centre_mm[:2]).sum(axis=1).mean()
                for points in place.contours_mm
            )
            structure_set, _ = as_dicom(place)
            _write_slices(place.grid, structure_set, of_place)
            theirs = read_with_rt_utils(of_place).get_roi_mask_by_name("solid")
            ours = rasterise(place.contours_mm, place.grid)
            errors.append(
                [100 * (mask.sum() * np.prod(place.grid.spacing_mm[1:]) / sections - 1) for mask in (ours, theirs)]
            )
        rows.append((radius_mm, *np.sqrt(np.mean(np.square(errors), axis=0)).tolist()))
    return rows


def _write_slices(grid: VoxelGrid, structure_set: Dataset, folder: Path) -> None:
    """Write empty CT slices of a grid, and a structure set whose contours refer to them."""
    series, study, frame = generate_uid(), generate_uid(), generate_uid()
    references = {}
    for index in range(grid.shape[0]):
        image = _object(CTImageStorage, "CT", study, frame)
        z_mm = grid.origin_mm[2] + index * grid.spacing_mm[0]
        image.SeriesInstanceUID, image.ImageOrientationPatient = series, [1, 0, 0, 0, 1, 0]
        image.ImagePositionPatient, image.PixelSpacing = [*grid.origin_mm[:2], z_mm], list(grid.spacing_mm[1:])
        image.Rows, image.Columns = grid.shape[1:]
        image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
        image.BitsAllocated = image.BitsStored = 16
        image.HighBit, image.PixelRepresentation = 15, 0
        image.PixelData = bytes(2 * grid.shape[1] * grid.shape[2])
        image["PixelData"].VR = "OW"
        image.save_as(folder / f"CT.{index:03d}.dcm", enforce_file_format=True)
        references[round(z_mm, 3)] = _reference(image)
    images = Dataset()
    images.SeriesInstanceUID, images.ContourImageSequence = series, list(references.values())
    referenced_study, referenced_frame = Dataset(), Dataset()
    referenced_study.RTReferencedSeriesSequence = [images]
    referenced_frame.FrameOfReferenceUID, referenced_frame.RTReferencedStudySequence = frame, [referenced_study]
    structure_set.ReferencedFrameOfReferenceSequence = [referenced_frame]
    for contour in structure_set.ROIContourSequence[0].ContourSequence:
        contour.ContourImageSequence = [references[round(float(contour.ContourData[2]), 3)]]
    structure_set.save_as(folder / "RS.dcm", enforce_file_format=True)


def compare_dvhs() -> list[tuple[str, NDArray[np.float64], NDArray[np.float64]]]:
    """(solid, our deviations, theirs) from the closed forms, root mean square over places."""

    def deviation(errors: Callable[..., NDArray[np.float64]], case: tuple[str, str, float]) -> NDArray[np.float64]:
        found = [errors(place) for place in placed(*case, PLACES)]
        return np.asarray(np.sqrt(np.mean(np.square(found), axis=0)))

    return [
        (
            f"{name}, radius {radius_mm:g} mm, gradient along {axis}",
            *(deviation(errors, (name, axis, radius_mm)) for errors in (our_errors, their_errors)),
        )
        for name, axis, radius_mm in CASES
    ]


def report(folder: Path) -> str:
    """Measure everything and write it as Markdown."""
    load = os.getloadavg()[0]
    command = [sys.executable, "-m", "tests.bench.dicom", "--path", str(folder)]
    path = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    memory_gb, processor_s = path.pop("memory_gb"), path.pop("processor")
    speed = [
        f"| {what} | {other} | {ours:.2f} | {theirs:.2f} | {theirs / ours:.0f} |"
        for what, other, ours, theirs in compare_speed(folder)
    ]
    masks = [
        f"| {radius:g} | {ours:.2f} | {theirs:.2f} |" for radius, ours, theirs in compare_masks(folder / "spheres")
    ]
    dvhs = [
        f"| {solid} | " + " | ".join(f"{a:.2f} / {b:.2f}" for a, b in zip(ours, theirs, strict=True)) + " |"
        for solid, ours, theirs in compare_dvhs()
    ]
    return TEXT.format(
        cores=os.cpu_count(),
        used=len(os.sched_getaffinity(0)),
        load=load,
        path="\n".join(f"| {step} | {seconds:.2f} |" for step, seconds in path.items()),
        processor_s=processor_s,
        memory_gb=memory_gb,
        speed="\n".join(speed),
        places=PLACES,
        masks="\n".join(masks),
        figures=" | ".join(FIGURES),
        rule="---|" * (len(FIGURES) + 1),
        dvhs="\n".join(dvhs),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--path", type=Path, help="go the whole way with the study of this folder and print seconds")
    parser.add_argument("--programs", type=Path, help="folder in which rt-utils is installed")
    parser.add_argument("--output", type=Path, default=Path("docs/results/bench-dicom.md"))
    arguments = parser.parse_args()
    if arguments.path:
        sys.stdout.write(json.dumps(measure_path(arguments.path)))
        return
    if arguments.programs:
        # Last, because rt-utils brings a package of the name tests
        sys.path.append(str(arguments.programs))
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "study"
        folder.mkdir()
        write_bench_study(folder)
        text = report(folder)
    arguments.output.write_text(text, encoding="utf-8")
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
