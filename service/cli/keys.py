"""`diffdp keys`: the API keys in the job database."""

import json
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from service.access.audit import Act
from service.access.caller import TENANT, Scope
from service.access.keys import ApiKey
from service.cli import options
from service.cli.audit import operator
from service.jobs.job import DEFAULT_TENANT
from service.settings import Settings
from service.wiring import open_audit, open_keys

keys_app = typer.Typer(help="Make, list and revoke keys to the API.", no_args_is_help=True)


def _tenant(name: str) -> str:
    if not TENANT.fullmatch(name):
        raise typer.BadParameter("letters, digits, '.', '_' and '-', at most 64")
    return name


@keys_app.command()
def create(
    name: Annotated[str, typer.Argument(help="What uses the key; for people only.")],
    *,
    tenant: Annotated[str, typer.Option(callback=_tenant, help="Whose jobs it opens.")] = DEFAULT_TENANT,
    scope: Annotated[
        list[Scope] | None, typer.Option(help="What it allows; may be repeated. By default read and submit.")
    ] = None,
    days: Annotated[float | None, typer.Option(min=0, help="Time after which it opens nothing.")] = None,
    as_json: options.AsJson = False,
) -> None:
    """Make a key and show it, this once."""
    settings = Settings.load()
    lasts = None if days is None else timedelta(days=days)
    shown, key = open_keys(settings).create(name[:100], tenant, scope or [Scope.READ, Scope.SUBMIT], lasts=lasts)
    open_audit(settings).record(Act(operator(), "create_key", tenant, key.id))
    if as_json:
        typer.echo(json.dumps({"key": shown, **_told(key)}))
        return
    typer.echo(shown)
    typer.echo(f"Note: the service keeps only a digest; nobody can show key {key.id} again.", err=True)


@keys_app.command("list")
def list_keys(*, as_json: options.AsJson = False) -> None:
    """List all keys, by their identifiers."""
    keys = open_keys(Settings.load()).all()
    if as_json:
        typer.echo(json.dumps([_told(key) for key in keys]))
        return
    for key in keys:
        scopes = ", ".join(sorted(key.scopes))
        typer.echo(f"{key.id}  {_standing(key):<20}  {key.tenant:<16}  {scopes:<28}  {key.name}")


@keys_app.command()
def revoke(identifier: Annotated[str, typer.Argument(help="As `diffdp keys list` shows it.")]) -> None:
    """Let a key open nothing any more, within seconds."""
    settings = Settings.load()
    key = open_keys(settings).revoke(identifier)
    open_audit(settings).record(Act(operator(), "revoke_key", key.tenant, key.id))
    typer.echo(f"key {key.id} is revoked", err=True)


def _standing(key: ApiKey) -> str:
    if key.revoked_at is not None:
        return "revoked"
    if key.expires_at is None:
        return "valid"
    return f"{'expired' if key.expires_at <= datetime.now(UTC) else 'until'} {key.expires_at:%Y-%m-%d}"


def _told(key: ApiKey) -> dict[str, object]:
    moments = {
        name: value and value.isoformat()
        for name, value in asdict(key).items()
        if name in {"created_at", "expires_at", "revoked_at"}
    }
    return {"id": key.id, "name": key.name, "tenant": key.tenant, "scopes": sorted(key.scopes), **moments}
