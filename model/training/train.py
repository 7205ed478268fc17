"""Training within a budget, resumable: the loop that all systems share."""

import csv
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from model.errors import DatasetError
from model.networks.registry import build
from model.networks.system import DoseNetwork
from model.training.augmentation import turned_and_scaled
from model.training.objectives import Objective
from model.training.recipe import Budget, Stage, TrainingOptions
from model.training.slices import Batch, SliceSampler

BATCHES_AHEAD = 2
"""Batches that are drawn while one is used."""


@dataclass(frozen=True)
class Progress:
    """How far a training is; saved with it.

    Parameters
    ----------
    stage, elapsed_s, batches
        The stage at hand, its seconds of training and its batches so far.
    done
        Batches of each stage that was begun.
    best
        Lowest validation score of the last stage so far, and the batch after which it was reached.
    """

    stage: Stage
    elapsed_s: float = 0.0
    batches: int = 0
    done: Mapping[Stage, int] = field(default_factory=dict)
    best: tuple[float, int] | None = None


@dataclass(frozen=True)
class Report:
    """What a training tells while it runs.

    Parameters
    ----------
    spent
        Share of the stage's budget.
    losses
        Means since the last report.
    waiting
        Share of the time since then in which there was no batch to train on.
    """

    progress: Progress
    spent: float
    losses: Mapping[str, float]
    learning_rate: float
    waiting: float


@dataclass(frozen=True)
class Validation:
    """Figures of a validation, of which `score` decides what is best: less is better."""

    score: float
    figures: Mapping[str, float]


class Trainer:
    """Trains in a run folder; a second trainer on the same folder goes on where the first was stopped.

    Parameters
    ----------
    folder
        Holds ``state-STAGE-BATCH.safetensors`` (weights, their average, Adam's moments), ``best-BATCH.safetensors``,
        ``progress.json``, which vouches for both, and ``log.csv``.
    objective
        With the network, on the device that trains.
    sampler
        Source of batches.
    stages
        Budgets of the stages, in their order.
    identity
        What must be the same for a training to go on, such as its recipe; kept in ``progress.json``.

    Raises
    ------
    DatasetError
        If the folder holds another training.
    """

    def __init__(
        self,
        folder: Path,
        objective: Objective,
        sampler: SliceSampler,
        stages: Mapping[Stage, Budget],
        options: TrainingOptions,
        device: torch.device,
        identity: Mapping[str, object] | None = None,
    ) -> None:
        self.folder, self.objective, self.options, self.device = folder, objective, options, device
        self.stages, self.sampler = stages, sampler
        self._identity = json.loads(json.dumps(identity or {}))
        for module in objective.modules.values():
            module.to(device)
        for block in objective.network.modules():
            if isinstance(block, nn.Dropout2d):
                block.p = options.dropout
        self.average = {name: value.detach().clone() for name, value in objective.network.state_dict().items()}
        self.optimisers = {
            name: torch.optim.AdamW(module.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay)
            for name, module in objective.modules.items()
        }
        self.generator = torch.Generator().manual_seed(options.seed)
        self.progress = Progress(next(iter(stages)))
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / "progress.json").is_file():
            self._resume()

    def averaged(self) -> DoseNetwork:
        """Return a network with the averaged weights, in evaluation mode."""
        network = self.objective.network
        copy = build(network.channels, network.architecture)
        copy.load_state_dict(self.average)
        return copy.on(self.device).eval()

    def best_weights(self) -> dict[str, Tensor]:
        """Return the average of the weights that was best in the last stage, or the last if none was scored."""
        best = self.progress.best
        return self.average if best is None else load_file(self.folder / _best_name(best[1]))

    def run(self, report: Callable[[Report], None], validate: Callable[[Stage, DoseNetwork], Validation]) -> None:
        """Train until all budgets are spent; `validate` scores the averaged weights now and then and at each end."""
        order = list(self.stages)
        for stage in order[order.index(self.progress.stage) :]:
            if stage != self.progress.stage:
                self.progress = Progress(stage, done=self.progress.done)
                for optimiser in self.optimisers.values():
                    optimiser.state.clear()
            self._run_stage(stage, report, validate)

    def _run_stage(
        self, stage: Stage, report: Callable[[Report], None], validate: Callable[[Stage, DoseNetwork], Validation]
    ) -> None:
        progress, options = self.progress, self.options
        next_save = progress.elapsed_s + options.save_every_s
        next_validation = progress.elapsed_s + 60 * options.validate_every_minutes
        losses: list[dict[str, Tensor]] = []
        reported_s, waited_s = progress.elapsed_s, 0.0
        batches = self._batches()
        while self._spent() < 1:
            began = time.monotonic()
            rate = self._learning_rate(self._spent())
            batch = next(batches)
            waited_s += time.monotonic() - began
            losses.append(self._step(stage, batch, rate))
            elapsed_s = self.progress.elapsed_s + time.monotonic() - began
            self.progress = replace(self.progress, elapsed_s=elapsed_s)
            ended = self._spent() >= 1
            validating = ended or elapsed_s >= next_validation
            if elapsed_s >= next_save or validating:
                means, waiting = self._means(losses), waited_s / (elapsed_s - reported_s)
                losses, reported_s, waited_s = [], elapsed_s, 0.0
                report(Report(self.progress, self._spent(), means, rate, waiting))
                self._log({"learning_rate": rate, "waiting": waiting, **means})
                if validating:
                    self._validate(validate)
                    next_validation = elapsed_s + 60 * options.validate_every_minutes
                self._save()
                next_save = elapsed_s + options.save_every_s

    def _means(self, losses: list[dict[str, Tensor]]) -> dict[str, float]:
        """Mean of each loss; asked now and then, since a GPU must finish for it, and before each save."""
        means = {name: float(torch.stack([of[name] for of in losses]).mean()) for name in losses[0]}
        if not all(math.isfinite(value) for value in means.values()):
            progress = self.progress
            raise FloatingPointError(f"the loss is not finite before batch {progress.batches} of {progress.stage}")
        return means

    def _spent(self) -> float:
        return self.stages[self.progress.stage].spent(self.progress.elapsed_s, self.progress.batches)

    def _validate(self, validate: Callable[[Stage, DoseNetwork], Validation]) -> None:
        stage = self.progress.stage
        found = validate(stage, self.averaged())
        self._log(found.figures)
        best = self.progress.best
        if stage == list(self.stages)[-1] and (best is None or found.score < best[0]):
            partial = self.folder / "best.part"
            save_file({name: value.contiguous() for name, value in self.average.items()}, partial)
            partial.replace(self.folder / _best_name(self.progress.batches))
            self.progress = replace(self.progress, best=(found.score, self.progress.batches))

    def _batches(self) -> Iterator[Batch]:
        """Yield batches, the next of which are made while the last is used; their numbers run through all stages."""
        first = sum(self.progress.done.values())
        with ThreadPoolExecutor(1) as pool:
            coming = [pool.submit(self.sampler.draw, first + k, self.options.batch) for k in range(BATCHES_AHEAD)]
            number = first + BATCHES_AHEAD
            while True:
                ready = coming.pop(0).result()
                coming.append(pool.submit(self.sampler.draw, number, self.options.batch))
                number += 1
                yield ready

    def _learning_rate(self, share: float) -> float:
        warm = min(1.0, (self.progress.batches + 1) / self.options.warmup)
        if self.options.decay == "step":
            return self.options.learning_rate * warm * (1.0 if share < 0.8 else 0.5)
        return self.options.learning_rate * warm * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * min(share, 1.0))))

    def _step(self, stage: Stage, batch: Batch, rate: float) -> dict[str, Tensor]:
        options = self.options
        torch.manual_seed(options.seed + sum(self.progress.done.values()))  # of dropout, so that it resumes exactly
        batch = Batch(*(images.to(self.device) for images in (batch.x, batch.y, batch.inside)))
        batch = turned_and_scaled(batch, options.turn_share, options.turn_deg, options.zoom, self.generator)
        layout = torch.channels_last_3d if batch.x.ndim == 5 else torch.channels_last
        batch = replace(batch, x=batch.x.contiguous(memory_format=layout))
        told: dict[str, Tensor] = {}
        for name, losses_of in self.objective.phases(stage).items():
            with torch.autocast(self.device.type, torch.bfloat16):
                losses = losses_of(batch, self.generator)
            self._lower(name, torch.stack(list(losses.values())).sum(), rate)
            told |= {loss: value.detach() for loss, value in losses.items()}
        done = {**self.progress.done, stage: self.progress.batches + 1}
        self.progress = replace(self.progress, batches=self.progress.batches + 1, done=done)
        self._average()
        return told

    def _lower(self, name: str, total: Tensor, rate: float) -> None:
        optimiser = self.optimisers[name]
        for group in optimiser.param_groups:
            group["lr"] = rate
        optimiser.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.objective.modules[name].parameters(), self.options.gradient_limit)
        optimiser.step()

    def _average(self) -> None:
        """Update the average; it forgets faster in the beginning, when there is little worth keeping."""
        batches = self.progress.batches
        decay = min(self.options.ema_decay, (1 + batches) / (10 + batches))
        for name, value in self.objective.network.state_dict().items():
            if value.is_floating_point():
                self.average[name].lerp_(value.detach(), 1 - decay)
            else:
                self.average[name].copy_(value)

    def _log(self, values: Mapping[str, float]) -> None:
        path = self.folder / "log.csv"
        fresh = not path.is_file()
        with path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            if fresh:
                writer.writerow(["stage", "batch", "elapsed_s", "name", "value"])
            progress = self.progress
            for name, value in values.items():
                writer.writerow([progress.stage, progress.batches, f"{progress.elapsed_s:.0f}", name, f"{value:.6g}"])

    def _save(self) -> None:
        """Write the state, then the progress that vouches for it; a kill in between leaves the last whole pair."""
        tensors = {f"average.{name}": value for name, value in self.average.items()}
        for module_name, module in self.objective.modules.items():
            tensors |= {f"{module_name}.weights.{key}": value for key, value in module.state_dict().items()}
            for index, state in self.optimisers[module_name].state_dict()["state"].items():
                tensors |= {f"{module_name}.adam.{index}.{key}": value for key, value in state.items()}
        tensors["generator"] = self.generator.get_state()
        name = f"state-{self.progress.stage}-{self.progress.batches}.safetensors"
        partial = self.folder / "state.part"
        save_file({key: value.contiguous() for key, value in tensors.items()}, partial)
        partial.replace(self.folder / name)
        record = {"progress": asdict(self.progress), "state": name, "identity": self._identity}
        partial = self.folder / "progress.json.part"
        partial.write_text(json.dumps(record, indent=1), encoding="utf-8")
        partial.replace(self.folder / "progress.json")
        best = self.progress.best
        kept = {name, _best_name(best[1]) if best else ""}
        for old in [*self.folder.glob("state-*.safetensors"), *self.folder.glob("best-*.safetensors")]:
            if old.name not in kept:
                old.unlink()

    def _resume(self) -> None:
        record = json.loads((self.folder / "progress.json").read_text(encoding="utf-8"))
        if record["identity"] != self._identity:
            raise DatasetError(f"{self.folder} holds a training by another recipe; give another run folder")
        best = record["progress"]["best"]
        self.progress = Progress(**record["progress"] | {"best": None if best is None else (best[0], best[1])})
        tensors = load_file(self.folder / record["state"])
        self.average = {name: value.to(self.device) for name, value in _below("average.", tensors).items()}
        for module_name, module in self.objective.modules.items():
            module.load_state_dict(_below(f"{module_name}.weights.", tensors))
            moments: dict[int, dict[str, Tensor]] = {}
            for key, value in _below(f"{module_name}.adam.", tensors).items():
                index, name = key.split(".", 1)
                moments.setdefault(int(index), {})[name] = value
            optimiser = self.optimisers[module_name]
            optimiser.load_state_dict({**optimiser.state_dict(), "state": moments})
        self.generator.set_state(tensors["generator"])


def _best_name(batches: int) -> str:
    return f"best-{batches}.safetensors"


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
