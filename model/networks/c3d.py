"""C3D, the cascade of 3-D U-Nets of Liu et al. (Med. Phys. 48:5574, 2021), which won the OpenKBP challenge."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from monai.networks.blocks.convolutions import Convolution
from torch import Tensor, nn
from torch.nn import functional

from model.checkpoint.manifest import Architecture
from model.networks.system import RegressionNetwork, in_float32

LEVELS = 5
"""Levels of both U-Nets, from full resolution to a sixteenth of it along all three axes."""


def _convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Module:
    """3 × 3 × 3 convolution, instance normalisation (which makes a bias superfluous), ReLU."""
    norm = ("INSTANCE", {"affine": True})
    return Convolution(3, inputs, outputs, strides=stride, kernel_size=3, act="RELU", norm=norm, bias=False)


class VolumetricUNet(nn.Module):
    """Two convolutions a level, the first with stride 2; trilinear up-sampling and a convolution; skip connections.

    Parameters
    ----------
    inputs
        Number of images.
    widths
        Channels of the levels, from full resolution down.
    """

    def __init__(self, inputs: int, widths: Sequence[int]) -> None:
        super().__init__()
        top, steps = widths[0], list(pairwise(widths))
        self.encoder = nn.ModuleList(
            [
                nn.Sequential(_convolution(inputs, top), _convolution(top, top)),
                *(nn.Sequential(_convolution(i, o, stride=2), _convolution(o, o)) for i, o in steps),
            ]
        )
        self.ups = nn.ModuleList(_convolution(deep, width) for width, deep in reversed(steps))
        self.decoder = nn.ModuleList(
            [
                *(nn.Sequential(_convolution(2 * w, w), _convolution(w, w)) for w in reversed(widths[1:-1])),
                _convolution(2 * top, top),
            ]
        )

    def forward(self, images: Tensor) -> Tensor:
        """Map (B, inputs, S, H, W) to (B, widths[0], S, H, W)."""
        skips = []
        for level in self.encoder:
            images = level(images)
            skips.append(images)
        skips.pop()
        for up, level in zip(self.ups, self.decoder, strict=True):
            images = up(functional.interpolate(images, scale_factor=2.0, mode="trilinear", align_corners=True))
            images = level(torch.cat([images, skips.pop()], dim=1))
        return images


class C3D(RegressionNetwork):
    """Two U-Nets in a cascade: the second refines the first one's dose, which it sees beside the structure images.

    The authors' published code hands on the features of which that dose is a linear map, rather than the dose itself.
    The slices' distance, 2.5 to 5 mm, is near that of pixels, so all axes are strided alike, as in the paper. Instance
    normalisation needs more than one voxel at the deepest level: no volume of 16 × 16 × 16 will do.

    Parameters
    ----------
    channels
        Number of structure images.
    architecture
        Its five widths are the second U-Net's; the first has half of them, as in the authors' code (16 … 256 and
        32 … 512).

    Raises
    ------
    ValueError
        If there are not five widths, all even.
    """

    volumetric = True

    def __init__(self, channels: int, architecture: Architecture) -> None:
        super().__init__(channels, architecture)
        widths = architecture.widths
        if len(widths) != LEVELS or any(width % 2 for width in widths):
            raise ValueError(f"C3D has {LEVELS} even widths, got {widths}")
        halves = [width // 2 for width in widths]
        self.first = VolumetricUNet(channels, halves)
        self.first_head = nn.Conv3d(halves[0], 1, 1)
        self.second = VolumetricUNet(channels + 1, widths)
        self.second_head = nn.Conv3d(widths[0], 1, 1)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Map structure images (B, channels, S, H, W) to the first and the second dose (B, 1, S, H, W).

        On a CPU always in float32: there torch 2.13 (oneDNN) gives wrong, at times infinite, gradients for the weights
        of 3-D convolutions in bfloat16 that work on two slices, as the deep levels of stacks of 16 and 32 do.
        """
        if images.device.type == "cpu":
            with torch.autocast("cpu", enabled=False):
                return self._cascade(images.float())
        return self._cascade(images)

    def _cascade(self, images: Tensor) -> tuple[Tensor, Tensor]:
        first = in_float32(self.first_head, self.first(images))
        second = in_float32(self.second_head, self.second(torch.cat([images, first], dim=1)))
        return first, second
