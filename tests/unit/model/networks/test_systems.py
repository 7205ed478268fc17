"""What every kind of network must do, whatever it is made of."""

from typing import get_args

import pytest
import torch
from torch import Tensor, nn

from model.checkpoint.manifest import Architecture, NetworkKind
from model.networks.blocks import Attention
from model.networks.registry import build
from model.networks.system import DiffusionNetwork, DoseNetwork, RegressionNetwork

CHANNELS = 5
KINDS: tuple[NetworkKind, ...] = get_args(NetworkKind)
REGRESSIONS = [kind for kind in KINDS if kind not in {"diffdp", "diffdp-residual", "baseline"}]
LEAST = {"c3d": (16, 16, 32)}
"""Where one multiple along each axis is too little."""


def network_of(kind: NetworkKind) -> DoseNetwork:
    """A small network, all of whose attention has an effect."""
    torch.manual_seed(0)
    network = build(CHANNELS, Architecture(kind=kind, widths=(8, 12, 16, 20, 24), heads=2, groups=4))
    for module in network.modules():
        if isinstance(module, Attention):
            nn.init.normal_(module.output.weight, std=0.3)
    return network


def least_size(network: DoseNetwork) -> tuple[int, ...]:
    return LEAST.get(network.architecture.kind, (network.multiple, network.multiple))


def run(network: DoseNetwork, images: Tensor) -> tuple[Tensor, ...]:
    """All that the network can tell of some images; what it needs beside them is the same for every image."""
    if isinstance(network, RegressionNetwork):
        return network(images)
    assert isinstance(network, DiffusionNetwork)
    features = network.encode(images)
    noisy = torch.linspace(-2, 2, images[0, 0].numel()).reshape(1, 1, *images.shape[2:]).expand(len(images), -1, -1, -1)
    noise = network.predict_noise(features, noisy, torch.full((len(images),), 0.4))
    coarse = network.coarse_dose(features)
    return (noise,) if coarse is None else (coarse, noise)


@pytest.mark.parametrize("more", [0, 1])
@pytest.mark.parametrize("kind", KINDS)
def test_the_output_is_one_image_of_the_inputs_size(kind, more):
    network = network_of(kind)
    size = tuple(length + more * network.multiple for length in least_size(network))
    assert run(network, torch.randn(2, CHANNELS, *size))[-1].shape == (2, 1, *size)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_every_parameter(kind):
    network = network_of(kind)
    size = tuple(2 * length for length in least_size(network))
    sum(output.square().mean() for output in run(network, torch.randn(1, CHANNELS, *size))).backward()
    dead = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().max() > 1e-7]
    assert not dead


@pytest.mark.parametrize("kind", KINDS)
def test_heads_answer_in_float32_under_autocast(kind):
    network = network_of(kind)
    computed = []
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d):
            module.register_forward_hook(lambda _module, _inputs, output: computed.append(output.dtype))
    images = torch.randn(1, CHANNELS, *least_size(network))
    plain = run(network, images)
    computed.clear()
    with torch.autocast("cpu", torch.bfloat16):
        rounded = run(network, images)
    assert (torch.bfloat16 in computed) == (not network.volumetric)  # see C3D.forward
    for exact, output in zip(plain, rounded, strict=True):
        assert output.dtype == torch.float32
        assert (output - exact).abs().max() < 0.2 * exact.abs().max()


@pytest.mark.parametrize("value", [-1.0, 0.0, 1.0])
@pytest.mark.parametrize("kind", KINDS)
def test_constant_images_give_finite_output(kind, value):
    network = network_of(kind)
    with torch.autocast("cpu", torch.bfloat16):
        outputs = run(network, torch.full((1, CHANNELS, *least_size(network)), value))
    assert all(output.isfinite().all() for output in outputs)


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_does_not_mix(kind):
    network = network_of(kind)
    images = torch.randn(2, CHANNELS, *least_size(network))
    for together, alone in zip(run(network, images), run(network, images[1:]), strict=True):
        torch.testing.assert_close(together[1:], alone, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("shift", [-1000.0, 1000.0])
@pytest.mark.parametrize("kind", KINDS)
def test_no_dose_is_cut(kind, shift):
    network = network_of(kind)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d) and module.out_channels == 1:
            module.bias.data.fill_(shift)
    for output in run(network, torch.randn(1, CHANNELS, *least_size(network))):
        assert (output / shift).min() > 0.6  # a velocity's share in the noise is √0.4


@pytest.mark.parametrize("kind", KINDS)
def test_it_moves_with_its_memory_layout(kind):
    network = network_of(kind)
    before = run(network, images := torch.randn(1, CHANNELS, *least_size(network)))
    for then, now in zip(before, run(network.on(torch.device("cpu")), images), strict=True):
        torch.testing.assert_close(then, now, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_other_numbers_of_levels_are_refused(kind):
    with pytest.raises(ValueError, match="widths"):
        build(CHANNELS, Architecture(kind=kind, widths=(8, 16, 24, 32), groups=4))


@pytest.mark.parametrize("kind", REGRESSIONS)
def test_every_image_matters(kind):
    network = network_of(kind)
    images = torch.randn(1, CHANNELS, *least_size(network), requires_grad=True)
    network(images)[-1].square().sum().backward()
    assert (images.grad.flatten(2).abs().amax(dim=2) > 1e-6).all()
