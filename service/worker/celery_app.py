"""The Celery application and the doorbell through it.

A message says only that a stage has work; which job it is, and who may do it, is decided in the database. So messages
hold nothing about patients, may come twice and may be lost.
"""

import logging
from functools import cached_property

from celery import Celery
from celery.exceptions import CeleryError
from kombu.exceptions import KombuError

from service.jobs.states import Stage
from service.settings import Settings

log = logging.getLogger(__name__)

CHECK_S = 3.0

FOLDER, REDIS = "service.worker.folder_transport:Transport", "service.worker.redis_transport:Transport"


def create_celery(settings: Settings) -> Celery:
    """Return the application, the same for those who ring and those who work."""
    app = Celery("diffdp", set_as_current=False)
    app.conf.update(
        accept_content=["json"],
        broker_connection_retry_on_startup=True,
        broker_transport=REDIS if settings.broker_url else FOLDER,
        broker_transport_options=_transport_options(settings),
        broker_url=settings.broker_url or "localhost",
        task_acks_late=True,
        task_create_missing_queues=True,
        task_ignore_result=True,
        task_publish_retry_policy={"max_retries": 2, "interval_start": 0.1, "interval_step": 0.2},
        # Without it Celery acknowledges the message of a child that was killed
        task_reject_on_worker_lost=True,
        task_time_limit=settings.hard_limit_s,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_enable_remote_control=False,
        worker_hijack_root_logger=False,
        worker_prefetch_multiplier=1,
        worker_redirect_stdouts=False,
    )
    return app


def _transport_options(settings: Settings) -> dict[str, object]:
    if settings.broker_url:
        # The timeout must be the same for all who use the broker; the other three make redelivery follow it promptly
        return {
            "visibility_timeout": settings.visibility_timeout_s,
            "unacked_restore_interval": 2,
            "unacked_restore_throttle": 1,
            "unacked_mutex_expire": 5,
            "socket_timeout": 10,
            "socket_connect_timeout": 3,
        }
    folder = settings.data_dir.absolute() / "broker"
    for name in ("messages", "control"):
        (folder / name).mkdir(parents=True, exist_ok=True, mode=0o700)
    return {
        "data_folder_in": str(folder / "messages"),
        "data_folder_out": str(folder / "messages"),
        "control_folder": str(folder / "control"),
    }


def task_name(stage: Stage) -> str:
    """Name of the task that does a stage."""
    return f"diffdp.{stage}"


class CeleryDoorbell:
    """Rings by sending a task."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @cached_property
    def _app(self) -> Celery:
        return create_celery(self._settings)

    def ring(self, stage: Stage) -> None:
        """Ring; if the broker is not there, the reaper will ring when it is."""
        try:
            self._app.send_task(task_name(stage), queue=stage.value)
        except (CeleryError, KombuError, OSError) as error:
            about = {"stage": stage.value, "code": type(error).__name__}
            log.warning("the broker cannot be reached, the job waits", extra=about)

    def unheard(self, stage: Stage) -> int:
        """Return how many messages of a stage are in the broker and with no worker."""
        with self._app.connection_for_write() as connection:
            try:
                connection.ensure_connection(max_retries=1, timeout=CHECK_S)
                return int(connection.default_channel.queue_declare(stage.value, passive=True).message_count)
            except connection.channel_errors:
                # Redis knows no empty queues
                return 0
            except (KombuError, OSError, *connection.connection_errors) as error:
                about = {"stage": stage.value, "code": type(error).__name__}
                log.warning("the broker cannot be asked what it holds", extra=about)
                return 0

    def check(self) -> None:
        """Raise OSError if the broker does not answer."""
        if not self._settings.broker_url:
            # Its folders are all that it needs
            _transport_options(self._settings)
            return
        try:
            with self._app.connection_for_write() as connection:
                connection.ensure_connection(max_retries=1, timeout=CHECK_S)
        except (CeleryError, KombuError) as error:
            raise ConnectionError("the broker does not answer") from error
