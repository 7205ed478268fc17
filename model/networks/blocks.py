"""Blocks shared by the structure encoder and the noise predictor (paper, sections 2.2 and 2.3)."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


class ConvBlock(nn.Module):
    """3 × 3 convolution, group normalisation, Swish."""

    def __init__(self, inputs: int, outputs: int, groups: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.normalisation = nn.GroupNorm(groups, outputs)

    def forward(self, images: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H, W)."""
        return functional.silu(self.normalisation(self.convolution(images)))


class ResBlock(nn.Module):
    """Two `ConvBlock` with a residual connection; between them an embedding of the noise intensity, if there is one.

    `dropout`, of whole channels and before the second, is for a training to turn on.

    Parameters
    ----------
    inputs, outputs
        Numbers of channels.
    groups
        Of the group normalisation.
    embedding
        Length of the noise embedding, 0 for a block that does not see the noise.
    """

    def __init__(self, inputs: int, outputs: int, groups: int, embedding: int = 0) -> None:
        super().__init__()
        self.first = ConvBlock(inputs, outputs, groups)
        self.dropout = nn.Dropout2d(0.0)
        self.second = ConvBlock(outputs, outputs, groups)
        self.shortcut = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        self.modulation = nn.Linear(embedding, 2 * outputs) if embedding else None

    def forward(self, images: Tensor, noise: Tensor | None = None) -> Tensor:
        """Map (B, inputs, H, W), and the noise embedding (B, embedding), to (B, outputs, H, W)."""
        hidden = self.first(images)
        if self.modulation is not None:
            scale, shift = self.modulation(noise)[:, :, None, None].chunk(2, dim=1)  # (B, outputs, 1, 1) each
            hidden = hidden * (1 + scale) + shift
        return self.shortcut(images) + self.second(self.dropout(hidden))  # type: ignore[no-any-return]


class Down(nn.Conv2d):
    """3 × 3 convolution with stride 2."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, stride=2, padding=1)


class Up(nn.Module):
    """Nearest-neighbour up-sampling and a 1 × 1 convolution.

    The convolution runs first, on a quarter of the pixels: a pointwise map commutes with repeating pixels.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(inputs, outputs, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, 2H, 2W)."""
        return functional.interpolate(self.convolution(images), scale_factor=2.0, mode="nearest")


class Attention(nn.Module):
    """Multi-head attention between two feature maps, added to the one that asks.

    Queries come from the asking branch, keys and values from the other; given the same map twice it is self-attention.
    """

    def __init__(self, channels: int, heads: int, groups: int) -> None:
        super().__init__()
        self.heads = heads
        self.query_normalisation = nn.GroupNorm(groups, channels)
        self.context_normalisation = nn.GroupNorm(groups, channels)
        self.query = nn.Conv2d(channels, channels, 1)
        self.key_value = nn.Conv2d(channels, 2 * channels, 1)
        self.output = nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.output.weight)
        if self.output.bias is not None:
            nn.init.zeros_(self.output.bias)

    def forward(self, images: Tensor, context: Tensor) -> Tensor:
        """Map (B, C, H, W) and the context (B, C, H', W') to (B, C, H, W)."""
        query = self._tokens(self.query(self.query_normalisation(images)))  # (B, heads, HW, C / heads)
        key, value = self.key_value(self.context_normalisation(context)).chunk(2, dim=1)
        attended = functional.scaled_dot_product_attention(query, self._tokens(key), self._tokens(value))
        return images + self.output(attended.transpose(-1, -2).reshape(images.shape))  # type: ignore[no-any-return]

    def _tokens(self, images: Tensor) -> Tensor:
        batch, channels, rows, columns = images.shape
        return images.reshape(batch, self.heads, channels // self.heads, rows * columns).transpose(-1, -2)


class NoiseEmbedding(nn.Module):
    """Embedding of the continuous noise intensity, as WaveGrad (2009.00713) and SR3 (2104.07636) condition.

    The noise's share of the standard deviation, √(1 − γ), spreads over sines and cosines of geometric frequencies.
    """

    highest_frequency = 1000.0

    def __init__(self, length: int) -> None:
        super().__init__()
        half = length // 2
        frequencies = torch.exp(torch.linspace(0.0, math.log(self.highest_frequency), half))
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.layers = nn.Sequential(nn.Linear(2 * half, length), nn.SiLU(), nn.Linear(length, length), nn.SiLU())

    def forward(self, gamma: Tensor) -> Tensor:
        """Map noise intensities γ (B,) to embeddings (B, length)."""
        frequencies = self.get_buffer("frequencies")
        angles = torch.sqrt(1 - gamma)[:, None] * frequencies[None, :]
        return self.layers(torch.cat([angles.sin(), angles.cos()], dim=1))  # type: ignore[no-any-return]
