"""Progressive refinement, as decided for PRUNet."""

from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn import functional

from model.checkpoint.manifest import Architecture
from model.networks.prunet import PRUNet

CHANNELS = 5


@pytest.fixture
def network() -> PRUNet:
    torch.manual_seed(0)
    return PRUNet(CHANNELS, Architecture(kind="prunet", widths=(8, 12, 16, 20, 24), groups=4))


def test_doses_come_coarse_to_fine(network):
    doses = network(torch.randn(2, CHANNELS, 32, 48))
    assert [tuple(dose.shape) for dose in doses] == [(2, 1, 32 // s, 48 // s) for s in (8, 4, 2, 1)]


def test_without_corrections_the_coarsest_dose_is_only_up_sampled(network):
    for head in network.heads[1:]:
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
    doses = network(torch.randn(1, CHANNELS, 32, 32))
    for coarse, fine in pairwise(doses):
        torch.testing.assert_close(fine, functional.interpolate(coarse, scale_factor=2.0, mode="bilinear"))


def test_corrections_depend_on_the_coarser_dose(network):
    corrections = []
    network.heads[-1].register_forward_hook(lambda _module, _inputs, output: corrections.append(output))
    images = torch.randn(1, CHANNELS, 32, 32)
    network(images)
    with torch.no_grad():
        network.heads[0].weight.mul_(-5)
    network(images)
    assert (corrections[0] - corrections[1]).abs().max() > 1e-4
