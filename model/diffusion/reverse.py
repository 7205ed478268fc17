"""Reverse processes: from noise, or from a noised coarse dose, to a dose.

| here                 | paper / source                                                      |
|----------------------|---------------------------------------------------------------------|
| `ancestral`          | Eq. 8, with z = 0 at t = 1                                          |
| `ddim`               | Song et al., 2010.02502, Eq. 12 with η = 0, on a subsequence of t   |
| `dpm_solver`         | DPM-Solver++(2M), Lu et al., 2211.01095, algorithm 2                |
| `predict_noise`      | ε_{t,θ} = f(x_e, y_t, γ_t) with x_e held by the caller              |
| `draw`               | z ~ N(0, I); the caller decides where randomness comes from         |

All numbers of the schedule are float64; images are float32. Nothing is clamped: hot spots above the scale stay.
"""

import math
from collections.abc import Callable, Iterator
from itertools import pairwise

import torch
from torch import Tensor

from model.diffusion.schedule import NoiseSchedule

PredictNoise = Callable[[Tensor, float], Tensor]
Draw = Callable[[], Tensor]


def ancestral(
    noisy: Tensor, predict_noise: PredictNoise, draw: Draw, schedule: NoiseSchedule, start: int | None = None
) -> Iterator[Tensor]:
    """Yield y_{t−1} for t = start, …, 1 by Eq. 8; the last one is the dose.

    Parameters
    ----------
    noisy
        y_start (B, 1, H, W); pure noise if start is T.
    predict_noise
        Called with y_t and γ_t.
    draw
        Gives z_t (B, 1, H, W).
    start
        t of `noisy`, T by default.
    """
    for step in range(start or schedule.steps, 0, -1):
        alpha, gamma = float(schedule.alpha[step]), float(schedule.gamma[step])
        noise = predict_noise(noisy, gamma)
        noisy = (noisy - (1 - alpha) / (1 - gamma) ** 0.5 * noise) / alpha**0.5
        if step > 1:
            noisy = noisy + (1 - alpha) ** 0.5 * draw()
        yield noisy


def ddim(
    noisy: Tensor, predict_noise: PredictNoise, schedule: NoiseSchedule, steps: int, start: int | None = None
) -> Iterator[Tensor]:
    """Yield the images of a deterministic reverse process of few steps; the last one is the dose.

    The steps are evenly spaced from `start` (T by default) to 0, both included ("trailing", 2305.08891).

    Raises
    ------
    ValueError
        If there are more steps than lie between `start` and 0.
    """
    for gamma, gamma_after in _trailing(schedule, steps, start):
        noise = predict_noise(noisy, gamma)
        clean = (noisy - (1 - gamma) ** 0.5 * noise) / gamma**0.5
        noisy = gamma_after**0.5 * clean + (1 - gamma_after) ** 0.5 * noise
        yield noisy


def dpm_solver(
    noisy: Tensor, predict_noise: PredictNoise, schedule: NoiseSchedule, steps: int, start: int | None = None
) -> Iterator[Tensor]:
    """Yield the images of a deterministic reverse process of second order: `ddim`, but each step uses the one before.

    With λ = ln √(γ / (1 − γ)) as time, y_0 is taken to change linearly in λ. The first step and the last, at whose end
    λ is infinite, are DDIM's. The steps are those of `ddim`.

    Raises
    ------
    ValueError
        If there are more steps than lie between `start` and 0.
    """
    before: tuple[Tensor, float] | None = None
    for gamma, gamma_after in _trailing(schedule, steps, start):
        clean = (noisy - (1 - gamma) ** 0.5 * predict_noise(noisy, gamma)) / gamma**0.5
        if gamma_after == 1.0:
            yield clean
            return
        stride = _log_snr(gamma_after) - _log_snr(gamma)
        ahead = clean if before is None else clean + stride / (2 * before[1]) * (clean - before[0])
        shrink = ((1 - gamma_after) / (1 - gamma)) ** 0.5
        noisy = shrink * noisy - gamma_after**0.5 * math.expm1(-stride) * ahead
        before = clean, stride
        yield noisy


def _trailing(schedule: NoiseSchedule, steps: int, start: int | None) -> Iterator[tuple[float, float]]:
    """Yield γ before and after each step; steps are even in t ("trailing", 2305.08891)."""
    first = start or schedule.steps
    if not 1 <= steps <= first:
        raise ValueError(f"{steps} steps do not fit between step {first} and 0")
    times = torch.linspace(first, 0, steps + 1, dtype=torch.float64).round().long().tolist()
    yield from pairwise(float(schedule.gamma[t]) for t in times)


def _log_snr(gamma: float) -> float:
    return 0.5 * math.log(gamma / (1 - gamma))
