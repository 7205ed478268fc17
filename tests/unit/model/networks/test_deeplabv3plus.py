"""DeepLabV3+ as Chen et al. draw it (Fig. 2), at half their strides."""

import pytest
import torch
from torch import nn

from model.checkpoint.manifest import Architecture
from model.networks.deeplabv3plus import PYRAMID_RATES, DeepLabV3Plus

WIDTHS = (8, 12, 16, 20, 24)
CHANNELS = 5


@pytest.fixture
def network() -> DeepLabV3Plus:
    torch.manual_seed(0)
    return DeepLabV3Plus(CHANNELS, Architecture(kind="deeplabv3plus", widths=WIDTHS, groups=4))


def test_the_encoder_gives_low_level_and_deep_features(network):
    low, deep = network.encoder(torch.randn(2, CHANNELS, 32, 48))
    assert low.shape == (2, 12, 16, 24)
    assert deep.shape == (2, 24, 4, 6)


def test_atrous_convolutions_are_separable(network):
    atrous = [m for m in network.modules() if isinstance(m, nn.Conv2d) and m.dilation != (1, 1)]
    assert [m.dilation[0] for m in atrous] == [2, 2, *PYRAMID_RATES]
    assert all(m.groups == m.in_channels for m in atrous)


def test_the_pyramid_sees_the_whole_image(network):
    """At a corner, far beyond its widest rate, only image pooling tells of the opposite one."""
    for module in network.pyramid.modules():
        if isinstance(module, nn.GroupNorm):  # whose statistics are of the whole image too
            module.forward = lambda images: images
    images = torch.randn(1, 24, 20, 20)
    before = network.pyramid(images)
    images[..., -1, -1] += 10
    assert (network.pyramid(images) - before)[..., 0, 0].abs().max() > 1e-5
    network.pyramid.pooled = nn.Sequential(nn.Conv2d(24, 24, 1), nn.Hardtanh(0.0, 1e-12))
    before = network.pyramid(images)
    images[..., -1, -1] -= 10
    assert (network.pyramid(images) - before)[..., 0, 0].abs().max() < 1e-9
