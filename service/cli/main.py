"""The commands of `diffdp`, and what their exit codes mean.

| code | meaning                                            |
|------|----------------------------------------------------|
| 0    | done                                               |
| 1    | the job failed, or the audit log was changed       |
| 2    | a wrong option or setting                          |
| 3    | the study was refused, or cannot be predicted      |
| 4    | a server cannot be reached or cannot serve now     |
| 130  | cancelled with Ctrl-C                              |
"""

import sys

import httpx
import typer
from sqlalchemy.exc import OperationalError

from model.errors import Cancelled, CheckpointError, DeviceError, DiffDPError, GoalsError, StudyError
from service.cli import audit, cohort, demo, imports, keys, models, predict, report, serve, submit, training
from service.cli.client import ServerError
from service.errors import KeyNotFound, ParametersError, UploadError
from service.jobs.schema import SchemaError
from service.settings import SettingsError
from service.storage.folders import StorageError

app = typer.Typer(
    name="diffdp",
    help="Radiotherapy dose prediction with a diffusion model. Predicted doses are not for treatment decisions.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("demo")(demo.demo)
app.command("serve")(serve.serve)
app.command("worker")(serve.worker)
app.command("submit")(submit.submit)
app.command("predict")(predict.predict)
app.command("report")(report.report)
app.command("models")(models.models)
app.command("cohort")(cohort.cohort)
app.add_typer(imports.import_app, name="import")
app.add_typer(keys.keys_app, name="keys")
app.add_typer(audit.audit_app, name="audit")
app.command("train")(training.train)
app.command("evaluate")(training.evaluate)
app.command("calibrate")(training.calibrate)

EXIT_CODES: tuple[tuple[type[Exception], int], ...] = (
    (Cancelled, 130),
    (StudyError, 3),
    (UploadError, 3),
    (ParametersError, 2),
    (KeyNotFound, 2),
    (SettingsError, 2),
    (SchemaError, 2),
    (CheckpointError, 2),
    (DeviceError, 2),
    (GoalsError, 2),
    (DiffDPError, 1),
    (ServerError, 4),
    (httpx.TransportError, 4),
    (OperationalError, 4),
    (StorageError, 4),
)


def main() -> None:
    """Run the command line."""
    try:
        app()
    except tuple(kind for kind, _ in EXIT_CODES) as error:
        text = _told(error)
        rule = f" [{error.rule}]" if isinstance(error, DiffDPError) else ""
        typer.echo(f"diffdp: {text}{rule}", err=True)
        sys.exit(next(code for kind, code in EXIT_CODES if isinstance(error, kind)))


def _told(error: Exception) -> str:
    if isinstance(error, httpx.TransportError):
        return f"the server cannot be reached ({error})"
    # What the driver says of it is long and quotes the address
    return "the job database does not answer" if isinstance(error, OperationalError) else str(error)
