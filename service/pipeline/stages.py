"""The three stages as functions of files and arrays."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np

from model.case import Case, Prescription, Volume, VoxelGrid
from model.checkpoint.manifest import Manifest
from model.dicom.derived import Provenance, save
from model.dicom.dose_grid import dose_grid, resample
from model.dicom.dose_writer import add_dvhs, write_dose
from model.dicom.files import reading
from model.dicom.plan_writer import companion_plan
from model.dicom.rasterise import sample
from model.dicom.study import StructureChoice, build_case, read_study
from model.dicom.whole_study import dose_on_ct
from model.dosimetry import structure_dvhs
from model.dosimetry.goals import GoalSet
from service.about import software_version
from service.errors import ParametersError
from service.intake.archive import pack
from service.jobs.job import Examination, Parameters
from service.pipeline.predictor import PredictedDose
from service.pipeline.view import write_view
from service.reports.content import PredictionSummary, ReportMetadata
from service.reports.files import write_report
from service.reports.study import PLAN_DOSE, plan_dose, roi_colours, summarise_model, summarise_study
from service.reports.subject import Doses, Subject
from service.storage.layout import ARCHIVE, DOSE, PLAN, RESULTS

MAX_DOSE_VOXELS = 2**28
"""Largest dose that is written: half a gigabyte, and no more voxels than a CT may have."""


@dataclass(frozen=True)
class Run:
    """Which prediction this is.

    Parameters
    ----------
    identity
        Determines the UIDs of what is written, so that a repetition writes the same objects: the job's identifier.
    created_at
        When the prediction was asked for.
    warnings
        What a user should know, so far.
    goals
        Clinical goals of the model's site, by which the report judges the dose.
    """

    identity: str
    created_at: datetime
    manifest: Manifest
    parameters: Parameters
    examination: Examination
    warnings: tuple[str, ...]
    goals: GoalSet | None = None


def prepare(files: Sequence[Path], examination: Examination, parameters: Parameters) -> Case:
    """Make the case of a study that was examined.

    Raises
    ------
    StudyError
        If the pixels or contours turn out to be unusable.
    ParametersError
        ``dose-grid-too-fine`` if the dose could not be written on the grid that is asked for.
    """
    choices = {s.name: StructureChoice(s.roi_number, s.kind) for s in examination.structures}
    prescription = examination.prescription
    study = read_study(files, ct_series=examination.ct_series, structure_set=examination.structure_set)
    case = build_case(study, choices, Prescription(prescription.dose_gy, prescription.fractions, prescription.source))
    # Better now than after the prediction
    written_grid(case, parameters)
    return case


def written_grid(case: Case, parameters: Parameters) -> VoxelGrid:
    """Grid of the RTDOSE: the CT's, or one around all structures.

    Raises
    ------
    ParametersError
        ``dose-grid-too-fine`` if it has more than `MAX_DOSE_VOXELS`.
    """
    if parameters.dose_grid_mm is None:
        return case.grid
    inside = np.logical_or.reduce([structure.mask for structure in case.structures.values()])
    grid = dose_grid(case.grid, inside, parameters.dose_grid_mm)
    voxels = math.prod(grid.shape)
    if voxels > MAX_DOSE_VOXELS:
        raise ParametersError(
            f"with dose_grid_mm={parameters.dose_grid_mm:g} the dose would have {voxels} voxels, "
            f"the limit is {MAX_DOSE_VOXELS}",
            code="dose-grid-too-fine",
            details={"voxels": voxels, "limit": MAX_DOSE_VOXELS},
        )
    return grid


def publish(files: Sequence[Path], case: Case, prediction: PredictedDose, run: Run, folder: Path) -> None:
    """Write RTDOSE, RTPLAN, the report in its forms and an archive of them all into a folder.

    Raises
    ------
    PredictionError
        If the dose is negative or not finite.
    StudyError
        ``damaged-file`` if the study's plan cannot be written again.
    """
    study = read_study(files, ct_series=run.examination.ct_series, structure_set=run.examination.structure_set)
    sampling, manifest = run.examination.sampling, run.manifest
    provenance = Provenance(
        model=manifest.name,
        version=manifest.version,
        weights_sha256=manifest.weights_sha256,
        software_version=software_version(),
        comment=(
            f"Sampler {sampling.sampler}, {sampling.steps} steps, {sampling.samples} samples, seed {sampling.seed}."
        ),
        simulated_training_data=manifest.training.simulated,
        warnings=run.warnings,
    )
    plan = study.plan_dataset
    if plan is None:
        plan = companion_plan(
            ct_header=study.ct_header,
            structure_set=study.structure_set,
            prescription=case.prescription,
            target_roi_numbers={s.name: s.roi_number for s in run.examination.structures if s.kind == "target"},
            provenance=provenance,
            identity=run.identity,
            created=run.created_at.astimezone(),
        )
    samples = {
        name: points
        for name, structure in case.structures.items()
        if structure.roi_number is not None
        and (points := sample(study.contours_mm.get(structure.roi_number, ()), case.grid)) is not None
    }
    volume = Volume(prediction.dose_gy, case.grid)
    if run.parameters.dose_grid_mm is not None:
        volume = resample(volume, case.external, written_grid(case, run.parameters))
    dose = write_dose(
        volume,
        dvhs={},
        ct_header=study.ct_header,
        structure_set=study.structure_set,
        plan=plan,
        provenance=provenance,
        identity=run.identity,
        created=run.created_at.astimezone(),
    )
    save(dose, folder / DOSE)
    with reading("the plan"):
        save(plan, folder / PLAN)

    written = dose_on_ct(study, folder / DOSE)
    if run.parameters.dvh_in_dose:
        # Of the dose as it is in the file, as is the report
        dvhs = {
            roi_number: histogram
            for name, histogram in structure_dvhs(case, written.dose_gy, samples).items()
            if (roi_number := case.structures[name].roi_number) is not None
        }
        add_dvhs(dose, study.structure_set, dvhs)
        save(dose, folder / DOSE)
    reference, reference_warnings = plan_dose(study)
    write_report(
        Subject.of(case, samples, roi_colours(study)),
        Doses(
            written.dose_gy,
            spread_gy=prediction.spread_gy,
            spread_is_calibrated=prediction.spread_is_calibrated,
            reference_gy=reference.dose_gy if reference else None,
            reference_name=PLAN_DOSE if reference else "",
        ),
        ReportMetadata(
            job_id=run.identity,
            created_at=run.created_at,
            software_version=software_version(),
            study=summarise_study(study, written, reference),
            predicted=True,
            simulated_training_data=manifest.training.simulated,
            prediction=PredictionSummary(
                model=summarise_model(manifest),
                sampler=sampling.sampler,
                steps=sampling.steps,
                samples=sampling.samples,
                seed=sampling.seed,
                device=prediction.device,
                duration_s=round(prediction.seconds, 1),
            ),
            missing_structures=run.examination.missing,
            unused_rois=run.examination.unused,
            warnings=(*run.warnings, *reference_warnings),
        ),
        run.goals,
        folder,
    )
    write_view(case, written.dose_gy, folder, reference_gy=reference.dose_gy if reference else None)
    pack({name: folder / name for name in RESULTS}, folder / ARCHIVE)
