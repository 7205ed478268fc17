"""Training slices in memory: structure images and dose maps, drawn at random, flipped and cropped."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.checkpoint.manifest import Channel, NetworkGrid, Normalisation
from model.conditioning.channels import Conditioning, condition, dose_to_network
from model.conditioning.site import Site
from model.training.case_file import load_case

Half = NDArray[np.float16]


@dataclass(frozen=True)
class Recipe:
    """What turns a case into images; it goes into the manifest, so that prediction does the same."""

    site: Site
    grid: NetworkGrid
    channels: tuple[Channel, ...]
    normalisation: Normalisation

    def condition_file(self, path: Path) -> "TrainingCase":
        """Read a case file and compute its images."""
        case = load_case(path)
        conditioning = condition(case, self.site, self.grid, self.channels, self.normalisation)
        assert case.dose_gy is not None  # noqa: S101 - load_case always gives a dose
        dose = conditioning.framing.dose_images(case.grid.to_canonical(case.dose_gy))
        dose *= conditioning.external > 0
        planes = {channel: plane.astype(np.float16) for channel, plane in conditioning.planes.items()}
        halved = Conditioning(conditioning.framing, planes, conditioning.external.astype(np.float16), self.channels)  # type: ignore[arg-type]
        y = dose_to_network(dose, case.prescription.highest_gy, self.normalisation).astype(np.float16)
        return TrainingCase(halved, y)


@dataclass(frozen=True)
class TrainingCase:
    """One patient's images at half precision: `y` is the dose map in network units (slices, rows, columns)."""

    conditioning: Conditioning
    y: Half


@dataclass(frozen=True)
class Batch:
    """Structure images x (B, channels, H, W), dose maps y (B, 1, H, W), and where the patient is (B, 1, H, W)."""

    x: Tensor
    y: Tensor
    inside: Tensor


def load_training_cases(
    files: Sequence[Path], recipe: Recipe, workers: int, progress: Callable[[int, int], None]
) -> list[TrainingCase]:
    """Read and condition case files, `workers` at a time, in the order given."""
    cases: list[TrainingCase] = []
    with ThreadPoolExecutor(workers) as pool:
        for case in pool.map(recipe.condition_file, files):
            cases.append(case)
            progress(len(cases), len(files))
    return cases


def flipped_channels(channels: Sequence[Channel]) -> list[int]:
    """Return for each channel the one that takes its place in a patient mirrored left to right.

    Organs of one side (TG-263 suffix _R or _L) trade places; a mirrored right parotid is a left one.

    Raises
    ------
    ValueError
        If an organ of one side has no partner among the channels.
    """
    partners = {"_R": "_L", "_L": "_R"}
    order = []
    for channel in channels:
        side = channel.name[-2:]
        name = channel.name[:-2] + partners[side] if channel.kind == "organ" and side in partners else channel.name
        order.append(list(channels).index(channel.model_copy(update={"name": name})))
    return order


class SliceSampler:
    """Draws batches of slices, mirrored with a chance of one half, cropped at random.

    Every patient has the same chance, and every slice of a patient: the scores, too, count patients.

    Parameters
    ----------
    cases
        The patients.
    crop
        Rows and columns of the crops.
    generator
        Its state is the sampler's only state; save it to resume exactly.
    """

    def __init__(self, cases: Sequence[TrainingCase], crop: tuple[int, int], generator: np.random.Generator) -> None:
        self._cases = cases
        self._crop = crop
        self._mirror = flipped_channels(cases[0].conditioning.channels)
        self.generator = generator

    def draw(self, batch: int) -> Batch:
        """Draw one batch."""
        drawn = [self._draw_slice() for _ in range(batch)]
        x, y, inside = (np.stack([images[k] for images in drawn]) for k in range(3))
        return Batch(torch.from_numpy(x), torch.from_numpy(y)[:, None], torch.from_numpy(inside)[:, None])

    def _draw_slice(self) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        case = self._cases[int(self.generator.integers(len(self._cases)))]
        k = int(self.generator.integers(case.conditioning.slice_count))
        rows, columns = self._crop
        top = int(self.generator.integers(case.y.shape[1] - rows + 1))
        left = int(self.generator.integers(case.y.shape[2] - columns + 1))
        window = (slice(top, top + rows), slice(left, left + columns))
        x = case.conditioning.structure_images([k])[0][(slice(None), *window)]
        y = case.y[k][window].astype(np.float32)
        inside = (case.conditioning.external[k][window] > 0).astype(np.float32)
        if self.generator.random() < 0.5:
            x, y, inside = x[self._mirror, :, ::-1], y[:, ::-1], inside[:, ::-1]
        return x, y, inside
