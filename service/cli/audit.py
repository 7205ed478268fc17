"""`diffdp audit`: who did what, and whether the record of it is whole."""

import getpass
import json
import os
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer

from service.access.audit import Entry
from service.cli import options
from service.settings import Settings
from service.wiring import open_audit

audit_app = typer.Typer(help="Read and verify the record of who did what.", no_args_is_help=True)


@audit_app.command()
def show(
    *,
    job: Annotated[str | None, typer.Option(help="Only what was done to this job or key.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Only what this tenant's callers did.")] = None,
    since: Annotated[datetime | None, typer.Option(help="Only what was done since, in UTC.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write a JSON object per line, for export.")] = False,
) -> None:
    """Show the entries, the eldest first."""
    moment = None if since is None else since.replace(tzinfo=UTC)
    for entry in open_audit(Settings.load()).entries(subject=job, tenant=tenant, since=moment):
        typer.echo(_json(entry) if as_json else _line(entry))


@audit_app.command()
def verify(
    *,
    known: Annotated[
        str | None, typer.Option(metavar="NUMBER:DIGEST", help="An entry as it was noted earlier, elsewhere.")
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Check that no entry was changed, removed or put in, and tell the last one, to be noted elsewhere."""
    number, digest = open_audit(Settings.load()).verify(None if known is None else _noted(known))
    if as_json:
        typer.echo(json.dumps({"number": number, "digest": digest}))
        return
    typer.echo(f"{number} entries, all in order; the last one is {number}:{digest}")


def operator() -> str:
    """Return who gives commands, as the audit log names them."""
    try:
        return f"operator:{getpass.getuser()}"
    except (KeyError, OSError):
        # In a container a number may have no name
        return f"operator:{os.getuid()}"


def _noted(text: str) -> tuple[int, str]:
    number, _, digest = text.partition(":")
    if not number.isdecimal() or not digest:
        raise typer.BadParameter("an entry is noted as NUMBER:DIGEST")
    return int(number), digest


def _json(entry: Entry) -> str:
    return json.dumps(
        {"number": entry.number, "time": entry.happened_at.isoformat(), **asdict(entry.act), "digest": entry.digest}
    )


def _line(entry: Entry) -> str:
    act = entry.act
    fields = (act.tenant, act.caller, act.action, act.subject, act.address, act.status)
    return f"{entry.number} {entry.happened_at:%Y-%m-%d %H:%M:%S} " + " ".join(str(f or "-") for f in fields)
