"""`diffdp serve` and `diffdp worker`: the service as processes."""

import gc
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
import uvicorn

from service import logs
from service.jobs.states import Stage
from service.settings import Settings
from service.wiring import build_api
from service.worker.supervisor import Supervisor

SHUTDOWN_S = 3
"""Time that open requests get when the server stops; followers of events would hold it for ever."""

NICENESS = 10
"""By how much a worker steps back behind the other programs of its machine."""

DataDir = Annotated[Path | None, typer.Option(help="Folder of the database, the studies and the results.")]


def serve(
    *,
    host: Annotated[str | None, typer.Option(help="Address to listen on; any but this machine's needs a key.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
    data_dir: DataDir = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N.")] = None,
    worker: Annotated[bool, typer.Option(help="Whether to run a worker beside the API.")] = True,
) -> None:
    """Serve API, worker and page; nothing else is needed."""
    settings = Settings.load(host=host, port=port, data_dir=data_dir, device=device)
    logs.configure(settings.log_level)
    app = build_api(settings)
    # What is there now stays; to look for garbage in it now and then would hold up all requests for a tenth of a second
    gc.collect()
    gc.freeze()
    supervisor = Supervisor([sys.executable, "-m", "service.cli", "worker", "--with-parent"], settings.environment())
    # uvicorn raises the signal once more when it is done; the worker must be stopped before that ends the process
    signal.signal(signal.SIGTERM, _leave)
    try:
        if worker:
            supervisor.start()
        typer.echo(f"DiffDP serves on http://{settings.host}:{settings.port}, data in {settings.data_dir}", err=True)
        uvicorn.run(
            app,
            host=settings.host,
            port=settings.port,
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=bool(settings.trusted_proxies),
            forwarded_allow_ips=list(settings.trusted_proxies),
            timeout_graceful_shutdown=SHUTDOWN_S,
        )
    finally:
        supervisor.stop()


def worker(
    *,
    data_dir: DataDir = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N.")] = None,
    stage: Annotated[list[Stage] | None, typer.Option(help="Stage to serve, by default all; may be repeated.")] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Processes; one per GPU for predict.")] = 1,
    with_parent: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    """Work on the jobs of a database."""
    # Reports and DICOM readers are loaded before the pool forks, torch after
    from service.worker.process import follow_parent  # noqa: PLC0415
    from service.worker.start import start_worker  # noqa: PLC0415

    settings = Settings.load(data_dir=data_dir, device=device)
    logs.configure(settings.log_level)
    # A prediction takes all cores that it gets; the API beside it must answer all the same
    os.nice(NICENESS)
    if with_parent:
        follow_parent()
    start_worker(settings, stages=tuple(stage or Stage), concurrency=concurrency)


def _leave(_signal: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)
