"""PRUNet, the progressive refinement U-Net of Wang et al. (Neurocomputing 488:528, 2022).

Known of it is what the DiffDP paper says (section 1): a U-Net that refines its predictions from low resolution to high.
PRT-Net (Front. Oncol. 14:1372424, 2024), a transformer of the same idea, predicts dose at several scales in one pass
and is supervised at each. Decided here: which resolutions (all four of the decoder); how to refine (each level sees the
coarser dose, up-sampled, beside its features, and adds a correction to it); the blocks (those of the other networks).
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.checkpoint.manifest import Architecture
from model.networks.blocks import ConvBlock
from model.networks.system import RegressionNetwork, in_float32

LEVELS = 5
"""Levels of the U-Net, from full resolution to a sixteenth of it."""


def _two_convolutions(inputs: int, outputs: int, groups: int) -> nn.Sequential:
    return nn.Sequential(ConvBlock(inputs, outputs, groups), ConvBlock(outputs, outputs, groups))


class PRUNet(RegressionNetwork):
    """U-Net with max pooling and transposed convolutions, whose decoder refines a dose at each of its four levels.

    Parameters
    ----------
    channels
        Number of structure images.
    architecture
        Its five widths are those of the levels.

    Raises
    ------
    ValueError
        If there are not five widths, or `architecture.groups` does not divide them.
    """

    def __init__(self, channels: int, architecture: Architecture) -> None:
        super().__init__(channels, architecture)
        widths, groups = architecture.widths, architecture.groups
        if len(widths) != LEVELS:
            raise ValueError(f"PRUNet has {LEVELS} widths, got {widths}")
        steps = list(pairwise((channels, *widths)))
        self.encoder = nn.ModuleList(_two_convolutions(i, o, groups) for i, o in steps)
        upward = list(reversed(steps[1:]))  # pairs of a level's width and the next deeper one's, deepest first
        self.ups = nn.ModuleList(nn.ConvTranspose2d(deep, width, 2, stride=2) for width, deep in upward)
        self.decoder = nn.ModuleList(
            _two_convolutions(2 * width + (0 if level == 0 else 1), width, groups)
            for level, (width, _) in enumerate(upward)
        )
        self.heads = nn.ModuleList(nn.Conv2d(width, 1, 1) for width, _ in upward)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Map structure images (B, channels, H, W) to doses (B, 1, H / s, W / s), s = 8, 4, 2, 1."""
        skips: list[Tensor] = []
        for level, block in enumerate(self.encoder):
            images = block(functional.max_pool2d(images, 2) if level else images)
            skips.append(images)
        skips.pop()
        doses: list[Tensor] = []
        for up, block, head in zip(self.ups, self.decoder, self.heads, strict=True):
            coarser = [functional.interpolate(dose, scale_factor=2.0, mode="bilinear") for dose in doses[-1:]]
            images = block(torch.cat([up(images), skips.pop(), *coarser], dim=1))
            doses.append(sum(coarser, in_float32(head, images)))
        return tuple(doses)
