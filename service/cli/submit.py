"""`diffdp submit`: predict on a server."""

import json
from typing import Annotated

import typer

from service.cli import options
from service.cli.client import Client
from service.cli.options import parameters_of, progress_bar
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
    sampler: options.Sampler = None,
    steps: options.Steps = None,
    samples: options.Samples = None,
    seed: options.Seed = 0,
    as_json: options.AsJson = False,
) -> None:
    """Post a study to a server and write its results."""
    settings = Settings.load(server=server)
    parameters = parameters_of(
        model=model,
        prescription_gy=prescription_gy,
        fractions=fractions,
        structures=structure,
        sampler=sampler,
        steps=steps,
        samples=samples,
        seed=seed,
    )
    client = Client(settings.server, settings.api_key.get_secret_value())
    with progress_bar(shown=not as_json) as bar:
        job = client.predict(study, parameters, out, bar)
    if as_json:
        typer.echo(json.dumps(job))
        return
    for warning in job["warnings"]:
        typer.echo(f"Note: {warning}", err=True)
    typer.echo(f"Results are in {out}")
