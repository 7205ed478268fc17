"""Faults of published code that this project must not have; each test fails if we had one."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from model.checkpoint.manifest import Schedule
from model.conditioning import head_and_neck
from model.diffusion.reverse import ddim
from model.diffusion.schedule import NoiseSchedule
from model.dosimetry.openkbp import patient_errors
from model.prediction.predictor import SamplingOptions
from model.training.case_file import load_case, save_case
from model.training.slices import flipped_channels

DDIM = SamplingOptions("ddim", steps=3, samples=1, seed=0)


def test_the_reference_dose_does_not_leak_into_the_prediction(predictor, block_case):
    """Zeroing a prediction where the reference is zero tells it where the dose ends."""
    doses = [
        predictor.predict(replace(block_case, dose_gy=reference), DDIM).dose_gy
        for reference in (block_case.dose_gy, np.zeros_like(block_case.dose_gy), None)
    ]
    np.testing.assert_array_equal(doses[0], doses[1])
    np.testing.assert_array_equal(doses[0], doses[2])


def test_dose_predicted_where_the_reference_is_zero_counts_as_an_error(block_case):
    nothing = np.zeros_like(block_case.dose_gy)
    errors = patient_errors(nothing, block_case.dose_gy, block_case.external, oars={}, targets={}, voxel_volume_cc=0.25)
    assert errors.dose_gy == pytest.approx(block_case.dose_gy[block_case.external].mean(), rel=1e-5)


@pytest.mark.parametrize("steps", [1, 5, 10, 50])
def test_pure_noise_is_where_a_shortened_schedule_starts(steps):
    """Of a schedule cut to its first steps, the last γ is far from 0, and pure noise is not what f was trained on."""
    schedule, seen = NoiseSchedule(**Schedule().model_dump()), []
    list(ddim(torch.randn(1, 1, 2, 2), lambda y, gamma: seen.append(gamma) or y, schedule, steps))
    assert seen[0] == float(schedule.gamma[1000]) == pytest.approx(0.0066, rel=0.06)


def test_dose_is_not_stored_in_256_steps(block_case, tmp_path):
    ramp = np.linspace(0, 80, block_case.dose_gy.size, dtype=np.float32).reshape(block_case.grid.shape)
    save_case(replace(block_case, dose_gy=ramp), tmp_path / "case.npz")
    assert np.abs(load_case(tmp_path / "case.npz").dose_gy - ramp).max() < 0.006


def test_hot_spots_above_the_scale_stay(predictor, block_case):
    """Network units end at 1 for the prescription; what a network says beyond must come out."""
    with torch.no_grad():
        predictor.network.coarse.head.weight.zero_()
        predictor.network.coarse.head.bias.fill_(1.6)
    dose_gy = predictor.predict(block_case, SamplingOptions("coarse", 1, 1, 0)).dose_gy
    assert dose_gy.max() == pytest.approx(1.3 * 70, rel=1e-3)


def test_a_mirrored_patient_has_its_paired_organs_swapped():
    names = [channel.name for channel in head_and_neck.CHANNELS]
    mirrored = [names[k] for k in flipped_channels(head_and_neck.CHANNELS)]
    assert mirrored[names.index("Parotid_R")] == "Parotid_L"
    assert mirrored[names.index("Parotid_L")] == "Parotid_R"
    assert mirrored[names.index("SpinalCord")] == "SpinalCord"


@pytest.mark.parametrize("sampler", ["ancestral", "ddim", "coarse-ddim"])
def test_the_structure_encoder_runs_once_per_slice(predictor, block_case, sampler):
    slices = []
    predictor.network.encoder.register_forward_hook(lambda _m, _i, features: slices.append(len(features[-1])))
    predictor.predict(block_case, SamplingOptions(sampler, steps=4, samples=2, seed=0), slices_per_batch=2)
    assert slices == [2, 2, 1]
