"""Put a worker together and run it."""

from collections.abc import Callable, Mapping

from model.checkpoint.store import Checkpoint
from service.jobs.states import Stage
from service.pipeline.pipeline import Pipeline
from service.pipeline.predictor import DosePredictor, NetworkPredictor
from service.settings import Settings
from service.wiring import find_models, open_jobs, open_storage
from service.worker.celery_app import CeleryDoorbell, create_celery
from service.worker.lifecycle import StageRunner
from service.worker.process import run_worker, worker_name
from service.worker.reaper import Reaper


def start_worker(
    settings: Settings,
    *,
    stages: tuple[Stage, ...] = tuple(Stage),
    concurrency: int = 1,
    checkpoints: Mapping[str, Checkpoint] | None = None,
    make_predictor: Callable[[Mapping[str, Checkpoint], str], DosePredictor] = NetworkPredictor,
) -> None:
    """Work until asked to stop.

    Parameters
    ----------
    checkpoints, make_predictor
        Models and what predicts with them; by default all that are found, and their networks.
    """
    found = find_models(settings) if checkpoints is None else checkpoints
    doorbell = CeleryDoorbell(settings)

    def make_runner(stopping: Callable[[], bool]) -> StageRunner:
        return StageRunner(
            open_jobs(settings),
            Pipeline(open_storage(settings), make_predictor(found, settings.device), found),
            doorbell,
            owner=worker_name(),
            heartbeat_s=settings.heartbeat_s,
            lease_s=settings.lease_s,
            stopping=stopping,
        )

    def make_reaper() -> Reaper:
        return Reaper(
            open_jobs(settings),
            open_storage(settings),
            doorbell,
            worker=worker_name(),
            every_s=settings.reap_s,
            ring_again_s=settings.ring_again_s,
            abandoned_s=settings.hard_limit_s,
        )

    run_worker(
        create_celery(settings),
        make_runner=make_runner,
        make_reaper=make_reaper,
        stages=stages,
        concurrency=concurrency,
        log_level=settings.log_level,
    )
