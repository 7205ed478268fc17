"""Offline commands for physicists: import data, train a model, score one. They need no service."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from tqdm import tqdm

from model.checkpoint.manifest import Sampler
from model.checkpoint.store import SHIPPED, Checkpoint, find_checkpoints, open_checkpoint

import_app = typer.Typer(help="Turn patients into case files for training and evaluation.", no_args_is_help=True)


class DeviceName(StrEnum):
    """Where networks run; auto takes the GPU if there is one."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


@import_app.command("openkbp")
def import_openkbp(
    source: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="OpenKBP, CSV or packed layout.")],
    destination: Annotated[Path, typer.Argument(file_okay=False, help="Receives one .npz per patient.")],
) -> None:
    """Import OpenKBP's head-and-neck patients; folders such as train and val are kept."""
    from model.training.openkbp import import_openkbp as run_import  # noqa: PLC0415

    with tqdm(unit="patient") as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        written, refused = run_import(source, destination, progress)
    for line in refused:
        typer.echo(f"refused: {line}", err=True)
    typer.echo(f"{written} cases in {destination}, {len(refused)} refused")


def train(
    training: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="Folder of training cases.")],
    validation: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="Folder of validation cases.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder that receives the checkpoint.")],
    run: Annotated[Path, typer.Option(help="Folder of the training's state and log; training goes on from it.")],
    name: Annotated[str, typer.Option(help="Name of the checkpoint.")],
    pretrain_minutes: Annotated[float, typer.Option(min=0, help="Budget of the encoder's pre-training.")] = 60,
    diffusion_minutes: Annotated[float, typer.Option(min=0, help="Budget of the diffusion's training.")] = 60,
    batch: Annotated[int, typer.Option(min=1)] = 16,
    learning_rate: Annotated[float, typer.Option(min=0)] = 3e-4,
    seed: Annotated[int, typer.Option()] = 0,
    device: Annotated[DeviceName, typer.Option()] = DeviceName.AUTO,
) -> None:
    """Train DiffDP for head and neck: L1 pre-training of the structure encoder, then Eq. 9 of the paper.

    Killed or stopped, the same command goes on from the last minute.
    """
    from model.training.run import head_and_neck_run, train_checkpoint  # noqa: PLC0415
    from model.training.train import Report, TrainingOptions  # noqa: PLC0415

    options = TrainingOptions(pretrain_minutes, diffusion_minutes, batch=batch, learning_rate=learning_rate, seed=seed)
    with tqdm(total=round(60 * (pretrain_minutes + diffusion_minutes)), unit="s") as bar:

        def report(news: Report | str) -> None:
            if isinstance(news, str):
                bar.write(news)
                return
            before = 0.0 if news.progress.stage == "pretrain" else 60 * pretrain_minutes
            bar.update(round(before + news.progress.elapsed_s) - bar.n)
            bar.set_description(news.progress.stage)
            bar.set_postfix({name: f"{value:.4f}" for name, value in news.losses.items()})

        train_checkpoint(head_and_neck_run(name, run, training, validation, options), output, device, report)
    typer.echo(f"checkpoint in {output}")


def evaluate(
    model: Annotated[str, typer.Argument(help="Name of a shipped checkpoint, or a checkpoint's folder.")],
    data: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="Folder of cases.")],
    sampler: Annotated[
        Sampler | None, typer.Option(help="By default the checkpoint's, as are steps and samples.")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1)] = None,
    samples: Annotated[int | None, typer.Option(min=1)] = None,
    seed: Annotated[int, typer.Option()] = 0,
    device: Annotated[DeviceName, typer.Option()] = DeviceName.AUTO,
    *,
    write: Annotated[bool, typer.Option("--write", help="Put the figures into the checkpoint's manifest.")] = False,
) -> None:
    """Score a checkpoint on cases with a reference dose: OpenKBP's scores, sharpness, time."""
    from model.checkpoint.manifest import SamplerDefaults  # noqa: PLC0415
    from model.evaluation.scores import evaluate as score  # noqa: PLC0415
    from model.prediction.predictor import Predictor, SamplingOptions  # noqa: PLC0415
    from model.training.case_file import case_files, load_case  # noqa: PLC0415
    from model.training.run import record_figures  # noqa: PLC0415

    checkpoint = _checkpoint(model)
    asked = {"sampler": sampler, "steps": steps, "samples": samples}
    chosen = SamplerDefaults.model_validate(
        checkpoint.manifest.defaults.model_dump() | {key: value for key, value in asked.items() if value is not None}
    )
    options = SamplingOptions(chosen.sampler, chosen.steps, chosen.samples, seed)
    predictor = Predictor.load(checkpoint, device)
    files = case_files(data)
    with tqdm(total=len(files), unit="patient") as bar:
        scores = score(predictor, (load_case(path) for path in files), options, bar.update)
    figures = scores.figures()
    if write:
        record_figures(checkpoint, figures)
    typer.echo(
        json.dumps({"model": checkpoint.manifest.name, **chosen.model_dump(), "seed": seed, **figures}, indent=1)
    )


def _checkpoint(model: str) -> Checkpoint:
    if Path(model).is_dir():
        return open_checkpoint(Path(model))
    shipped = find_checkpoints((SHIPPED,))
    if model not in shipped:
        raise typer.BadParameter(f"no checkpoint of that name; there are {', '.join(sorted(shipped)) or 'none'}")
    return shipped[model]
