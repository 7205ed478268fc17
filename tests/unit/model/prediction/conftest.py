"""A predictor with a tiny network on a grid that suits the small patient."""

import pytest
import torch
from torch import nn

from model.checkpoint.manifest import Manifest, NetworkGrid, Schedule
from model.networks.blocks import Attention
from model.networks.diffdp import DiffDP
from model.prediction.predictor import Predictor


@pytest.fixture
def small_manifest(tiny_manifest: Manifest) -> Manifest:
    """Pixels of the small patient's own size, and a schedule short enough for the ancestral sampler."""
    grid = NetworkGrid(rows=32, columns=32, pixel_spacing_mm=10.0, slice_spacing_mm=2.5)
    schedule = Schedule(steps=8, first=0.02, last=0.7)
    defaults = tiny_manifest.defaults.model_copy(update={"start_step": 5})
    return tiny_manifest.model_copy(update={"grid": grid, "schedule": schedule, "defaults": defaults})


@pytest.fixture
def network(small_manifest: Manifest) -> DiffDP:
    """A network with random weights, whose attention has an effect."""
    torch.manual_seed(3)
    network = DiffDP(len(small_manifest.channels), small_manifest.architecture)
    for module in network.modules():
        if isinstance(module, Attention):
            nn.init.normal_(module.output.weight, std=0.3)
    return network


@pytest.fixture
def predictor(network: DiffDP, small_manifest: Manifest) -> Predictor:
    """The small network, ready to predict."""
    return Predictor(network, small_manifest, torch.device("cpu"))
