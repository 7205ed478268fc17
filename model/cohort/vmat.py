"""Plans a volumetric arc treatment: leaf positions and meterset of every control point, by gradient descent.

First the fluence of each control point is optimised freely, as if any were deliverable. Then each arc gets one aperture
a control point, one opening a pair of leaves, that together come near to that fluence; and their leaf positions and
metersets are optimised further, through the dose. Gradients come from the dose's transpose (`model.cohort.arc`).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.cohort.arc import Aperture, ArcDose

ARCS = 2
CONTROL_POINTS = 72
GANTRY_DEG = tuple((182.5 + 5.0 * k) % 360 for k in range(CONTROL_POINTS))
"""Clockwise from below the couch; the second arc comes back."""

LEAF_MM = 5.0
"""Width of a leaf in the isocentre's plane, and of a bixel along its travel."""

LEAKAGE = 0.015
"""Share of the beam that passes the closed leaves."""

FREE_RATE = 0.1
LEAF_RATE_MM, METERSET_RATE = 2.5, 0.04
MOMENTA = (0.9, 0.98)

FREE_TRAVEL_MM = 15.0
"""Travel of a leaf to the next control point without a penalty; from 20 mm, at 25 mm/s, the gantry must slow down."""

FREE_ROUGHNESS = 0.002
LEAF_ROUGHNESS = 0.002

Objective = Callable[[Tensor], Tensor]
"""Dose (pixels, slices), 1 the prescription → what is to be made small."""


@dataclass(frozen=True)
class Leaves:
    """Apertures of all arcs.

    Parameters
    ----------
    low_mm, high_mm
        (arcs, control points, leaves) ends of the opening of each pair, in the isocentre's plane.
    meterset
        (arcs, control points)
    """

    low_mm: Tensor
    high_mm: Tensor
    meterset: Tensor

    def fluence(self, aperture: Aperture) -> Tensor:
        """Fluence (control points, leaves, bixels) of all arcs together."""
        edges = torch.from_numpy(aperture.u_mm).float()
        ends = torch.minimum(self.high_mm[..., None], edges[1:]), torch.maximum(self.low_mm[..., None], edges[:-1])
        open_ = ((ends[0] - ends[1]) / LEAF_MM).clamp(0, 1)
        return (self.meterset[..., None, None] * (LEAKAGE + (1 - LEAKAGE) * open_)).sum(0)


def optimise(arc: ArcDose, aperture: Aperture, reach: Tensor, objective: Objective, steps: tuple[int, int]) -> Leaves:
    """Find apertures.

    Parameters
    ----------
    arc
        Dose of one rotation, for repeated use.
    aperture
        Its bixels.
    reach
        (control points, leaves, bixels) bool: which may be open at all.
    objective
        To be made small.
    steps
        Of gradient descent: on the free fluence, and on the apertures.
    """
    fluence = _free_fluence(arc, reach.float(), objective, steps[0])
    leaves = _segmented(fluence.numpy(), aperture)
    return _refined(arc, aperture, leaves, reach, objective, steps[1])


def _free_fluence(arc: ArcDose, reach: Tensor, objective: Objective, steps: int) -> Tensor:
    fluence = reach.clone().requires_grad_()
    optimiser = torch.optim.Adam([fluence], FREE_RATE, MOMENTA)
    for _ in range(steps):
        optimiser.zero_grad()
        rough = sum((fluence - fluence.roll(1, axis)).square().mean() for axis in range(3))
        loss = objective(_dose(arc, fluence)) + FREE_ROUGHNESS * rough
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        with torch.no_grad():
            fluence.clamp_(min=0).mul_(reach)
    return fluence.detach()


def _segmented(fluence: NDArray[np.float32], aperture: Aperture) -> Leaves:
    """Apertures near to a fluence, arc after arc: each takes what it can of what the ones before have left."""
    low, high, metersets = [], [], []
    for _ in range(ARCS):
        bright = [np.quantile(f[f > 0], 0.9) if (f > 0).any() else 0.0 for f in fluence]
        meterset = 0.7 * np.array(bright, np.float32)
        for _ in range(3):
            first, last, open_ = _openings(fluence, meterset)
            meterset = (fluence * open_).sum((1, 2)) / np.maximum(open_.sum((1, 2)), 1)
        fluence = np.maximum(fluence - meterset[:, None, None] * open_, 0)
        low.append(aperture.u_mm[first])
        high.append(aperture.u_mm[last])
        metersets.append(meterset)
    return Leaves(*(torch.from_numpy(np.stack(k).astype(np.float32)) for k in (low, high, metersets)))


def _openings(fluence: NDArray[np.float32], meterset: NDArray[np.float32]) -> tuple[NDArray[np.intp], ...]:
    """First and last edge, and mask, of the one opening of each leaf pair that is nearest to its fluence.

    Nearest in least squares: that with the greatest sum of fluence less half the meterset.
    """
    sums = np.cumsum(fluence - meterset[:, None, None] / 2, axis=-1)
    sums = np.concatenate([np.zeros_like(sums[..., :1]), sums], axis=-1)
    least = np.minimum.accumulate(sums, axis=-1)
    edges = np.arange(sums.shape[-1])
    last = (sums - least).argmax(axis=-1)
    least_at = np.maximum.accumulate(np.where(sums == least, edges, 0), axis=-1)
    first = np.take_along_axis(least_at, last[..., None], axis=-1)[..., 0]
    return first, last, (edges[:-1] >= first[..., None]) & (edges[:-1] < last[..., None])


def _refined(
    arc: ArcDose, aperture: Aperture, leaves: Leaves, reach: Tensor, objective: Objective, steps: int
) -> Leaves:
    low, high, meterset = (k.clone().requires_grad_() for k in (leaves.low_mm, leaves.high_mm, leaves.meterset))
    leaves = Leaves(low, high, meterset)
    optimiser = torch.optim.Adam(
        [{"params": [low, high], "lr": LEAF_RATE_MM}, {"params": [meterset], "lr": METERSET_RATE}], betas=MOMENTA
    )
    lowest, highest = _limits(reach, aperture)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        optimiser.zero_grad()
        loss = objective(_dose(arc, leaves.fluence(aperture)))
        loss = loss + LEAF_ROUGHNESS * (_roughness(low) + _roughness(high))
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        with torch.no_grad():
            meterset.clamp_(min=0)
            low.clamp_(lowest, highest)
            high.clamp_(lowest, highest).copy_(torch.maximum(high, low))
    return Leaves(low.detach(), high.detach(), meterset.detach())


def _limits(reach: Tensor, aperture: Aperture) -> tuple[Tensor, Tensor]:
    """Edges (control points, leaves) within which pairs may open; both are the same where one has nothing to reach."""
    edges = torch.from_numpy(aperture.u_mm).float()
    lowest = torch.where(reach, edges[:-1], torch.inf).amin(-1)
    highest = torch.where(reach, edges[1:], -torch.inf).amax(-1)
    nothing = ~reach.any(-1)
    return lowest.masked_fill(nothing, 0.0), highest.masked_fill(nothing, 0.0)


def _roughness(end_mm: Tensor) -> Tensor:
    """How ragged apertures are, and how far leaves have to travel."""
    ragged = ((end_mm[:, :, 1:] - end_mm[:, :, :-1]) / 30).square().mean()
    travel = (end_mm[:, 1:] - end_mm[:, :-1]).abs()
    return ragged + torch.relu((travel - FREE_TRAVEL_MM) / 10).square().mean()


def _dose(arc: ArcDose, fluence: Tensor) -> Tensor:
    """Dose that gradients flow through."""
    dose: Tensor = _Dose.apply(fluence, arc)  # type: ignore[no-untyped-call]
    return dose


class _Dose(torch.autograd.Function):
    """The arc's dose with its transpose as gradient."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, fluence: Tensor, arc: ArcDose) -> Tensor:
        ctx.arc = arc  # type: ignore[attr-defined]
        return arc.dose(fluence)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.arc.transpose(gradients[0]), None  # type: ignore[attr-defined]


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute in one thread: sums of several depend on how many there are, in their last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
