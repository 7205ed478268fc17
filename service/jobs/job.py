"""A job as the rest of the service sees it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, Json

from model.case.case import PrescriptionSource
from model.checkpoint.manifest import Sampler
from service.jobs.states import STAGE_OF, Stage, State

DEFAULT_TENANT = "default"
"""Whose jobs are those of callers that name no tenant, and all from before there were tenants."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


DoseGy = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Parameters(_Record):
    """What a caller may say about a job; an unknown parameter is an error.

    Maps may be given as JSON text, as they must be in a query string.
    """

    model: str | None = Field(None, description="Name of the model; by default the one that knows the study's site.")
    prescription_gy: DoseGy | dict[str, DoseGy] | Json[dict[str, DoseGy]] | None = Field(
        None, description="Gy over all fractions: a number for a single target, or a map from target to number."
    )
    fractions: int | None = Field(None, ge=1, le=100, description="Used instead of the plan's number of fractions.")
    structures: dict[str, str] | Json[dict[str, str]] = Field(
        default_factory=dict, description="Map from our structure names to ROI names of the study."
    )
    ct_series: Annotated[str, Field(min_length=1, max_length=64)] | None = Field(
        None,
        description="Series Instance UID of the CT to use; by default the one that the structure set was drawn on.",
    )
    structure_set: Annotated[str, Field(min_length=1, max_length=64)] | None = Field(
        None,
        description="SOP Instance UID of the structure set to use; by default the plan's, else the newest that fits.",
    )
    sampler: Sampler | None = Field(None, description="How the dose is sampled; by default the model's way.")
    steps: int | None = Field(None, ge=1, le=1000, description="Sampling steps; the ancestral sampler takes them all.")
    samples: int | None = Field(None, ge=1, le=32, description="Samples whose mean is the predicted dose.")
    seed: int = Field(0, ge=0, le=2**31 - 1, description="Of the random numbers; the same seed, the same dose.")
    dose_grid_mm: float | None = Field(
        None, ge=1, le=10, description="Spacing of the RTDOSE's voxels, along all axes; by default the CT's voxels."
    )
    dvh_in_dose: bool = Field(False, description="Whether the RTDOSE holds the structures' DVHs.")
    priority: int = Field(0, ge=-10, le=10, description="Jobs of a higher priority are taken first.")
    callback_url: str | None = Field(
        None, max_length=2000, description="Address that is called when the job has ended, signed as Standard Webhooks."
    )


class Sampling(_Record):
    """How the dose is sampled, with the model's defaults filled in."""

    sampler: Sampler
    steps: int
    samples: int
    seed: int


class UsedStructure(_Record):
    """An ROI of the study and what it is used as."""

    name: str
    kind: Literal["target", "oar", "external"]
    roi_number: int
    roi_name: str


class PrescriptionRecord(_Record):
    """Prescribed dose of each target, and where it was found."""

    dose_gy: dict[str, float]
    fractions: int | None
    source: PrescriptionSource


class Examination(_Record):
    """What intake found out about a study: all that the pipeline needs besides the files.

    `ct_series` and `structure_set` are the UIDs of what is used, None for what has none; `simulated_training_data`
    says whether the model has seen simulated patients only.
    """

    model: str
    simulated_training_data: bool = False
    ct_series: str | None = None
    structure_set: str | None = None
    structures: tuple[UsedStructure, ...]
    missing: tuple[str, ...]
    unused: tuple[str, ...]
    prescription: PrescriptionRecord
    sampling: Sampling
    slices: int
    warnings: tuple[str, ...]


class Fault(_Record):
    """Why a job failed."""

    code: str
    message: str
    stage: str
    details: dict[str, object] = Field(default_factory=dict)


@dataclass(frozen=True)
class Lease:
    """The right to work on a job: whoever holds the highest token holds it.

    A worker that was believed dead and returns shows an old token, and nothing that it reports counts.
    """

    job_id: str
    owner: str
    token: int


@dataclass(frozen=True)
class Progress:
    """How far the current stage is, as its worker reports it."""

    fraction: float = 0.0
    slices_done: int = 0
    slices_total: int = 0


SHARES: Mapping[Stage, tuple[float, float]] = {
    Stage.PREPARE: (0.0, 0.05),
    Stage.PREDICT: (0.05, 0.95),
    Stage.PUBLISH: (0.95, 1.0),
}
"""Part of a job's time that each stage takes, roughly, on a CPU: from, to."""


@dataclass(frozen=True)
class Job:
    """A snapshot of one job.

    Parameters
    ----------
    request_id
        Of the request that posted it, as logs name it.
    revision
        Grows with every change that a caller can see.
    outputs
        Stage → name of the storage folder that holds what it made; only what is named here counts.
    attempts
        How often the current stage was begun.
    stage_started_at
        When the current stage was begun last.
    duplicate_of
        The youngest earlier job with the same study, parameters and model that had not failed, if there was one.
    """

    id: str
    request_id: str | None
    revision: int
    state: State
    parameters: Parameters
    examination: Examination
    warnings: tuple[str, ...]
    progress: Progress
    outputs: Mapping[Stage, str]
    attempts: int
    cancel_requested: bool
    error: Fault | None
    created_at: datetime
    updated_at: datetime
    started_at: datetime | None
    stage_started_at: datetime | None
    finished_at: datetime | None
    duplicate_of: str | None

    @property
    def stage(self) -> Stage | None:
        """The work that the job waits for or is in, None at its end."""
        return STAGE_OF.get(self.state)

    @property
    def fraction(self) -> float:
        """Share of the whole job that is done, in [0, 1]; 0 for one that came to nothing."""
        if self.stage is None:
            return float(self.state is State.SUCCEEDED)
        first, last = SHARES[self.stage]
        return first + (last - first) * self.progress.fraction

    def remaining_s(self, now: datetime) -> float | None:
        """Estimate the seconds until the job is done, None while there is nothing to go by."""
        if self.state is not State.PREDICTING or self.stage_started_at is None or self.progress.fraction <= 0:
            return None
        elapsed_s = (now - self.stage_started_at).total_seconds()
        per_share_s = elapsed_s / (self.fraction - SHARES[Stage.PREDICT][0])
        return per_share_s * (1.0 - self.fraction)
