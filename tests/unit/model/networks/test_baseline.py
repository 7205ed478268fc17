"""The ablation of the paper's Table 2."""

import pytest
import torch

from model.checkpoint.manifest import Architecture
from model.networks.baseline import Baseline
from model.networks.blocks import Attention
from model.networks.diffdp import DiffDP, StructureEncoder

ARCHITECTURE = Architecture(kind="baseline", widths=(8, 12, 16, 20, 24), heads=2, groups=4)
CHANNELS = 5


@pytest.fixture
def network() -> Baseline:
    torch.manual_seed(0)
    return Baseline(CHANNELS, ARCHITECTURE)


def test_there_is_no_structure_encoder_and_no_coarse_dose(network):
    assert not any(isinstance(module, StructureEncoder) for module in network.modules())
    images = torch.randn(1, CHANNELS, 16, 16)
    (features,) = network.encode(images)
    assert features is images
    assert network.coarse_dose((features,)) is None


def test_it_is_diffdps_noise_predictor_but_for_stem_and_fusion(network):
    theirs = DiffDP(CHANNELS, ARCHITECTURE).predictor.state_dict()
    fused = {key for key in theirs if key.startswith("cross_attentions.")}
    ours = network.predictor.state_dict()
    assert ours.keys() == theirs.keys() - fused
    assert {key for key in ours if ours[key].shape != theirs[key].shape} == {"stem.weight"}
    assert ours["stem.weight"].shape == (8, CHANNELS + 1, 3, 3)
    assert sum(isinstance(module, Attention) for module in network.modules()) == 1


@pytest.mark.parametrize("changed", ["x", "y_t", "gamma"])
def test_the_noise_depends_on_x_y_t_and_gamma(network, changed):
    inputs = {"x": torch.randn(1, CHANNELS, 16, 16), "y_t": torch.randn(1, 1, 16, 16), "gamma": torch.tensor([0.2])}
    before = network.predict_noise(network.encode(inputs["x"]), inputs["y_t"], inputs["gamma"])
    inputs[changed] = 1 - inputs[changed]
    after = network.predict_noise(network.encode(inputs["x"]), inputs["y_t"], inputs["gamma"])
    assert before.shape == (1, 1, 16, 16)
    assert (after - before).abs().max() > 1e-3
