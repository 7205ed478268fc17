"""What the API answers, as JSON."""

from datetime import UTC, datetime
from typing import Self

from pydantic import BaseModel, ConfigDict, Field

from model.case.case import PrescriptionSource
from model.checkpoint.manifest import Sampler
from service.jobs.job import Job
from service.jobs.states import Stage, State


class _Schema(BaseModel):
    model_config = ConfigDict(frozen=True)


class JobProgress(_Schema):
    """How far a job is."""

    stage: Stage | None = Field(description="What is being done; null at the end.")
    fraction: float = Field(ge=0, le=1, description="Of the whole job.")
    slices_done: int
    slices_total: int
    eta_s: float | None = Field(description="Estimated seconds to the end, null while there is nothing to go by.")


class JobParameters(_Schema):
    """Parameters as used, with defaults and what the study says filled in."""

    prescription_gy: dict[str, float] = Field(description="Prescribed dose of each target.")
    prescription_source: PrescriptionSource
    fractions: int | None
    structures: dict[str, str] = Field(description="As given: our name → ROI name.")
    ct_series: str | None = Field(description="Series Instance UID of the CT.")
    structure_set: str | None = Field(description="SOP Instance UID of the structure set.")
    sampler: Sampler
    steps: int
    samples: int
    seed: int
    dose_grid_mm: float | None = Field(description="Spacing of the RTDOSE's voxels; null for the CT's.")
    dvh_in_dose: bool
    priority: int


class JobError(_Schema):
    """Why a job failed, as a problem."""

    type: str
    title: str
    detail: str
    code: str
    stage: str
    details: dict[str, object]


class JobLinks(_Schema):
    """Where to go from here."""

    self: str
    events: str
    cancel: str
    requeue: str
    dose: str
    plan: str
    report: str
    archive: str
    viewer: str

    @classmethod
    def of(cls, job_id: str) -> Self:
        """Return the links of a job."""
        base = f"/v1/jobs/{job_id}"
        return cls(self=base, **{name: f"{base}/{name}" for name in cls.model_fields if name != "self"})


class JobSchema(_Schema):
    """A job."""

    id: str
    state: State
    cancel_requested: bool
    progress: JobProgress
    created_at: datetime
    started_at: datetime | None
    updated_at: datetime
    finished_at: datetime | None
    model: str
    simulated_training_data: bool = Field(description="Whether the model has seen simulated patients only.")
    parameters: JobParameters
    structures: dict[str, str] = Field(description="ROI name as found → the structure it is used as.")
    missing_structures: tuple[str, ...] = Field(description="Structures of the site that the study lacks.")
    unused_rois: tuple[str, ...] = Field(description="Names of ROIs that have no use.")
    warnings: tuple[str, ...]
    duplicate_of: str | None = Field(
        description="The last earlier job with the same study, parameters and model that had not failed, if any."
    )
    error: JobError | None
    links: JobLinks

    @classmethod
    def of(cls, job: Job) -> Self:
        """Show a job."""
        eta_s = job.remaining_s(datetime.now(UTC))
        examination = job.examination
        return cls(
            id=job.id,
            state=job.state,
            cancel_requested=job.cancel_requested,
            progress=JobProgress(
                stage=job.stage,
                fraction=round(job.fraction, 4),
                slices_done=job.progress.slices_done,
                slices_total=job.progress.slices_total,
                eta_s=None if eta_s is None else round(eta_s, 1),
            ),
            created_at=job.created_at,
            started_at=job.started_at,
            updated_at=job.updated_at,
            finished_at=job.finished_at,
            model=examination.model,
            simulated_training_data=examination.simulated_training_data,
            parameters=JobParameters(
                prescription_gy=examination.prescription.dose_gy,
                prescription_source=examination.prescription.source,
                fractions=examination.prescription.fractions,
                structures=job.parameters.structures,
                ct_series=examination.ct_series,
                structure_set=examination.structure_set,
                **examination.sampling.model_dump(),
                dose_grid_mm=job.parameters.dose_grid_mm,
                dvh_in_dose=job.parameters.dvh_in_dose,
                priority=job.parameters.priority,
            ),
            structures={structure.roi_name: structure.name for structure in examination.structures},
            missing_structures=examination.missing,
            unused_rois=examination.unused,
            warnings=job.warnings,
            duplicate_of=job.duplicate_of,
            error=None
            if job.error is None
            else JobError(
                type=f"urn:diffdp:{job.error.code}",
                title="The job failed",
                detail=job.error.message,
                code=job.error.code,
                stage=job.error.stage,
                details=job.error.details,
            ),
            links=JobLinks.of(job.id),
        )


class JobPage(_Schema):
    """Some jobs, newest first."""

    jobs: tuple[JobSchema, ...]
    next_cursor: str | None = Field(description="Give it as `cursor` for the next page; null on the last one.")


class Health(_Schema):
    """Whether the service can do its work."""

    status: str
    checks: dict[str, str]
