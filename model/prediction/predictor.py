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
from torch.nn import functional

from model.case import Case
from model.checkpoint.manifest import WITHOUT_CHANCE, Manifest, Sampler, SamplerDefaults, SpreadCalibration
from model.checkpoint.store import Checkpoint
from model.conditioning.channels import Conditioning, condition, dose_from_network
from model.conditioning.windows import Window, batches_of, windows_of
from model.diffusion.reverse import ancestral, ddim, dpm_solver
from model.diffusion.schedule import NoiseSchedule, add_noise
from model.errors import Cancelled, CheckpointError, DeviceError, PredictionError
from model.networks.registry import build
from model.networks.system import DiffusionNetwork, DoseNetwork, Features, RegressionNetwork
from model.prediction.smoothing import smoothed

SLICES_PER_BATCH = 16
SMALLER = 4
"""By how much a batch that does not fit the memory is made smaller, once."""
CPU_ALLOCATOR = "DefaultCPUAllocator"
"""On a CPU torch raises no error of its own kind; its message names this."""


@dataclass(frozen=True)
class SamplingOptions:
    """How to sample.

    Parameters
    ----------
    sampler
        See `model.checkpoint.manifest.Sampler`.
    steps
        Denoising steps; ``ancestral`` always takes all T, ``coarse`` and ``regression`` none.
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
    def by(cls, defaults: SamplerDefaults, *, seed: int = 0) -> "SamplingOptions":
        """Return a checkpoint's defaults, or what was chosen in their place; one sample where chance has no part."""
        samples = 1 if defaults.sampler in WITHOUT_CHANCE else defaults.samples
        return cls(defaults.sampler, defaults.steps, samples, seed)


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
        Standard deviation of the dose's error on the same grid if it is calibrated, else that of the samples; None for
        a single sample.
    network_s
        Seconds spent in the network.
    warnings
        What a user should know.
    samples_gy
        (K, slices, rows, columns) the samples themselves, if they were asked for.
    """

    dose_gy: NDArray[np.float32]
    spread_gy: NDArray[np.float32] | None
    network_s: float
    warnings: tuple[str, ...]
    samples_gy: NDArray[np.float32] | None = None
    spread_is_calibrated: bool = False


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

    def __init__(self, network: DoseNetwork, manifest: Manifest, device: torch.device) -> None:
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
            network = build(len(manifest.channels), manifest.architecture)
            stored = load_file(checkpoint.weights)
            network.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in stored.items()})
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
        keep_samples: bool = False,
    ) -> Prediction:
        """Predict the dose of a case.

        Parameters
        ----------
        progress
            Called after every denoising step.
        cancelled
            Asked after every denoising step.
        slices_per_batch
            Slices that go through the network together; a volumetric network takes all at once.
        keep_samples
            Whether to return the samples as well as their mean.

        Raises
        ------
        Cancelled
            If `cancelled` said so.
        PredictionError
            If the dose is not finite, the network cannot sample in this way, or the memory does not suffice for a
            smaller batch either.
        """
        manifest = self.manifest
        if options.sampler not in manifest.samplers:
            raise PredictionError(
                f"{manifest.name} cannot sample by {options.sampler}, only by {', '.join(manifest.samplers)}",
                code="sampler-unknown",
            )
        conditioning = condition(case, manifest.site, manifest.grid, manifest.channels, manifest.normalisation)
        together = conditioning.slice_count if self.network.volumetric else slices_per_batch
        began = perf_counter()
        samples = self._sample(conditioning, options, together, progress, cancelled)
        network_s = perf_counter() - began
        if not np.isfinite(samples).all():
            raise PredictionError("the network's output is not finite", code="dose-not-finite")
        pixel_mm = manifest.grid.pixel_spacing_mm
        spacing_mm = (conditioning.framing.slice_spacing_mm, pixel_mm, pixel_mm)
        samples = smoothed(samples, conditioning.external, spacing_mm, manifest.defaults.smoothing_mm)

        def dose_gy(images: NDArray[np.float32]) -> NDArray[np.float32]:
            dose = dose_from_network(images, case.prescription.highest_gy, manifest.normalisation)
            return self._to_case(case, conditioning, dose)

        spread, calibrated = None, self._calibrated(options)
        if options.samples > 1:
            deviation = samples.std(axis=0, ddof=1)
            if calibrated is not None:
                pooled = smoothed(deviation**2, conditioning.external, spacing_mm, calibrated.pooling_mm)
                deviation = calibrated.scale * np.sqrt(pooled)
            scale_gy = np.float32(case.prescription.highest_gy / manifest.normalisation.dose_scale)
            spread = self._to_case(case, conditioning, deviation * scale_gy)
        return Prediction(
            dose_gy(samples.mean(axis=0)),
            spread,
            network_s,
            tuple(_warnings(case, conditioning)),
            np.stack([dose_gy(images) for images in samples]) if keep_samples else None,
            calibrated is not None,
        )

    def _calibrated(self, options: SamplingOptions) -> SpreadCalibration | None:
        """Return what the checkpoint knows of its spread if it was found by sampling in this way."""
        as_found = self.manifest.defaults.samples_like(options.sampler, options.steps) and options.samples > 1
        return self.manifest.spread if as_found else None

    def evaluations(self, options: SamplingOptions) -> int:
        """Return how often the noise predictor, or a regression, is evaluated per slice."""
        steps = {"coarse": 1, "regression": 1, "ancestral": self.schedule.steps}.get(options.sampler, options.steps)
        return steps * options.samples

    def _sample(
        self,
        conditioning: Conditioning,
        options: SamplingOptions,
        together: int,
        progress: Callable[[Progress], None],
        cancelled: Callable[[], bool],
    ) -> NDArray[np.float32]:
        """Return images (samples, slices, rows, columns), made by batches of slices; by smaller ones if need be."""
        total, per_slice = conditioning.slice_count, self.evaluations(options)
        windows = self._windows(conditioning)
        samples = np.full((options.samples, *conditioning.external.shape), self._nothing, np.float32)
        done, smaller = 0, False

        def step(evaluations: int) -> None:
            progress(Progress((done * per_slice + evaluations) / (per_slice * total), done, total))
            if cancelled():
                raise Cancelled("the prediction was cancelled")

        waiting = batches_of(windows, together)
        while waiting:
            slices = waiting[0]
            try:
                self._sample_batch(conditioning, slices, [windows[k] for k in slices], options, samples, step)
            except RuntimeError as error:
                if not _is_out_of_memory(error):
                    raise
                if smaller or len(slices) == 1 or self.network.volumetric:
                    message = f"the memory of {self.device} does not suffice for {len(slices)} slices at once"
                    raise PredictionError(message, code="out-of-memory") from error
                together, smaller = max(1, len(slices) // SMALLER), True
            else:
                done += len(slices)
                progress(Progress(done / total, done, total))
                waiting = waiting[1:]
                continue
            waiting = [b[first : first + together] for b in waiting for first in range(0, len(b), together)]
            # Here the error, and with it the tensors of the batch, is gone
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
        return samples

    def _windows(self, conditioning: Conditioning) -> list[Window]:
        """Return what of each slice the network works on: all slices of a volumetric network have the same."""
        external, smallest = conditioning.external, self.manifest.smallest_window or conditioning.external.shape[1:]
        if self.network.volumetric:
            return windows_of(external.max(axis=0, keepdims=True), smallest) * len(external)
        return windows_of(external, smallest)

    def _sample_batch(
        self,
        conditioning: Conditioning,
        slices: NDArray[np.int64],
        windows: list[Window],
        options: SamplingOptions,
        samples: NDArray[np.float32],
        step: Callable[[int], None],
    ) -> None:
        """Fill in the samples of some slices; after every denoising step tell how many evaluations were made."""
        evaluations = 0
        for sample, images in enumerate(self._samples(conditioning, slices, windows, options)):
            last = None
            for image in images:
                last = image
                evaluations += len(slices)
                step(evaluations)
            assert last is not None  # noqa: S101 - every sampler takes a step
            for k, window, found in zip(slices, windows, last[:, 0].float().cpu().numpy(), strict=True):
                samples[(sample, k, *window.index)] = found

    def _samples(
        self, conditioning: Conditioning, slices: NDArray[np.int64], windows: list[Window], options: SamplingOptions
    ) -> Iterator[Iterator[Tensor]]:
        """Yield for each sample the windows (slices, 1, rows, columns) after each of its steps."""
        structures = conditioning.structure_images(slices)
        x = self._windowed([image[(..., *w.index)] for image, w in zip(structures, windows, strict=True)])
        outline = [conditioning.external[(k, *w.index)] for k, w in zip(slices, windows, strict=True)]
        outside = self._windowed(outline)[:, None] == 0
        # No head learnt anything outside the patient
        if isinstance(self.network, RegressionNetwork):
            dose = self._regress(self.network, x).masked_fill(outside, self._nothing)
            yield from (iter([dose]) for _ in range(options.samples))
            return
        assert isinstance(self.network, DiffusionNetwork)  # noqa: S101 - there is no third kind
        with torch.autocast(self.device.type, torch.bfloat16):
            features = self.network.encode(x.contiguous(memory_format=torch.channels_last))
            coarse = self.network.coarse_dose(features)
        if coarse is not None:
            coarse = coarse.masked_fill(outside, self._nothing)
        for sample in range(options.samples):
            generators = [_generator(options.seed, sample, int(k)) for k in slices]
            yield self._reverse(self.network, features, coarse, options, generators, outside)

    def _windowed(self, images: list[NDArray[np.float32]]) -> Tensor:
        return torch.from_numpy(np.stack(images)).to(self.device)

    @property
    def _nothing(self) -> float:
        """No dose, in network units."""
        return -self.manifest.normalisation.dose_offset

    def _regress(self, network: RegressionNetwork, x: Tensor) -> Tensor:
        """Map structure images (slices, channels, rows, columns) to doses (slices, 1, rows, columns)."""
        with torch.autocast(self.device.type, torch.bfloat16):
            if not network.volumetric:
                return network(x.contiguous(memory_format=torch.channels_last))[-1]  # type: ignore[no-any-return]
            # The last slice again, until their number is one that the network takes
            missing = -len(x) % network.multiple
            stack = functional.pad(x.movedim(0, 1)[None], (0, 0, 0, 0, 0, missing), mode="replicate")
            dose: Tensor = network(stack.contiguous(memory_format=torch.channels_last_3d))[-1]
        return dose[0, :, : len(x)].movedim(1, 0)

    def _reverse(
        self,
        network: DiffusionNetwork,
        features: Features,
        coarse: Tensor | None,
        options: SamplingOptions,
        generators: list[torch.Generator],
        outside: Tensor,
    ) -> Iterator[Tensor]:
        def draw() -> Tensor:
            noise = [torch.randn(outside.shape[1:], generator=generator) for generator in generators]
            return torch.stack(noise).to(self.device)

        def predict_noise(noisy: Tensor, gamma: float) -> Tensor:
            intensity = torch.full((len(noisy),), gamma, device=self.device)
            with torch.autocast(self.device.type, torch.bfloat16):
                return network.predict_noise(features, noisy, intensity)

        if options.sampler == "coarse":
            assert coarse is not None  # noqa: S101 - the manifest knows which networks have a coarse head
            return iter([coarse])
        if options.sampler == "coarse-ddim":
            assert coarse is not None  # noqa: S101
            start = self.manifest.defaults.start_step
            noisy = add_noise(coarse, draw(), float(self.schedule.gamma[start]))
            return ddim(noisy, predict_noise, self.schedule, options.steps, start)
        if options.sampler == "ancestral":
            images = ancestral(draw(), predict_noise, draw, self.schedule)
        else:
            few_steps = {"ddim": ddim, "dpm-solver": dpm_solver}[options.sampler]
            images = few_steps(draw(), predict_noise, self.schedule, options.steps)
        return (network.dose(features, image).masked_fill(outside, self._nothing) for image in images)

    def _to_case(self, case: Case, conditioning: Conditioning, images: NDArray[np.float32]) -> NDArray[np.float32]:
        volume = conditioning.framing.to_case(images)
        inside = case.grid.to_canonical(case.external)
        return np.ascontiguousarray(case.grid.from_canonical(np.maximum(volume, 0) * inside))


def _is_out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or CPU_ALLOCATOR in str(error)


def _generator(seed: int, sample: int, network_slice: int) -> torch.Generator:
    """Return a slice's own source of randomness, so that batches may be cut anywhere."""
    state = np.random.SeedSequence([seed, sample, network_slice]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state) >> 1)


def _warnings(case: Case, conditioning: Conditioning) -> Iterator[str]:
    yield from conditioning.warnings
    if not conditioning.framing.covers(case.grid.to_canonical(case.external)):
        yield "the patient is larger than the network's field; the dose is zero beyond it"
