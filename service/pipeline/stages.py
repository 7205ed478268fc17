"""The three stages as functions of files and arrays."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from model.case import Case, Prescription, Volume
from model.checkpoint.manifest import Manifest
from model.dicom.derived import Provenance, save
from model.dicom.dose_writer import write_dose
from model.dicom.plan_writer import companion_plan
from model.dicom.study import StructureChoice, build_case, read_study
from model.dosimetry import dvh
from service.about import software_version
from service.intake.archive import pack
from service.jobs.job import Examination
from service.pipeline.predictor import PredictedDose
from service.reports.content import ReportMetadata, build_report
from service.reports.html import render_html
from service.reports.table import render_csv
from service.storage.layout import ARCHIVE, DOSE, PLAN, REPORT_CSV, REPORT_HTML, REPORT_JSON, RESULTS


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
    """

    identity: str
    created_at: datetime
    manifest: Manifest
    examination: Examination
    warnings: tuple[str, ...]


def prepare(files: Sequence[Path], examination: Examination) -> Case:
    """Make the case of a study that was examined.

    Raises
    ------
    StudyError
        If the pixels or contours turn out to be unusable.
    """
    choices = {s.name: StructureChoice(s.roi_number, s.kind) for s in examination.structures}
    prescription = examination.prescription
    return build_case(
        read_study(files), choices, Prescription(prescription.dose_gy, prescription.fractions, prescription.source)
    )


def publish(files: Sequence[Path], case: Case, prediction: PredictedDose, run: Run, folder: Path) -> None:
    """Write RTDOSE, RTPLAN, the report in its forms and an archive of them all into a folder.

    Raises
    ------
    PredictionError
        If the dose is negative or not finite.
    """
    study = read_study(files)
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
            created=run.created_at,
        )
    dvhs = {
        structure.roi_number: dvh(prediction.dose_gy, structure.mask, case.grid.voxel_volume_cc)
        for structure in case.structures.values()
        if structure.roi_number is not None and structure.mask.any()
    }
    dose = write_dose(
        Volume(prediction.dose_gy, case.grid),
        dvhs=dvhs,
        ct_header=study.ct_header,
        structure_set=study.structure_set,
        plan=plan,
        provenance=provenance,
        identity=run.identity,
        created=run.created_at,
    )
    save(dose, folder / DOSE)
    save(plan, folder / PLAN)

    report = build_report(
        case,
        prediction.dose_gy,
        metadata=ReportMetadata(
            job_id=run.identity,
            created_at=run.created_at,
            model_name=manifest.name,
            model_version=manifest.version,
            weights_sha256=manifest.weights_sha256,
            sampler=sampling.sampler,
            steps=sampling.steps,
            samples=sampling.samples,
            seed=sampling.seed,
            device=prediction.device,
            duration_s=prediction.seconds,
            software_version=software_version(),
            simulated_training_data=manifest.training.simulated,
            warnings=run.warnings,
        ),
        spread_gy=prediction.spread_gy,
    )
    (folder / REPORT_JSON).write_text(report.model_dump_json(indent=2), encoding="utf-8")
    (folder / REPORT_HTML).write_text(render_html(report, case, prediction.dose_gy), encoding="utf-8")
    (folder / REPORT_CSV).write_text(render_csv(report), encoding="utf-8", newline="")
    pack({name: folder / name for name in RESULTS}, folder / ARCHIVE)
