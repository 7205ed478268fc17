"""Our reverse processes against those of another implementation, Hugging Face's diffusers."""

import pytest
import torch
from torch import Tensor

from model.diffusion.reverse import ancestral, ddim, dpm_solver
from model.diffusion.schedule import NoiseSchedule, add_noise, velocity

schedulers = pytest.importorskip("diffusers.schedulers")


def predict(noisy: Tensor, gamma: float) -> Tensor:
    """Any function of image and noise intensity that is not linear."""
    return torch.tanh(noisy) * (1 - gamma) ** 0.5 + 0.1 * noisy.roll(1, dims=-1)


def theirs(kind: str, schedule: NoiseSchedule, **options: object):
    return getattr(schedulers, kind)(
        num_train_timesteps=schedule.steps,
        trained_betas=(1 - schedule.alpha[1:]).numpy(),
        prediction_type="epsilon",
        **options,
    )


@pytest.mark.parametrize("steps", [1, 2, 5, 10, 20, 50, 1000])
def test_ddim_is_theirs_with_trailing_steps(steps):
    schedule = NoiseSchedule()
    scheduler = theirs("DDIMScheduler", schedule, clip_sample=False, timestep_spacing="trailing", set_alpha_to_one=True)
    scheduler.set_timesteps(steps)
    image = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    (*_, found) = ddim(image, predict, schedule, steps)
    for t in scheduler.timesteps:
        gamma = float(schedule.gamma[int(t) + 1])  # they count from 0
        image = scheduler.step(predict(image, gamma), t, image, eta=0.0).prev_sample
    # Their products of α are float32, with 1000 factors
    torch.testing.assert_close(found, image, rtol=2e-4, atol=2e-4)


@pytest.mark.filterwarnings("ignore:__array__ implementation")
@pytest.mark.parametrize("steps", [1, 2, 5, 10, 20, 50])
def test_dpm_solver_is_theirs_with_trailing_steps(steps):
    schedule = NoiseSchedule()
    scheduler = theirs(
        "DPMSolverMultistepScheduler",
        schedule,
        algorithm_type="dpmsolver++",
        solver_order=2,
        timestep_spacing="trailing",
        final_sigmas_type="zero",
        euler_at_final=True,
    )
    scheduler.set_timesteps(steps)
    image = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    (*_, found) = dpm_solver(image, predict, schedule, steps)
    for t in scheduler.timesteps:
        gamma = float(schedule.gamma[int(t) + 1])
        image = scheduler.step(predict(image, gamma), t, image).prev_sample
    torch.testing.assert_close(found, image, rtol=2e-4, atol=2e-4)


def test_the_velocity_is_theirs():
    schedule = NoiseSchedule()
    clean, noise = torch.randn(2, 4, 1, 8, 8, generator=torch.Generator().manual_seed(2))
    t = torch.tensor([1, 250, 999, 1000])
    expected = theirs("DDPMScheduler", schedule).get_velocity(clean, noise, t - 1)
    torch.testing.assert_close(velocity(clean, noise, schedule.gamma[t].float()), expected, rtol=1e-4, atol=1e-4)


def test_the_ancestral_process_is_theirs_with_the_large_variance():
    schedule = NoiseSchedule(steps=50, first=1e-3, last=0.2)
    scheduler = theirs("DDPMScheduler", schedule, clip_sample=False, variance_type="fixed_large")
    image = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ours, its = torch.Generator().manual_seed(1), torch.Generator().manual_seed(1)

    def draw() -> Tensor:
        return torch.randn(image.shape, generator=ours, dtype=torch.float64)

    (*_, found) = ancestral(image, predict, draw, schedule)
    for t in scheduler.timesteps:
        gamma = float(schedule.gamma[int(t) + 1])
        image = scheduler.step(predict(image, gamma), t, image, generator=its).prev_sample
    torch.testing.assert_close(found, image, rtol=1e-4, atol=1e-4)


def test_the_forward_process_is_theirs():
    schedule = NoiseSchedule()
    scheduler = theirs("DDPMScheduler", schedule)
    clean, noise = torch.randn(2, 4, 1, 8, 8, generator=torch.Generator().manual_seed(2))
    t = torch.tensor([1, 250, 999, 1000])
    found = add_noise(clean, noise, schedule.gamma[t].float())
    torch.testing.assert_close(found, scheduler.add_noise(clean, noise, t - 1), rtol=1e-4, atol=1e-4)
