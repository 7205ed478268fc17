"""The U-Net of Nguyen et al., "Dose prediction with U-Net" (arXiv 1709.09233, 2017), built from MONAI's `BasicUNet`."""

from monai.networks.nets.basic_unet import BasicUNet
from torch import Tensor, nn

from model.checkpoint.manifest import Architecture
from model.networks.system import RegressionNetwork, in_float32

LEVELS = 5
"""Levels of `BasicUNet`, from full resolution to a sixteenth of it."""


class UNet(RegressionNetwork):
    """Two 3 × 3 convolutions a level, max pooling, transposed convolutions, skip connections, ReLU.

    The paper has seven levels, so that its deepest one, 4 × 4 pixels, reaches from the target to the edge of the body.
    `BasicUNet` has five, which at 96 × 128 pixels end at 6 × 8: two convolutions reach as far there. Other differences:
    group instead of batch normalisation, so that a prediction depends neither on the batch nor on running statistics;
    no dropout; a single 1 × 1 convolution as head, where the paper narrows its features in several layers.

    Parameters
    ----------
    channels
        Number of structure images.
    architecture
        Its five widths are the encoder's; the decoder ends with the first of them.

    Raises
    ------
    ValueError
        If there are not five widths, or `architecture.groups` does not divide them.
    """

    def __init__(self, channels: int, architecture: Architecture) -> None:
        super().__init__(channels, architecture)
        widths = architecture.widths
        if len(widths) != LEVELS:
            raise ValueError(f"the U-Net has {LEVELS} widths, got {widths}")
        self.body = BasicUNet(
            spatial_dims=2,
            in_channels=channels,
            features=(*widths, widths[0]),
            act="RELU",
            norm=("GROUP", {"num_groups": architecture.groups}),
        )
        self.body.final_conv = nn.Identity()
        self.head = nn.Conv2d(widths[0], 1, 1)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Map structure images (B, channels, H, W) to the dose (B, 1, H, W)."""
        return (in_float32(self.head, self.body(images)),)
