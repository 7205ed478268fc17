"""DeepLabV3+ (Chen et al., arXiv 1802.02611), with which Song et al. (Radiother. Oncol. 149:111, 2020) predict dose.

| here                | paper (Fig. 2)                                                                      |
|---------------------|-------------------------------------------------------------------------------------|
| `Encoder`           | backbone; its last level is atrous instead of strided                               |
| `Pyramid`           | atrous spatial pyramid pooling: 1 × 1, three atrous separable 3 × 3, image pooling  |
| `low` in `forward`  | low-level features, made few by a 1 × 1 convolution                                 |

The paper's strides are 16 at the pyramid and 4 at the low-level features. Here they are 8 and 2: pixels of 3.9 mm are
twice as wide as those of the 256 × 256 at which the DiffDP paper compares, and a dose that is drawn by bilinear
up-sampling of every fourth of them is wrong by 1.2 Gy on average before anything is learnt (of every second: 0.3 Gy;
least-squares fit to five OpenKBP doses, inside the possible-dose mask eroded by five pixels).
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.checkpoint.manifest import Architecture
from model.networks.blocks import Down, ResBlock
from model.networks.system import RegressionNetwork, in_float32

LEVELS = 5
"""Levels of the encoder, of strides 1, 2, 4, 8, 8."""

LOW_LEVEL = 1
"""Level whose features the decoder takes over."""

UPSAMPLING = 4
"""From the pyramid to the low-level features."""

ATROUS_RATE = 2
"""Of the encoder's last level: what its missing stride would have been (paper, section 3.1)."""

PYRAMID_RATES = (2, 4, 6)
"""The paper's 6, 12, 18 belong to maps of 33 × 33; on 12 × 16 most of their taps would lie outside."""


def _pointwise(inputs: int, outputs: int, groups: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1), nn.GroupNorm(groups, outputs), nn.SiLU())


def _separable(inputs: int, outputs: int, groups: int, rate: int = 1) -> nn.Sequential:
    """Atrous depthwise 3 × 3 and pointwise convolution, normalisation and activation after both (section 3.2)."""
    return nn.Sequential(
        nn.Conv2d(inputs, inputs, 3, padding=rate, dilation=rate, groups=inputs),
        nn.GroupNorm(groups, inputs),
        nn.SiLU(),
        *_pointwise(inputs, outputs, groups),
    )


class Encoder(nn.Module):
    """Residual blocks in place of the paper's Xception; the last, of atrous separable convolutions, keeps stride 8."""

    def __init__(self, channels: int, architecture: Architecture) -> None:
        super().__init__()
        *widths, last = architecture.widths
        groups = architecture.groups
        self.stem = nn.Conv2d(channels, widths[0], 3, padding=1)
        self.downs = nn.ModuleList([nn.Identity(), *(Down(i, o) for i, o in pairwise(widths))])
        self.blocks = nn.ModuleList(ResBlock(width, width, groups) for width in widths)
        self.shortcut = nn.Conv2d(widths[-1], last, 1)
        self.atrous = nn.Sequential(
            _separable(widths[-1], last, groups, ATROUS_RATE), _separable(last, last, groups, ATROUS_RATE)
        )

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Map (B, channels, H, W) to features (B, C, H / 2, W / 2) and (B, C', H / 8, W / 8)."""
        images = self.stem(images)
        levels = []
        for down, block in zip(self.downs, self.blocks, strict=True):
            images = block(down(images))
            levels.append(images)
        return levels[LOW_LEVEL], self.shortcut(images) + self.atrous(images)


class Pyramid(nn.Module):
    """Atrous spatial pyramid pooling, with the mean of the whole image as its fifth branch."""

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            [_pointwise(width, width, groups), *(_separable(width, width, groups, rate) for rate in PYRAMID_RATES)]
        )
        self.pooled = _pointwise(width, width, groups)
        self.projection = _pointwise((len(self.branches) + 1) * width, width, groups)

    def forward(self, images: Tensor) -> Tensor:
        """Map (B, width, h, w) to the same shape."""
        pooled = self.pooled(images.mean(dim=(2, 3), keepdim=True)).expand_as(images)
        return self.projection(torch.cat([*(branch(images) for branch in self.branches), pooled], dim=1))  # type: ignore[no-any-return]


class DeepLabV3Plus(RegressionNetwork):
    """Encoder with a pyramid of atrous convolutions; decoder that takes over fine detail once.

    Group instead of batch normalisation and Swish instead of ReLU, as in the other networks here.

    Parameters
    ----------
    channels
        Number of structure images.
    architecture
        Its five widths are the encoder's; pyramid and decoder have the last, the reduced low-level features the first.

    Raises
    ------
    ValueError
        If there are not five widths, or `architecture.groups` does not divide them.
    """

    def __init__(self, channels: int, architecture: Architecture) -> None:
        super().__init__(channels, architecture)
        widths, groups = architecture.widths, architecture.groups
        if len(widths) != LEVELS:
            raise ValueError(f"DeepLabV3+ has {LEVELS} widths, got {widths}")
        few, width = widths[0], widths[-1]
        self.encoder = Encoder(channels, architecture)
        self.pyramid = Pyramid(width, groups)
        self.low_level = _pointwise(widths[LOW_LEVEL], few, groups)
        self.decoder = nn.Sequential(_separable(width + few, width, groups), _separable(width, width, groups))
        self.head = nn.Conv2d(width, 1, 1)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Map structure images (B, channels, H, W) to the dose (B, 1, H, W)."""
        low, deep = self.encoder(images)
        deep = functional.interpolate(self.pyramid(deep), scale_factor=float(UPSAMPLING), mode="bilinear")
        dose = in_float32(self.head, self.decoder(torch.cat([deep, self.low_level(low)], dim=1)))
        return (functional.interpolate(dose, size=images.shape[2:], mode="bilinear"),)
