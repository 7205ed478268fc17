"""What a network must offer to be trained, used and compared like any other here.

There are two kinds: those that regress a dose, and those that predict the noise in one.
"""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

from model.checkpoint.manifest import Architecture

Features = tuple[Tensor, ...]
"""What a diffusion network makes of the structure images, once per slice; only the network itself knows what it is."""


class DoseNetwork(nn.Module, ABC):
    """A network with what its checkpoint must say of it.

    Parameters
    ----------
    channels
        Number of structure images: CT, targets, organs at risk and what else the manifest lists.
    architecture
        Its sizes.

    Attributes
    ----------
    volumetric
        Whether it maps whole stacks of slices (B, C, S, H, W) rather than slices (B, C, H, W).
    multiple
        H and W, and S of a volumetric network, must be multiples of it.
    """

    volumetric: ClassVar[bool] = False
    multiple: ClassVar[int] = 16

    def __init__(self, channels: int, architecture: Architecture) -> None:
        super().__init__()
        self.channels, self.architecture = channels, architecture

    def on(self, device: torch.device) -> "DoseNetwork":
        """Move to a device, in the memory layout in which convolutions are fastest, and return self."""
        self.to(device)
        self.to(memory_format=torch.channels_last_3d if self.volumetric else torch.channels_last)  # type: ignore[call-overload]
        return self


class RegressionNetwork(DoseNetwork):
    """A network whose output is the dose."""

    @abstractmethod
    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Map structure images (B, channels, …) to doses (B, 1, …) in network units.

        The last is the prediction. Those before it, which may be smaller by a power of two, count in training only.
        """


class DiffusionNetwork(DoseNetwork):
    """A network that predicts the noise in a noisy dose, or in what stands for one."""

    @abstractmethod
    def encode(self, images: Tensor) -> Features:
        """Map structure images x (B, channels, H, W) to what `predict_noise` needs of them."""

    @abstractmethod
    def predict_noise(self, features: Features, noisy: Tensor, gamma: Tensor) -> Tensor:
        """Map features, y_t (B, 1, H, W) and γ_t (B,) to the predicted noise ε (B, 1, H, W)."""

    def coarse_dose(self, features: Features) -> Tensor | None:  # noqa: ARG002 - for those that have one
        """Return a dose (B, 1, H, W) that the features alone tell, None if the network has no head for it."""
        return None

    def diffused(self, features: Features, dose: Tensor) -> Tensor:  # noqa: ARG002 - for those that diffuse something else
        """Return y_0 (B, 1, H, W), what noise is added to: here the dose itself."""
        return dose

    def dose(self, features: Features, clean: Tensor) -> Tensor:  # noqa: ARG002
        """Return the dose (B, 1, H, W) that y_0 stands for, the inverse of `diffused`."""
        return clean


def in_float32(head: nn.Module, images: Tensor) -> Tensor:
    """Apply a head without autocast: bfloat16 would round a dose near the prescription to steps of 0.1 Gy."""
    with torch.autocast(images.device.type, enabled=False):
        return head(images.float())  # type: ignore[no-any-return]
