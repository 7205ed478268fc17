"""Training images in memory: structure images and dose maps, drawn at random, mirrored and cropped."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.checkpoint.manifest import Channel, NetworkGrid, Normalisation
from model.conditioning.channels import condition, dose_to_network, in_plane
from model.conditioning.site import Site
from model.processes import process_pool
from model.training.case_file import load_case

AIR = 16
"""Pixels of air that are kept on each side of a patient: what lies further away teaches nothing and takes memory."""


@dataclass(frozen=True)
class TrainingCase:
    """One patient's images on the device that trains.

    Parameters
    ----------
    planes
        (planes, slices, rows, columns) float16: every image that a channel shows, once.
    y
        (slices, rows, columns) float16: dose map in network units.
    inside
        (slices, rows, columns) bool: where the patient is.
    plane_of, step_of
        (channels,) which plane a channel shows, and from how many slices further towards the head.
    """

    planes: Tensor
    y: Tensor
    inside: Tensor
    plane_of: Tensor
    step_of: Tensor

    @property
    def slice_count(self) -> int:
        """Number of slices."""
        return len(self.y)

    @property
    def bytes(self) -> int:
        """Memory that the images take."""
        return sum(t.numel() * t.element_size() for t in (self.planes, self.y, self.inside))


@dataclass(frozen=True)
class Conditioner:
    """What turns a case into images; it goes into the manifest, so that prediction does the same."""

    site: Site
    grid: NetworkGrid
    channels: tuple[Channel, ...]
    normalisation: Normalisation

    def condition_file(self, path: Path, least: tuple[int, int]) -> dict[str, NDArray[np.generic]]:
        """Read a case file and compute its images around the patient: the arrays of a `TrainingCase`.

        Parameters
        ----------
        least
            Rows and columns that are kept whatever the patient's size.
        """
        case = load_case(path)
        conditioning = condition(case, self.site, self.grid, self.channels, self.normalisation)
        assert case.dose_gy is not None  # noqa: S101 - load_case always gives a dose
        inside = conditioning.external > 0
        dose = conditioning.framing.dose_images(case.grid.to_canonical(case.dose_gy)) * inside
        y = dose_to_network(dose, case.prescription.highest_gy, self.normalisation)
        order = list(conditioning.planes)
        spacing_mm = conditioning.framing.slice_spacing_mm
        part = _around(inside, least)
        return {
            "planes": np.stack([conditioning.planes[plane][part].astype(np.float16) for plane in order]),
            "y": y[part].astype(np.float16),
            "inside": inside[part],
            "plane_of": np.array([order.index(in_plane(c)) for c in self.channels]),
            "step_of": np.array([round(c.offset_mm / spacing_mm) for c in self.channels]),
        }


@dataclass(frozen=True)
class Batch:
    """Structure images x (B, channels, …, H, W), dose maps y (B, 1, …, H, W), and where the patient is, like y.

    Stacks of slices have their depth where the dots are, slices nothing.
    """

    x: Tensor
    y: Tensor
    inside: Tensor


def load_training_cases(
    files: Sequence[Path],
    conditioner: Conditioner,
    crop: tuple[int, int],
    device: torch.device,
    workers: int,
    progress: Callable[[int, int], None],
) -> list[TrainingCase]:
    """Read and condition case files, `workers` processes at a time, in the order given; all of them hold such crops."""
    cases: list[TrainingCase] = []
    condition_file = partial(conditioner.condition_file, least=crop)
    with ExitStack() as stack:
        conditioned: Iterable[dict[str, NDArray[np.generic]]] = map(condition_file, files)
        if workers > 1:
            conditioned = stack.enter_context(process_pool(workers)).map(condition_file, files)
        for arrays in conditioned:
            cases.append(TrainingCase(**{name: torch.from_numpy(array).to(device) for name, array in arrays.items()}))
            progress(len(cases), len(files))
    return cases


def _around(inside: NDArray[np.bool_], least: tuple[int, int]) -> tuple[slice, slice, slice]:
    """Slices, rows and columns with the patient and `AIR` about him, of which a crop may show more or less."""
    part = [slice(None)]
    for axis, others in ((1, (0, 2)), (2, (0, 1))):
        length = inside.shape[axis]
        occupied = np.flatnonzero(inside.any(axis=others))
        first, last = (occupied[0], occupied[-1]) if len(occupied) else (length // 2,) * 2
        size = min(max(int(last - first) + 1 + 2 * AIR, least[axis - 1]), length)
        start = min(max(int(first + last + 1 - size) // 2, 0), length - size)
        part.append(slice(start, start + size))
    return tuple(part)  # type: ignore[return-value]


def flipped_channels(channels: Sequence[Channel]) -> list[int]:
    """Return for each channel the one that takes its place in a patient mirrored left to right.

    Organs of one side (TG-263 suffix _R or _L) trade places; a mirrored right parotid is a left one. So do sectors of
    beams: mirrored, a beam from 40° comes from 320°.

    Raises
    ------
    ValueError
        If an organ or a sector of one side has no partner among the channels.
    """
    partners = {"_R": "_L", "_L": "_R"}
    order = []
    for channel in channels:
        name, side = channel.name, channel.name[-2:]
        if channel.kind == "organ" and side in partners:
            name = name[:-2] + partners[side]
        elif channel.kind == "open-field-sector":
            name = f"{-float(name) % 360:g}"
        order.append(list(channels).index(channel.model_copy(update={"name": name})))
    return order


class SliceSampler:
    """Draws batches of slices, or of stacks of slices, mirrored with a chance of one half, cropped at random.

    Every patient has the same chance, and every slice of a patient: the scores, too, count patients. What a batch holds
    depends on the seed and its number alone, so that batches may be drawn in any order, and a training resumes exactly.

    Parameters
    ----------
    cases
        The patients.
    channels
        That their images show.
    crop
        Rows and columns of the crops.
    depth
        Slices of a stack, None for single slices. A patient with fewer is filled up with the last one, which then
        counts as outside.
    seed
        Of all randomness here.
    ct_blank_share
        Chance of a slice, or a stack, to be drawn with zeros for its CT.
    """

    def __init__(
        self,
        cases: Sequence[TrainingCase],
        channels: Sequence[Channel],
        crop: tuple[int, int],
        seed: int,
        depth: int | None = None,
        ct_blank_share: float = 0.0,
    ) -> None:
        rows, columns = (min(case.y.shape[axis] for case in cases) for axis in (1, 2))
        if crop[0] > rows or crop[1] > columns:
            raise ValueError(f"crops of {crop[0]} × {crop[1]} do not fit into images of {rows} × {columns}")
        self._cases, self._crop, self._seed, self._depth = cases, crop, seed, depth
        self._ct_blank_share = ct_blank_share
        self._ct = torch.tensor([channel.kind == "ct" for channel in channels], device=cases[0].planes.device)
        self._mirror = torch.tensor(flipped_channels(channels), device=cases[0].planes.device)

    def draw(self, number: int, size: int) -> Batch:
        """Draw the batch of that number, of so many slices or stacks."""
        random = np.random.default_rng([self._seed, number])
        drawn = [self._draw_stack(random) for _ in range(size)]
        x, y, inside = (torch.stack([images[k] for images in drawn]).float() for k in range(3))
        if self._depth is None:
            x, y, inside = x[:, :, 0], y[:, :, 0], inside[:, :, 0]
        return Batch(x, y, inside)

    def _draw_stack(self, random: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        case = self._cases[int(random.integers(len(self._cases)))]
        depth, count = self._depth or 1, case.slice_count
        first = int(random.integers(max(count - depth, 0) + 1))
        top, left = (int(random.integers(n - c + 1)) for n, c in zip(case.y.shape[1:], self._crop, strict=True))
        window = (..., slice(top, top + self._crop[0]), slice(left, left + self._crop[1]))
        device = case.planes.device
        beyond = torch.arange(first, first + depth, device=device)
        slices = beyond.clamp(max=count - 1)
        neighbours = (slices[None, :] + case.step_of[:, None]).clamp(0, count - 1)  # (channels, depth)
        x = case.planes[window][case.plane_of[:, None], neighbours]  # (channels, depth, rows, columns)
        y = case.y[window][None, slices]
        inside = case.inside[window][None, slices] & (beyond < count)[:, None, None]
        if self._ct_blank_share and random.random() < self._ct_blank_share:
            x[self._ct] = 0
        if random.random() < 0.5:
            x, y, inside = (x[self._mirror].flip(-1), y.flip(-1), inside.flip(-1))
        return x, y, inside


def memory_gib(cases: Sequence[TrainingCase]) -> float:
    """Memory that the images of all patients take, in GiB."""
    return sum(case.bytes for case in cases) / 2**30
