"""`diffdp import`: patients of others, and a clinic's own, as case files for training and evaluation."""

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from tqdm import tqdm

from service.intake.archive import unpack
from service.intake.limits import Limits
from service.settings import Settings

import_app = typer.Typer(help="Turn patients into case files for training and evaluation.", no_args_is_help=True)


class ImportSite(StrEnum):
    """What studies can be imported of; recipes call these sites by the same names."""

    HEAD_AND_NECK = "head-and-neck"
    RECTUM = "rectum"


@import_app.command("openkbp")
def import_openkbp(
    source: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="OpenKBP, CSV or packed layout.")],
    destination: Annotated[Path, typer.Argument(file_okay=False, help="Receives one .npz per patient.")],
) -> None:
    """Import OpenKBP's head-and-neck patients; folders such as train and val are kept."""
    from model.training.openkbp import import_openkbp as run_import  # noqa: PLC0415

    with tqdm(unit="patient") as bar:
        written, refused = run_import(source, destination, _shown_on(bar))
    for line in refused:
        typer.echo(f"refused: {line}", err=True)
    typer.echo(f"{written} cases in {destination}, {len(refused)} refused")


@import_app.command("dicom")
def import_dicom(
    source: Annotated[
        Path, typer.Argument(exists=True, file_okay=False, help="Folder of studies: folders however deep, and zips.")
    ],
    destination: Annotated[Path, typer.Argument(file_okay=False, help="Receives one .npz per study, and import.csv.")],
    site: Annotated[ImportSite, typer.Option(help="What the studies are of.")] = ImportSite.HEAD_AND_NECK,
    salt: Annotated[str, typer.Option(help="Secret that goes into the pseudonyms; the same gives the same.")] = "",
) -> None:
    """Import studies with CT, RTSTRUCT, RTDOSE and, better, RTPLAN under pseudonyms.

    import.csv says of each study what became of it and why. It names paths below SOURCE, which may name patients.
    """
    # The readers of DICOM take seconds to load; other commands do without
    from model.conditioning import head_and_neck, rectum  # noqa: PLC0415
    from model.training.dicom_import import LOG  # noqa: PLC0415
    from model.training.dicom_import import import_dicom as run_import  # noqa: PLC0415

    sites = {ImportSite.HEAD_AND_NECK: head_and_neck.SITE, ImportSite.RECTUM: rectum.SITE}
    limits = Limits.of(Settings.load())
    with tqdm() as bar:
        show = _shown_on(bar)

        def progress(what: str, done: int, total: int) -> None:
            if not bar.desc.startswith(what):
                bar.reset()
                bar.set_description(what, refresh=False)
            show(done, total)

        result = run_import(
            source,
            destination,
            sites[site],
            lambda archive, folder: unpack(archive, folder, limits),
            progress,
            salt=salt,
        )
    refused = [outcome for outcome in result.outcomes if not outcome.imported]
    for outcome in refused:
        typer.echo(f"refused: {outcome.source}: {outcome.reason} [{outcome.code}]", err=True)
    if result.other_count:
        typer.echo(f"{result.other_count} files are no DICOM objects", err=True)
    cases = {f"{outcome.identifier}.npz" for outcome in result.outcomes if outcome.imported}
    older = sum(path.name not in cases for path in destination.glob("*.npz"))
    if older:
        typer.echo(f"{older} case files in {destination} are not of this import", err=True)
    typer.echo(f"{len(cases)} cases in {destination}, {len(refused)} refused; see {destination / LOG}")
    if not cases:
        raise typer.Exit(1)


def _shown_on(bar: "tqdm[None]") -> Callable[[int, int], None]:
    def progress(done: int, total: int) -> None:
        bar.total = total
        bar.update(done - bar.n)

    return progress
