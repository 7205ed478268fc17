"""Noise schedule and forward process (paper, Eqs. 2 to 4), in float64."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class NoiseSchedule:
    """Variance retention α_t and noise intensity γ_t = Π α_i for t = 1 … T.

    Parameters
    ----------
    steps
        T.
    first, last
        1 − α_1 and 1 − α_T; linear between.
    """

    steps: int = 1000
    first: float = 1e-4
    last: float = 1e-2

    @cached_property
    def alpha(self) -> Tensor:
        """(T + 1,) α_t by t; α_0 = 1 stands for no step at all."""
        noise = torch.linspace(self.first, self.last, self.steps, dtype=torch.float64)
        return torch.cat([torch.ones(1, dtype=torch.float64), 1 - noise])

    @cached_property
    def gamma(self) -> Tensor:
        """(T + 1,) γ_t by t; γ_0 = 1 is the clean dose."""
        return torch.cumprod(self.alpha, dim=0)


def add_noise(clean: Tensor, noise: Tensor, gamma: Tensor | float) -> Tensor:
    """Return y_t = √γ y_0 + √(1 − γ) ε (Eq. 4); γ is a number or (B,) for a batch (B, …)."""
    intensity = _like(gamma, clean)
    return intensity.sqrt() * clean + (1 - intensity).sqrt() * noise


def velocity(clean: Tensor, noise: Tensor, gamma: Tensor | float) -> Tensor:
    """Return v = √γ ε − √(1 − γ) y_0 (2202.00512, appendix D); γ as in `add_noise`."""
    intensity = _like(gamma, clean)
    return intensity.sqrt() * noise - (1 - intensity).sqrt() * clean


def _like(gamma: Tensor | float, images: Tensor) -> Tensor:
    """Shape γ so that it multiplies images (B, …)."""
    intensity = torch.as_tensor(gamma, dtype=images.dtype, device=images.device)
    return intensity.reshape(-1, *[1] * (images.ndim - 1)) if intensity.ndim else intensity
