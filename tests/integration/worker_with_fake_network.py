"""A real worker whose predictor needs no network: ``python worker_with_fake_network.py SECONDS``.

Negative seconds make it kill its own process, as a study that exhausts the memory would.
"""

import os
import signal
import sys
import time

import numpy as np

from model.errors import Cancelled
from service import logs
from service.jobs.job import Progress
from service.pipeline.predictor import PredictedDose
from service.settings import Settings
from service.worker.start import start_worker

STEPS = 20


class FakeNetwork:
    """Predicts the prescribed dose where the targets are, slowly."""

    def __init__(self, checkpoints: object, device: str) -> None:
        self.seconds = float(sys.argv[1])

    def __call__(self, model, case, sampling, *, progress, cancelled) -> PredictedDose:
        if self.seconds < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        slices = case.grid.shape[0]
        for step in range(STEPS):
            time.sleep(self.seconds / STEPS)
            progress(Progress((step + 1) / STEPS, slices * (step + 1) // STEPS, slices))
            if cancelled():
                raise Cancelled("stopped")
        dose_gy = case.target_map_gy() + np.float32(sampling.seed)
        return PredictedDose(dose_gy, None, self.seconds, self.seconds, "fake", ("fake",))


if __name__ == "__main__":
    settings = Settings.load()
    logs.configure("INFO")
    start_worker(settings, make_predictor=FakeNetwork)
