"""Prediction: structure encoder once per slice, then the reverse process over batches of slices."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from time import perf_counter

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from model.case import Case
from model.checkpoint.manifest import Manifest, Sampler
from model.checkpoint.store import Checkpoint
from model.conditioning.channels import Conditioning, condition, dose_from_network
from model.diffusion.reverse import ancestral, ddim
from model.diffusion.schedule import NoiseSchedule, add_noise
from model.errors import Cancelled, CheckpointError, DeviceError, PredictionError
from model.networks.diffdp import DiffDP, Features

SLICES_PER_BATCH = 16


@dataclass(frozen=True)
class SamplingOptions:
    """How to sample.

    Parameters
    ----------
    sampler
        See `model.checkpoint.manifest.Sampler`.
    steps
        Denoising steps; ``ancestral`` always takes all T, ``coarse`` none.
    samples
        Number of samples K whose mean is the dose.
    seed
        Same seed, same dose, whatever the batch size.
    """

    sampler: Sampler
    steps: int
    samples: int
    seed: int

    def __post_init__(self) -> None:
        if self.steps < 1 or self.samples < 1 or self.seed < 0:
            raise ValueError(f"sampling needs at least one step, one sample and a seed of 0 or more, got {self}")

    @classmethod
    def of(cls, manifest: Manifest, *, seed: int = 0) -> "SamplingOptions":
        """Return the checkpoint's defaults."""
        defaults = manifest.defaults
        return cls(defaults.sampler, defaults.steps, defaults.samples, seed)


@dataclass(frozen=True)
class Progress:
    """How far a prediction is; a slice is done when all its samples are."""

    fraction: float
    slices_done: int
    slices_total: int


@dataclass(frozen=True)
class Prediction:
    """A predicted dose.

    Parameters
    ----------
    dose_gy
        (slices, rows, columns) on the case's grid, zero outside the external outline; the mean of the samples.
    spread_gy
        Standard deviation of the samples on the same grid, None for a single sample.
    network_s
        Seconds spent in the network.
    warnings
        What a user should know.
    """

    dose_gy: NDArray[np.float32]
    spread_gy: NDArray[np.float32] | None
    network_s: float
    warnings: tuple[str, ...]


def choose_device(name: str) -> torch.device:
    """Return the device of that name; ``auto`` is CUDA where there is one and the CPU elsewhere.

    Raises
    ------
    DeviceError
        If the name is none, or CUDA is asked for and absent.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DeviceError(f"{name!r} is not the name of a device; auto, cpu, cuda and cuda:1 are") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise DeviceError(f"device {name!r} was asked for, but there are {torch.cuda.device_count()} CUDA devices here")
    return device


class Predictor:
    """A network with its manifest, on a device, ready to predict any number of cases."""

    def __init__(self, network: DiffDP, manifest: Manifest, device: torch.device) -> None:
        self.network = network.on(device).eval()
        self.manifest, self.device = manifest, device
        self.schedule = NoiseSchedule(**manifest.schedule.model_dump())

    @classmethod
    def load(cls, checkpoint: Checkpoint, device: str = "auto") -> "Predictor":
        """Load a checkpoint's weights.

        Raises
        ------
        CheckpointError
            If the weights do not fit the manifest's architecture.
        DeviceError
            If the device is not there.
        """
        manifest = checkpoint.manifest
        try:
            network = DiffDP(len(manifest.channels), manifest.architecture)
            network.load_state_dict({k: v.float() for k, v in load_file(checkpoint.weights).items()})
        except (RuntimeError, ValueError, SafetensorError) as error:
            raise CheckpointError(f"the weights of {manifest.name} do not fit its architecture: {error}") from error
        return cls(network, manifest, choose_device(device))

    @torch.inference_mode()
    def predict(
        self,
        case: Case,
        options: SamplingOptions,
        *,
        progress: Callable[[Progress], None] = lambda _: None,
        cancelled: Callable[[], bool] = lambda: False,
        slices_per_batch: int = SLICES_PER_BATCH,
    ) -> Prediction:
        """Predict the dose of a case.

        Parameters
        ----------
        progress
            Called after every denoising step.
        cancelled
            Asked after every denoising step.

        Raises
        ------
        Cancelled
            If `cancelled` said so.
        PredictionError
            If the dose is not finite.
        """
        manifest = self.manifest
        conditioning = condition(case, manifest.site, manifest.grid, manifest.channels, manifest.normalisation)
        total = conditioning.slice_count
        batches = [
            np.arange(first, min(first + slices_per_batch, total)) for first in range(0, total, slices_per_batch)
        ]
        per_slice = self._evaluations(options)
        began = perf_counter()
        evaluated = 0
        means, spreads = [], []
        for slices in batches:
            mean = torch.zeros(len(slices), *conditioning.external.shape[1:])
            squares = torch.zeros_like(mean)
            structure, coarse = self._encode(conditioning, slices)
            for sample in range(options.samples):
                image = coarse
                for step in self._reverse(structure, coarse, options, sample, slices):
                    image = step
                    evaluated += len(slices)
                    progress(Progress(evaluated / (per_slice * total), int(slices[0]), total))
                    if cancelled():
                        raise Cancelled("the prediction was cancelled")
                drawn = image[:, 0].float().cpu()
                delta = drawn - mean
                mean += delta / (sample + 1)
                squares += delta * (drawn - mean)  # Welford: no sum of squares to cancel
            means.append(mean.numpy())
            spreads.append((squares / max(options.samples - 1, 1)).sqrt().numpy())
            progress(Progress((int(slices[-1]) + 1) / total, int(slices[-1]) + 1, total))
        network_s = perf_counter() - began

        highest_gy = case.prescription.highest_gy
        mean_images = np.concatenate(means)
        if not np.isfinite(mean_images).all():
            raise PredictionError("the network's output is not finite", code="dose-not-finite")
        dose = dose_from_network(mean_images, highest_gy, manifest.normalisation)
        spread = None
        if options.samples > 1:
            scale_gy = highest_gy / manifest.normalisation.dose_scale
            spread = self._to_case(case, conditioning, np.concatenate(spreads) * np.float32(scale_gy))
        return Prediction(
            self._to_case(case, conditioning, dose), spread, network_s, tuple(_warnings(case, conditioning))
        )

    def _evaluations(self, options: SamplingOptions) -> int:
        """Network evaluations per slice."""
        steps = {"coarse": 1, "ancestral": self.schedule.steps}.get(options.sampler, options.steps)
        return steps * options.samples

    def _encode(self, conditioning: Conditioning, slices: NDArray[np.int64]) -> tuple[Features, Tensor]:
        images = torch.from_numpy(conditioning.structure_images(slices))
        images = images.to(self.device, memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16):
            structure = self.network.encoder(images)
            coarse = self.network.coarse(structure)
        # The coarse head learnt nothing outside the patient, the noise predictor that there is no dose
        outside = torch.from_numpy(conditioning.external[slices, None] == 0).to(self.device)
        return structure, coarse.masked_fill(outside, -self.manifest.normalisation.dose_offset)

    def _reverse(
        self, structure: Features, coarse: Tensor, options: SamplingOptions, sample: int, slices: NDArray[np.int64]
    ) -> Iterator[Tensor]:
        generators = [_generator(options.seed, sample, int(k)) for k in slices]

        def draw() -> Tensor:
            images = [torch.randn(coarse.shape[1:], generator=generator) for generator in generators]
            return torch.stack(images).to(self.device)

        def predict_noise(noisy: Tensor, gamma: float) -> Tensor:
            intensity = torch.full((len(noisy),), gamma, device=self.device)
            with torch.autocast(self.device.type, torch.bfloat16):
                return self.network.predictor(structure, noisy, intensity)  # type: ignore[no-any-return]

        if options.sampler == "coarse":
            return iter([coarse])
        if options.sampler == "ancestral":
            return ancestral(draw(), predict_noise, draw, self.schedule)
        if options.sampler == "ddim":
            return ddim(draw(), predict_noise, self.schedule, options.steps)
        start = self.manifest.defaults.start_step
        noisy = add_noise(coarse, draw(), float(self.schedule.gamma[start]))
        return ddim(noisy, predict_noise, self.schedule, options.steps, start)

    def _to_case(self, case: Case, conditioning: Conditioning, images: NDArray[np.float32]) -> NDArray[np.float32]:
        volume = conditioning.framing.to_case(images)
        inside = case.grid.to_canonical(case.external)
        return np.ascontiguousarray(case.grid.from_canonical(np.maximum(volume, 0) * inside))


def _generator(seed: int, sample: int, network_slice: int) -> torch.Generator:
    """Return a slice's own source of randomness, so that batches may be cut anywhere."""
    state = np.random.SeedSequence([seed, sample, network_slice]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state) >> 1)


def _warnings(case: Case, conditioning: Conditioning) -> Iterator[str]:
    if not conditioning.framing.covers(case.grid.to_canonical(case.external)):
        yield "the patient is larger than the network's field; the dose is zero beyond it"
