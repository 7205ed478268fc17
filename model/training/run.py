"""One training from case files to a checkpoint folder."""

import os
import platform
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from model.checkpoint.manifest import Manifest, SpreadCalibration
from model.checkpoint.manifest import Training as TrainingRecord
from model.checkpoint.store import MANIFEST, WEIGHTS, Checkpoint, file_sha256
from model.diffusion.schedule import NoiseSchedule
from model.errors import CheckpointError
from model.evaluation.scores import evaluate
from model.networks.registry import build
from model.networks.system import DoseNetwork
from model.prediction.predictor import Predictor, SamplingOptions, choose_device
from model.training.case_file import case_files, load_case
from model.training.objectives import objective_of
from model.training.recipe import Recipe, Stage
from model.training.slices import SliceSampler, load_training_cases, memory_gib
from model.training.train import Report, Trainer, Validation

LENDING = ("diffdp", "diffdp-residual")
"""A kind of network whose encoder and coarse head the other can begin with."""


def train(
    recipe: Recipe,
    training: Path,
    validation: Path,
    folder: Path,
    device: str,
    report: Callable[[Report | str], None],
    start: Checkpoint | None = None,
    workers: int | None = None,
) -> Trainer:
    """Train by a recipe until the budgets are spent, from where the run folder says; validate on the way.

    Parameters
    ----------
    training, validation
        Folders of case files.
    folder
        Receives the training's state and log.
    report
        Is told what happens.
    start
        Whose weights to begin with; its channels and sizes must be the recipe's. A network that diffuses residuals may
        take g and the coarse head from one that does not.
    workers
        Processes that read cases, by default as many as there are processors and cases.

    Raises
    ------
    CheckpointError
        If `start` is of another kind.
    DatasetError
        If cases cannot be read, or the run folder holds another training.
    """
    chosen = choose_device(device)
    options = recipe.training
    torch.manual_seed(options.seed)
    network = build(len(recipe.conditioner.channels), recipe.network) if start is None else _network_of(start, recipe)
    network.on(chosen)
    objective = objective_of(network, options, NoiseSchedule(**recipe.schedule.model_dump()))
    files = case_files(training)
    workers = workers or min(len(files), os.cpu_count() or 1)
    cases = load_training_cases(
        files,
        recipe.conditioner,
        options.crop,
        chosen,
        workers,
        lambda done, total: report(f"reading cases {done}/{total}"),
    )
    report(f"{len(cases)} training cases take {memory_gib(cases):.1f} GiB on {chosen}")
    channels = recipe.conditioner.channels
    sampler = SliceSampler(cases, channels, options.crop, options.seed, options.depth, options.ct_blank_share)
    trainer = Trainer(
        folder,
        objective,
        sampler,
        recipe.stages,
        options,
        chosen,
        {
            "recipe": recipe.model_dump(mode="json"),
            "cases": [path.stem for path in files],
            "started_from": _sha256(start),
        },
    )
    scored = [load_case(path) for path in case_files(validation)[: options.validate_patients]]

    def validate(stage: Stage, network: DoseNetwork) -> Validation:
        predictor = Predictor(network, manifest_of(recipe, trainer, len(files), len(scored), start), chosen)
        defaults = recipe.sampler.model_copy(update={"sampler": "coarse"}) if stage == "pretrain" else recipe.sampler
        scores = evaluate(predictor, scored, SamplingOptions.by(defaults), with_gamma=False)
        figures = scores.figures()
        report(f"{stage}: dose score {scores.dose_score_gy:.3f} Gy by {defaults.sampler} on {len(scored)} patients")
        return Validation(scores.dose_score_gy, figures)

    trainer.run(report, validate)
    return trainer


def train_checkpoint(
    recipe: Recipe,
    training: Path,
    validation: Path,
    folder: Path,
    output: Path,
    device: str,
    report: Callable[[Report | str], None],
    start: Checkpoint | None = None,
) -> None:
    """Train by a recipe and write the best weights as a checkpoint; see `train`."""
    trainer = train(recipe, training, validation, folder, device, report, start)
    manifest = manifest_of(recipe, trainer, len(case_files(training)), len(case_files(validation)), start)
    write_checkpoint(output, trainer.best_weights(), manifest)


def _network_of(start: Checkpoint, recipe: Recipe) -> DoseNetwork:
    manifest, wanted = start.manifest, recipe.network
    same_sizes = manifest.architecture.model_copy(update={"kind": wanted.kind}) == wanted
    kinds = (manifest.architecture.kind, wanted.kind)
    if manifest.channels != recipe.conditioner.channels or not same_sizes or (len({*kinds}) > 1 and kinds != LENDING):
        raise CheckpointError(f"{manifest.name} has other channels or sizes than the recipe; it is no start for it")
    theirs = Predictor.load(start, "cpu").network
    if kinds != LENDING:
        return theirs
    network = build(theirs.channels, wanted)
    for part in ("encoder", "coarse"):
        network.get_submodule(part).load_state_dict(theirs.get_submodule(part).state_dict())
    return network


def _sha256(start: Checkpoint | None) -> str | None:
    return None if start is None else start.manifest.weights_sha256


def manifest_of(
    recipe: Recipe, trainer: Trainer, patients: int, validation_patients: int, start: Checkpoint | None = None
) -> Manifest:
    """Describe a training's result; scores and hash are filled in when they are known."""
    conditioner, progress = recipe.conditioner, trainer.progress
    stages = ", ".join(f"{budget} of stage {stage}" for stage, budget in recipe.stages.items())
    return Manifest(
        name=recipe.name,
        version="1",
        description=recipe.description,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        licence=recipe.licence,
        architecture=recipe.network,
        channels=conditioner.channels,
        grid=conditioner.grid,
        smallest_window=recipe.training.crop,
        normalisation=conditioner.normalisation,
        schedule=recipe.schedule,
        defaults=recipe.sampler,
        site=conditioner.site,
        training=TrainingRecord(
            data=recipe.data,
            patients=patients,
            validation_patients=validation_patients,
            simulated=recipe.simulated,
            budget=f"{stages}, on {trainer.device.type}",
            steps=dict(progress.done),
            software={"python": platform.python_version(), "torch": torch.__version__},
            recipe=recipe.model_dump(mode="json"),
            started_from=_sha256(start),
        ),
        figures_of_merit={},
        weights_sha256="",
    )


def write_checkpoint(destination: Path, weights: Mapping[str, Tensor], manifest: Manifest) -> None:
    """Write weights at half precision, and the manifest with their hash, into a folder."""
    destination.mkdir(parents=True, exist_ok=True)
    halved = {k: (v.half() if v.is_floating_point() else v).contiguous().cpu() for k, v in weights.items()}
    save_file(halved, destination / WEIGHTS)
    (destination / WEIGHTS).chmod(0o644)  # a service that runs as somebody else must read them
    whole = manifest.model_copy(update={"weights_sha256": file_sha256(destination / WEIGHTS)})
    _write_manifest(destination, whole)


def record_figures(checkpoint: Checkpoint, figures: Mapping[str, float]) -> None:
    """Put figures of merit into the manifest of a checkpoint."""
    told = {name: float(value) for name, value in figures.items()}
    _write_manifest(checkpoint.folder, checkpoint.manifest.model_copy(update={"figures_of_merit": told}))


def record_spread(checkpoint: Checkpoint, spread: SpreadCalibration) -> None:
    """Put a calibration of the spread into the manifest of a checkpoint."""
    _write_manifest(checkpoint.folder, checkpoint.manifest.model_copy(update={"spread": spread}))


def _write_manifest(folder: Path, manifest: Manifest) -> None:
    (folder / MANIFEST).write_text(manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")
