import numpy as np
import pytest

from model.case import VoxelGrid
from model.dicom.outline import derive_outline
from model.errors import StudyError

GRID = VoxelGrid((8, 60, 80), (3.0, 2.0, 2.0), (0.0, 0.0, 0.0))


def phantom() -> tuple[np.ndarray, np.ndarray]:
    """Body with lungs above a couch that it touches, and a marker beside it."""
    row, column = np.mgrid[:60, :80]
    body = ((row - 25) / 15) ** 2 + ((column - 40) / 25) ** 2 <= 1
    lung = ((row - 25) / 6) ** 2 + ((column - 40) / 10) ** 2 <= 1
    hu = np.full((60, 80), -1000.0)
    hu[41:43] = 100
    hu[5:7, 5:7] = 500
    hu[body] = 0
    hu[lung] = -800
    return np.repeat(hu[None].astype(np.float32), 8, axis=0), np.repeat(body[None], 8, axis=0)


def test_body_without_couch_with_lungs() -> None:
    hu, body = phantom()
    outline = derive_outline(hu, GRID)
    assert outline[body].all()
    # Couch within its own thickness of where the body touches it may stay
    assert (outline & ~body).sum() < 0.03 * body.sum()
    assert not outline[:, 41:43, :10].any()
    assert not outline[:, :10, :10].any()


def test_air_has_no_outline() -> None:
    with pytest.raises(StudyError) as raised:
        derive_outline(np.full(GRID.shape, -1000, np.float32), GRID)
    assert raised.value.rule == "no-outline"
