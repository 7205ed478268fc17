"""The trainer: rates, averages, what is best, and going on after a stop."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from model.checkpoint.manifest import Architecture
from model.diffusion.schedule import NoiseSchedule
from model.errors import DatasetError
from model.networks.registry import build
from model.training.objectives import objective_of
from model.training.recipe import Budget, TrainingOptions
from model.training.slices import SliceSampler
from model.training.train import Trainer, Validation

OPTIONS = TrainingOptions(batch=2, learning_rate=3e-3, warmup=5, save_every_s=0.0, validate_every_minutes=0.0)
STAGES = {"pretrain": Budget(minutes=1), "diffusion": Budget(minutes=1)}

MakeTrainer = Callable[..., Trainer]


class Stop(Exception):
    """Stands for a killed process."""


@pytest.fixture
def trainer_in(cases, conditioner, architecture) -> MakeTrainer:
    def make(folder: Path, options: TrainingOptions = OPTIONS, stages=STAGES, kind="diffdp", identity=None) -> Trainer:
        torch.manual_seed(options.seed)
        architecture_of_kind = Architecture.model_validate({**architecture.model_dump(), "kind": kind})
        network = build(len(conditioner.channels), architecture_of_kind)
        sampler = SliceSampler(cases, conditioner.channels, (16, 32), options.seed)
        objective = objective_of(network, options, NoiseSchedule())
        return Trainer(folder, objective, sampler, stages, options, torch.device("cpu"), identity)

    return make


@pytest.fixture
def trainer(trainer_in: MakeTrainer, tmp_path: Path) -> Trainer:
    return trainer_in(tmp_path / "run")


def step(trainer: Trainer, number: int = 0, rate: float = 1e-3) -> dict[str, float]:
    stage = trainer.progress.stage
    batch = trainer.sampler.draw(number, trainer.options.batch)
    return {name: float(value) for name, value in trainer._step(stage, batch, rate).items()}


def train_for(trainer: Trainer, batches: int, scores: list[float] | None = None) -> None:
    """Train until so many batches are done, validate with the scores given, and be stopped before the next save."""
    told = iter(scores or [])

    def validate(stage, network) -> Validation:
        if sum(trainer.progress.done.values()) > batches:
            raise Stop
        return Validation(next(told, 1.0), {})

    with pytest.raises(Stop):
        trainer.run(lambda _: None, validate)


def assert_same_state(one: Trainer, other: Trainer) -> None:
    assert one.progress == other.progress
    assert one.objective.modules.keys() == other.objective.modules.keys()
    for module_name, module in one.objective.modules.items():
        for name, value in module.state_dict().items():
            torch.testing.assert_close(other.objective.modules[module_name].state_dict()[name], value, rtol=0, atol=0)
        ours, theirs = (t.optimisers[module_name].state_dict()["state"] for t in (one, other))
        assert ours.keys() == theirs.keys()
        for index, moments in ours.items():
            assert moments.keys() == theirs[index].keys() == {"step", "exp_avg", "exp_avg_sq"}
            for name, value in moments.items():
                torch.testing.assert_close(theirs[index][name], value, rtol=0, atol=0)
    for name, value in one.average.items():
        torch.testing.assert_close(other.average[name], value, rtol=0, atol=0)
    assert torch.equal(one.generator.get_state(), other.generator.get_state())


@pytest.mark.parametrize(
    ("decay", "batches", "share", "factor"),
    [
        ("cosine", 0, 0.0, 0.2),
        ("cosine", 4, 0.0, 1.0),
        ("cosine", 99, 0.5, 0.525),
        ("cosine", 99, 1.0, 0.05),
        ("cosine", 99, 1.5, 0.05),
        ("step", 0, 0.0, 0.2),
        ("step", 99, 0.79, 1.0),
        ("step", 99, 0.8, 0.5),  # the paper: after 1200 of 1500 epochs
    ],
)
def test_the_learning_rate_warms_up_and_falls(trainer_in, tmp_path, decay, batches, share, factor):
    trainer = trainer_in(tmp_path, OPTIONS.model_copy(update={"decay": decay}))
    trainer.progress = replace(trainer.progress, batches=batches)
    assert trainer._learning_rate(share) == pytest.approx(factor * OPTIONS.learning_rate)


def test_the_average_follows_the_weights(trainer):
    before = {name: value.clone() for name, value in trainer.average.items()}
    step(trainer, rate=1e-2)
    weights = trainer.objective.network.state_dict()
    decay = 2 / 11  # (1 + n) / (10 + n) after the first step
    for name, value in weights.items():
        torch.testing.assert_close(trainer.average[name], decay * before[name] + (1 - decay) * value)
    trainer.progress = replace(trainer.progress, batches=10**6)
    before = {name: value.clone() for name, value in trainer.average.items()}
    trainer._average()
    for name, value in weights.items():
        torch.testing.assert_close(trainer.average[name], 0.999 * before[name] + 0.001 * value)
    averaged = trainer.averaged()
    assert not averaged.training
    for name, value in averaged.state_dict().items():
        torch.testing.assert_close(value, trainer.average[name])


def test_without_an_average_the_weights_themselves_are_shipped(trainer_in, tmp_path):
    trainer = trainer_in(tmp_path, OPTIONS.model_copy(update={"ema_decay": 0.0}))
    step(trainer)
    for name, value in trainer.objective.network.state_dict().items():
        torch.testing.assert_close(trainer.average[name], value)


def test_pre_training_leaves_the_noise_predictor_alone_and_training_moves_all(trainer):
    def moved() -> set[str]:
        now = trainer.objective.network.state_dict()
        return {name.split(".")[0] for name, value in now.items() if not torch.equal(value, before[name])}

    before = {name: value.clone() for name, value in trainer.objective.network.state_dict().items()}
    step(trainer, rate=1e-2)
    assert moved() == {"encoder", "coarse"}
    before = {name: value.clone() for name, value in trainer.objective.network.state_dict().items()}
    trainer.progress = replace(trainer.progress, stage="diffusion")
    step(trainer, rate=1e-2)
    assert moved() == {"encoder", "coarse", "predictor"}


@pytest.mark.parametrize(("kind", "dropout"), [("diffdp", 0.0), ("diffdp", 0.5), ("gan", 0.0)])
@pytest.mark.parametrize("batches", [2, 5])
def test_a_stopped_training_goes_on_where_it_was(trainer_in, tmp_path, kind, dropout, batches):
    """Two stages of three batches; stopped in the first or the second, the end is that of a training left alone."""
    if kind == "gan":
        pytest.importorskip("monai")
        stages = {"adversarial": Budget(batches=6)}
    else:
        stages = {"pretrain": Budget(batches=3), "diffusion": Budget(batches=3)}
    options = OPTIONS.model_copy(update={"dropout": dropout})
    first = trainer_in(tmp_path / "run", options, stages, kind)
    train_for(first, batches)
    second = trainer_in(tmp_path / "run", options, stages, kind)
    assert sum(second.progress.done.values()) == batches
    second.run(lambda _: None, lambda *_: Validation(1.0, {}))
    undisturbed = trainer_in(tmp_path / "other", options, stages, kind)
    undisturbed.run(lambda _: None, lambda *_: Validation(1.0, {}))
    second.progress = replace(second.progress, elapsed_s=0)
    undisturbed.progress = replace(undisturbed.progress, elapsed_s=0)
    assert_same_state(second, undisturbed)


def test_a_training_killed_between_saves_goes_back_to_the_last(trainer_in, tmp_path):
    first = trainer_in(tmp_path / "run")
    train_for(first, 2)
    saved = json.loads((tmp_path / "run" / "progress.json").read_text())
    assert saved["state"] == "state-pretrain-2.safetensors"
    (tmp_path / "run" / "state.part").write_bytes(b"half a state")
    (tmp_path / "run" / "state-pretrain-3.safetensors").write_bytes(b"not vouched for")
    second = trainer_in(tmp_path / "run")
    assert second.progress.batches == 2
    train_for(second, 4)
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == [
        "log.csv", "progress.json", "state-pretrain-4.safetensors",
    ]  # fmt: skip


def test_another_recipe_does_not_go_on_in_the_same_folder(trainer_in, tmp_path):
    train_for(trainer_in(tmp_path, identity={"recipe": (1, 2)}), 1)
    assert trainer_in(tmp_path, identity={"recipe": (1, 2)}).progress.batches == 1
    with pytest.raises(DatasetError, match="another recipe"):
        trainer_in(tmp_path, identity={"recipe": (1, 3)})


def test_the_best_of_the_last_stage_is_kept(trainer_in, tmp_path):
    stages = {"pretrain": Budget(batches=2), "diffusion": Budget(batches=4)}
    trainer = trainer_in(tmp_path / "run", stages=stages)
    averages = []
    scores = iter([0.1, 0.1, 3.0, 2.0, 2.5, 2.0])

    def validate(stage, network) -> Validation:
        averages.append({name: value.clone() for name, value in network.state_dict().items()})
        return Validation(next(scores), {})

    trainer.run(lambda _: None, validate)
    assert trainer.progress.best == (2.0, 2)  # the first of equals; pre-training's scores are of another kind
    files = {p.name for p in (tmp_path / "run").glob("best-*")}
    assert files == {"best-2.safetensors"}
    for weights in (trainer.best_weights(), trainer_in(tmp_path / "run", stages=stages).best_weights()):
        for name, value in weights.items():
            torch.testing.assert_close(value, averages[3][name], rtol=0, atol=0)
    assert load_file(tmp_path / "run" / "best-2.safetensors").keys() == trainer.average.keys()


def test_two_stages_run_to_the_end_of_their_budgets(trainer_in, tmp_path):
    stages = {"pretrain": Budget(minutes=0.01), "diffusion": Budget(batches=4)}
    options = OPTIONS.model_copy(update={"validate_every_minutes": 60.0})
    reports, validated = [], []
    trainer = trainer_in(tmp_path / "run", options, stages)

    def validate(stage, network) -> Validation:
        validated.append(stage)
        return Validation(1.5, {"score": 1.5})

    trainer.run(lambda r: reports.append((r.progress.stage, set(r.losses), r.learning_rate, r.spent)), validate)
    assert validated == ["pretrain", "diffusion"]  # at each end
    assert reports[0][:2] == ("pretrain", {"coarse"})
    assert reports[-1][:2] == ("diffusion", {"coarse", "noise"})
    assert all(0 < rate <= options.learning_rate for *_, rate, _ in reports)
    assert reports[-1][-1] == 1
    assert trainer.progress.done["pretrain"] > 0
    assert trainer.progress.done["diffusion"] == trainer.progress.batches == 4
    rows = (tmp_path / "run" / "log.csv").read_text().splitlines()
    assert rows[0] == "stage,batch,elapsed_s,name,value"
    assert sum(row.endswith("score,1.5") for row in rows) == 2

    again = trainer_in(tmp_path / "run", options, stages)
    again.run(reports.append, lambda *_: pytest.fail("there is nothing left to do"))
    assert again.progress.done == trainer.progress.done
    assert_same_state(trainer, again)


def test_a_loss_that_is_not_finite_stops_the_training_and_is_not_saved(trainer_in, tmp_path):
    trainer = trainer_in(tmp_path / "run")
    draw = trainer.sampler.draw

    def poisoned(number: int, size: int):
        batch = draw(number, size)
        return replace(batch, y=batch.y * float("nan")) if number == 2 else batch

    trainer.sampler.draw = poisoned
    with pytest.raises(FloatingPointError, match="not finite before batch 3 of pretrain"):
        trainer.run(lambda _: None, lambda *_: Validation(1.0, {}))
    assert trainer_in(tmp_path / "run").progress.batches == 2


def test_trainings_of_one_seed_are_the_same_and_of_another_are_not(trainer_in, tmp_path):
    stages = {"pretrain": Budget(batches=2), "diffusion": Budget(batches=2)}
    one, same, other = (
        trainer_in(tmp_path / name, OPTIONS.model_copy(update={"seed": seed}), stages)
        for name, seed in (("one", 0), ("same", 0), ("other", 1))
    )
    for trainer in (one, same, other):
        trainer.run(lambda _: None, lambda *_: Validation(1.0, {}))
        trainer.progress = replace(trainer.progress, elapsed_s=0)
    assert_same_state(one, same)
    assert any(not np.array_equal(one.average[name], other.average[name]) for name in one.average)


def test_dropout_counts_in_training_only(trainer_in, tmp_path):
    options = OPTIONS.model_copy(update={"dropout": 0.5})
    with_dropout, without = trainer_in(tmp_path / "with", options), trainer_in(tmp_path / "without")
    assert step(with_dropout)["coarse"] != step(without)["coarse"]
    averaged, x = with_dropout.averaged(), with_dropout.sampler.draw(0, 2).x
    one, again = (averaged.coarse_dose(averaged.encode(x)) for _ in range(2))
    torch.testing.assert_close(one, again, rtol=0, atol=0)


def test_weight_decay_takes_a_share_of_the_weights_with_every_step(trainer_in, tmp_path):
    one, other = (
        trainer_in(tmp_path / str(decay), OPTIONS.model_copy(update={"weight_decay": decay})) for decay in (0.0, 0.1)
    )
    before = {name: value.clone() for name, value in one.objective.network.state_dict().items()}
    step(one, rate=1e-2)
    step(other, rate=1e-2)
    for name, value in other.objective.network.coarse.state_dict().items():
        expected = one.objective.network.coarse.state_dict()[name] - 1e-2 * 0.1 * before[f"coarse.{name}"]
        torch.testing.assert_close(value, expected, atol=1e-6, rtol=1e-4)
