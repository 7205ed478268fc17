"""Spreads whose right scale is known."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from model.case import Case
from model.checkpoint.manifest import Architecture, Manifest, NetworkGrid, Schedule
from model.errors import CheckpointError
from model.evaluation.scores import evaluate
from model.evaluation.spread import WITHIN, calibrate_spread, spread_coverage, spread_scale
from model.networks.registry import build
from model.prediction.predictor import Predictor, SamplingOptions

MEAN, DEVIATION = 0.4, 0.2
"""Of y in every pixel, in network units."""


class Ideal(nn.Module):
    """E[ε | y_t] of such doses."""

    def forward(self, structure: tuple[Tensor, ...], noisy: Tensor, gamma: Tensor) -> Tensor:
        g = gamma[:, None, None, None]
        return (1 - g).sqrt() * (noisy - g.sqrt() * MEAN) / (g * DEVIATION**2 + 1 - g)


@pytest.fixture
def predictor(tiny_manifest: Manifest) -> Predictor:
    """Samples two doses from the distribution by Eq. 8, which is but little too wide on a fine schedule."""
    architecture = Architecture(kind="diffdp", widths=(8, 8, 8, 8, 8), heads=2, groups=4)
    manifest = tiny_manifest.model_copy(
        update={
            "architecture": architecture,
            "grid": NetworkGrid(rows=32, columns=32, pixel_spacing_mm=10.0, slice_spacing_mm=2.5),
            "schedule": Schedule(steps=300, first=1e-3, last=0.05),
            "defaults": tiny_manifest.defaults.model_copy(update={"sampler": "ancestral", "samples": 2}),
        }
    )
    network = build(len(manifest.channels), architecture)
    network.predictor = Ideal()
    return Predictor(network, manifest, torch.device("cpu"))


@pytest.fixture
def drawn_case(block_case: Case) -> Case:
    """A patient whose dose is drawn from the distribution too."""
    y = np.random.default_rng(3).normal(MEAN, DEVIATION, block_case.grid.shape)
    dose_gy = (70.0 * (y + 1) / 2 * block_case.external).astype(np.float32)
    return Case(
        block_case.hu, block_case.grid, block_case.structures, block_case.prescription, dose_gy=dose_gy, identifier="a"
    )


def test_a_standard_deviation_of_normal_errors_covers_nine_of_ten_and_needs_no_scale() -> None:
    random = np.random.default_rng(0)
    deviation = random.uniform(0.5, 2.0, 100_000)
    reference = random.normal(30.0, deviation)
    mask = np.ones(reference.shape, np.bool_)
    dose = np.full_like(reference, 30.0)
    assert spread_coverage(reference, dose, deviation, mask) == pytest.approx(0.9, abs=0.005)
    assert spread_scale(reference, dose, deviation, mask) == pytest.approx(1, rel=0.01)
    assert spread_scale(reference, dose, deviation / 4, mask) == pytest.approx(4, rel=0.01)


def test_only_the_mask_counts_and_where_nothing_is_wrong_no_spread_is_needed() -> None:
    reference, dose = np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.5, 99.0])
    spread = np.array([0.0, 0.5 / WITHIN / 2, 0.0])
    mask = np.array([True, True, False])
    assert spread_coverage(reference, dose, spread, mask) == 0.5
    assert spread_scale(reference, dose, spread, mask) == pytest.approx(2)
    with pytest.raises(ValueError, match="zero where the dose is wrong"):
        spread_scale(reference, dose, 0 * spread, mask)


def test_the_error_of_a_mean_of_two_right_samples_is_root_three_halves_of_their_spread(predictor, drawn_case) -> None:
    done: list[None] = []
    found = calibrate_spread(predictor, [drawn_case, drawn_case], 40.0, lambda: done.append(None))
    # A like reference differs from the mean of K samples by √(1 + 1/K) standard deviations
    assert found.scale == pytest.approx(1.5**0.5, rel=0.12)
    assert (found.pooling_mm, found.patients, len(done)) == (40.0, 2, 2)
    calibrated = Predictor(predictor.network, predictor.manifest.model_copy(update={"spread": found}), predictor.device)
    (patient,) = evaluate(calibrated, [drawn_case], SamplingOptions("ancestral", 1, 2, 1)).patients
    assert patient.spread_coverage == pytest.approx(0.9, abs=0.04)


def test_without_two_samples_or_patients_there_is_nothing_to_calibrate(predictor, drawn_case) -> None:
    with pytest.raises(ValueError, match="without patients"):
        calibrate_spread(predictor, [], 10.0)
    defaults = predictor.manifest.defaults.model_copy(update={"sampler": "coarse"})
    predictor.manifest = predictor.manifest.model_copy(update={"defaults": defaults})
    with pytest.raises(CheckpointError, match="one sample"):
        calibrate_spread(predictor, [drawn_case], 10.0)
