"""`diffdp predict`: predict without a server, with the functions that a worker uses."""

import json
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated
from uuid import uuid4

import typer

from model.errors import Cancelled
from service.cli import options
from service.cli.options import SIMULATED, WRITTEN, parameters_of, progress_bar, study_files
from service.intake.archive import is_archive, unpack
from service.intake.limits import Limits
from service.settings import Settings
from service.wiring import find_models, find_site_goals, known_models


def predict(
    study: options.Study,
    out: options.Out,
    *,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N.")] = None,
    model: options.Model = None,
    prescription_gy: options.PrescriptionGy = None,
    fractions: options.Fractions = None,
    structure: options.StructureMap = None,
    ct_series: options.CtSeries = None,
    structure_set: options.StructureSet = None,
    sampler: options.Sampler = None,
    steps: options.Steps = None,
    samples: options.Samples = None,
    seed: options.Seed = 0,
    dose_grid_mm: options.DoseGridMm = None,
    dvh_in_dose: options.DvhInDose = False,
    as_json: options.AsJson = False,
) -> None:
    """Predict the dose of a study on this machine and write the results."""
    # The readers of DICOM and the reports take seconds to load; other commands do without
    from service.intake.examine import examine  # noqa: PLC0415
    from service.pipeline.predictor import NetworkPredictor  # noqa: PLC0415
    from service.pipeline.stages import Run, prepare, publish  # noqa: PLC0415

    settings = Settings.load(device=device)
    parameters = parameters_of(
        model=model,
        prescription_gy=prescription_gy,
        fractions=fractions,
        structures=structure,
        ct_series=ct_series,
        structure_set=structure_set,
        sampler=sampler,
        steps=steps,
        samples=samples,
        seed=seed,
        dose_grid_mm=dose_grid_mm,
        dvh_in_dose=dvh_in_dose,
    )
    checkpoints = find_models(settings)
    begun = time.monotonic()
    with TemporaryDirectory() as temporary, progress_bar(shown=not as_json) as bar:
        task = bar.add_task("preparing", total=1.0)
        files = study_files(study)
        if len(files) == 1 and is_archive(files[0]):
            files = unpack(files[0], Path(temporary), Limits.of(settings))
        examination = examine(files, known_models(checkpoints), parameters)
        case = prepare(files, examination, parameters)
        bar.update(task, description="predicting")
        try:
            prediction = NetworkPredictor(checkpoints, settings.device)(
                examination.model,
                case,
                examination.sampling,
                progress=lambda progress: bar.update(task, completed=progress.fraction),
                cancelled=lambda: False,
            )
        except KeyboardInterrupt:
            raise Cancelled("the prediction was cancelled") from None
        bar.update(task, description="publishing")
        warnings = (*examination.warnings, *prediction.warnings)
        manifest = checkpoints[examination.model].manifest
        results = Path(temporary) / "results"
        results.mkdir()
        goals = find_site_goals(settings).get(manifest.site.name)
        run = Run(uuid4().hex, datetime.now(UTC), manifest, parameters, examination, warnings, goals)
        publish(files, case, prediction, run, results)
        out.mkdir(parents=True, exist_ok=True)
        for name in WRITTEN:
            shutil.move(results / name, out / name)
    if as_json:
        result = {
            "examination": examination.model_dump(mode="json"),
            "warnings": warnings,
            "device": prediction.device,
            "seconds": round(time.monotonic() - begun, 3),
            "network_seconds": round(prediction.network_s, 3),
            "files": [str(out / name) for name in WRITTEN],
        }
        typer.echo(json.dumps(result))
        return
    for warning in (*([SIMULATED] if examination.simulated_training_data else []), *warnings):
        typer.echo(f"Note: {warning}", err=True)
    typer.echo(f"Results are in {out}")
