"""The manifest of a checkpoint. Reading one needs no torch, so that the API can answer what it serves."""

from collections.abc import Mapping
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from model.conditioning.site import Site

Sampler = Literal["ancestral", "ddim", "dpm-solver", "coarse-ddim", "coarse", "regression"]
"""``ancestral``: Eq. 8 from pure noise, all T steps. ``ddim``: DDIM from pure noise. ``dpm-solver``: DPM-Solver++(2M)
from pure noise. ``coarse-ddim``: DDIM from the encoder's coarse dose, noised to a middle step. ``coarse``: the
encoder's own regression, no diffusion. ``regression``: the output of a network that is no diffusion model."""

NetworkKind = Literal["diffdp", "diffdp-residual", "baseline", "unet", "gan", "deeplabv3plus", "c3d", "prunet"]
"""The paper's systems (its Tables 1 and 2), and DiffDP that diffuses what its coarse dose leaves; `model.networks`
holds them."""

SAMPLERS_OF: Mapping[NetworkKind, tuple[Sampler, ...]] = {
    "diffdp": ("ancestral", "ddim", "dpm-solver", "coarse-ddim", "coarse"),
    "diffdp-residual": ("ancestral", "ddim", "dpm-solver", "coarse"),
    "baseline": ("ancestral", "ddim", "dpm-solver"),
    "unet": ("regression",),
    "gan": ("regression",),
    "deeplabv3plus": ("regression",),
    "c3d": ("regression",),
    "prunet": ("regression",),
}
"""What each kind of network can do."""

SHORT_CUTS: tuple[Sampler, ...] = ("ddim", "dpm-solver", "coarse-ddim")
"""Samplers that can leave steps out."""

WITHOUT_CHANCE: tuple[Sampler, ...] = ("coarse", "regression")
"""Samplers that draw nothing: all their samples are the same, so one is enough."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Channel(_Frozen):
    """One input image of the structure encoder.

    `kind` is ``ct``, ``external``, ``organ`` (with the organ's name), ``target`` (with the level's name),
    ``target-distance``, ``open-fields`` (with a level's name: all beams, shaped to the targets of that level and above)
    or ``open-field-sector`` (with a gantry angle in degrees: the beams for which, of all such channels, this angle is
    the nearest, shaped to all targets); `offset_mm` takes it from the slice that lies so much further towards the head.
    """

    kind: Literal["ct", "external", "organ", "target", "target-distance", "open-fields", "open-field-sector"]
    name: str = ""
    offset_mm: float = 0.0


class NetworkGrid(_Frozen):
    """Grid on which the network works: rows and columns of fixed spacing, centred on the patient.

    Slices are the study's own; of slices closer than two thirds of `slice_spacing_mm` every second, third, … is used.
    """

    rows: int
    columns: int
    pixel_spacing_mm: float
    slice_spacing_mm: float


class Normalisation(_Frozen):
    """How CT and dose become network numbers.

    CT: HU clipped to [`ct_low_hu`, `ct_high_hu`], then mapped to [-1, 1]. Distance: mm, clipped to
    ±`distance_limit_mm`, then to [-1, 1]. Dose: y = `dose_scale` · dose / highest prescription − `dose_offset`.
    """

    ct_low_hu: float
    ct_high_hu: float
    distance_limit_mm: float
    dose_scale: float
    dose_offset: float


class Architecture(_Frozen):
    """Kind and sizes of a network.

    `widths` holds the channels of its levels, from full resolution down; `heads` is that of attention, where there is
    any, `groups` that of group normalisation.
    """

    kind: NetworkKind = "diffdp"
    widths: tuple[int, ...] = Field(min_length=3)
    heads: int = Field(default=4, ge=1)
    groups: int = Field(default=8, ge=1)


class Schedule(_Frozen):
    """Noise schedule: 1 − α_t grows linearly from `first` (t = 1) to `last` (t = T)."""

    steps: int = 1000
    first: float = 1e-4
    last: float = 1e-2


class SamplerDefaults(_Frozen):
    """What the service does when the caller does not say: sampler, its steps, number of samples averaged.

    `start_step` is the step t at which ``coarse-ddim`` begins. `smoothing_mm` is the standard deviation of the Gaussian
    that every predicted dose is smoothed with, along all three axes and within the patient, however it was sampled:
    it takes away what a network that sees single slices adds by chance, finer than a beam's penumbra.
    """

    sampler: Sampler
    steps: int = Field(1, ge=1)
    samples: int = Field(1, ge=1)
    start_step: int = Field(1, ge=1)
    smoothing_mm: float = Field(0.0, ge=0, le=10)

    def samples_like(self, sampler: Sampler, steps: int) -> bool:
        """Whether this sampler, with so many steps where steps can be left out, is the default way of sampling."""
        return sampler == self.sampler and (sampler not in SHORT_CUTS or steps == self.steps)


class SpreadCalibration(_Frozen):
    """How the spread of a few samples tells the error of their mean: `diffdp calibrate` finds it.

    The samples' variance is averaged by a Gaussian with standard deviation `pooling_mm`, since two samples say nothing
    of a single voxel; `scale` times its root is then the standard deviation of the error, such that 90 % of the voxels
    of `patients` patients, who should be none of the training's, were no more than 1.645 of it off.
    """

    pooling_mm: float = Field(ge=0, le=50)
    scale: float = Field(gt=0)
    patients: int = Field(ge=1)


class Training(_Frozen):
    """What the weights were made from.

    `budget` is what the recipe allowed, `steps` the batches by stage, `recipe` the whole of it
    (`model.training.recipe.Recipe`), `started_from` the hash of the weights that the training began with, if any.
    """

    data: str
    patients: int
    validation_patients: int
    simulated: bool
    budget: str
    steps: dict[str, int]
    software: dict[str, str]
    recipe: dict[str, object]
    started_from: str | None = None


class Manifest(_Frozen):
    """All that is needed to use a checkpoint and to judge it.

    Parameters
    ----------
    smallest_window
        Rows and columns of the crops that it learnt from: slices are predicted in windows around the patient no smaller
        than these, since normalisation over an image makes the dose depend on how much air it shows. None: all of it.
    spread
        Holds for the default sampler with its steps, and any number of samples but one.
    """

    format: Literal["diffdp-checkpoint/1"] = "diffdp-checkpoint/1"
    name: str
    version: str
    description: str
    created: str
    licence: str
    architecture: Architecture
    channels: tuple[Channel, ...]
    grid: NetworkGrid
    smallest_window: tuple[int, int] | None = None
    spread: SpreadCalibration | None = None
    normalisation: Normalisation
    schedule: Schedule
    defaults: SamplerDefaults
    site: Site
    training: Training
    figures_of_merit: dict[str, float | str]
    weights_sha256: str

    @property
    def samplers(self) -> tuple[Sampler, ...]:
        """What the network can do."""
        return SAMPLERS_OF[self.architecture.kind]

    @model_validator(mode="after")
    def _default_is_possible(self) -> Self:
        if self.defaults.sampler not in self.samplers:
            raise ValueError(f"a network of kind {self.architecture.kind} cannot sample by {self.defaults.sampler}")
        return self
