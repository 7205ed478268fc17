"""`diffdp report`: the report of any RTDOSE, clinical or predicted, with its CT and structure set."""

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from service.cli import options
from service.cli.options import parameters_of, study_files
from service.intake.archive import is_archive, unpack
from service.intake.limits import Limits
from service.settings import Settings
from service.storage.layout import REPORT_CSV, REPORT_HTML, REPORT_JSON, REPORT_PDF
from service.wiring import find_models, find_site_goals

REPORTS = (REPORT_JSON, REPORT_HTML, REPORT_PDF, REPORT_CSV)


def report(
    study: options.Study,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for report.json, .html, .pdf and .csv.")] = Path(
        "report"
    ),
    *,
    dose: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="RTDOSE to report; by default the study's own.")
    ] = None,
    compare: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="RTDOSE to compare with: differences and gamma.")
    ] = None,
    goals: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Clinical goals; by default those of the site.")
    ] = None,
    prescription_gy: options.PrescriptionGy = None,
    fractions: options.Fractions = None,
    structure: options.StructureMap = None,
    ct_series: options.CtSeries = None,
    structure_set: options.StructureSet = None,
    as_json: options.AsJson = False,
) -> None:
    """Report the dose of a study (CT, RTSTRUCT, RTDOSE), of any site; nothing is predicted."""
    # The readers of DICOM and the reports take seconds to load; other commands do without
    from model.dicom.study import read_study  # noqa: PLC0415
    from model.dosimetry.goals import read_goals  # noqa: PLC0415
    from service.reports.clinical import ReportRequest, report_study  # noqa: PLC0415

    settings = Settings.load()
    parameters = parameters_of(
        prescription_gy=prescription_gy,
        fractions=fractions,
        structures=structure,
        ct_series=ct_series,
        structure_set=structure_set,
    )
    request = ReportRequest(
        dose=dose,
        compare=compare,
        structures=parameters.structures,
        prescription_gy=parameters.prescription_gy,
        fractions=parameters.fractions,
        goals=read_goals(goals) if goals else None,
    )
    with TemporaryDirectory() as temporary:
        files = study_files(study)
        if len(files) == 1 and is_archive(files[0]):
            files = unpack(files[0], Path(temporary), Limits.of(settings))
        results = Path(temporary) / "results"
        results.mkdir()
        written = report_study(
            read_study(files, ct_series=parameters.ct_series, structure_set=parameters.structure_set),
            request,
            sites=[checkpoint.manifest.site for checkpoint in find_models(settings).values()],
            site_goals=find_site_goals(settings),
            created_at=datetime.now(UTC),
            folder=results,
        )
        out.mkdir(parents=True, exist_ok=True)
        for name in REPORTS:
            shutil.move(results / name, out / name)
    if as_json:
        typer.echo(json.dumps({"files": [str(out / name) for name in REPORTS], "warnings": written.metadata.warnings}))
        return
    for warning in written.metadata.warnings:
        typer.echo(f"Note: {warning}", err=True)
    typer.echo(f"The report is in {out}")
