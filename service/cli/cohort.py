"""`diffdp cohort`: simulated patients with a physical dose, as DICOM studies."""

import os
import shutil
from collections.abc import Iterator
from concurrent.futures import as_completed
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from tqdm import tqdm

from model.processes import process_pool


class CohortSite(StrEnum):
    """What there are simulated cohorts of."""

    RECTUM = "rectum"


def cohort(
    site: Annotated[CohortSite, typer.Argument(help="What the patients are treated for.")],
    out: Annotated[Path, typer.Option("-o", "--out", file_okay=False, help="Receives a folder per patient.")],
    *,
    patients: Annotated[int, typer.Option(min=1, help="How many.")] = 130,
    first: Annotated[int, typer.Option(min=1, help="Number of the first, to make a cohort in parts.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Which cohort; the same seed gives the same files.")] = 1,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Patients made at the same time; by default one per processor.")
    ] = None,
) -> None:
    """Make simulated patients: CT, RTSTRUCT, RTPLAN and RTDOSE of a plan that was optimised for each of them.

    Patients that are in the folder already are not made again, so a run that was stopped goes on.
    """
    names = {number: f"{site}-{seed}-{number:03d}" for number in range(first, first + patients)}
    for leftover in out.glob(".*.part"):
        shutil.rmtree(leftover)
    wanted = [number for number, name in names.items() if not (out / name).exists()]
    with tqdm(total=patients, initial=patients - len(wanted), unit="patient") as bar:
        for _ in _made(out, {number: names[number] for number in wanted}, seed, workers or os.cpu_count() or 1):
            bar.update()
    typer.echo(f"{patients} patients in {out}, {len(wanted)} of them new; no real patient, no treatment")


def _made(out: Path, names: dict[int, str], seed: int, workers: int) -> Iterator[None]:
    """Make patients, and yield after each."""
    if workers == 1 or len(names) == 1:
        for number, name in names.items():
            _make(out, name, seed, number)
            yield
        return
    with process_pool(min(workers, max(len(names), 1))) as pool:
        making = [pool.submit(_make, out, name, seed, number) for number, name in names.items()]
        try:
            for done in as_completed(making):
                done.result()
                yield
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _make(out: Path, name: str, seed: int, number: int) -> None:
    """Write one patient's study; its folder appears whole or not at all."""
    from model.cohort.rectum import simulated_rectum  # noqa: PLC0415 - torch takes seconds to load
    from model.dicom.export import write_study  # noqa: PLC0415

    partial = out / f".{name}.part"
    write_study(
        simulated_rectum(seed, number),
        partial,
        patient_name=f"Simulated^{name}",
        patient_id=f"SIMULATED-{name}",
        description="Simulated patient, no real one",
    )
    partial.rename(out / name)
