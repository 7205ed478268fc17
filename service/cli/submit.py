"""`diffdp submit`: predict on a server."""

import json
from contextlib import closing
from typing import Annotated

import typer

from service.cli import options
from service.cli.client import Client
from service.cli.options import SIMULATED, parameters_of, progress_bar
from service.settings import Settings


def submit(
    study: options.Study,
    out: options.Out,
    *,
    server: Annotated[str | None, typer.Option(help="Address of the server.")] = None,
    model: options.Model = None,
    prescription_gy: options.PrescriptionGy = None,
    fractions: options.Fractions = None,
    structure: options.StructureMap = None,
    ct_series: options.CtSeries = None,
    structure_set: options.StructureSet = None,
    sampler: options.Sampler = None,
    steps: options.Steps = None,
    samples: options.Samples = None,
    seed: options.Seed = 0,
    dose_grid_mm: options.DoseGridMm = None,
    dvh_in_dose: options.DvhInDose = False,
    as_json: options.AsJson = False,
) -> None:
    """Post a study to a server and write its results."""
    settings = Settings.load(server=server)
    parameters = parameters_of(
        model=model,
        prescription_gy=prescription_gy,
        fractions=fractions,
        structures=structure,
        ct_series=ct_series,
        structure_set=structure_set,
        sampler=sampler,
        steps=steps,
        samples=samples,
        seed=seed,
        dose_grid_mm=dose_grid_mm,
        dvh_in_dose=dvh_in_dose,
    )
    connecting = closing(Client(settings.server, settings.api_key.get_secret_value()))
    with connecting as client, progress_bar(shown=not as_json) as bar:
        job = client.predict(study, parameters, out, bar)
    if as_json:
        typer.echo(json.dumps(job))
        return
    if job["duplicate_of"]:
        typer.echo(f"Note: the same study was posted before, as job {job['duplicate_of']}", err=True)
    for warning in [*([SIMULATED] if job["simulated_training_data"] else []), *job["warnings"]]:
        typer.echo(f"Note: {warning}", err=True)
    typer.echo(f"Results are in {out}")
