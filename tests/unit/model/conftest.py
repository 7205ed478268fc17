"""A small patient, and the same patient stored in other ways."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from model.case import EXTERNAL, Case, Prescription, Structure, VoxelGrid

Reorient = Callable[[Case, tuple[int, int, int], tuple[bool, bool, bool]], Case]

SHAPE = (6, 21, 25)
SPACING_MM = (2.5, 10.0, 10.0)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """Networks this small are far slower on several threads, most of all on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _box(*spans: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(SHAPE, bool)
    mask[tuple(slice(*span) for span in spans)] = True
    return mask


@pytest.fixture
def block_case() -> Case:
    """A patient of boxes without any symmetry, in canonical order, with a reference dose.

    The prescriptions overlap: PTV56 covers PTV70.
    """
    random = np.random.default_rng(7)
    masks = {
        EXTERNAL: ("external", _box((1, 6), (3, 18), (4, 21))),
        "PTV70": ("target", _box((2, 5), (8, 12), (10, 15))),
        "PTV56": ("target", _box((1, 5), (7, 14), (8, 15))),
        "Parotid_R": ("oar", _box((3, 6), (6, 9), (5, 7))),
        "Parotid_L": ("oar", _box((3, 6), (6, 10), (17, 20))),
        "SpinalCord": ("oar", _box((1, 6), (14, 16), (12, 14))),
    }
    depth = np.linspace(70.0, 20.0, SHAPE[1])[:, None] * np.ones(SHAPE)
    dose_gy = (depth + random.uniform(0, 5, SHAPE)) * masks[EXTERNAL][1]
    return Case(
        hu=random.integers(-1024, 2000, SHAPE).astype(np.int16),
        grid=VoxelGrid(SHAPE, SPACING_MM, (-120.0, -100.0, -40.0)),
        structures={name: Structure(name, mask, kind, name) for name, (kind, mask) in masks.items()},
        prescription=Prescription({"PTV70": 70.0, "PTV56": 56.0}, 35, "data-set"),
        dose_gy=dose_gy.astype(np.float32),
        identifier="blocks",
    )


@pytest.fixture
def reorient() -> Reorient:
    """Store a canonical case with its axes in another order and direction: the patient does not change."""

    def stored(case: Case, order: tuple[int, int, int], flipped: tuple[bool, bool, bool]) -> Case:
        def array(values: np.ndarray) -> np.ndarray:
            values = np.transpose(values, order)
            return np.ascontiguousarray(np.flip(values, [k for k in range(3) if flipped[k]]))

        grid = case.grid
        axes = np.asarray(grid.axes)[list(order)]
        first = np.zeros(3)
        for k, axis in enumerate(order):
            first[axis] = grid.shape[axis] - 1 if flipped[k] else 0
        origin = np.asarray(grid.origin_mm)
        for axis in range(3):
            origin = origin + first[axis] * grid.spacing_mm[axis] * np.asarray(grid.axes[axis])
        axes = axes * np.where(flipped, -1.0, 1.0)[:, None]
        turned = VoxelGrid(
            shape=tuple(grid.shape[k] for k in order),
            spacing_mm=tuple(grid.spacing_mm[k] for k in order),
            origin_mm=tuple(origin),
            axes=tuple(tuple(axis) for axis in axes),
        )
        return replace(
            case,
            hu=array(case.hu),
            grid=turned,
            structures={name: replace(s, mask=array(s.mask)) for name, s in case.structures.items()},
            dose_gy=None if case.dose_gy is None else array(case.dose_gy),
        )

    return stored
