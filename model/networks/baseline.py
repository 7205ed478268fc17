"""The paper's "Baseline" (Table 2): DiffDP without its structure encoder."""

import torch
from torch import Tensor

from model.checkpoint.manifest import Architecture
from model.networks.diffdp import LEVELS, NoiseUNet
from model.networks.system import DiffusionNetwork, Features


class ConcatenatingPredictor(NoiseUNet):
    """The noise ε in y_t, from y_t and the structure images x as channels of one input."""

    def __init__(self, channels: int, architecture: Architecture) -> None:
        super().__init__(channels + 1, architecture)

    def enter(self, structure: Features, noisy: Tensor) -> Tensor:
        """Concatenate x and y_t, and apply the stem."""
        return self.stem(torch.cat([*structure, noisy], dim=1))  # type: ignore[no-any-return]


class Baseline(DiffusionNetwork):
    """A noise predictor alone; the structure images run through all of it at every step.

    Parameters
    ----------
    channels
        Number of structure images.
    architecture
        Its five widths are the noise predictor's.

    Raises
    ------
    ValueError
        If there are not five widths.
    """

    def __init__(self, channels: int, architecture: Architecture) -> None:
        super().__init__(channels, architecture)
        if len(architecture.widths) != LEVELS:
            raise ValueError(f"the baseline has {LEVELS} widths, got {architecture.widths}")
        self.predictor = ConcatenatingPredictor(channels, architecture)

    def encode(self, images: Tensor) -> Features:
        """Return the structure images x (B, channels, H, W) themselves."""
        return (images,)

    def predict_noise(self, features: Features, noisy: Tensor, gamma: Tensor) -> Tensor:
        """Map x, y_t (B, 1, H, W) and γ_t (B,) to the predicted noise ε (B, 1, H, W)."""
        return self.predictor(features, noisy, gamma)  # type: ignore[no-any-return]
