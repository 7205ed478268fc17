"""Runs the stages of jobs, with all but the network, in a process whose memory is limited and whose end is noticed."""

import logging
import multiprocessing
import os
import resource
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Self

import numpy as np

from model.case import Case
from model.checkpoint.store import Checkpoint
from model.conditioning.channels import condition
from model.errors import PredictionError
from service import logs
from service.jobs.states import Stage
from service.pipeline.pipeline import Pipeline
from service.pipeline.predictor import PredictedDose
from service.settings import Settings
from service.wiring import find_models, find_site_goals, open_jobs, open_storage
from service.worker.lifecycle import StageRunner

STAGE_S = 120.0
MEMORY_BYTES = 6 * 2**30
"""Address space: what takes more would endanger a worker."""


class Stages:
    """Runs stages in a process that is started again when it has died."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._pool = self._start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def run(self, stages: tuple[Stage, ...]) -> list[str]:
        """Run stages of the job that waits; return what was logged.

        Raises
        ------
        BrokenProcessPool, TimeoutError
        """
        try:
            return self._pool.submit(_run, stages).result(STAGE_S)
        except (BrokenProcessPool, TimeoutError):
            for process in (self._pool._processes or {}).values():
                process.kill()
            self._pool = self._start()
            raise

    def _start(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(
            1, multiprocessing.get_context("spawn"), initializer=_prepare, initargs=(self._settings.environment(),)
        )


class _Conditioned:
    """Predicts the prescribed dose where the targets are, after all that comes before a network."""

    def __init__(self, checkpoints: Mapping[str, Checkpoint]) -> None:
        self._checkpoints = checkpoints

    def __call__(self, model: str, case: Case, _sampling: object, **_callbacks: object) -> PredictedDose:
        manifest = self._checkpoints[model].manifest
        images = condition(case, manifest.site, manifest.grid, manifest.channels, manifest.normalisation)
        if not np.isfinite(images.structure_images(range(images.slice_count))).all():
            # What a network would make of it
            raise PredictionError("the network's output is not finite", code="dose-not-finite")
        return PredictedDose(case.target_map_gy() * case.external, None, 1.0, 1.0, "none")


class _Silent:
    """A doorbell that nobody hears."""

    def ring(self, stage: Stage) -> None:
        pass

    def unheard(self, stage: Stage) -> int:
        return 0


class _Lines(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(logs.JsonFormatter())
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


_runner: Any = None
_lines = _Lines()


def _prepare(environment: Mapping[str, str]) -> None:
    global _runner  # noqa: PLW0603 - one per process
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.environ |= environment
    settings = Settings.load()
    logs.configure("INFO")
    logging.getLogger().handlers = [_lines]
    checkpoints = find_models(settings)
    pipeline = Pipeline(open_storage(settings), _Conditioned(checkpoints), checkpoints, find_site_goals(settings))
    jobs = open_jobs(settings)
    _runner = StageRunner(jobs, pipeline, _Silent(), owner="fuzz", heartbeat_s=5, lease_s=settings.lease_s)


def _run(stages: tuple[Stage, ...]) -> list[str]:
    _lines.lines.clear()
    for stage in stages:
        _runner.run(stage)
    return list(_lines.lines)
