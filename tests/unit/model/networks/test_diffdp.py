"""DiffDP as the paper draws it (Fig. 2, sections 2.2 and 2.3)."""

import inspect
from itertools import pairwise

import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

from model.checkpoint.manifest import Architecture
from model.checkpoint.store import Checkpoint, find_checkpoints
from model.networks.blocks import Attention, ResBlock
from model.networks.diffdp import DiffDP

ARCHITECTURE = Architecture(widths=(8, 12, 16, 20, 24), heads=2, groups=4)
CHANNELS = 5
SIZES = [(16, 16), (48, 80), (96, 112)]


@pytest.fixture
def network() -> DiffDP:
    """A network whose attention has an effect."""
    torch.manual_seed(0)
    network = DiffDP(CHANNELS, ARCHITECTURE)
    for module in network.modules():
        if isinstance(module, Attention):
            nn.init.normal_(module.output.weight, std=0.3)
    return network


@pytest.fixture(scope="module")
def shipped() -> Checkpoint:
    """The checkpoint that comes with the package."""
    return find_checkpoints()["hn-openkbp"]


class Seen:
    """What went into and came out of a module the last time."""

    def __init__(self, module: nn.Module) -> None:
        self.inputs: tuple[Tensor, ...] = ()
        self.output: Tensor | None = None
        module.register_forward_hook(self._see)

    def _see(self, _module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        self.inputs, self.output = inputs, output


@pytest.mark.parametrize(("rows", "columns"), SIZES)
def test_the_encoder_exports_six_features(network, rows, columns):
    features = network.encoder(torch.randn(2, CHANNELS, rows, columns))
    widths, scales = (8, 12, 16, 20, 24, 24), (1, 2, 4, 8, 16, 16)
    assert [tuple(f.shape) for f in features] == [
        (2, width, rows // scale, columns // scale) for width, scale in zip(widths, scales, strict=True)
    ]


@pytest.mark.parametrize(("rows", "columns"), SIZES)
def test_both_heads_give_one_image_of_the_full_size(network, rows, columns):
    structure = network.encoder(torch.randn(2, CHANNELS, rows, columns))
    assert network.coarse(structure).shape == (2, 1, rows, columns)
    noisy = torch.randn(2, 1, rows, columns)
    assert network.predictor(structure, noisy, torch.tensor([0.5, 0.9])).shape == (2, 1, rows, columns)


def test_the_encoder_cannot_see_the_diffusion_step(network):
    assert list(inspect.signature(network.encoder.forward).parameters) == ["images"]
    assert all(block.modulation is None for block in network.encoder.modules() if isinstance(block, ResBlock))
    assert all(block.modulation is None for block in network.coarse.modules() if isinstance(block, ResBlock))
    assert all(block.modulation is not None for block in network.predictor.modules() if isinstance(block, ResBlock))


def test_the_predictor_sees_the_noise_intensity(network):
    structure = network.encoder(torch.randn(1, CHANNELS, 32, 32))
    noisy = torch.randn(1, 1, 32, 32)
    low, high = (network.predictor(structure, noisy, torch.tensor([gamma])) for gamma in (0.1, 0.9))
    assert (low - high).abs().max() > 1e-3


def test_structure_is_added_at_three_levels_and_attended_to_at_three(network):
    predictor = network.predictor
    blocks, downs = ([Seen(m) for m in modules] for modules in (predictor.blocks, predictor.downs))
    attentions = [Seen(m) for m in predictor.cross_attentions]
    stem, bottleneck = Seen(predictor.stem), Seen(predictor.bottleneck_in)
    structure = network.encoder(torch.randn(2, CHANNELS, 32, 48))
    predictor(structure, torch.randn(2, 1, 32, 48), torch.tensor([0.3, 0.6]))

    torch.testing.assert_close(blocks[0].inputs[0], stem.output + structure[0])
    for level in (1, 2):
        torch.testing.assert_close(blocks[level].inputs[0], downs[level - 1].output + structure[level])
    following = [blocks[3], blocks[4], bottleneck]
    for k, level in enumerate((3, 4, 5)):
        queries, context = attentions[k].inputs
        assert queries is downs[level - 1].output
        assert context is structure[level]
        assert following[k].inputs[0] is attentions[k].output
    assert len(attentions) == 3


def test_the_bottleneck_attends_to_itself_between_two_blocks(network):
    attention = Seen(network.predictor.self_attention)
    after = Seen(network.predictor.bottleneck_out)
    before = Seen(network.predictor.bottleneck_in)
    structure = network.encoder(torch.randn(1, CHANNELS, 32, 32))
    network.predictor(structure, torch.randn(1, 1, 32, 32), torch.tensor([0.3]))
    assert attention.inputs[0] is attention.inputs[1] is before.output
    assert after.inputs[0] is attention.output


def test_the_decoder_reuses_every_level(network):
    decoder = network.predictor.decoder
    levels = [Seen(level[0]) for level in decoder.levels]
    blocks = [Seen(block) for block in network.predictor.blocks]
    assert [len(level) for level in decoder.levels] == [2] * 5
    structure = network.encoder(torch.randn(1, CHANNELS, 32, 48))
    network.predictor(structure, torch.randn(1, 1, 32, 48), torch.tensor([0.3]))
    for depth, level in enumerate(reversed(levels)):
        width = ARCHITECTURE.widths[depth]
        torch.testing.assert_close(level.inputs[0][:, width:], blocks[depth].inputs[0])


def test_the_coarse_head_needs_only_the_encoder_and_the_predictor_no_images(network):
    x = torch.randn(2, CHANNELS, 32, 32)
    structure = network.encoder(x)
    again = network.encoder(x)
    torch.testing.assert_close(network.coarse(structure), network.coarse(again))
    assert list(inspect.signature(network.predictor.forward).parameters) == ["structure", "noisy", "gamma"]


def test_gradients_reach_every_parameter(network):
    structure = network.encoder(torch.randn(2, CHANNELS, 48, 80))
    noise = network.predictor(structure, torch.randn(2, 1, 48, 80), torch.tensor([0.2, 0.8]))
    (network.coarse(structure).square().mean() + noise.square().mean()).backward()
    dead = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert not dead


def test_slices_of_a_batch_do_not_mix(network):
    x, noisy, gamma = torch.randn(3, CHANNELS, 32, 32), torch.randn(3, 1, 32, 32), torch.tensor([0.1, 0.5, 0.9])
    together = network.predictor(network.encoder(x), noisy, gamma)
    for k in range(3):
        alone = network.predictor(network.encoder(x[k : k + 1]), noisy[k : k + 1], gamma[k : k + 1])
        torch.testing.assert_close(together[k : k + 1], alone, atol=1e-4, rtol=1e-4)


def test_heads_answer_in_float32_under_autocast(network):
    with torch.autocast("cpu", torch.bfloat16):
        structure = network.encoder(torch.randn(1, CHANNELS, 32, 32))
        coarse = network.coarse(structure)
        noise = network.predictor(structure, torch.randn(1, 1, 32, 32), torch.tensor([0.5]))
    assert structure[1].dtype == torch.bfloat16
    assert coarse.dtype == noise.dtype == torch.float32


def test_sizes_that_do_not_divide_by_16_fail_loudly(network):
    with pytest.raises(RuntimeError):
        network.coarse(network.encoder(torch.randn(1, CHANNELS, 40, 40)))


def convolution(inputs: int, outputs: int, size: int) -> int:
    return outputs * (inputs * size**2 + 1)


def res_block(inputs: int, outputs: int, embedding: int = 0) -> int:
    """Two 3 × 3 convolutions with GroupNorm, a 1 × 1 shortcut where widths differ, the embedding's projection."""
    both = convolution(inputs, outputs, 3) + convolution(outputs, outputs, 3) + 2 * 2 * outputs
    shortcut = convolution(inputs, outputs, 1) if inputs != outputs else 0
    return both + shortcut + (2 * outputs * (embedding + 1) if embedding else 0)


def attention(width: int) -> int:
    """Two GroupNorms and four 1 × 1 projections: query, key, value, output."""
    return 2 * 2 * width + 4 * convolution(width, width, 1)


def test_the_shipped_architecture_has_the_size_it_should_have(shipped):
    channels, widths = len(shipped.manifest.channels), shipped.manifest.architecture.widths
    steps = list(pairwise(widths))
    embedding = 4 * widths[0]
    downs = sum(convolution(i, o, 3) for i, o in steps)
    ups = sum(convolution(o, i, 1) for i, o in steps)
    encoder = convolution(channels, widths[0], 3) + downs + sum(res_block(w, w) for w in widths)
    coarse = ups + sum(res_block(2 * w, w) for w in widths) + convolution(widths[0], 1, 3)
    predictor = (
        2 * embedding * (embedding + 1)
        + convolution(1, widths[0], 3)
        + downs
        + sum(res_block(w, w, embedding) for w in widths)
        + attention(widths[3])
        + 3 * attention(widths[4])
        + 2 * res_block(widths[4], widths[4], embedding)
        + ups
        + sum(res_block(2 * w, w, embedding) + res_block(w, w, embedding) for w in widths)
        + convolution(widths[0], widths[0], 3)
        + 2 * widths[0]
        + convolution(widths[0], 1, 3)
    )
    network = DiffDP(channels, shipped.manifest.architecture)
    counts = [
        sum(p.numel() for p in part.parameters()) for part in (network.encoder, network.coarse, network.predictor)
    ]
    assert counts == [encoder, coarse, predictor]
    assert 2 * sum(counts) < 40e6  # bytes at half precision: what git may hold


def test_its_keys_are_those_of_the_shipped_checkpoint(shipped):
    network = DiffDP(len(shipped.manifest.channels), shipped.manifest.architecture)
    with safe_open(shipped.weights, "pt") as stored:
        shapes = {key: tuple(stored.get_slice(key).get_shape()) for key in stored.keys()}  # noqa: SIM118 - no mapping
    assert {key: tuple(value.shape) for key, value in network.state_dict().items()} == shapes
