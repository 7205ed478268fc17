"""DiffDP that diffuses what its coarse dose leaves: r_0 = (y − ŷ) / σ in place of y.

The noise predictor sees ŷ beside r_t and answers the velocity v = √γ ε − √(1 − γ) r_0 (Salimans and Ho, 2202.00512):
near t = T an error of ε would become one of r_0 twelve times as large, one of v does not. From v follows ε, so that
all reverse processes serve both kinds.
"""

from typing import ClassVar

import torch
from torch import Tensor

from model.networks.diffdp import DiffDP
from model.networks.system import Features

RESIDUAL_SCALE = 0.1
"""σ, in network units: about the root mean square of a coarse dose's error, so that r_0 has about unit variance."""


class DiffDPResidual(DiffDP):
    """The parts of `DiffDP`, used otherwise; its features are those of g and, as the last, ŷ."""

    inputs: ClassVar[int] = 2

    def encode(self, images: Tensor) -> Features:
        """Map structure images x (B, channels, H, W) to x_e and the coarse dose ŷ (B, 1, H, W)."""
        structure = self.encoder(images)
        return (*structure, self.coarse(structure))

    def coarse_dose(self, features: Features) -> Tensor:
        """Return ŷ (B, 1, H, W)."""
        return features[-1]

    def diffused(self, features: Features, dose: Tensor) -> Tensor:
        """Return r_0 (B, 1, H, W) of a dose; no gradient reaches ŷ, which is not to make r_0 easy to predict."""
        return (dose - features[-1].detach()) / RESIDUAL_SCALE

    def dose(self, features: Features, clean: Tensor) -> Tensor:
        """Return ŷ + σ r_0."""
        return features[-1] + RESIDUAL_SCALE * clean

    def predict_velocity(self, features: Features, noisy: Tensor, gamma: Tensor) -> Tensor:
        """Map x_e, ŷ, r_t (B, 1, H, W) and γ_t (B,) to the predicted v (B, 1, H, W)."""
        *structure, coarse = features
        return self.predictor(tuple(structure), torch.cat([noisy, coarse.detach()], dim=1), gamma)  # type: ignore[no-any-return]

    def predict_noise(self, features: Features, noisy: Tensor, gamma: Tensor) -> Tensor:
        """Return ε = √γ v + √(1 − γ) r_t (B, 1, H, W)."""
        intensity = gamma[:, None, None, None]
        return intensity.sqrt() * self.predict_velocity(features, noisy, gamma) + (1 - intensity).sqrt() * noisy
