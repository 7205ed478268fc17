"""The cascade of Liu et al. (2021)."""

from itertools import pairwise

import pytest
import torch

from model.checkpoint.manifest import Architecture
from model.networks.c3d import C3D

ARCHITECTURE = Architecture(kind="c3d", widths=(4, 6, 8, 10, 12))
CHANNELS = 3


@pytest.fixture
def network() -> C3D:
    torch.manual_seed(0)
    return C3D(CHANNELS, ARCHITECTURE)


def test_both_doses_have_full_resolution(network):
    first, second = network(torch.randn(1, CHANNELS, 16, 16, 32))
    assert first.shape == second.shape == (1, 1, 16, 16, 32)


def test_the_second_net_sees_the_images_and_the_first_dose(network):
    seen = []
    network.second.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    images = torch.randn(1, CHANNELS, 16, 16, 32)
    first, second = network(images)
    torch.testing.assert_close(seen[0], torch.cat([images, first], dim=1))
    with torch.no_grad():
        network.first_head.weight.mul_(-2)
    _, other = network(images)
    assert (other - second).abs().max() > 1e-3


def test_the_first_dose_does_not_depend_on_the_second_net(network):
    first, _ = network(torch.randn(1, CHANNELS, 16, 16, 32))
    first.sum().backward()
    assert all(p.grad is None for p in network.second.parameters())


def test_it_has_the_published_sizes():
    """Parameters of the authors' code for nine images: 3 × 3 × 3 convolutions, two normalisation values a channel.

    Without the convolutions' biases, which instance normalisation takes away again; and the second U-Net has one more
    image, where the authors' has the first one's 16 features.
    """

    def net(inputs: int, widths: tuple[int, ...]) -> int:
        pairs = [(inputs, widths[0]), (widths[0], widths[0])]
        for above, below in pairwise(widths):
            pairs += [(above, below), (below, below), (below, above), (2 * above, above)]
            pairs += [] if above == widths[0] else [(above, above)]
        return sum(27 * i * o + 2 * o for i, o in pairs)

    widths = (32, 64, 128, 256, 512)
    with torch.device("meta"):
        network = C3D(9, Architecture(kind="c3d", widths=widths))
    heads = 16 + 1 + 32 + 1
    expected = net(9, tuple(width // 2 for width in widths)) + net(10, widths) + heads
    assert sum(p.numel() for p in network.parameters()) == expected


def test_odd_widths_are_refused():
    with pytest.raises(ValueError, match="even"):
        C3D(CHANNELS, Architecture(kind="c3d", widths=(4, 6, 7, 10, 12)))


def test_it_trains_under_autocast_on_a_cpu(network):
    """With two slices at a level, bfloat16 gradients would be garbage."""
    images = torch.randn(1, CHANNELS, 16, 16, 32)
    gradients = []
    for rounded in (False, True):
        network.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=rounded):
            network(images)[-1].square().mean().backward()
        gradients.append([p.grad.clone() for p in network.parameters()])
    for exact, ours in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, exact)
