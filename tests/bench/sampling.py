"""What a slice costs to sample, beside other libraries' diffusion networks of the same size: part of `make bench`.

Nothing here is asserted. All networks take turns in one run, with random weights, in bfloat16 and the same memory
layout, so what counts are the ratios.
"""

import argparse
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import torch
from diffusers.models import UNet2DModel
from monai.networks.nets import DiffusionModelUNet
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from model.checkpoint.manifest import Manifest
from model.checkpoint.store import SHIPPED, find_checkpoints
from model.networks.registry import build
from model.networks.system import DiffusionNetwork
from model.prediction.predictor import SLICES_PER_BATCH, choose_device

STUDY_SLICES = 100
ROUNDS = 5
MATRIX = 2048
"""Rows and columns of the square matrices whose product gives the device's rate."""

TEXT = """# What sampling costs

Written by `make bench`, on {device}; {cores} of {machine_cores} processor cores, load average {load:.1f} before it. All
networks in one run by turns, median of {rounds} rounds, {slices} slices of {rows} × {columns} together, bfloat16.
The device multiplies matrices of {matrix} × {matrix} in bfloat16 at {rate:.2f} TFLOP/s; the floor is a network's
operations at that rate.

| network | parameters, M | GFLOP | ms | floor, ms | ratio to our step |
|---|---|---|---|---|---|
{networks}

Per slice. Ours is {name}. The others are of about its size and conditioned as diffusion models of dose usually are: all
{channels} structure images enter at every step, so the network works them out anew each time. Ours does so once per
slice, whatever the number of steps.

## A study of {study} slices

| how | seconds | ratio to the default |
|---|---|---|
{studies}

## Where a step's time goes

{profile}
"""


@dataclass(frozen=True)
class Timed:
    """What one evaluation for one slice costs."""

    label: str
    parameters: int
    operations: float
    seconds: float = 0.0


class OfMonai(nn.Module):
    """MONAI's diffusion U-Net, given structure images and noisy dose side by side."""

    def __init__(self, channels: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.network = DiffusionModelUNet(
            spatial_dims=2,
            in_channels=channels + 1,
            out_channels=1,
            channels=widths,
            attention_levels=(*(False for _ in widths[:-2]), True, True),
            num_res_blocks=2,
            num_head_channels=16,
            norm_num_groups=8,
        )

    def forward(self, images: Tensor, time_step: Tensor) -> Tensor:
        """Map (B, channels + 1, H, W) and t (B,) to the noise (B, 1, H, W)."""
        return self.network(images, time_step)  # type: ignore[no-any-return]


class OfDiffusers(nn.Module):
    """The U-Net of guided diffusion, on which DoseDiff (2306.16324) builds, as diffusers has it; given the same."""

    def __init__(self, channels: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        plain = len(widths) - 2
        self.network = UNet2DModel(
            in_channels=channels + 1,
            out_channels=1,
            block_out_channels=widths,
            down_block_types=(*["DownBlock2D"] * plain, "AttnDownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "AttnUpBlock2D", *["UpBlock2D"] * plain),
            layers_per_block=2,
            norm_num_groups=8,
        )

    def forward(self, images: Tensor, time_step: Tensor) -> Tensor:
        """Map (B, channels + 1, H, W) and t (B,) to the noise (B, 1, H, W)."""
        return self.network(images, time_step).sample  # type: ignore[no-any-return]


def parameters_of(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def of_size(make: Callable[[int, tuple[int, ...]], nn.Module], channels: int, wanted: int) -> nn.Module:
    """Return the network whose number of parameters comes nearest, its widths growing as those of ours do."""
    shares = (1, 2, 4, 6, 8)
    with torch.device("meta"):
        sizes = {first: parameters_of(make(channels, tuple(first * s for s in shares))) for first in range(8, 65, 8)}
    first = min(sizes, key=lambda width: abs(sizes[width] - wanted))
    return make(channels, tuple(first * s for s in shares))


def matrix_rate(device: torch.device) -> float:
    """Floating-point operations per second of a product of two large bfloat16 matrices."""
    a, b = (torch.randn(MATRIX, MATRIX, dtype=torch.bfloat16, device=device) for _ in range(2))
    return 2 * MATRIX**3 / seconds_of(lambda: a @ b, device)


def seconds_of(do: Callable[[], object], device: torch.device, rounds: int = ROUNDS) -> float:
    """Median of some rounds, after one that does not count."""
    found = []
    for _ in range(rounds + 1):
        begun = time.perf_counter()
        do()
        if device.type == "cuda":
            torch.cuda.synchronize()
        found.append(time.perf_counter() - begun)
    return median(found[1:])


def operations_of(do: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counter:
        do()
    return int(counter.get_total_flops())


def evaluations(manifest: Manifest, device: torch.device) -> dict[str, tuple[int, Callable[[], object]]]:
    """Label → parameters, and what evaluates a batch of slices once."""
    channels, (rows, columns) = len(manifest.channels), manifest.smallest_window or (96, 128)
    ours = build(channels, manifest.architecture).on(device).eval()
    assert isinstance(ours, DiffusionNetwork)
    shape = (SLICES_PER_BATCH, channels, rows, columns)
    images = torch.randn(shape, device=device).contiguous(memory_format=torch.channels_last)
    noisy, gamma = torch.randn_like(images[:, :1]), torch.full((SLICES_PER_BATCH,), 0.5, device=device)
    features = ours.encode(images)
    both = torch.cat([images, noisy], dim=1).contiguous(memory_format=torch.channels_last)
    time_step = torch.full((SLICES_PER_BATCH,), 500, device=device)
    wanted = parameters_of(ours)
    found: dict[str, tuple[int, Callable[[], object]]] = {
        "ours, a step": (wanted, lambda: ours.predict_noise(features, noisy, gamma)),
        "ours, structure encoder and coarse dose, once": (wanted, lambda: ours.coarse_dose(ours.encode(images))),
    }
    for label, make in (("MONAI, a step", OfMonai), ("guided diffusion (diffusers), a step", OfDiffusers)):
        theirs = of_size(make, channels, wanted).to(device, memory_format=torch.channels_last).eval()
        found[label] = (parameters_of(theirs), lambda theirs=theirs: theirs(both, time_step))
    return found


def measure(todo: Mapping[str, tuple[int, Callable[[], object]]], device: torch.device) -> dict[str, Timed]:
    """Time everything by turns."""
    slices = SLICES_PER_BATCH
    timed = {label: Timed(label, size, operations_of(do) / slices) for label, (size, do) in todo.items()}
    rounds = [{label: seconds_of(do, device, 1) / slices for label, (_, do) in todo.items()} for _ in range(ROUNDS)]
    return {label: replace(t, seconds=median(r[label] for r in rounds)) for label, t in timed.items()}


def profiled(do: Callable[[], object]) -> str:
    """Operators that take more than a fiftieth of an evaluation, as Markdown."""
    with profile(activities=[ProfilerActivity.CPU]) as found:
        do()
    events = found.key_averages()
    total = sum(event.self_cpu_time_total for event in events)
    shares = sorted(((event.self_cpu_time_total / total, event.key) for event in events), reverse=True)
    rows = [f"| {key.removeprefix('aten::')} | {100 * share:.0f} |" for share, key in shares if share > 0.02]
    return "\n".join(["| operator | share, % |", "|---|---|", *rows])


@torch.inference_mode()
def report(device: torch.device) -> str:
    """Measure everything and write it as Markdown."""
    load = os.getloadavg()[0]
    manifest = find_checkpoints((SHIPPED,))["hn-openkbp"].manifest
    with torch.autocast(device.type, torch.bfloat16):
        todo = evaluations(manifest, device)
        timed, rate = measure(todo, device), matrix_rate(device)
        where = profiled(todo["ours, a step"][1]) if device.type == "cpu" else "Measured on CPUs only."
    step, once, *others = timed.values()
    defaults, steps = manifest.defaults, manifest.schedule.steps
    default_s = once.seconds + defaults.steps * defaults.samples * step.seconds
    studies = {
        f"ours, default ({defaults.sampler}, {defaults.samples} samples of {defaults.steps} step)": default_s,
        "ours, DDIM from noise, 10 steps": once.seconds + 10 * step.seconds,
        f"ours, as published, {steps} steps": once.seconds + steps * step.seconds,
        **{f"{t.label.removesuffix(', a step')}, {n} steps": n * t.seconds for t in others for n in (10, steps)},
    }
    rows, columns = manifest.smallest_window or (manifest.grid.rows, manifest.grid.columns)
    return TEXT.format(
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU",
        cores=len(os.sched_getaffinity(0)),
        machine_cores=os.cpu_count(),
        load=load,
        rounds=ROUNDS,
        slices=SLICES_PER_BATCH,
        rows=rows,
        columns=columns,
        matrix=MATRIX,
        rate=rate / 1e12,
        networks="\n".join(
            f"| {t.label} | {t.parameters / 1e6:.1f} | {t.operations / 1e9:.2f} | {1e3 * t.seconds:.1f} | "
            f"{1e3 * t.operations / rate:.1f} | {t.seconds / step.seconds:.2f} |"
            for t in timed.values()
        ),
        name=manifest.name,
        channels=len(manifest.channels),
        study=STUDY_SLICES,
        studies="\n".join(f"| {how} | {STUDY_SLICES * s:.1f} | {s / default_s:.1f} |" for how, s in studies.items()),
        profile=where,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--output", type=Path, default=Path("docs/results/bench-sampling.md"))
    arguments = parser.parse_args()
    arguments.output.write_text(report(choose_device(arguments.device)), encoding="utf-8")


if __name__ == "__main__":
    main()
