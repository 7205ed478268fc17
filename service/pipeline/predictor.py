"""What the pipeline needs of a network, and the real one; torch is loaded with the first prediction, not before."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from model.case import Case
from model.checkpoint.store import Checkpoint
from service.jobs.job import Progress, Sampling

if TYPE_CHECKING:
    from model.prediction.predictor import Predictor


@dataclass(frozen=True, eq=False)
class PredictedDose:
    """A predicted dose.

    Parameters
    ----------
    dose_gy, spread_gy
        (slices, rows, columns) on the case's grid: mean and standard deviation of the samples; no spread for one.
    spread_is_calibrated
        Whether the spread is the standard deviation of the dose's error instead.
    seconds, network_s
        Time of the whole prediction, and of the network in it.
    device
        Where it was made.
    """

    dose_gy: NDArray[np.float32]
    spread_gy: NDArray[np.float32] | None
    seconds: float
    network_s: float
    device: str
    warnings: tuple[str, ...] = ()
    spread_is_calibrated: bool = False


class DosePredictor(Protocol):
    """Predicts the dose of a case with one of the models."""

    def __call__(
        self,
        model: str,
        case: Case,
        sampling: Sampling,
        *,
        progress: Callable[[Progress], None],
        cancelled: Callable[[], bool],
    ) -> PredictedDose:
        """Predict; raise `Cancelled` soon after `cancelled` has become true."""


class NetworkPredictor:
    """Predicts with the networks of checkpoints; each is loaded once and kept.

    Parameters
    ----------
    device
        ``auto`` takes the GPU if there is one.
    """

    def __init__(self, checkpoints: Mapping[str, Checkpoint], device: str) -> None:
        self._checkpoints = checkpoints
        self._device = device
        self._loaded: dict[str, Predictor] = {}

    def __call__(
        self,
        model: str,
        case: Case,
        sampling: Sampling,
        *,
        progress: Callable[[Progress], None],
        cancelled: Callable[[], bool],
    ) -> PredictedDose:
        """Predict the dose of a case."""
        # Loads torch, and CUDA must not be touched before Celery forks
        from model.prediction.predictor import Predictor, SamplingOptions  # noqa: PLC0415

        begun = time.monotonic()
        if model not in self._loaded:
            self._loaded[model] = Predictor.load(self._checkpoints[model], self._device)
        network = self._loaded[model]
        prediction = network.predict(
            case,
            SamplingOptions(**sampling.model_dump()),
            progress=lambda p: progress(Progress(p.fraction, p.slices_done, p.slices_total)),
            cancelled=cancelled,
        )
        return PredictedDose(
            dose_gy=prediction.dose_gy,
            spread_gy=prediction.spread_gy,
            seconds=time.monotonic() - begun,
            network_s=prediction.network_s,
            device=str(network.device),
            warnings=prediction.warnings,
            spread_is_calibrated=prediction.spread_is_calibrated,
        )
