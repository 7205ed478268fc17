"""Reverse processes against distributions whose ideal noise predictor is known.

For y_0 ~ N(m, s²), y_t ~ N(√γ m, v) with v = γ s² + 1 − γ, and E[ε | y_t] = √(1 − γ) (y_t − √γ m) / v.
"""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from model.diffusion.reverse import ancestral, ddim, dpm_solver
from model.diffusion.schedule import NoiseSchedule, add_noise

SCHEDULE = NoiseSchedule()
MEAN, DEVIATION = 0.6, 0.3
COUNT = 20_000


def last(images) -> Tensor:
    image = None
    for image in images:  # noqa: B007
        pass
    assert image is not None
    return image


def ideal(mean: float = MEAN, deviation: float = DEVIATION) -> Callable[[Tensor, float], Tensor]:
    def predict(noisy: Tensor, gamma: float) -> Tensor:
        variance = gamma * deviation**2 + 1 - gamma
        return (1 - gamma) ** 0.5 * (noisy - gamma**0.5 * mean) / variance

    return predict


def normal(seed: int, count: int = COUNT) -> Callable[[], Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return lambda: torch.randn(count, generator=generator, dtype=torch.float64)


def test_ancestral_with_the_ideal_predictor_draws_from_the_data():
    draw = normal(0)
    dose = last(ancestral(draw(), ideal(), draw, SCHEDULE))
    assert float(dose.mean()) == pytest.approx(MEAN, abs=4 * DEVIATION / COUNT**0.5)
    # Eq. 8 adds all of 1 − α_t, the largest of the variances that DDPM allows: the spread is slightly too wide
    assert float(dose.std()) == pytest.approx(DEVIATION, rel=0.03)

    # With this predictor Eq. 8 is linear in y, so that mean and variance obey a recursion in numbers
    mean, variance = 0.0, 1.0
    for t in range(1000, 0, -1):
        alpha, gamma = float(SCHEDULE.alpha[t]), float(SCHEDULE.gamma[t])
        v = gamma * DEVIATION**2 + 1 - gamma
        factor = (1 - (1 - alpha) / v) / alpha**0.5
        offset = (1 - alpha) / v * gamma**0.5 * MEAN / alpha**0.5
        mean, variance = factor * mean + offset, factor**2 * variance + (1 - alpha) * (t > 1)
    assert float(dose.mean()) == pytest.approx(mean, abs=4 * (variance / COUNT) ** 0.5)
    assert float(dose.var()) == pytest.approx(variance, rel=4 * (2 / COUNT) ** 0.5)


@pytest.mark.parametrize("start", [None, 250, 1])
def test_ancestral_draws_noise_at_every_step_but_the_last(start):
    calls, gammas = 0, []

    def draw() -> Tensor:
        nonlocal calls
        calls += 1
        return torch.zeros(1)

    def predict(noisy: Tensor, gamma: float) -> Tensor:
        gammas.append(gamma)
        return torch.zeros_like(noisy)

    images = list(ancestral(torch.ones(1), predict, draw, SCHEDULE, start))
    first = start or 1000
    assert len(images) == first
    assert calls == first - 1
    assert gammas == [float(SCHEDULE.gamma[t]) for t in range(first, 0, -1)]


def test_ancestral_from_a_middle_step_continues_the_forward_process():
    draw = normal(2)
    clean = MEAN + DEVIATION * draw()
    dose = last(ancestral(add_noise(clean, draw(), float(SCHEDULE.gamma[250])), ideal(), draw, SCHEDULE, 250))
    assert float(dose.mean()) == pytest.approx(MEAN, abs=4 * DEVIATION / COUNT**0.5)
    assert float(dose.std()) == pytest.approx(DEVIATION, rel=0.03)


@pytest.mark.parametrize("dose", [-1.0, 0.3, 3.7])
@pytest.mark.parametrize("steps", [1, 4, 50])
@pytest.mark.parametrize("few_steps", [ddim, dpm_solver])
def test_few_steps_return_a_dose_that_is_certain_and_clamp_nothing(dose, steps, few_steps):
    start = normal(3, 50)()
    found = last(few_steps(start, ideal(dose, 0.0), SCHEDULE, steps))
    torch.testing.assert_close(found, torch.full_like(found, dose), atol=1e-9, rtol=0)


@pytest.mark.parametrize("dose", [-1.0, 3.7])
def test_ancestral_returns_a_dose_that_is_certain_and_clamps_nothing(dose):
    draw = normal(4, 50)
    found = last(ancestral(draw(), ideal(dose, 0.0), draw, SCHEDULE))
    torch.testing.assert_close(found, torch.full_like(found, dose), atol=1e-9, rtol=0)


@pytest.mark.parametrize("start", [1000, 250])
def test_ddim_approaches_the_probability_flow_as_steps_grow(start):
    """For Gaussian data the flow keeps each point's quantile: (y_t − √γ m) / √v is constant along it."""
    gamma = float(SCHEDULE.gamma[start])
    noisy = normal(5, 200)()
    quantile = (noisy - gamma**0.5 * MEAN) / (gamma * DEVIATION**2 + 1 - gamma) ** 0.5
    exact = MEAN + DEVIATION * quantile
    errors = [
        float((last(ddim(noisy, ideal(), SCHEDULE, steps, start)) - exact).abs().max()) for steps in (5, 20, 80, start)
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.01
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.5)  # a first-order method
    few = [float((last(dpm_solver(noisy, ideal(), SCHEDULE, steps, start)) - exact).abs().max()) for steps in (5, 20)]
    assert few[0] < errors[0]
    assert few[1] < errors[1] / 1.5  # its last step is of first order


@pytest.mark.parametrize(
    ("steps", "start", "times"),
    [
        (1, None, [1000]),
        (4, None, [1000, 750, 500, 250]),
        (4, 250, [250, 188, 125, 62]),
        (2, 3, [3, 2]),
        (5, 5, [5, 4, 3, 2, 1]),
    ],
)
@pytest.mark.parametrize("few_steps", [ddim, dpm_solver])
def test_few_steps_are_even_and_begin_at_the_start(steps, start, times, few_steps):
    gammas = []

    def predict(noisy: Tensor, gamma: float) -> Tensor:
        gammas.append(gamma)
        return torch.zeros_like(noisy)

    images = list(few_steps(torch.ones(1), predict, SCHEDULE, steps, start))
    assert len(images) == steps
    assert gammas == [float(SCHEDULE.gamma[t]) for t in times]


@pytest.mark.parametrize("steps", [999, 1000])
def test_ddim_never_stands_still(steps):
    gammas = []
    list(ddim(torch.ones(1), lambda y, gamma: gammas.append(gamma) or y, SCHEDULE, steps))
    assert len(set(gammas)) == steps


@pytest.mark.parametrize(("steps", "start"), [(0, None), (1001, None), (251, 250)])
def test_steps_that_do_not_fit_are_refused(steps, start):
    with pytest.raises(ValueError, match="do not fit"):
        list(ddim(torch.ones(1), ideal(), SCHEDULE, steps, start))


def test_the_callers_image_is_not_changed():
    noisy = torch.ones(3)
    list(ancestral(noisy, ideal(), lambda: torch.ones(3), SCHEDULE, 5))
    list(ddim(noisy, ideal(), SCHEDULE, 5))
    list(dpm_solver(noisy, ideal(), SCHEDULE, 5))
    assert (noisy == 1).all()
