"""Schedule and forward process (SCIENCE.md, section 1; paper, Eqs. 2 to 4)."""

import numpy as np
import pytest
import torch

from model.checkpoint.manifest import Schedule
from model.diffusion.schedule import NoiseSchedule, add_noise


def test_noise_grows_linearly_from_1e_minus_4_to_1e_minus_2():
    schedule = NoiseSchedule(**Schedule().model_dump())
    assert schedule.alpha.shape == schedule.gamma.shape == (1001,)
    assert schedule.alpha.dtype == schedule.gamma.dtype == torch.float64
    t = np.arange(1, 1001)
    np.testing.assert_allclose(1 - schedule.alpha[1:], 1e-4 + (1e-2 - 1e-4) * (t - 1) / 999, rtol=1e-10)
    assert schedule.alpha[0] == schedule.gamma[0] == 1


def test_gamma_is_the_product_of_alpha_and_almost_zero_at_the_end():
    gamma = NoiseSchedule().gamma
    noise = 1e-4 + (1e-2 - 1e-4) * np.arange(1000) / 999
    np.testing.assert_allclose(gamma[1:], np.exp(np.cumsum(np.log1p(-noise))), rtol=1e-10)
    assert (gamma.diff() < 0).all()
    assert float(gamma[-1]) == pytest.approx(0.0066, rel=0.06)


@pytest.mark.parametrize("t", [1, 250, 1000])
def test_eq_4_has_the_right_mean_and_variance(t):
    gamma = float(NoiseSchedule().gamma[t])
    noise = torch.randn(200_000, generator=torch.Generator().manual_seed(t), dtype=torch.float64)
    noisy = add_noise(torch.full_like(noise, 1.7), noise, gamma)
    standard_error = ((1 - gamma) / len(noise)) ** 0.5
    assert float(noisy.mean()) == pytest.approx(1.7 * gamma**0.5, abs=4 * standard_error)
    assert float(noisy.var()) == pytest.approx(1 - gamma, rel=4 * (2 / len(noise)) ** 0.5)


def test_steps_of_eq_2_end_where_eq_4_says():
    schedule = NoiseSchedule(steps=20, first=0.01, last=0.2)
    generator = torch.Generator().manual_seed(0)
    y = torch.full((100_000,), 2.0, dtype=torch.float64)
    for t in range(1, 21):
        alpha = schedule.alpha[t]
        y = alpha.sqrt() * y + (1 - alpha).sqrt() * torch.randn(y.shape, generator=generator, dtype=y.dtype)
    gamma = float(schedule.gamma[20])
    assert float(y.mean()) == pytest.approx(2 * gamma**0.5, abs=0.015)
    assert float(y.var()) == pytest.approx(1 - gamma, rel=0.02)


def test_every_image_of_a_batch_has_its_own_noise_intensity():
    clean, noise = torch.randn(3, 1, 4, 5), torch.randn(3, 1, 4, 5)
    gamma = torch.tensor([0.04, 0.64, 1.0])
    together = add_noise(clean, noise, gamma)
    torch.testing.assert_close(together[0], 0.2 * clean[0] + 0.96**0.5 * noise[0])
    torch.testing.assert_close(together[1], 0.8 * clean[1] + 0.6 * noise[1])
    torch.testing.assert_close(together[2], clean[2])
    torch.testing.assert_close(add_noise(clean, noise, 0.64)[1], together[1])
