"""How to make a checkpoint, as a physicist writes it down: a TOML file, read and checked before anything is trained."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from model.checkpoint.manifest import SAMPLERS_OF, Architecture, NetworkKind, SamplerDefaults, Schedule
from model.conditioning import head_and_neck, rectum
from model.errors import DatasetError
from model.training.slices import Conditioner

SHIPPED_RECIPES = Path(__file__).parent / "recipes"

Stage = Literal["pretrain", "diffusion", "regression", "adversarial"]

STAGES_OF: Mapping[NetworkKind, tuple[Stage, ...]] = {
    "diffdp": ("pretrain", "diffusion"),
    "diffdp-residual": ("pretrain", "diffusion"),
    "baseline": ("diffusion",),
    "unet": ("regression",),
    "gan": ("adversarial",),
    "deeplabv3plus": ("regression",),
    "c3d": ("regression",),
    "prunet": ("regression",),
}
"""Stages of training by kind of network, in their order."""

SITES: Mapping[str, Conditioner] = {
    name: Conditioner(site.SITE, site.GRID, site.CHANNELS, site.NORMALISATION)
    for name, site in (("head-and-neck", head_and_neck), ("rectum", rectum))
}
"""What a recipe may name as its site."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Budget(_Frozen):
    """How long a stage lasts: minutes of training, or batches, which makes the result independent of the machine."""

    minutes: float | None = Field(None, ge=0)
    batches: int | None = Field(None, ge=0)

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.minutes is None) == (self.batches is None):
            raise ValueError("a budget is either minutes or batches")
        return self

    def __str__(self) -> str:
        return f"{self.minutes:g} min" if self.minutes is not None else f"{self.batches} batches"

    def spent(self, elapsed_s: float, batches: int) -> float:
        """Return the share of the budget that is used up, 1 or more at its end."""
        total, used = (60 * self.minutes, elapsed_s) if self.minutes is not None else (self.batches or 0, batches)
        return used / total if total else 1.0


class TrainingOptions(_Frozen):
    """How to train; the defaults are the shipped head-and-neck model's, the paper's values are said beside.

    Parameters
    ----------
    batch
        Slices per step (the paper: 16), or stacks of a volumetric network.
    crop
        Rows and columns of the random crops (the paper: whole images).
    depth
        Slices of a stack; for volumetric networks only.
    learning_rate
        Peak; reached after `warmup` steps (the paper: 1e-4, at once).
    decay
        ``cosine``: falls to a twentieth over the stage. ``step``: halves after four fifths of the stage (the paper).
    loss
        Norm of Eq. 9, or of the error of the velocity. Samples of the right spread take ``l2``.
    coarse_weight
        Weight of the coarse head's L1 in the stage ``diffusion`` (the paper: 0).
    early_share, early_step
        Share of the draws of t that fall below `early_step` rather than anywhere in 1 … T (the paper: 0). A reverse
        process that begins there never sees a later t.
    deep_weight
        Weight of the L1 of a network's earlier outputs, if it has several.
    adversarial_weight
        Weight of the discriminator's verdict beside the L1.
    weight_decay
        Share of a weight, times the learning rate, that is taken from it with every step (AdamW; the paper: 0).
    ct_blank_share
        Chance of a slice to be drawn without its CT, which tells patients apart more than doses (the paper: 0).
    dropout
        Chance of a channel to be left out within a residual block (the paper: 0).
    turn_share, turn_deg, zoom
        Augmentation, see `model.training.augmentation` (the paper: none).
    ema_decay
        Of the weights' exponential moving average, which is what is shipped (the paper: none, 0).
    validate_patients
        Validation patients scored on the way, None for all. The checkpoint is the average of the weights that scored
        best in the last stage.
    """

    batch: int = Field(16, ge=1)
    crop: tuple[int, int] = (80, 96)
    depth: int | None = Field(None, ge=1)
    learning_rate: float = Field(5e-4, gt=0)
    warmup: int = Field(100, ge=1)
    decay: Literal["cosine", "step"] = "cosine"
    loss: Literal["l1", "l2"] = "l1"
    coarse_weight: float = Field(1.0, ge=0)
    early_share: float = Field(0.75, ge=0, le=1)
    early_step: int = Field(100, ge=1)
    deep_weight: float = Field(0.5, ge=0)
    adversarial_weight: float = Field(0.01, ge=0)
    weight_decay: float = Field(0.0, ge=0)
    ct_blank_share: float = Field(0.0, ge=0, le=1)
    dropout: float = Field(0.0, ge=0, lt=1)
    turn_share: float = Field(0.5, ge=0, le=1)
    turn_deg: float = Field(10.0, ge=0)
    zoom: float = Field(0.1, ge=0)
    ema_decay: float = Field(0.999, ge=0, lt=1)
    gradient_limit: float = Field(1.0, gt=0)
    seed: int = Field(0, ge=0)
    save_every_s: float = Field(60.0, ge=0)
    validate_every_minutes: float = Field(15.0, ge=0)
    validate_patients: int | None = Field(None, ge=1)


class Recipe(_Frozen):
    """All that decides a checkpoint but the patients.

    Parameters
    ----------
    name, description, licence
        Of the checkpoint, for its manifest.
    data
        Where the patients come from, for its manifest.
    simulated
        Whether they are simulated.
    site
        One of `SITES`.
    network
        Kind and sizes.
    stages
        Budget of each stage of training, see `STAGES_OF`.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")
    description: str
    data: str
    licence: str
    simulated: bool = False
    site: str
    network: Architecture
    schedule: Schedule = Schedule()
    sampler: SamplerDefaults
    stages: Mapping[Stage, Budget]
    training: TrainingOptions = TrainingOptions()

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        kind = self.network.kind
        if self.site not in SITES:
            raise ValueError(f"there is no site {self.site!r}, only {', '.join(SITES)}")
        if set(self.stages) != set(STAGES_OF[kind]):
            raise ValueError(f"a network of kind {kind} has the stages {', '.join(STAGES_OF[kind])}")
        if self.sampler.sampler not in SAMPLERS_OF[kind]:
            raise ValueError(f"a network of kind {kind} cannot sample by {self.sampler.sampler}")
        if (self.training.depth is not None) != (kind == "c3d"):
            raise ValueError("'depth' is for volumetric networks, and they need it")
        return self

    def within(self, minutes: float) -> Self:
        """Return the same recipe for so many minutes in all, divided among its stages as before.

        Raises
        ------
        DatasetError
            If it counts batches, not minutes.
        """
        planned = {stage: budget.minutes for stage, budget in self.stages.items() if budget.minutes is not None}
        if len(planned) != len(self.stages) or not sum(planned.values()):
            raise DatasetError(f"the budget of recipe {self.name} is not in minutes, so it cannot be divided anew")
        share = minutes / sum(planned.values())
        stages = {stage: Budget(minutes=round(share * budget, 3)) for stage, budget in planned.items()}
        return self.model_copy(update={"stages": stages})

    @property
    def conditioner(self) -> Conditioner:
        """What turns a case into images."""
        return SITES[self.site]


def read_recipe(source: str) -> Recipe:
    """Read a recipe: a TOML file, or the name of a shipped one.

    Raises
    ------
    DatasetError
        If there is none, or it says what a recipe cannot.
    """
    path = Path(source)
    if not path.is_file() and (SHIPPED_RECIPES / f"{source}.toml").is_file():
        path = SHIPPED_RECIPES / f"{source}.toml"
    try:
        with path.open("rb") as file:
            return Recipe.model_validate(tomllib.load(file))
    except OSError as error:
        names = (p.relative_to(SHIPPED_RECIPES).with_suffix("") for p in SHIPPED_RECIPES.rglob("*.toml"))
        shipped = ", ".join(sorted(name.as_posix() for name in names))
        raise DatasetError(f"there is no recipe {source}; those that are shipped: {shipped}") from error
    except tomllib.TOMLDecodeError as error:
        raise DatasetError(f"{path} is not TOML: {error}") from error
    except ValidationError as error:
        told = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'recipe'}: {e['msg']}" for e in error.errors())
        raise DatasetError(f"{path} is not a recipe: {told}") from error
