"""A DICOM study: read and checked as a whole, then made into a `Case`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from scipy import ndimage

from model.case import EXTERNAL, Case, Prescription, Structure, Volume, VoxelGrid
from model.dicom.attributes import text, uid
from model.dicom.ct import decode_hu, group_series, order_slices
from model.dicom.dose_reader import read_dose
from model.dicom.files import reading
from model.dicom.outline import derive_outline
from model.dicom.plan import PlanSummary, check_position, read_plan
from model.dicom.rasterise import count_voxels, rasterise
from model.dicom.rules import Rule, refuse
from model.dicom.selection import (
    absent_images,
    choose_dose,
    choose_plan,
    named_series,
    pair_ct_with_structure_set,
    refers_to,
    sort_files,
)
from model.dicom.structure_set import Roi, read_contour_images, read_rois

DERIVED_OUTLINE_WARNING = "No ROI is the external outline; it was derived from the CT."
"""For callers of `build_case` that choose no external structure."""

EDGE_TOLERANCE = 1e-3
"""In voxels: a contour on the outer face of the last slice is still inside the CT, and the CT's voxels at the edge of a
dose are covered by it, whatever rounding does."""

PLANAR_TOLERANCE = 0.5
"""In slices: a contour whose points spread further along the slices lies in another plane than theirs."""

MARGIN = (0.5 + EDGE_TOLERANCE, 1.0, 1.0)
"""In slices, rows and columns: how far beyond the outermost voxel centres a contour may reach; outlines run along the
edge of the image."""

StructureKind = Literal["target", "oar", "external"]


@dataclass(frozen=True, eq=False)
class Study:
    """A study that keeps every rule of the intake.

    Parameters
    ----------
    grid
        Where the CT's voxels lie.
    rois
        In the order of the structure set.
    contours_mm
        ROI number → closed contours, each (n, 3) patient points.
    plan
        Summary of the plan that belongs to the structure set, None if there is none.
    warnings
        What was left out or taken on trust; no patient data.
    ct_files
        Files of the CT slices by ascending position along their normal.
    ct_header, structure_set, plan_dataset
        Data sets that a dose refers to; ``ct_header`` is that of the first slice, without its pixels, and
        ``plan_dataset`` is None also where the plan has no SOP Instance UID (0008,0018) to refer to.
    reference_dose_file
        RT Dose of the whole plan in the same frame of reference, None if there is none.
    """

    grid: VoxelGrid
    rois: tuple[Roi, ...]
    contours_mm: Mapping[int, tuple[NDArray[np.float64], ...]]
    plan: PlanSummary | None
    warnings: tuple[str, ...]
    ct_files: tuple[Path, ...]
    ct_header: Dataset
    structure_set: Dataset
    plan_dataset: Dataset | None
    reference_dose_file: Path | None

    @property
    def ct_series_uid(self) -> str | None:
        """Series Instance UID (0020,000E) of the CT, None if it identifies nothing."""
        return uid(self.ct_header, "SeriesInstanceUID") or None

    @property
    def structure_set_uid(self) -> str | None:
        """SOP Instance UID (0008,0018) of the structure set, None if it identifies nothing."""
        return uid(self.structure_set, "SOPInstanceUID") or None


@dataclass(frozen=True)
class StructureChoice:
    """Which ROI serves as a structure of the case, and as what."""

    roi_number: int
    kind: StructureKind


def read_study(paths: Sequence[Path], *, ct_series: str | None = None, structure_set: str | None = None) -> Study:
    """Read all headers of a study, choose what belongs together and check every rule that needs no pixels.

    Parameters
    ----------
    paths
        Files of one study, in any order; what is not needed is left out with a warning.
    ct_series
        Series Instance UID of the CT to use where there are several; by default the one that fits the structure set.
    structure_set
        SOP Instance UID of the structure set to use where several fit; by default the one that the plan refers to, else
        the newest.

    Raises
    ------
    StudyError
        Whose ``rule`` is one of `Rule`.
    """
    with reading("the study"):
        warnings: list[str] = []
        files = sort_files(paths, warnings)
        all_series = group_series(files.ct)
        candidates = named_series(all_series, ct_series)
        if len(candidates) == 1:
            # A defect of the CT says more than the absence of a structure set
            order_slices(candidates[0])
        if not files.structure_sets:
            raise refuse(Rule.NO_STRUCTURE_SET, f"{len(files.ct)} CT images came without an RT Structure Set")
        series, chosen_set = pair_ct_with_structure_set(
            all_series, files, warnings, ct_series=ct_series, structure_set=structure_set
        )
        slices, grid = order_slices(series)
        patient_position = text(slices[0].header, "PatientPosition")
        check_position(patient_position)
        if series.is_lossy:
            warnings.append("the CT was compressed with loss")
        rois, contours_mm = read_rois(chosen_set, series.frame_of_reference, warnings)
        absent = absent_images(series, chosen_set)
        drawn_on = absent & read_contour_images(chosen_set) if absent else absent
        _check_extent(rois, contours_mm, grid, (len(absent), len(drawn_on)), warnings)
        plan_dataset = choose_plan(files.plans, chosen_set, series, warnings)
        plan = None
        if plan_dataset is not None:
            plan = read_plan(plan_dataset, patient_position)
            warnings += plan.warnings
            if not refers_to(plan_dataset, chosen_set):
                plan = replace(plan, target_dose_gy={})
                warnings.append("the plan refers to another structure set: its doses per ROI were not used")
            if not plan.sop_instance_uid:
                plan_dataset = None
                warnings.append("the plan has no identifier: the dose belongs to a companion plan instead")
        for dataset, name in ((chosen_set, "structure set"), (plan_dataset, "plan")):
            if dataset is not None and text(dataset, "ApprovalStatus") == "REJECTED":
                warnings.append(f"the {name} is marked as rejected")
        if not uid(chosen_set, "SOPInstanceUID"):
            warnings.append("the structure set has no identifier: the dose refers to none and holds no DVHs")
        reference_dose_file = choose_dose(files.doses, plan, series, warnings)
        return Study(
            grid=grid,
            rois=rois,
            contours_mm=contours_mm,
            plan=plan,
            warnings=tuple(warnings),
            ct_files=tuple(file.path for file in slices),
            ct_header=slices[0].header,
            structure_set=chosen_set,
            plan_dataset=plan_dataset,
            reference_dose_file=reference_dose_file,
        )


def build_case(
    study: Study,
    choices: Mapping[str, StructureChoice],
    prescription: Prescription,
    *,
    with_reference: bool = False,
) -> Case:
    """Decode the CT and make masks of the chosen ROIs.

    Parameters
    ----------
    study
        From `read_study`; its files must still be there.
    choices
        Structure name → ROI. Without `EXTERNAL` the outline is derived from the CT; say so with
        `DERIVED_OUTLINE_WARNING`.
    prescription
        Its targets must be among the choices.
    with_reference
        Whether to add the study's reference dose, resampled to the CT's grid, if it has one.

    Raises
    ------
    StudyError
        ``no-target``, ``unknown-roi``, ``no-contours``, ``contours-outside-ct``, ``contours-not-planar``,
        ``empty-structure``, ``no-outline``, ``pixel-format`` or ``dose-unreadable``.
    """
    targets = {name for name, choice in choices.items() if choice.kind == "target"}
    without_roi = sorted(set(prescription.dose_gy) - targets)
    if without_roi:
        raise refuse(Rule.NO_TARGET, f"dose is prescribed to {', '.join(without_roi)}, but no ROI was chosen for it")
    structures = {name: make_structure(study, name, choice) for name, choice in choices.items()}
    for name, choice in choices.items():
        check_not_empty(study, name, choice)
    hu = decode_hu(study.ct_files, study.grid)
    if EXTERNAL not in structures:
        structures[EXTERNAL] = Structure(EXTERNAL, derive_outline(hu, study.grid), "external")
    dose_gy = None
    if with_reference and study.reference_dose_file is not None:
        dose_gy = resample_dose(read_dose(study.reference_dose_file), study.grid)
    return Case(
        hu=hu,
        grid=study.grid,
        structures=structures,
        prescription=prescription,
        beams=study.plan.beams if study.plan else (),
        dose_gy=dose_gy,
    )


def _check_extent(
    rois: Sequence[Roi],
    contours_mm: Mapping[int, tuple[NDArray[np.float64], ...]],
    grid: VoxelGrid,
    absent: tuple[int, int],
    warnings: list[str],
) -> None:
    """Refuse a structure set most of whose contours lie outside the CT, or that shows that slices are missing.

    Parameters
    ----------
    absent
        How many images that the structure set refers to did not come, and how many of them bear contours.
    """
    counts = {number: int(_outside(contours, grid).sum()) for number, contours in contours_mm.items()}
    outside, total = sum(counts.values()), sum(map(len, contours_mm.values()))
    found = f"{outside} of {total} contours lie outside the {grid.shape[0]} slices of the CT"
    missing, drawn_on = absent
    if missing and (outside or drawn_on):
        raise refuse(
            Rule.MISSING_SLICE,
            f"{missing} of the {missing + grid.shape[0]} slices that the structure set refers to are missing, and "
            f"{drawn_on} of them bear contours: {found}",
            missing=missing,
            bearing_contours=drawn_on,
            slices=grid.shape[0],
            contours_outside=outside,
            contours=total,
        )
    if 2 * outside > total:
        raise refuse(Rule.CONTOURS_OUTSIDE_CT, found, contours_outside=outside, contours=total)
    if missing:
        warnings.append(
            f"{missing} of the {missing + grid.shape[0]} slices that the structure set refers to are missing; none of "
            "them bears a contour"
        )
    warnings += [
        f"{counts[roi.number]} of {roi.contour_count} contours of ROI {roi.name} lie outside the CT"
        for roi in rois
        if counts.get(roi.number)
    ]


def _outside(contours_mm: Sequence[NDArray[np.float64]], grid: VoxelGrid) -> NDArray[np.bool_]:
    """(contours,) whether a contour reaches beyond the CT."""
    lowest, highest = _extents(contours_mm, grid)
    return np.asarray(((lowest < -np.array(MARGIN)) | (highest > np.array(grid.shape) - 1 + MARGIN)).any(axis=1))


def _extents(
    contours_mm: Sequence[NDArray[np.float64]], grid: VoxelGrid
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(contours, 3) lowest and highest indices of each contour."""
    indices = [grid.indices(contour) for contour in contours_mm]
    return (
        np.array([index.min(axis=0) for index in indices]).reshape(-1, 3),
        np.array([index.max(axis=0) for index in indices]).reshape(-1, 3),
    )


def check_choice(study: Study, name: str, choice: StructureChoice) -> Roi:
    """Check every rule on a chosen ROI that needs no mask, and return the ROI.

    Raises
    ------
    StudyError
        ``unknown-roi``, ``no-contours``, ``contours-not-planar`` or ``contours-outside-ct``.
    """
    roi = next((roi for roi in study.rois if roi.number == choice.roi_number), None)
    if roi is None:
        raise refuse(
            Rule.UNKNOWN_ROI, f"{name} refers to ROI {choice.roi_number}, which does not exist", roi=choice.roi_number
        )
    contours_mm = study.contours_mm.get(roi.number, ())
    if not contours_mm:
        raise refuse(Rule.NO_CONTOURS, f"ROI {roi.name}, chosen as {name}, has no closed contour", roi=roi.number)
    lowest, highest = _extents(contours_mm, study.grid)
    spread = float((highest - lowest)[:, 0].max())
    if spread > PLANAR_TOLERANCE:
        raise refuse(
            Rule.CONTOURS_NOT_PLANAR,
            f"a contour of ROI {roi.name} spreads over {spread:.1f} slices, expected one plane",
            roi=roi.number,
            slices=spread,
        )
    outside = int(_outside(contours_mm, study.grid).sum())
    # An outline may be cut off by the field of view; a target or organ must not be
    if outside and choice.kind != "external":
        raise refuse(
            Rule.CONTOURS_OUTSIDE_CT,
            f"{outside} of {len(contours_mm)} contours of ROI {roi.name}, chosen as {name}, lie outside the CT",
            roi=roi.number,
            contours_outside=outside,
            contours=len(contours_mm),
        )
    return roi


def check_not_empty(study: Study, name: str, choice: StructureChoice) -> None:
    """Check that a target or an outline holds a voxel; an organ need not.

    Raises
    ------
    StudyError
        ``empty-structure``.
    """
    contours_mm = study.contours_mm.get(choice.roi_number, ())
    if choice.kind == "oar" or count_voxels(contours_mm, study.grid):
        return
    spacing = " x ".join(f"{mm:.2f}" for mm in study.grid.spacing_mm)
    raise refuse(
        Rule.EMPTY_STRUCTURE,
        f"the {choice.kind} {name} is too small for this CT: of its voxel centres, {spacing} mm apart, none lies "
        "inside; the parameter 'structures' can name other ROIs",
        roi=choice.roi_number,
        spacing_mm=list(study.grid.spacing_mm),
    )


def make_structure(study: Study, name: str, choice: StructureChoice) -> Structure:
    """Make the mask of a chosen ROI; that of a tiny one may be empty.

    Raises
    ------
    StudyError
        ``unknown-roi``, ``no-contours``, ``contours-outside-ct`` or ``contours-not-planar``.
    """
    roi = check_choice(study, name, choice)
    mask = rasterise(study.contours_mm[roi.number], study.grid)
    return Structure(name, mask, choice.kind, roi_name=roi.name, roi_number=roi.number)


def resample_dose(dose: Volume, grid: VoxelGrid) -> NDArray[np.float32]:
    """Dose on the CT's grid, linearly interpolated; zero where it is not `covered`."""
    if dose.grid.same_as(grid):
        return np.asarray(dose.values, np.float32)
    to_dose = np.linalg.inv(dose.grid.affine) @ grid.affine
    values = ndimage.affine_transform(
        dose.values,
        to_dose[:3, :3],
        to_dose[:3, 3],
        output_shape=grid.shape,
        order=1,
        mode="nearest",
        output=np.float32,
    )
    values[~covered(dose.grid, grid)] = 0.0
    return np.asarray(values)


def covered(dose: VoxelGrid, grid: VoxelGrid) -> NDArray[np.bool_]:
    """(slices, rows, columns) voxels of a grid whose centres lie within the outermost voxel centres of a dose."""
    inside = np.ones(grid.shape, np.bool_)
    if dose.same_as(grid):
        return inside
    to_dose = np.linalg.inv(dose.affine) @ grid.affine
    row, column = np.ogrid[: grid.shape[1], : grid.shape[2]]
    for number in range(grid.shape[0]):
        for (by_slice, by_row, by_column, first), size in zip(to_dose, dose.shape, strict=False):
            index = first + number * by_slice + row * by_row + column * by_column
            inside[number] &= (index >= -EDGE_TOLERANCE) & (index <= size - 1 + EDGE_TOLERANCE)
    return inside
