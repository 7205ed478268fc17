"""Blocks against torch's own modules and plain formulas."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from model.networks.blocks import Attention, ConvBlock, Down, NoiseEmbedding, ResBlock, Up


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def randomise(module: nn.Module) -> None:
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)


@pytest.mark.parametrize("context_size", [(4, 6), (2, 3)])
@pytest.mark.parametrize("heads", [1, 2, 4])
def test_attention_is_torchs_multi_head_attention(heads, context_size):
    ours = Attention(8, heads, groups=2)
    randomise(ours)
    theirs = nn.MultiheadAttention(8, heads, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([ours.query.weight, ours.key_value.weight])[:, :, 0, 0])
        theirs.in_proj_bias.copy_(torch.cat([ours.query.bias, ours.key_value.bias]))
        theirs.out_proj.weight.copy_(ours.output.weight[:, :, 0, 0])
        theirs.out_proj.bias.copy_(ours.output.bias)
    images, context = torch.randn(3, 8, 4, 6), torch.randn(3, 8, *context_size)

    def tokens(maps: torch.Tensor, norm: nn.GroupNorm) -> torch.Tensor:
        return functional.group_norm(maps, 2, norm.weight, norm.bias).flatten(2).transpose(1, 2)

    asked, told = tokens(images, ours.query_normalisation), tokens(context, ours.context_normalisation)
    attended, _ = theirs(asked, told, told)
    torch.testing.assert_close(ours(images, context), images + attended.transpose(1, 2).reshape(images.shape))


def test_attention_passes_its_input_on_before_training():
    images = torch.randn(2, 8, 3, 5)
    torch.testing.assert_close(Attention(8, 2, 4)(images, torch.randn(2, 8, 3, 5)), images)


def test_up_commutes_with_its_convolution():
    up = Up(6, 4)
    images = torch.randn(2, 6, 3, 5)
    repeated = images.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    torch.testing.assert_close(up(images), up.convolution(repeated))


def test_down_is_a_3_by_3_convolution_with_stride_2():
    down = Down(3, 5)
    assert (down.kernel_size, down.stride) == ((3, 3), (2, 2))
    assert down(torch.randn(1, 3, 6, 10)).shape == (1, 5, 3, 5)


@pytest.mark.parametrize("outputs", [4, 8])
def test_res_block_without_noise(outputs):
    block = ResBlock(4, outputs, groups=2)
    images = torch.randn(2, 4, 5, 7)
    hidden = images
    for part in (block.first, block.second):
        convolved = functional.conv2d(hidden, part.convolution.weight, part.convolution.bias, padding=1)
        normalised = functional.group_norm(convolved, 2, part.normalisation.weight, part.normalisation.bias)
        hidden = normalised * torch.sigmoid(normalised)  # Swish
    residual = images if outputs == 4 else functional.conv2d(images, block.shortcut.weight, block.shortcut.bias)
    torch.testing.assert_close(block(images), residual + hidden)


def test_noise_scales_and_shifts_between_the_convolutions():
    block = ResBlock(4, 4, groups=2, embedding=6)
    randomise(block)
    images, noise = torch.randn(2, 4, 5, 7), torch.randn(2, 6)
    scale, shift = block.modulation(noise).split(4, dim=1)
    hidden = torch.stack(
        [block.first(images[k : k + 1])[0] * (1 + scale[k, :, None, None]) + shift[k, :, None, None] for k in range(2)]
    )
    torch.testing.assert_close(block(images, noise), images + block.second(hidden))


def test_conv_block_keeps_the_size():
    assert ConvBlock(3, 8, groups=4)(torch.randn(2, 3, 7, 9)).shape == (2, 8, 7, 9)


def test_noise_embedding_is_continuous_and_tells_all_intensities_apart():
    embedding = NoiseEmbedding(32)
    gamma = torch.linspace(0.006, 0.9999, 400, dtype=torch.float64).float()
    with torch.no_grad():
        vectors, moved = embedding(gamma), embedding(gamma * (1 - 1e-7))
    assert vectors.shape == (400, 32)
    assert (vectors - moved).abs().max() < 1e-2
    apart = torch.cdist(vectors, vectors) + torch.eye(400)
    assert apart.min() > 1e-4


def test_noise_embedding_is_made_of_sines_and_cosines_of_the_noise_level():
    embedding = NoiseEmbedding(8)
    embedding.layers = nn.Identity()  # type: ignore[assignment]
    level = 0.36**0.5
    angles = level * torch.tensor([1.0, 10.0, 100.0, 1000.0])
    expected = torch.cat([angles.sin(), angles.cos()])
    torch.testing.assert_close(embedding(torch.tensor([0.64]))[0], expected, atol=1e-3, rtol=0)
