"""What the API and the process that examines a study say to each other, as JSON through a socket."""

from collections.abc import Mapping
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict

from model.checkpoint.manifest import Manifest, Sampler, SamplerDefaults
from model.conditioning.site import Site
from model.errors import DiffDPError, SiteError, StudyError
from service.errors import ParametersError, StudyUnreadable, UploadError, UploadTooLarge
from service.intake.limits import Limits
from service.jobs.job import Examination, Parameters

REFUSALS: Mapping[str, type[DiffDPError]] = {
    cls.__name__: cls for cls in (UploadError, UploadTooLarge, StudyError, SiteError, ParametersError, StudyUnreadable)
}
"""Errors that may leave the program, by the name under which they do."""


PID_BYTES = 4
"""Length of the number, big endian, by which a new process is announced."""


class KnownModel(BaseModel):
    """What the examination must know of a model."""

    model_config = ConfigDict(frozen=True)

    site: Site
    defaults: SamplerDefaults
    schedule_steps: int
    samplers: tuple[Sampler, ...]
    simulated_training_data: bool

    @classmethod
    def of(cls, manifest: Manifest) -> Self:
        """Take it from a manifest."""
        return cls(
            site=manifest.site,
            defaults=manifest.defaults,
            schedule_steps=manifest.schedule.steps,
            samplers=manifest.samplers,
            simulated_training_data=manifest.training.simulated,
        )


class Request(BaseModel):
    """What to examine: the folder of an `Upload`, for these models."""

    folder: Path
    parameters: Parameters
    models: dict[str, KnownModel]
    limits: Limits


class Refusal(BaseModel):
    """An error on its way through a socket."""

    kind: str
    code: str
    message: str
    details: dict[str, object]

    def error(self) -> DiffDPError:
        """Return the error itself."""
        return REFUSALS[self.kind](self.message, code=self.code, details=self.details)


class Answer(BaseModel):
    """Exactly one of these; `fault` is the number of an error of the operating system."""

    examination: Examination | None = None
    refusal: Refusal | None = None
    fault: int | None = None
