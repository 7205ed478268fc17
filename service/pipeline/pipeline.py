"""The stages on storage: each reads what the one before stored, and stores its own before the job moves on."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from model.checkpoint.store import Checkpoint
from model.dosimetry.goals import GoalSet
from model.errors import Cancelled
from service.jobs.job import Job, Progress
from service.jobs.states import Stage
from service.pipeline.arrays import load_case, load_prediction, save_case, save_prediction
from service.pipeline.predictor import DosePredictor
from service.pipeline.stages import Run, prepare, publish
from service.storage.folders import Storage
from service.storage.layout import STUDY, job_key

CASE_FILE, PREDICTION_FILE = "case.npz", "prediction.npz"


@dataclass(frozen=True)
class Pipeline:
    """Does one stage of one job.

    Parameters
    ----------
    storage
        Holds studies and what the stages make.
    predictor
        Predicts.
    checkpoints
        By name.
    goals
        Clinical goals by site.
    """

    storage: Storage
    predictor: DosePredictor
    checkpoints: Mapping[str, Checkpoint]
    goals: Mapping[str, GoalSet]

    def run(
        self,
        stage: Stage,
        job: Job,
        output: str,
        *,
        progress: Callable[[Progress], None],
        cancelled: Callable[[], bool],
    ) -> tuple[str, ...]:
        """Do a stage and store what it makes as the job's folder `output`.

        Returns
        -------
        Warnings.

        Raises
        ------
        Cancelled
            Soon after `cancelled` has become true; nothing is stored then.
        DiffDPError
            If the stage cannot be done.
        """
        with self.storage.writing(job_key(job.id, output)) as folder:
            match stage:
                case Stage.PREPARE:
                    warnings = self._prepare(job, folder)
                case Stage.PREDICT:
                    warnings = self._predict(job, folder, progress, cancelled)
                case Stage.PUBLISH:
                    warnings = self._publish(job, folder)
            if cancelled():
                raise Cancelled("the job was cancelled")
        return warnings

    def _prepare(self, job: Job, folder: Path) -> tuple[str, ...]:
        with self.storage.reading(job_key(job.id, STUDY)) as study:
            save_case(prepare(sorted(study.iterdir()), job.examination, job.parameters), folder / CASE_FILE)
        return ()

    def _predict(
        self, job: Job, folder: Path, progress: Callable[[Progress], None], cancelled: Callable[[], bool]
    ) -> tuple[str, ...]:
        with self.storage.reading(job_key(job.id, job.outputs[Stage.PREPARE])) as prepared:
            case = load_case(prepared / CASE_FILE)
        examination = job.examination
        prediction = self.predictor(
            examination.model, case, examination.sampling, progress=progress, cancelled=cancelled
        )
        save_prediction(prediction, folder / PREDICTION_FILE)
        return prediction.warnings

    def _publish(self, job: Job, folder: Path) -> tuple[str, ...]:
        with (
            self.storage.reading(job_key(job.id, STUDY)) as study,
            self.storage.reading(job_key(job.id, job.outputs[Stage.PREPARE])) as prepared,
            self.storage.reading(job_key(job.id, job.outputs[Stage.PREDICT])) as predicted,
        ):
            manifest = self.checkpoints[job.examination.model].manifest
            run = Run(
                identity=job.id,
                created_at=job.created_at,
                manifest=manifest,
                parameters=job.parameters,
                examination=job.examination,
                warnings=job.warnings,
                goals=self.goals.get(manifest.site.name),
            )
            case, prediction = load_case(prepared / CASE_FILE), load_prediction(predicted / PREDICTION_FILE)
            publish(sorted(study.iterdir()), case, prediction, run, folder)
        return ()
