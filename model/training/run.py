"""One training from case files to a checkpoint folder."""

import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from model.checkpoint.manifest import Architecture, Manifest, Sampler, SamplerDefaults, Schedule
from model.checkpoint.manifest import Training as TrainingRecord
from model.checkpoint.store import MANIFEST, WEIGHTS, Checkpoint, file_sha256
from model.conditioning import head_and_neck
from model.evaluation.scores import evaluate
from model.networks.diffdp import DiffDP
from model.prediction.predictor import Predictor, SamplingOptions, choose_device
from model.training.case_file import case_files, load_case
from model.training.slices import Recipe, SliceSampler, load_training_cases
from model.training.train import Progress, Report, Trainer, TrainingOptions

HEAD_AND_NECK = Recipe(head_and_neck.SITE, head_and_neck.GRID, head_and_neck.CHANNELS, head_and_neck.NORMALISATION)
DEFAULT_SAMPLER = SamplerDefaults(sampler="coarse-ddim", steps=1, samples=2, start_step=15)
"""Chosen by the table in docs/results/hn-openkbp.md; choose anew for a network that was trained longer."""
DEFAULT_ARCHITECTURE = Architecture(widths=(32, 64, 128, 192, 256), heads=4, groups=8)


@dataclass(frozen=True)
class Run:
    """A training's inputs.

    Parameters
    ----------
    name
        Of the checkpoint.
    training, validation
        Folders of case files.
    validation_cases
        Number of validation patients scored while training; all are scored by ``diffdp evaluate``.
    """

    name: str
    folder: Path
    training: Path
    validation: Path
    recipe: Recipe
    architecture: Architecture
    schedule: Schedule
    defaults: SamplerDefaults
    options: TrainingOptions
    validation_cases: int = 6


def train(run: Run, device: str, report: Callable[[Report | str], None], workers: int = 2) -> Trainer:
    """Train until the budgets are spent, from where the run folder says; validate on the way."""
    chosen = choose_device(device)
    files = case_files(run.training)
    cases = load_training_cases(files, run.recipe, workers, lambda done, total: report(f"reading cases {done}/{total}"))
    sampler = SliceSampler(cases, run.options.crop, np.random.default_rng(run.options.seed))
    trainer = Trainer(
        run.folder, len(run.recipe.channels), run.architecture, run.schedule, sampler, run.options, str(chosen)
    )
    validation = [load_case(path) for path in case_files(run.validation)[: run.validation_cases]]

    def validate(progress: Progress, network: DiffDP) -> dict[str, float]:
        predictor = Predictor(network, manifest_of(run, trainer, len(files)), chosen)
        samplers: tuple[Sampler, ...] = (
            ("coarse",) if progress.stage == "pretrain" else ("coarse", run.defaults.sampler)
        )
        scores = {}
        for name in samplers:
            options = SamplingOptions(name, run.defaults.steps, run.defaults.samples, seed=0)
            scores[f"dose_score_gy.{name}"] = evaluate(predictor, validation, options).dose_score_gy
        report(f"validation on {len(validation)} cases: {scores}")
        return scores

    trainer.run(report, validate)
    return trainer


def manifest_of(run: Run, trainer: Trainer, patients: int) -> Manifest:
    """Describe a training's result; scores and hash are filled in when they are known."""
    options, progress = run.options, trainer.progress
    return Manifest(
        name=run.name,
        version="1",
        description="DiffDP for head-and-neck IMRT, trained on OpenKBP. Predicted dose, not for treatment decisions.",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        licence="MIT",
        architecture=run.architecture,
        channels=run.recipe.channels,
        grid=run.recipe.grid,
        normalisation=run.recipe.normalisation,
        schedule=run.schedule,
        defaults=run.defaults,
        site=run.recipe.site,
        training=TrainingRecord(
            data="OpenKBP (Babier et al., Med. Phys. 48, 2021)",
            patients=patients,
            validation_patients=len(case_files(run.validation)),
            simulated=False,
            budget=f"{options.pretrain_minutes:g} min of pre-training, {options.diffusion_minutes:g} min of training, "
            f"on {trainer.device.type}",
            loss=f"pre-training: L1 of the coarse dose; training: Eq. 9 with {options.loss.upper()} + "
            f"{options.coarse_weight:g} x L1 of the coarse dose",
            steps={"pretrain": progress.pretrain_steps, "diffusion": progress.diffusion_steps},
            software={"python": platform.python_version(), "torch": torch.__version__},
        ),
        figures_of_merit={},
        weights_sha256="",
    )


def write_checkpoint(destination: Path, weights: Mapping[str, Tensor], manifest: Manifest) -> None:
    """Write weights at half precision, and the manifest with their hash, into a folder."""
    destination.mkdir(parents=True, exist_ok=True)
    halved = {name: value.half().contiguous().cpu() for name, value in weights.items()}
    save_file(halved, destination / WEIGHTS)
    whole = manifest.model_copy(update={"weights_sha256": file_sha256(destination / WEIGHTS)})
    _write_manifest(destination, whole)


def head_and_neck_run(name: str, folder: Path, training: Path, validation: Path, options: TrainingOptions) -> Run:
    """Return a run with the shipped head-and-neck recipe, sizes and sampler."""
    return Run(
        name=name,
        folder=folder,
        training=training,
        validation=validation,
        recipe=HEAD_AND_NECK,
        architecture=DEFAULT_ARCHITECTURE,
        schedule=Schedule(),
        defaults=DEFAULT_SAMPLER,
        options=options,
    )


def train_checkpoint(run: Run, destination: Path, device: str, report: Callable[[Report | str], None]) -> None:
    """Train, or go on training, and write the checkpoint."""
    trainer = train(run, device, report)
    manifest = manifest_of(run, trainer, len(case_files(run.training)))
    write_checkpoint(destination, trainer.average, manifest)


def record_figures(checkpoint: Checkpoint, figures: Mapping[str, float]) -> None:
    """Put figures of merit into a checkpoint's manifest."""
    manifest = checkpoint.manifest.model_copy(
        update={"figures_of_merit": {name: float(value) for name, value in figures.items()}}
    )
    _write_manifest(checkpoint.folder, manifest)


def _write_manifest(folder: Path, manifest: Manifest) -> None:
    (folder / MANIFEST).write_text(manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")
