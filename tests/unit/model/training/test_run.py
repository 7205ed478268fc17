"""From case files to a checkpoint that predicts."""

from pathlib import Path

import numpy as np
import torch

from model.checkpoint.manifest import SamplerDefaults, Schedule
from model.checkpoint.store import open_checkpoint
from model.networks.diffdp import DiffDP
from model.prediction.predictor import Predictor, SamplingOptions
from model.training.case_file import load_case
from model.training.run import Run, manifest_of, train, write_checkpoint
from model.training.train import TrainingOptions


def test_a_checkpoint_keeps_weights_at_half_precision_and_knows_their_hash(tiny_manifest, tmp_path):
    torch.manual_seed(0)
    network = DiffDP(len(tiny_manifest.channels), tiny_manifest.architecture).on(torch.device("cpu"))
    weights = network.state_dict()
    write_checkpoint(tmp_path / "new" / "checkpoint", weights, tiny_manifest)
    loaded = Predictor.load(open_checkpoint(tmp_path / "new" / "checkpoint"), "cpu").network.state_dict()
    assert loaded.keys() == weights.keys()
    for name, value in loaded.items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, weights[name], rtol=2**-11, atol=2**-25)


def test_a_whole_training_leaves_a_checkpoint_that_predicts(patients, recipe, architecture, tmp_path: Path):
    run = Run(
        name="small",
        folder=tmp_path / "run",
        training=patients[0].parent,
        validation=patients[0].parent,
        recipe=recipe,
        architecture=architecture,
        schedule=Schedule(),
        defaults=SamplerDefaults(sampler="coarse-ddim", steps=2, samples=1, start_step=250),
        options=TrainingOptions(0.01, 0.01, batch=2, crop=(32, 32), save_every_s=0.2),
        validation_cases=1,
    )
    told = []
    trainer = train(run, "cpu", told.append, workers=1)
    assert "reading cases 2/2" in told
    assert len([line for line in told if isinstance(line, str) and "dose_score_gy.coarse'" in line]) == 2
    assert len([line for line in told if isinstance(line, str) and "dose_score_gy.coarse-ddim'" in line]) == 1

    manifest = manifest_of(run, trainer, 2)
    assert manifest.training.patients == 2
    assert manifest.training.steps["diffusion"] == trainer.progress.diffusion_steps > 0
    write_checkpoint(tmp_path / "small", trainer.average, manifest)
    checkpoint = open_checkpoint(tmp_path / "small")
    assert checkpoint.manifest.channels == recipe.channels
    case = load_case(patients[0])
    dose_gy = Predictor.load(checkpoint, "cpu").predict(case, SamplingOptions.of(checkpoint.manifest)).dose_gy
    assert np.isfinite(dose_gy).all()
    assert dose_gy.shape == case.grid.shape
