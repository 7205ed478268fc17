"""`diffdp demo`: the main job from end to end on a simulated patient."""

import socket
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from service.cli import options
from service.cli.client import Client, ServerError
from service.cli.options import WRITTEN, progress_bar
from service.jobs.job import Parameters
from service.settings import Settings
from service.worker.supervisor import Supervisor

START_S = 60.0
POLL_S = 0.2


def demo(
    out: options.Out = Path("demo-output"),
    *,
    seed: Annotated[int, typer.Option(help="Which simulated patient.")] = 1,
    model: options.Model = None,
) -> None:
    """Make a simulated study, serve, post it as a client would, and write RTDOSE and report."""
    from model.cohort.neck import simulated_neck  # noqa: PLC0415 - only this command needs it
    from model.dicom.export import write_study  # noqa: PLC0415

    with TemporaryDirectory(prefix="diffdp-demo-") as temporary:
        settings = Settings.load(
            data_dir=Path(temporary) / "data",
            host="127.0.0.1",
            port=_free_port(),
            oidc_issuer="",
            log_level="WARNING",
        )
        typer.echo(f"Drawing simulated patient {seed} …", err=True)
        study = Path(temporary) / "study"
        write_study(simulated_neck(seed), study)
        server = Supervisor([sys.executable, "-m", "service.cli", "serve"], settings.environment())
        server.start()
        try:
            client = Client(f"http://127.0.0.1:{settings.port}", _first_key(settings))
            typer.echo(f"Starting the service on http://127.0.0.1:{settings.port} …", err=True)
            _wait(client)
            with progress_bar(shown=True) as bar:
                client.predict([study], Parameters(model=model), out, bar)
        finally:
            server.stop()
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
