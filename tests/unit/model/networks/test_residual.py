"""DiffDP that diffuses what its coarse dose leaves."""

import pytest
import torch
from torch import Tensor, nn

from model.checkpoint.manifest import Architecture
from model.diffusion.schedule import NoiseSchedule, add_noise, velocity
from model.networks.residual import RESIDUAL_SCALE, DiffDPResidual

CHANNELS = 5


@pytest.fixture
def network() -> DiffDPResidual:
    torch.manual_seed(0)
    return DiffDPResidual(CHANNELS, Architecture(kind="diffdp-residual", widths=(8, 12, 16, 20, 24), heads=2, groups=4))


def test_what_is_diffused_and_the_dose_are_each_others_inverse(network):
    features = network.encode(torch.randn(2, CHANNELS, 16, 16))
    dose = torch.randn(2, 1, 16, 16)
    torch.testing.assert_close(network.dose(features, network.diffused(features, dose)), dose)
    coarse = network.coarse_dose(features)
    assert not network.diffused(features, coarse).abs().max()
    step = network.dose(features, torch.ones_like(dose)) - coarse
    torch.testing.assert_close(step, torch.full_like(dose, RESIDUAL_SCALE), rtol=0, atol=1e-6)


@pytest.mark.parametrize("t", [1, 500, 1000])
def test_the_noise_is_that_of_the_velocity(network, t):
    gamma = NoiseSchedule().gamma[t].float().reshape(1)
    clean, noise = torch.randn(2, 1, 1, 16, 16)
    noisy = add_noise(clean, noise, gamma)

    class Knowing(nn.Module):
        def forward(self, structure: tuple[Tensor, ...], shown: Tensor, gamma: Tensor) -> Tensor:
            return velocity(clean, noise, gamma)

    network.predictor = Knowing()
    features = network.encode(torch.randn(1, CHANNELS, 16, 16))
    torch.testing.assert_close(network.predict_noise(features, noisy, gamma), noise, rtol=1e-4, atol=1e-5)


def test_the_denoising_loss_does_not_reach_the_coarse_head(network):
    features = network.encode(torch.randn(1, CHANNELS, 16, 16))
    noisy = network.diffused(features, torch.randn(1, 1, 16, 16))
    network.predict_velocity(features, noisy, torch.tensor([0.5])).square().mean().backward()
    assert all(weights.grad is None for weights in network.coarse.parameters())
    assert all(weights.grad is not None for weights in network.encoder.parameters())


def test_the_velocity_depends_on_the_coarse_dose(network):
    *structure, coarse = network.encode(torch.randn(1, CHANNELS, 16, 16))
    noisy, gamma = torch.randn(1, 1, 16, 16), torch.tensor([0.5])
    one, other = (network.predict_velocity((*structure, coarse + shift), noisy, gamma) for shift in (0.0, 1.0))
    assert (one - other).abs().max() > 1e-3
