"""`diffdp demo`: the main job from end to end on a simulated rectum patient."""

import signal
import socket
import sys
import time
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from service.cli import options
from service.cli.client import Client, ServerError
from service.cli.options import SIMULATED, WRITTEN, progress_bar
from service.jobs.job import Parameters
from service.settings import Settings
from service.worker.supervisor import Supervisor

COHORT = 0
"""Seed of the patients that are shown; no shipped model has learnt from them."""

START_S = 60.0
POLL_S = 0.2


def demo(
    out: options.Out = Path("demo-output"),
    *,
    seed: Annotated[int, typer.Option(min=1, help="Which simulated patient.")] = 1,
    model: options.Model = None,
) -> None:
    """Make a simulated study with a plan, serve, post it as a client would, and write RTDOSE and report."""
    from model.cohort.rectum import simulated_rectum  # noqa: PLC0415 - torch takes seconds to load
    from model.dicom.export import write_study  # noqa: PLC0415

    with TemporaryDirectory(prefix="diffdp-demo-") as temporary:
        settings = Settings.load(
            data_dir=Path(temporary) / "data",
            host="127.0.0.1",
            port=_free_port(),
            oidc_issuer="",
            log_level="WARNING",
        )
        typer.echo(f"Drawing simulated rectum patient {seed} and optimising a plan, half a minute …", err=True)
        study = Path(temporary) / "study"
        write_study(simulated_rectum(COHORT, seed), study)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # by way of `finally`
        server = Supervisor([sys.executable, "-m", "service.cli", "serve"], settings.environment())
        server.start()
        address = f"http://127.0.0.1:{settings.port}"
        try:
            typer.echo(f"Starting the service on {address} …", err=True)
            with closing(Client(address, _first_key(settings))) as client, progress_bar(shown=True) as bar:
                _wait(client)
                job = client.predict([study], Parameters(model=model), out, bar)
        finally:
            server.stop()
    if job["simulated_training_data"]:
        typer.echo(f"Note: {SIMULATED}", err=True)
    typer.echo(f"Results are in {out.absolute()}: {', '.join(WRITTEN)}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _first_key(settings: Settings) -> str:
    return settings.api_keys[0].get_secret_value() if settings.api_keys else ""


def _wait(client: Client) -> None:
    deadline = time.monotonic() + START_S
    while not client.is_ready():
        if time.monotonic() > deadline:
            raise ServerError("the service did not start; its log above says why")
        time.sleep(POLL_S)
