"""Offline commands for physicists: train a model, score one. They need no service."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from tqdm import tqdm

from model.checkpoint.store import SHIPPED, Checkpoint, find_checkpoints, open_checkpoint


class DeviceName(StrEnum):
    """Where networks run; auto takes the GPU if there is one."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


def train(
    recipe: Annotated[str, typer.Argument(help="A recipe (TOML), or the name of a shipped one.")],
    training: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="Folder of training cases.")],
    validation: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="Folder of validation cases.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder that receives the checkpoint.")],
    run: Annotated[Path, typer.Option(help="Folder of the training's state and log; training goes on from it.")],
    start_from: Annotated[
        str | None, typer.Option(help="Begin with the weights of this checkpoint: a shipped one's name, or a folder.")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(min=0.01, help="Train so long in all, the stages divided as in the recipe.")
    ] = None,
    device: Annotated[DeviceName, typer.Option()] = DeviceName.AUTO,
) -> None:
    """Train a network by a recipe, which says what is trained, how and for how long.

    Killed or stopped, the same command goes on from the last minute.
    """
    from model.training.recipe import read_recipe  # noqa: PLC0415
    from model.training.run import train_checkpoint  # noqa: PLC0415
    from model.training.train import Report  # noqa: PLC0415

    read = read_recipe(recipe)
    if minutes is not None:
        read = read.within(minutes)
    stages = list(read.stages)
    with tqdm(total=len(stages), unit="stage", bar_format="{l_bar}{bar}| {elapsed}{postfix}") as bar:

        def report(news: Report | str) -> None:
            if isinstance(news, str):
                bar.write(news)
                return
            progress = news.progress
            bar.n = stages.index(progress.stage) + min(news.spent, 1.0)
            bar.set_description(progress.stage)
            bar.set_postfix({"batch": progress.batches} | {name: f"{value:.4f}" for name, value in news.losses.items()})

        start = _checkpoint(start_from) if start_from is not None else None
        train_checkpoint(read, training, validation, run, output, device, report, start)
    typer.echo(f"checkpoint in {output}")


def evaluate(
    data: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="Folder of cases.")],
    systems: Annotated[
        list[str],
        typer.Argument(
            metavar="SYSTEM…",
            help="[LABEL=]MODEL[@SAMPLER[:STEPS[:SAMPLES[:START]]]]; MODEL is a shipped checkpoint's name or a folder. "
            "The others are tested against the first.",
        ),
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder that receives tables (Markdown, CSV) and figures.")
    ] = None,
    every: Annotated[int, typer.Option(min=1, help="Take every N-th case only.")] = 1,
    only: Annotated[list[str] | None, typer.Option(help="Take this case only; may be said several times.")] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    device: Annotated[DeviceName, typer.Option()] = DeviceName.AUTO,
    *,
    gamma: Annotated[bool, typer.Option(help="Find the gamma passing rates too: seconds a patient.")] = True,
    write: Annotated[bool, typer.Option("--write", help="Put the first one's figures into its manifest.")] = False,
) -> None:
    """Score checkpoints on cases with a reference dose, and compare them: every figure of merit, tests, figures."""
    from model.evaluation.comparison import comparison_markdown, write_comparison  # noqa: PLC0415
    from model.evaluation.figures import dose_maps, dvh_curves  # noqa: PLC0415
    from model.evaluation.systems import compare, costs, parse_system  # noqa: PLC0415
    from model.training.case_file import case_files, load_case  # noqa: PLC0415
    from model.training.run import record_figures  # noqa: PLC0415

    compared = [parse_system(text, _checkpoint) for text in systems]
    main = compared[0]
    if len({system.label for system in compared}) < len(compared):
        raise typer.BadParameter("two systems have the same label")
    files = case_files(data)
    missing = set(only or ()) - {file.stem for file in files}
    if missing:
        raise typer.BadParameter(f"there is no case {', '.join(sorted(missing))} in {data}")
    files = [file for file in files if not only or file.stem in only][::every]
    with tqdm(total=len(files) * len(compared), unit="patient") as bar:

        def done(label: str) -> None:
            bar.set_description(label, refresh=False)
            bar.update()

        scores, case, doses = compare(compared, files, load_case, device, seed, done, with_gamma=gamma)
    if write:
        record_figures(main.checkpoint, scores[main.label].figures())
    extras = costs(compared, scores)
    typer.echo(comparison_markdown(scores, main.label, extras))
    if output is None:
        return
    write_comparison(output, scores, main.label, extras)
    dose_maps(case, doses).savefig(output / "dose_maps.png")
    targets = sorted(case.prescription.dose_gy, key=case.prescription.dose_gy.__getitem__, reverse=True)
    organs = [s.name for s in case.structures.values() if s.kind == "oar" and s.mask.any()]
    dvh_curves(case, doses, [targets[0], *organs[:5]]).savefig(output / "dvh.png")
    chosen = "".join(f" --only {name}" for name in only or ())
    (output / "commands.txt").write_text(
        f"diffdp evaluate {data} {' '.join(systems)}{chosen} --every {every} --seed {seed}\n", encoding="utf-8"
    )
    typer.echo(f"tables and figures in {output}")


def calibrate(
    checkpoint: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="Folder of the checkpoint.")],
    data: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="Folder of cases it has not learnt from.")],
    pooling_mm: Annotated[float, typer.Option(min=0, max=50, help="Width over which the spread is averaged.")] = 10.0,
    device: Annotated[DeviceName, typer.Option()] = DeviceName.AUTO,
) -> None:
    """Find what makes the samples' spread the standard deviation of the dose's error, and put it into the manifest."""
    from model.evaluation.spread import calibrate_spread  # noqa: PLC0415
    from model.prediction.predictor import Predictor  # noqa: PLC0415
    from model.training.case_file import case_files, load_case  # noqa: PLC0415
    from model.training.run import record_spread  # noqa: PLC0415

    opened = open_checkpoint(checkpoint)
    cases = [load_case(file) for file in case_files(data)]
    with tqdm(total=len(cases), unit="patient") as bar:
        found = calibrate_spread(Predictor.load(opened, device), cases, pooling_mm, bar.update)
    record_spread(opened, found)
    typer.echo(f"the error's standard deviation is {found.scale:g} times the samples', by {found.patients} patients")


def _checkpoint(model: str) -> Checkpoint:
    if Path(model).is_dir():
        return open_checkpoint(Path(model))
    shipped = find_checkpoints((SHIPPED,))
    if model not in shipped:
        raise typer.BadParameter(f"no checkpoint of that name; there are {', '.join(sorted(shipped)) or 'none'}")
    return shipped[model]
