"""Training of DiffDP in two stages, within a budget of time, resumable.

Stage 1 pre-trains the structure encoder g with its coarse dose head by L1 (paper, section 2.2). Stage 2 trains g and
the noise predictor f by Eq. 9; the coarse head's L1 may stay in the sum, so that the coarse dose keeps up with g.
"""

import csv
import json
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from model.checkpoint.manifest import Architecture, Schedule
from model.diffusion.schedule import NoiseSchedule, add_noise
from model.networks.diffdp import DiffDP
from model.training.slices import Batch, SliceSampler

Stage = Literal["pretrain", "diffusion"]


@dataclass(frozen=True)
class TrainingOptions:
    """How to train. The defaults are the paper's where it names them and this is a matter of taste elsewhere.

    Parameters
    ----------
    pretrain_minutes, diffusion_minutes
        Time budgets of the two stages; the learning rate falls along them.
    batch
        Slices per step.
    crop
        Rows and columns of the random crops.
    learning_rate
        Peak; reached after `warmup` steps, falls as a cosine to a twentieth over the stage.
    loss
        Norm of Eq. 9.
    coarse_weight
        Weight of the coarse head's L1 in stage 2; 0 is the paper.
    early_share
        Share of stage 2's draws of t that fall below `start_step` rather than anywhere in 1 … T; 0 is the paper. A
        reverse process that begins there never sees a later t. The checkpoint's default may begin earlier still.
    ema_decay
        Of the weights' exponential moving average, which is what is shipped.
    """

    pretrain_minutes: float
    diffusion_minutes: float
    batch: int = 16
    crop: tuple[int, int] = (80, 96)
    learning_rate: float = 3e-4
    warmup: int = 100
    loss: Literal["l1", "l2"] = "l1"
    coarse_weight: float = 1.0
    early_share: float = 0.5
    start_step: int = 250
    ema_decay: float = 0.999
    gradient_limit: float = 1.0
    seed: int = 0
    save_every_s: float = 60.0
    validate_every_minutes: float = 15.0


@dataclass
class Progress:
    """How far a training is; saved with it."""

    stage: Stage = "pretrain"
    elapsed_s: float = 0.0
    steps: int = 0
    pretrain_steps: int = 0
    diffusion_steps: int = 0


@dataclass(frozen=True)
class Report:
    """What a training tells while it runs: losses are means since the last report."""

    progress: Progress
    budget_s: float
    losses: dict[str, float]
    learning_rate: float


class Trainer:
    """Trains a `DiffDP` in a run folder; a second trainer on the same folder goes on where the first was stopped.

    Parameters
    ----------
    folder
        Holds ``state-STAGE-STEP.safetensors`` (weights, their average, Adam's moments), ``progress.json``, which names
        it, and ``log.csv``.
    sampler
        Source of batches.
    device
        ``cpu`` or ``cuda``; bfloat16 autocast on both.
    """

    def __init__(
        self,
        folder: Path,
        channels: int,
        architecture: Architecture,
        schedule: Schedule,
        sampler: SliceSampler,
        options: TrainingOptions,
        device: str,
    ) -> None:
        torch.manual_seed(options.seed)
        self.folder, self.options, self.device = folder, options, torch.device(device)
        self.network = DiffDP(channels, architecture).on(self.device)
        self.average = {name: value.detach().clone() for name, value in self.network.state_dict().items()}
        self.optimiser = torch.optim.Adam(self.network.parameters(), lr=options.learning_rate)
        self.schedule = NoiseSchedule(schedule.steps, schedule.first, schedule.last)
        self.generator = torch.Generator().manual_seed(options.seed)
        self.sampler = sampler
        self.sampler_state = dict(sampler.generator.bit_generator.state)
        self.progress = Progress()
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / "progress.json").is_file():
            self._resume()

    def averaged(self) -> DiffDP:
        """Return a network with the averaged weights, in evaluation mode."""
        network = DiffDP(self.network.channels, self.network.architecture)
        network.load_state_dict(self.average)
        return network.on(self.device).eval()

    def run(self, report: Callable[[Report], None], validate: Callable[[Progress, DiffDP], dict[str, float]]) -> None:
        """Train until both budgets are spent; `validate` scores the averaged weights now and then and at each end."""
        stages: tuple[Stage, ...] = ("pretrain", "diffusion")
        for stage in stages[stages.index(self.progress.stage) :]:
            if stage != self.progress.stage:
                self.progress = Progress(
                    stage, pretrain_steps=self.progress.pretrain_steps, diffusion_steps=self.progress.diffusion_steps
                )
                self.optimiser.state.clear()
            self._run_stage(stage, report, validate)

    def _run_stage(
        self, stage: Stage, report: Callable[[Report], None], validate: Callable[[Progress, DiffDP], dict[str, float]]
    ) -> None:
        budget_s = 60 * (self.options.pretrain_minutes if stage == "pretrain" else self.options.diffusion_minutes)
        next_save = self.progress.elapsed_s + self.options.save_every_s
        next_validation = self.progress.elapsed_s + 60 * self.options.validate_every_minutes
        sums: dict[str, float] = {}
        count = 0
        batches = self._batches()
        while self.progress.elapsed_s < budget_s:
            began = time.monotonic()
            rate = self._learning_rate(self.progress.elapsed_s / budget_s)
            batch, self.sampler_state = next(batches)
            for name, value in self._step(stage, batch, rate).items():
                sums[name] = sums.get(name, 0.0) + value
            count += 1
            self.progress.elapsed_s += time.monotonic() - began
            if self.progress.elapsed_s >= next_save or self.progress.elapsed_s >= budget_s:
                losses = {name: value / count for name, value in sums.items()}
                report(Report(self.progress, budget_s, losses, rate))
                self._log({"learning_rate": rate, **losses})
                sums, count = {}, 0
                self._save()
                next_save = self.progress.elapsed_s + self.options.save_every_s
            if self.progress.elapsed_s >= min(next_validation, budget_s):
                self._log(validate(self.progress, self.averaged()))
                next_validation = self.progress.elapsed_s + 60 * self.options.validate_every_minutes
        self._save()

    def _batches(self) -> Iterator[tuple[Batch, dict[str, Any]]]:
        """Yield batches, the next of which is made while the last is used, and the sampler's state after each."""

        def draw() -> tuple[Batch, dict[str, Any]]:
            batch = self.sampler.draw(self.options.batch)
            return batch, dict(self.sampler.generator.bit_generator.state)

        with ThreadPoolExecutor(1) as pool:
            coming = pool.submit(draw)
            while True:
                ready = coming.result()
                coming = pool.submit(draw)
                yield ready

    def _learning_rate(self, share: float) -> float:
        options = self.options
        warm = min(1.0, (self.progress.steps + 1) / options.warmup)
        return options.learning_rate * warm * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * min(share, 1.0))))

    def _step(self, stage: Stage, batch: Batch, rate: float) -> dict[str, float]:
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        losses = self._losses(stage, batch)
        total = torch.stack(list(losses.values())).sum()
        if not torch.isfinite(total):
            raise FloatingPointError(f"the loss is not finite at step {self.progress.steps} of stage {stage}")
        self.optimiser.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), self.options.gradient_limit)
        self.optimiser.step()
        self.progress.steps += 1
        if stage == "pretrain":
            self.progress.pretrain_steps += 1
        else:
            self.progress.diffusion_steps += 1
        self._average()
        return {name: float(value.detach()) for name, value in losses.items()}

    def _losses(self, stage: Stage, batch: Batch) -> dict[str, Tensor]:
        x = batch.x.to(self.device, memory_format=torch.channels_last)
        y, inside = batch.y.to(self.device), batch.inside.to(self.device)
        losses: dict[str, Tensor] = {}
        with torch.autocast(self.device.type, torch.bfloat16):
            structure = self.network.encoder(x)
            weight = 1.0 if stage == "pretrain" else self.options.coarse_weight
            if weight:
                error = (self.network.coarse(structure).float() - y).abs()
                losses["coarse"] = weight * (error * inside).sum() / inside.sum().clamp(min=1)
            if stage == "diffusion":
                gamma = self._draw_gamma(len(y)).to(self.device)
                noise = torch.randn(y.shape, generator=self.generator).to(self.device)
                predicted = self.network.predictor(structure, add_noise(y, noise, gamma), gamma).float()
                losses["noise"] = (
                    (predicted - noise).abs().mean()
                    if self.options.loss == "l1"
                    else (predicted - noise).square().mean()
                )
        return losses

    def _draw_gamma(self, count: int) -> Tensor:
        """Draw t, then γ anywhere between γ_t and γ_{t−1}, so that f learns the continuous noise intensity."""
        early = torch.rand(count, generator=self.generator) < self.options.early_share
        last = torch.where(early, self.options.start_step, self.schedule.steps)
        t = 1 + (torch.rand(count, generator=self.generator) * last).long().clamp(max=self.schedule.steps - 1)
        low, high = self.schedule.gamma[t], self.schedule.gamma[t - 1]
        return (low + (high - low) * torch.rand(count, generator=self.generator)).float()

    def _average(self) -> None:
        """Update the average; it forgets faster in the beginning, when there is little worth keeping."""
        decay = min(self.options.ema_decay, (1 + self.progress.steps) / (10 + self.progress.steps))
        for name, value in self.network.state_dict().items():
            self.average[name].lerp_(value.detach(), 1 - decay)

    def _log(self, values: dict[str, float]) -> None:
        path = self.folder / "log.csv"
        fresh = not path.is_file()
        with path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            if fresh:
                writer.writerow(["stage", "step", "elapsed_s", "name", "value"])
            for name, value in values.items():
                writer.writerow(
                    [self.progress.stage, self.progress.steps, f"{self.progress.elapsed_s:.0f}", name, f"{value:.6g}"]
                )

    def _save(self) -> None:
        """Write the state, then the progress that vouches for it; a kill in between leaves the last whole pair."""
        tensors = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        tensors |= {f"average.{name}": value for name, value in self.average.items()}
        for index, state in self.optimiser.state_dict()["state"].items():
            tensors |= {f"adam.{index}.{name}": value for name, value in state.items()}
        tensors["generator"] = self.generator.get_state()
        name = f"state-{self.progress.stage}-{self.progress.steps}.safetensors"
        partial = self.folder / "state.part"
        save_file({key: value.contiguous() for key, value in tensors.items()}, partial)
        partial.replace(self.folder / name)
        record = {
            "progress": asdict(self.progress),
            "state": name,
            "sampler": self.sampler_state,
            "options": asdict(self.options),
        }
        partial = self.folder / "progress.json.part"
        partial.write_text(json.dumps(record, indent=1), encoding="utf-8")
        partial.replace(self.folder / "progress.json")
        for old in self.folder.glob("state-*.safetensors"):
            if old.name != name:
                old.unlink()

    def _resume(self) -> None:
        record = json.loads((self.folder / "progress.json").read_text(encoding="utf-8"))
        self.progress = Progress(**record["progress"])
        tensors = load_file(self.folder / record["state"])
        self.network.load_state_dict(_below("network.", tensors))
        self.average = {name: value.to(self.device) for name, value in _below("average.", tensors).items()}
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in _below("adam.", tensors).items():
            index, name = key.split(".", 1)
            moments.setdefault(int(index), {})[name] = value
        self.optimiser.load_state_dict({**self.optimiser.state_dict(), "state": moments})
        self.generator.set_state(tensors["generator"])
        self.sampler_state = record["sampler"]
        self.sampler.generator.bit_generator.state = self.sampler_state


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
