"""Whether the spread of a prediction's samples says how far off it may be."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

TAIL_PERCENT = 5.0
"""Percentage left out on each side of the central interval, which so holds 90 %."""

NODES = 64
"""Of the quadrature in `expected_coverage`; its error is below 1e-4."""


class Calibration(NamedTuple):
    """How often the reference lies within the samples' central 90 % interval.

    Parameters
    ----------
    coverage
        Share of voxels whose reference does.
    expected
        Share that would, were the samples and the reference drawn from one distribution (`expected_coverage`). Less
        coverage than that: the samples are too much alike. More: too far apart.
    """

    coverage: float
    expected: float


def calibration(
    reference_gy: NDArray[np.floating], samples_gy: NDArray[np.floating], mask: NDArray[np.bool_]
) -> Calibration:
    """Share of voxels whose reference lies between the 5th and the 95th percentile of the samples, bounds included.

    The percentiles are interpolated linearly between the samples. Two or three samples can therefore never span 90 % of
    the distribution from which they come: compare with ``expected``, not with 0.9.

    Parameters
    ----------
    reference_gy
        (slices, rows, columns) dose in Gy.
    samples_gy
        (K, slices, rows, columns) samples of the predicted dose in Gy, K of at least 2.
    mask
        (slices, rows, columns) voxels that count: those that can receive dose.

    Raises
    ------
    ValueError
        If there are fewer than two samples, the shapes differ, or the mask is empty.
    """
    if not reference_gy.shape == mask.shape == samples_gy.shape[1:]:
        raise ValueError(f"samples {samples_gy.shape}, reference {reference_gy.shape} and mask {mask.shape} do not fit")
    if not mask.any():
        raise ValueError("a mask without voxels has no coverage")
    expected = expected_coverage(len(samples_gy))
    low_gy, high_gy = np.percentile(samples_gy[:, mask], [TAIL_PERCENT, 100.0 - TAIL_PERCENT], axis=0)
    inside = (reference_gy[mask] >= low_gy) & (reference_gy[mask] <= high_gy)
    return Calibration(float(inside.mean()), expected)


def expected_coverage(samples: int) -> float:
    """Chance that a normal variable lies in the central 90 % interval of K draws from its own distribution.

    Let h = 0.05 (K − 1), j = ⌊h⌋ and f = h − j. The lower bound is L = (1 − f) X₍ⱼ₊₁₎ + f X₍ⱼ₊₂₎ of the ordered draws,
    and by symmetry the chance is 1 − 2 E[F(L)]. With i = j + 1, F(X₍ᵢ₊₁₎) is Beta(i + 1, K − i) distributed; given it,
    X₍ᵢ₎ is the greatest of i draws below, so that F(X₍ᵢ₎) = F(X₍ᵢ₊₁₎) · U^(1/i) with U uniform.

    The distribution's shape matters little: for a uniform one the chance is 0.9 (K − 1)/(K + 1), at most 0.025 less.
    For K = 2, 4, 8, 16, 32 it is 0.305, 0.558, 0.722, 0.807, 0.850; it tends to 0.9.

    Raises
    ------
    ValueError
        If there are fewer than two samples.
    """
    if samples < 2:
        raise ValueError(f"an interval takes two samples, got {samples}")
    whole, share = divmod(TAIL_PERCENT / 100.0 * (samples - 1), 1.0)
    rank = int(whole) + 1
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    nodes, weights = (nodes + 1.0) / 2.0, weights / 2.0
    upper = stats.beta.ppf(nodes, rank + 1, samples - rank)[:, None]
    lower = upper * nodes ** (1.0 / rank)  # (nodes, nodes)
    bound = (1.0 - share) * stats.norm.ppf(lower) + share * stats.norm.ppf(upper)
    return float(1.0 - 2.0 * weights @ stats.norm.cdf(bound) @ weights)
