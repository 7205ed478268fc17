"""`diffdp models`: what can predict here."""

import json

import typer

from service.cli import options
from service.cli.options import SIMULATED
from service.settings import Settings
from service.wiring import find_models


def models(*, as_json: options.AsJson = False) -> None:
    """List the models; their weights are checked."""
    manifests = [checkpoint.manifest for checkpoint in find_models(Settings.load()).values()]
    if as_json:
        typer.echo(json.dumps([manifest.model_dump(mode="json") for manifest in manifests]))
        return
    if not manifests:
        typer.echo("There are no models.")
    for manifest in manifests:
        typer.echo(f"{manifest.name} {manifest.version}: {manifest.site.name}. {manifest.description}")
        if manifest.training.simulated:
            typer.echo(f"    {SIMULATED}")
        for name, figure in manifest.figures_of_merit.items():
            typer.echo(f"    {name}: {figure}")
