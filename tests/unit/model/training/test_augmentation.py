"""Turned and scaled slices, against slices drawn that way."""

import numpy as np
import pytest
import torch

from model.training.augmentation import turned_and_scaled
from model.training.slices import Batch


def blob(rows: int, columns: int, row: float, column: float, width: float) -> torch.Tensor:
    """A smooth spot; positions from the middle, in pixels."""
    y, x = np.meshgrid(np.arange(rows) - (rows - 1) / 2, np.arange(columns) - (columns - 1) / 2, indexing="ij")
    return torch.from_numpy(np.exp(-((y - row) ** 2 + (x - column) ** 2) / (2 * width**2)).astype(np.float32))


def spot(batch: int = 64) -> Batch:
    image = blob(40, 64, 0.0, 12.0, 3.0)[None, None].expand(batch, 1, -1, -1)
    return Batch(image.expand(-1, 3, -1, -1).clone(), image.clone(), (image > 0.5).float())


def middle(image: torch.Tensor) -> np.ndarray:
    rows, columns = image.shape
    y, x = np.meshgrid(np.arange(rows) - (rows - 1) / 2, np.arange(columns) - (columns - 1) / 2, indexing="ij")
    weights = image.clamp(min=0).numpy()
    return np.array([(weights * y).sum(), (weights * x).sum()]) / weights.sum()


def test_a_spot_keeps_its_distance_when_turned_and_its_shape_in_images_that_are_not_square():
    changed = turned_and_scaled(spot(), 1.0, 30.0, 0.0, torch.Generator().manual_seed(0))
    angles = []
    for image in changed.y[:, 0]:
        row, column = middle(image)
        assert np.hypot(row, column) == pytest.approx(12.0, abs=0.1)
        angles.append(np.degrees(np.arctan2(row, column)))
        # Still round, and as wide as it was
        expected = blob(40, 64, row, column, 3.0)
        torch.testing.assert_close(image, expected, atol=0.03, rtol=0)
    assert max(angles) > 20
    assert min(angles) < -20
    assert max(map(abs, angles)) <= 30.1


def test_a_spot_grows_with_its_distance():
    changed = turned_and_scaled(spot(), 1.0, 0.0, 0.2, torch.Generator().manual_seed(0))
    sizes = []
    for image in changed.y[:, 0]:
        row, column = middle(image)
        assert row == pytest.approx(0, abs=0.05)
        sizes.append(column / 12)
        torch.testing.assert_close(image, blob(40, 64, row, column, 3.0 * sizes[-1]), atol=0.03, rtol=0)
    assert 1 / 1.2 - 0.01 <= min(sizes) < 0.9
    assert 1.1 < max(sizes) <= 1.21


def test_images_dose_and_mask_move_together():
    changed = turned_and_scaled(spot(), 1.0, 30.0, 0.2, torch.Generator().manual_seed(1))
    for k in range(3):
        torch.testing.assert_close(changed.x[:, k], changed.y[:, 0])
    agreement = ((changed.y > 0.5) == (changed.inside > 0)).float().mean()
    assert agreement > 0.99
    assert set(changed.inside.unique().tolist()) == {0.0, 1.0}


def test_slices_of_a_stack_turn_as_one():
    flat = spot(4)
    stack = Batch(*(images[:, :, None].expand(-1, -1, 5, -1, -1).clone() for images in (flat.x, flat.y, flat.inside)))
    turned = turned_and_scaled(stack, 1.0, 30.0, 0.1, torch.Generator().manual_seed(2))
    expected = turned_and_scaled(flat, 1.0, 30.0, 0.1, torch.Generator().manual_seed(2))
    for k in range(5):
        torch.testing.assert_close(turned.y[:, :, k], expected.y)
        torch.testing.assert_close(turned.x[:, :, k], expected.x)


def test_what_comes_from_beyond_the_crop_counts_as_outside():
    whole = Batch(torch.ones(8, 1, 40, 64), torch.ones(8, 1, 40, 64), torch.ones(8, 1, 40, 64))
    changed = turned_and_scaled(whole, 1.0, 30.0, 0.0, torch.Generator().manual_seed(0))
    assert changed.x.min() == pytest.approx(1, abs=1e-5)  # the edge repeated
    assert 0 < (changed.inside == 0).float().mean() < 0.3
    assert (changed.inside[:, :, 15:25, 20:44] == 1).all()


def test_slices_that_are_not_chosen_stay_as_they_are():
    batch = spot()
    changed = turned_and_scaled(batch, 0.5, 30.0, 0.1, torch.Generator().manual_seed(0))
    same = [torch.equal(a, b) for a, b in zip(batch.y, changed.y, strict=True)]
    assert 16 < sum(same) < 48
    assert turned_and_scaled(batch, 0.0, 30.0, 0.1, torch.Generator()) is batch
