"""The manifest of a checkpoint. Reading one needs no torch, so that the API can answer what it serves."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from model.conditioning.site import Site

Sampler = Literal["ancestral", "ddim", "coarse-ddim", "coarse"]
"""``ancestral``: Eq. 8 from pure noise, all T steps. ``ddim``: DDIM from pure noise. ``coarse-ddim``: DDIM from the
encoder's coarse dose, noised to a middle step. ``coarse``: the encoder's own regression, no diffusion."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Channel(_Frozen):
    """One input image of the structure encoder.

    `kind` is ``ct``, ``external``, ``organ`` (with the organ's name), ``target`` (with the level's name) or
    ``target-distance``; `offset_mm` takes it from the slice that lies so much further towards the head.
    """

    kind: Literal["ct", "external", "organ", "target", "target-distance"]
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
    """Sizes of DiffDP's structure encoder and noise predictor.

    `widths` holds the channels of the stem's level and the four below; `heads` of all attention blocks.
    """

    kind: Literal["diffdp"] = "diffdp"
    widths: tuple[int, int, int, int, int]
    heads: int
    groups: int


class Schedule(_Frozen):
    """Noise schedule: 1 − α_t grows linearly from `first` (t = 1) to `last` (t = T)."""

    steps: int = 1000
    first: float = 1e-4
    last: float = 1e-2


class SamplerDefaults(_Frozen):
    """What the service does when the caller does not say: sampler, its steps, number of samples averaged.

    `start_step` is the step t at which ``coarse-ddim`` begins.
    """

    sampler: Sampler
    steps: int = Field(ge=1)
    samples: int = Field(ge=1)
    start_step: int = Field(ge=1)


class Training(_Frozen):
    """What the weights were made from."""

    data: str
    patients: int
    validation_patients: int
    simulated: bool
    budget: str
    loss: str
    steps: dict[str, int]
    software: dict[str, str]


class Manifest(_Frozen):
    """All that is needed to use a checkpoint and to judge it."""

    format: Literal["diffdp-checkpoint/1"] = "diffdp-checkpoint/1"
    name: str
    version: str
    description: str
    created: str
    licence: str
    architecture: Architecture
    channels: tuple[Channel, ...]
    grid: NetworkGrid
    normalisation: Normalisation
    schedule: Schedule
    defaults: SamplerDefaults
    site: Site
    training: Training
    figures_of_merit: dict[str, float | str]
    weights_sha256: str
