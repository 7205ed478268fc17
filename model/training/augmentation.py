"""Patients as they might have been: turned a little and grown or shrunk, with their beams and their dose."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from model.training.slices import Batch


def turned_and_scaled(batch: Batch, share: float, turn_deg: float, zoom: float, generator: torch.Generator) -> Batch:
    """Turn and scale some of a batch's slices about their middle, images and dose alike.

    What lies beyond the crop is its edge repeated, and counts as outside the patient.

    Parameters
    ----------
    batch
        Slices; those that are left alone stay bit for bit.
    share
        Chance of a slice to be changed.
    turn_deg
        Largest angle, either way.
    zoom
        Largest change of size: 0.1 is from 1/1.1 to 1.1.
    """
    count = len(batch.y)
    chosen = torch.rand(count, generator=generator) < share
    angle = math.radians(turn_deg) * (2 * torch.rand(count, generator=generator) - 1)
    size = (1 + zoom) ** (2 * torch.rand(count, generator=generator) - 1)
    if not chosen.any():
        return batch
    rows, columns = batch.y.shape[-2:]
    affine = _affine(angle[chosen], size[chosen], rows, columns).to(batch.y.device)
    grid = functional.affine_grid(affine, [len(affine), 1, rows, columns], align_corners=False)
    chosen = chosen.to(batch.y.device)

    def sample(images: Tensor, mode: str, padding: str) -> Tensor:
        changed = images.clone()
        flat = images[chosen].reshape(len(grid), -1, rows, columns)  # slices of a stack turn together
        turned = functional.grid_sample(flat, grid, mode, padding, align_corners=False)
        changed[chosen] = turned.reshape(len(grid), *images.shape[1:])
        return changed

    # Cubic: linear interpolation would teach the network to blur
    return Batch(
        x=sample(batch.x, "bicubic", "border"),
        y=sample(batch.y, "bicubic", "border"),
        inside=sample(batch.inside, "nearest", "zeros"),
    )


def _affine(angle: Tensor, size: Tensor, rows: int, columns: int) -> Tensor:
    """(B, 2, 3) maps from a changed slice's normalised (x, y) to the original's, rigid but for the size in mm."""
    cosine, sine = torch.cos(angle) / size, torch.sin(angle) / size
    zero = torch.zeros_like(angle)
    aspect = rows / columns
    return torch.stack(
        [torch.stack([cosine, -sine * aspect, zero], 1), torch.stack([sine / aspect, cosine, zero], 1)], 1
    )
