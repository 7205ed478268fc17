"""DiffDP: structure encoder g, its coarse dose head, and noise predictor f (paper, sections 2.2 and 2.3).

| here                     | paper                                                        |
|--------------------------|--------------------------------------------------------------|
| `StructureEncoder`       | g, five steps; exports x_e                                   |
| `CoarseDecoder`          | the decoding half that g is pre-trained with, L1 against y   |
| `NoisePredictor`         | f(x_e, y_t, γ_t): a `NoiseUNet` of six levels and the fusion |
| `structure` (six maps)   | x_e = g(x): the stem's output and those of the five steps    |
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn

from model.checkpoint.manifest import Architecture
from model.networks.blocks import Attention, ConvBlock, Down, NoiseEmbedding, ResBlock, Up
from model.networks.system import DiffusionNetwork, Features, in_float32

LEVELS = 5
"""Steps of the encoders; the features are six maps (B, C_k, H / s_k, W / s_k) with s = 1, 2, 4, 8, 16, 16."""

ADDED_LEVELS = 3
"""Levels whose structure features are added (the stem's and the following two); the last three are attended to."""


def _encoding_steps(architecture: Architecture, embedding: int = 0) -> tuple[nn.ModuleList, nn.ModuleList]:
    """Return the five steps' ResBlocks and Downs; a Down leads to the next level's width, the last step has none."""
    widths, groups = architecture.widths, architecture.groups
    blocks = nn.ModuleList(ResBlock(width, width, groups, embedding) for width in widths)
    downs = nn.ModuleList([*(Down(i, o) for i, o in pairwise(widths)), nn.Identity()])
    return blocks, downs


class StructureEncoder(nn.Module):
    """g: features of the patient's anatomy at six levels. It does not see the diffusion step.

    Parameters
    ----------
    channels
        Number of structure images: CT, targets, organs at risk and what else the manifest lists.
    """

    def __init__(self, channels: int, architecture: Architecture) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, architecture.widths[0], 3, padding=1)
        self.blocks, self.downs = _encoding_steps(architecture)

    def forward(self, images: Tensor) -> Features:
        """Map structure images x (B, channels, H, W), H and W multiples of 16, to their features x_e."""
        features = [self.stem(images)]
        for block, down in zip(self.blocks, self.downs, strict=True):
            features.append(down(block(features[-1])))
        return tuple(features)


class Decoder(nn.Module):
    """Five blocks that lead from the deepest of six levels back to full resolution, with skip connections."""

    def __init__(self, architecture: Architecture, blocks_per_level: int, embedding: int = 0) -> None:
        super().__init__()
        widths, groups = architecture.widths, architecture.groups
        self.ups = nn.ModuleList([nn.Identity()])
        self.levels = nn.ModuleList()
        for depth, width in reversed(list(enumerate(widths))):
            inputs = (2 * width, *([width] * (blocks_per_level - 1)))
            self.levels.append(nn.ModuleList(ResBlock(i, width, groups, embedding) for i in inputs))
            if depth:
                self.ups.append(Up(width, widths[depth - 1]))

    def forward(self, deepest: Tensor, skips: Features, noise: Tensor | None = None) -> Tensor:
        """Map the deepest features and the five skips above them to (B, widths[0], H, W)."""
        images = deepest
        for up, level, skip in zip(self.ups, self.levels, reversed(skips), strict=True):
            images = torch.cat([up(images), skip], dim=1)
            for block in level:  # type: ignore[attr-defined]
                images = block(images, noise)
        return images


class CoarseDecoder(nn.Module):
    """The decoding half with which g is pre-trained; its output is a coarse dose ŷ of its own."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.decoder = Decoder(architecture, blocks_per_level=1)
        self.head = nn.Conv2d(architecture.widths[0], 1, 3, padding=1)

    def forward(self, structure: Features) -> Tensor:
        """Map x_e to the coarse dose ŷ (B, 1, H, W) in network units."""
        return in_float32(self.head, self.decoder(structure[-1], structure[:-1]))


class NoiseUNet(nn.Module, ABC):
    """Six-level U-Net that predicts the noise ε in y_t; subclasses say how it learns of the structure.

    Parameters
    ----------
    inputs
        Number of channels that the stem gets.
    attended
        Widths of the levels, the last of the encoder, at which structure features are attended to.
    """

    def __init__(self, inputs: int, architecture: Architecture, attended: Sequence[int] = ()) -> None:
        super().__init__()
        widths, groups, heads = architecture.widths, architecture.groups, architecture.heads
        embedding = 4 * widths[0]
        self.embedding = NoiseEmbedding(embedding)
        self.stem = nn.Conv2d(inputs, widths[0], 3, padding=1)
        self.blocks, self.downs = _encoding_steps(architecture, embedding)
        self.cross_attentions = nn.ModuleList(Attention(width, heads, groups) for width in attended)
        self.bottleneck_in = ResBlock(widths[-1], widths[-1], groups, embedding)
        self.self_attention = Attention(widths[-1], heads, groups)
        self.bottleneck_out = ResBlock(widths[-1], widths[-1], groups, embedding)
        self.decoder = Decoder(architecture, blocks_per_level=2, embedding=embedding)
        self.head = nn.Sequential(
            ConvBlock(widths[0], widths[0], groups),
            nn.Conv2d(widths[0], 1, 3, padding=1),
        )

    @abstractmethod
    def enter(self, structure: Features, noisy: Tensor) -> Tensor:
        """Map structure and y_t (B, 1, H, W) to the first level's features (B, widths[0], H, W)."""

    def fuse(self, level: int, images: Tensor, structure: Features) -> Tensor:  # noqa: ARG002 - for those that do
        """Let a level's features learn of the structure; here they do not."""
        return images

    def forward(self, structure: Features, noisy: Tensor, gamma: Tensor) -> Tensor:
        """Map x_e, y_t (B, 1, H, W) and γ_t (B,) to the predicted noise ε (B, 1, H, W)."""
        noise = self.embedding(gamma)
        features = [self.enter(structure, noisy)]
        for level, (block, down) in enumerate(zip(self.blocks, self.downs, strict=True), start=1):
            features.append(self.fuse(level, down(block(features[-1], noise)), structure))
        deepest = self.bottleneck_in(features[-1], noise)
        deepest = self.self_attention(deepest, deepest)
        deepest = self.bottleneck_out(deepest, noise)
        return in_float32(self.head, self.decoder(deepest, tuple(features[:-1]), noise))


class NoisePredictor(NoiseUNet):
    """f: the noise ε in y_t, from y_t, the structure features x_e and the noise intensity γ_t.

    Parameters
    ----------
    inputs
        Images that the stem gets: y_t, and what a subclass of `DiffDP` shows beside it.
    """

    def __init__(self, architecture: Architecture, inputs: int = 1) -> None:
        widths = architecture.widths
        super().__init__(inputs, architecture, attended=(*widths, widths[-1])[ADDED_LEVELS:])

    def enter(self, structure: Features, noisy: Tensor) -> Tensor:
        """Apply the stem to y_t and add the structure's."""
        return self.stem(noisy) + structure[0]  # type: ignore[no-any-return]

    def fuse(self, level: int, images: Tensor, structure: Features) -> Tensor:
        """Add the structure's features, from level `ADDED_LEVELS` on attend to them."""
        if level < ADDED_LEVELS:
            return images + structure[level]
        return self.cross_attentions[level - ADDED_LEVELS](images, structure[level])  # type: ignore[no-any-return]


class DiffDP(DiffusionNetwork):
    """The three parts under one roof, so that they are saved, loaded and averaged together."""

    inputs: ClassVar[int] = 1
    """Images that the noise predictor's stem gets."""

    def __init__(self, channels: int, architecture: Architecture) -> None:
        super().__init__(channels, architecture)
        if len(architecture.widths) != LEVELS:
            raise ValueError(f"DiffDP has {LEVELS} widths, got {architecture.widths}")
        self.encoder = StructureEncoder(channels, architecture)
        self.coarse = CoarseDecoder(architecture)
        self.predictor = NoisePredictor(architecture, self.inputs)

    def encode(self, images: Tensor) -> Features:
        """Map structure images x (B, channels, H, W) to x_e = g(x)."""
        return self.encoder(images)  # type: ignore[no-any-return]

    def coarse_dose(self, features: Features) -> Tensor:
        """Map x_e to the coarse dose ŷ (B, 1, H, W)."""
        return self.coarse(features)  # type: ignore[no-any-return]

    def predict_noise(self, features: Features, noisy: Tensor, gamma: Tensor) -> Tensor:
        """Return f(x_e, y_t, γ_t)."""
        return self.predictor(features, noisy, gamma)  # type: ignore[no-any-return]
