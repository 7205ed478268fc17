"""The U-Net that MONAI builds for us."""

import pytest
import torch
from torch import nn

from model.checkpoint.manifest import Architecture
from model.networks.unet import UNet

WIDTHS = (8, 12, 16, 20, 24)


@pytest.fixture
def network() -> UNet:
    torch.manual_seed(0)
    return UNet(3, Architecture(kind="unet", widths=WIDTHS, groups=4))


def test_two_convolutions_a_level_down_and_up(network):
    down = [(3, 8), (8, 8), (8, 12), (12, 12), (12, 16), (16, 16), (16, 20), (20, 20), (20, 24), (24, 24)]
    up = [(20 + 12, 20), (20, 20), (16 + 10, 16), (16, 16), (12 + 8, 12), (12, 12), (8 + 12, 8), (8, 8)]
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
    assert [(m.in_channels, m.out_channels) for m in convolutions] == down + up
    kinds = [type(m) for m in network.modules()]
    assert kinds.count(nn.MaxPool2d) == kinds.count(nn.ConvTranspose2d) == 4
    assert kinds.count(nn.GroupNorm) == kinds.count(nn.ReLU) == len(convolutions)


def test_the_deepest_level_reaches_across_the_slice(network):
    """From one corner of 96 × 128 pixels to the middle, with the normalisation's statistics left out."""
    for module in network.modules():
        if isinstance(module, nn.GroupNorm):
            module.forward = lambda images: images
    images = torch.randn(1, 3, 96, 128, requires_grad=True)
    network(images)[0][..., 48, 64].sum().backward()
    assert images.grad[..., 0, 0].abs().max() > 0
