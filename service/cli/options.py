"""Options that several commands share."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from model.checkpoint import manifest
from model.folders import files_below
from service.errors import ParametersError, UploadError
from service.jobs.job import Parameters
from service.storage.layout import DOSE, PLAN, REPORT_HTML, REPORT_JSON, REPORT_PDF

WRITTEN = (DOSE, PLAN, REPORT_JSON, REPORT_HTML, REPORT_PDF)
"""What `predict`, `submit` and `demo` write."""

SIMULATED = "simulated data: the model was trained on simulated patients and has never seen a real one"

Study = Annotated[list[Path], typer.Argument(exists=True, help="A zip archive, folders, or DICOM files of one study.")]
Out = Annotated[Path, typer.Option("-o", "--out", help="Folder for dose.dcm, plan.dcm, report.json, .html and .pdf.")]
Model = Annotated[str | None, typer.Option(help="Model; by default the one that knows the study's site.")]
PrescriptionGy = Annotated[
    str | None, typer.Option("--prescription-gy", help='Gy over all fractions: a number, or {"PTV name": number, …}.')
]
Fractions = Annotated[int | None, typer.Option(help="Used instead of the plan's number of fractions.")]
StructureMap = Annotated[
    list[str] | None, typer.Option("--structure", help="NAME=ROI, e.g. Parotid_L='Left parotid'; may be repeated.")
]
CtSeries = Annotated[
    str | None, typer.Option(help="Series Instance UID of the CT; by default the one that the structure set refers to.")
]
StructureSet = Annotated[
    str | None, typer.Option(help="SOP Instance UID of the structure set; by default the plan's, else the newest.")
]
Sampler = Annotated[manifest.Sampler | None, typer.Option(help="By default the model's.")]
Steps = Annotated[int | None, typer.Option(help="Sampling steps, by default the model's.")]
Samples = Annotated[int | None, typer.Option(help="Samples whose mean is the dose, by default the model's.")]
Seed = Annotated[int, typer.Option(help="Of the random numbers; the same seed gives the same dose.")]
DoseGridMm = Annotated[
    float | None, typer.Option(help="Spacing of the RTDOSE's voxels, 1 to 10; by default the CT's voxels.")
]
DvhInDose = Annotated[bool, typer.Option("--dvh-in-dose", help="Write the structures' DVHs into the RTDOSE.")]
AsJson = Annotated[bool, typer.Option("--json", help="Write one JSON object to standard output, no progress bar.")]


def parameters_of(
    *,
    model: str | None = None,
    prescription_gy: str | None = None,
    fractions: int | None = None,
    structures: Sequence[str] | None = None,
    ct_series: str | None = None,
    structure_set: str | None = None,
    sampler: manifest.Sampler | None = None,
    steps: int | None = None,
    samples: int | None = None,
    seed: int = 0,
    dose_grid_mm: float | None = None,
    dvh_in_dose: bool = False,
) -> Parameters:
    """Make the parameters of a job from options.

    Raises
    ------
    ParametersError
        If one cannot be used.
    """
    pairs = [text.partition("=") for text in structures or []]
    given = {
        "model": model,
        "prescription_gy": prescription_gy,
        "fractions": fractions,
        "structures": {name: roi_name for name, _, roi_name in pairs},
        "ct_series": ct_series,
        "structure_set": structure_set,
        "sampler": sampler,
        "steps": steps,
        "samples": samples,
        "seed": seed,
        "dose_grid_mm": dose_grid_mm,
        "dvh_in_dose": dvh_in_dose,
    }
    try:
        return Parameters.model_validate(given)
    except ValidationError as error:
        reasons = "; ".join(f"{e['loc'][0]}: {e['msg']}" for e in error.errors())
        raise ParametersError(f"wrong options: {reasons}") from None


def study_files(paths: Sequence[Path]) -> list[Path]:
    """Return the files that are meant: those given, and all in folders given.

    Raises
    ------
    UploadError
        If there is none.
    """
    files = [file for path in paths for file in (files_below(path) if path.is_dir() else [path])]
    if not files:
        raise UploadError("there are no files", code="body-empty")
    return files


def progress_bar(*, shown: bool) -> Progress:
    """Return a progress bar on standard error."""
    return Progress(
        TextColumn("{task.description:<12}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not shown,
    )
