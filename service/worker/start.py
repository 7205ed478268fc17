"""Put a worker together and run it."""

from collections.abc import Callable, Mapping

from model.checkpoint.store import Checkpoint
from service.jobs.callbacks import Receivers
from service.jobs.states import Stage
from service.jobs.tables import connect
from service.pipeline.pipeline import Pipeline
from service.pipeline.predictor import DosePredictor, NetworkPredictor
from service.settings import Settings, webhook_key
from service.wiring import find_models, find_site_goals, open_audit, open_jobs, open_outbox, open_storage
from service.worker.celery_app import CeleryDoorbell, create_celery
from service.worker.hearing import Hearing, Pulse
from service.worker.lifecycle import StageRunner
from service.worker.process import run_worker, worker_name
from service.worker.reaper import Reaper
from service.worker.retention import Retention
from service.worker.rounds import Round, go_for_ever
from service.worker.webhooks import Courier, Sender

COURIER_S = 1.0
HEARING_S = 10.0
RETENTION_S = 60.0
SWEEP_S = 600.0
"""Time between two looks for calls back, at the worker's hearing, for jobs that need not stay, for stray files."""


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
            Pipeline(open_storage(settings), make_predictor(found, settings.device), found, find_site_goals(settings)),
            doorbell,
            owner=worker_name(),
            heartbeat_s=settings.heartbeat_s,
            lease_s=settings.lease_s,
            stopping=stopping,
        )

    def care(pulse: Pulse) -> None:
        jobs, storage = open_jobs(settings), open_storage(settings)
        reaper = Reaper(
            jobs,
            storage,
            doorbell,
            worker=worker_name(),
            stages=stages,
            ring_again_s=settings.ring_again_s,
            abandoned_s=settings.hard_limit_s,
        )
        retention = Retention(
            jobs,
            storage,
            open_audit(settings),
            days=settings.retention_days,
            min_free_bytes=settings.min_free_bytes,
        )
        keys = [webhook_key(secret) for secret in settings.webhook_secrets]
        sender = Sender(Receivers.of(settings), keys, timeout_s=settings.webhook_timeout_s)
        go_for_ever(
            [
                Round(reaper.look, settings.reap_s),
                Round(Hearing(doorbell, stages, pulse.idle_s).look, HEARING_S),
                Round(Courier(open_outbox(settings), sender).look, COURIER_S),
                Round(retention.look, RETENTION_S),
                Round(reaper.sweep, SWEEP_S),
            ]
        )

    # Before anything is begun: a database or storage that cannot be used stops the worker
    connect(settings.database).dispose()
    open_storage(settings)
    run_worker(
        create_celery(settings),
        make_runner=make_runner,
        care=care,
        stages=stages,
        concurrency=concurrency,
        log_level=settings.log_level,
    )
