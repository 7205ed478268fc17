"""The GAN's two halves (Mahmood et al. 2018; pix2pix's patches)."""

import pytest
import torch

from model.checkpoint.manifest import Architecture
from model.networks.gan import DoseDiscriminator, Gan
from model.networks.unet import UNet

ARCHITECTURE = Architecture(kind="gan", widths=(8, 12, 16, 20, 24), groups=4)
CHANNELS = 5


@pytest.fixture
def discriminator() -> DoseDiscriminator:
    torch.manual_seed(0)
    return DoseDiscriminator(CHANNELS, ARCHITECTURE)


def pair(rows: int, columns: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(2, CHANNELS, rows, columns), torch.randn(2, 1, rows, columns)


def test_the_generator_is_the_unet():
    ours, theirs = Gan(CHANNELS, ARCHITECTURE), UNet(CHANNELS, ARCHITECTURE)
    assert ours.state_dict().keys() == theirs.state_dict().keys()


@pytest.mark.parametrize(("rows", "columns"), [(16, 16), (16, 48), (80, 96)])
def test_one_logit_a_patch(discriminator, rows, columns):
    assert discriminator(*pair(rows, columns)).shape == (2, 1, rows // 4 - 2, columns // 4 - 2)


def test_a_logit_sees_34_by_34_pixels_of_images_and_dose(discriminator):
    discriminator.body.apply(lambda m: setattr(m, "eps", 1e3) if isinstance(m, torch.nn.GroupNorm) else None)
    images, dose = (tensor.requires_grad_() for tensor in pair(96, 96))
    discriminator(images, dose)[:, :, 11, 11].sum().backward()
    for gradient in (images.grad, dose.grad):
        seen = gradient.abs().amax(dim=(0, 1))
        near = seen > 1e-2 * seen.max()  # beyond the patch only normalisation, damped above, carries anything
        assert near.any(dim=0).sum() == near.any(dim=1).sum() == 34


def test_it_depends_on_both_inputs(discriminator):
    images, dose = pair(32, 32)
    before = discriminator(images, dose)
    assert (discriminator(images.flip(0), dose) - before).abs().max() > 1e-3
    assert (discriminator(images, dose.flip(0)) - before).abs().max() > 1e-3


def test_gradients_reach_every_parameter(discriminator):
    discriminator(*pair(32, 32)).square().mean().backward()
    dead = [name for name, p in discriminator.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert not dead


def test_logits_are_float32_under_autocast(discriminator):
    with torch.autocast("cpu", torch.bfloat16):
        logits = discriminator(*pair(16, 16))
    assert logits.dtype == torch.float32
