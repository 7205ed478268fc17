"""Training on a few small patients."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from model.case import Case
from model.checkpoint.manifest import Architecture, Channel, NetworkGrid
from model.conditioning import head_and_neck
from model.training.case_file import save_case
from model.training.slices import Conditioner, SliceSampler, TrainingCase, load_training_cases

ARCHITECTURE = Architecture(widths=(8, 8, 8, 8, 8), heads=2, groups=4)
CPU = torch.device("cpu")


@pytest.fixture
def architecture() -> Architecture:
    return ARCHITECTURE


@pytest.fixture
def conditioner() -> Conditioner:
    """What the anatomy is, with one neighbour, on a grid that suits the small patient."""
    channels = (*(c for c in head_and_neck.CHANNELS if not c.offset_mm), Channel(kind="ct", offset_mm=5.0))
    grid = NetworkGrid(rows=32, columns=32, pixel_spacing_mm=10.0, slice_spacing_mm=2.5)
    return Conditioner(head_and_neck.SITE, grid, channels, head_and_neck.NORMALISATION)


@pytest.fixture
def patients(block_case: Case, tmp_path: Path) -> list[Path]:
    """Two case files."""
    paths = [tmp_path / "cases" / f"{name}.npz" for name in ("one", "two")]
    save_case(block_case, paths[0])
    save_case(replace(block_case, hu=-block_case.hu, dose_gy=block_case.dose_gy * np.float32(0.8)), paths[1])
    return paths


@pytest.fixture
def cases(patients: list[Path], conditioner: Conditioner) -> list[TrainingCase]:
    """The images of both patients."""
    return load_training_cases(patients, conditioner, (32, 32), CPU, 1, lambda *_: None)


@pytest.fixture
def sampler(cases: list[TrainingCase], conditioner: Conditioner) -> SliceSampler:
    """Batches of crops of both patients."""
    return SliceSampler(cases, conditioner.channels, (16, 32), seed=0)
