"""From case files to a checkpoint that predicts."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from model.checkpoint.manifest import Architecture, SamplerDefaults
from model.checkpoint.store import WEIGHTS, open_checkpoint
from model.errors import CheckpointError
from model.networks.diffdp import DiffDP
from model.prediction.predictor import Predictor, SamplingOptions
from model.training import recipe as recipes
from model.training.case_file import load_case
from model.training.recipe import STAGES_OF, Budget, Recipe, TrainingOptions
from model.training.run import record_figures, train_checkpoint, write_checkpoint


@pytest.fixture
def recipe_of(monkeypatch, conditioner, architecture):
    """A recipe of a few batches, for the site of the small patients."""
    monkeypatch.setattr(recipes, "SITES", {"blocks": conditioner})

    def make(kind: str = "diffdp", **changes: object) -> Recipe:
        sampler = {"diffdp": "coarse-ddim", "diffdp-residual": "ddim", "baseline": "ddim"}.get(kind, "regression")
        given = {
            "name": "small",
            "description": "of blocks",
            "data": "blocks",
            "licence": "MIT",
            "simulated": True,
            "site": "blocks",
            "network": architecture.model_dump() | {"kind": kind},
            "sampler": SamplerDefaults(sampler=sampler, steps=2, start_step=250).model_dump(),
            "stages": {stage: {"batches": 2} for stage in STAGES_OF[kind]},
            "training": TrainingOptions(
                batch=2, crop=(32, 32), depth=16 if kind == "c3d" else None, save_every_s=0.2, validate_patients=1
            ).model_dump(),
        }
        return Recipe.model_validate(given | changes)

    return make


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


@pytest.mark.parametrize("kind", STAGES_OF)
def test_a_whole_training_leaves_a_checkpoint_that_predicts(recipe_of, patients, tmp_path: Path, kind):
    if kind in {"unet", "gan", "prunet", "c3d"}:
        pytest.importorskip("monai")
    recipe = recipe_of(kind)
    told = []
    folder = patients[0].parent
    train_checkpoint(recipe, folder, folder, tmp_path / "run", tmp_path / "small", "cpu", told.append)
    lines = [line for line in told if isinstance(line, str)]
    assert "reading cases 2/2" in lines
    assert sum("GiB on cpu" in line for line in lines) == 1
    assert [line.split(":")[0] for line in lines if "dose score" in line] == list(STAGES_OF[kind])

    checkpoint = open_checkpoint(tmp_path / "small")
    manifest = checkpoint.manifest
    assert manifest.training.patients == 2
    assert manifest.training.simulated
    assert manifest.training.steps == dict.fromkeys(STAGES_OF[kind], 2)
    assert Recipe.model_validate(manifest.training.recipe) == recipe
    assert manifest.training.started_from is None
    assert manifest.channels == recipe.conditioner.channels
    case = load_case(patients[0])
    dose_gy = Predictor.load(checkpoint, "cpu").predict(case, SamplingOptions.by(manifest.defaults)).dose_gy
    assert np.isfinite(dose_gy).all()
    assert dose_gy.shape == case.grid.shape


def test_a_training_can_begin_with_a_checkpoints_weights(recipe_of, patients, tmp_path):
    folder = patients[0].parent
    recipe = recipe_of()
    train_checkpoint(recipe, folder, folder, tmp_path / "one", tmp_path / "first", "cpu", lambda _: None)
    first = open_checkpoint(tmp_path / "first")
    nothing = recipe_of(stages={stage: Budget(batches=0).model_dump() for stage in STAGES_OF["diffdp"]})
    train_checkpoint(nothing, folder, folder, tmp_path / "two", tmp_path / "second", "cpu", lambda _: None, first)
    second = open_checkpoint(tmp_path / "second")
    assert second.manifest.training.started_from == first.manifest.weights_sha256
    assert second.manifest.weights_sha256 == first.manifest.weights_sha256

    residual = recipe_of("diffdp-residual", stages=nothing.stages)
    train_checkpoint(residual, folder, folder, tmp_path / "half", tmp_path / "lent", "cpu", lambda _: None, first)
    lent, given = load_file(tmp_path / "lent" / WEIGHTS), load_file(first.weights)
    same = {name for name, weights in lent.items() if torch.equal(weights, given.get(name, torch.empty(0)))}
    assert {"encoder", "coarse"} <= {name.split(".")[0] for name in same}
    assert not [name for name in lent.keys() - same if not name.startswith("predictor.")]
    with pytest.raises(CheckpointError, match="no start for it"):  # nothing that does not diffuse residuals predicts f
        train_checkpoint(
            nothing,
            folder,
            folder,
            tmp_path / "f",
            tmp_path / "back",
            "cpu",
            lambda _: None,
            open_checkpoint(tmp_path / "lent"),
        )

    wider = recipe_of(network=Architecture(widths=(16, 8, 8, 8, 8), heads=2, groups=4).model_dump())
    with pytest.raises(CheckpointError, match="other channels or sizes"):
        train_checkpoint(wider, folder, folder, tmp_path / "three", tmp_path / "third", "cpu", lambda _: None, first)


def test_figures_go_into_the_manifest(tiny_models, tmp_path):
    shutil.copytree(tiny_models / "tiny", tmp_path / "tiny")
    checkpoint = open_checkpoint(tmp_path / "tiny")
    record_figures(checkpoint, {"openkbp_dose_score_gy": 2.5})
    again = open_checkpoint(tmp_path / "tiny")
    assert again.manifest.figures_of_merit == {"openkbp_dose_score_gy": 2.5}
    assert again.manifest.weights_sha256 == checkpoint.manifest.weights_sha256
