"""The conditional GAN of Mahmood et al. (arXiv 1807.06489, 2018), after pix2pix (Isola et al., arXiv 1611.07004)."""

import torch
from monai.networks.nets.patchgan_discriminator import PatchDiscriminator
from torch import Tensor, nn

from model.checkpoint.manifest import Architecture
from model.networks.system import in_float32
from model.networks.unet import UNet

STRIDED_LAYERS = 2
"""Layers of stride 2 in the discriminator. Its patches are 34 × 34 pixels: the same share of a slice of 128 pixels as
pix2pix's 70 × 70 of 256."""


class Gan(UNet):
    """The generator, all that is left of a GAN after training: the U-Net, so that only the objective tells them apart.

    Like pix2pix's it gets no noise: the images are its only input. Its dropout is left out, as in the U-Net.
    """


class DoseDiscriminator(nn.Module):
    """Tells planned from generated doses, patch by patch, given the structure images that they belong to.

    MONAI's PatchGAN discriminator: 4 × 4 convolutions, leaky ReLU, two of them with stride 2, then two without. Group
    instead of batch normalisation: batches of planned and of generated doses have different statistics.

    Parameters
    ----------
    channels
        Number of structure images.
    architecture
        The generator's; the discriminator's layers have once, twice and four times its second width.
    """

    def __init__(self, channels: int, architecture: Architecture) -> None:
        super().__init__()
        width = architecture.widths[1]
        self.body = PatchDiscriminator(
            spatial_dims=2,
            channels=width,
            in_channels=channels + 1,
            num_layers_d=STRIDED_LAYERS,
            norm=("GROUP", {"num_groups": architecture.groups}),
        )
        self.head = self.body.get_submodule("final_conv")
        self.body.final_conv = nn.Identity()

    def forward(self, images: Tensor, dose: Tensor) -> Tensor:
        """Map images (B, channels, H, W) and doses (B, 1, H, W) to logits (B, 1, H / 4 - 2, W / 4 - 2).

        Positive logits mean "planned". H and W are multiples of 4, at least 16.
        """
        return in_float32(self.head, self.body(torch.cat([images, dose], dim=1))[-1])
