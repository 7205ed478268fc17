"""The trainer: losses, schedules, averages, and going on after a stop."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from model.checkpoint.manifest import Schedule
from model.training.slices import Batch, SliceSampler
from model.training.train import Trainer, TrainingOptions

OPTIONS = TrainingOptions(
    pretrain_minutes=1.0,
    diffusion_minutes=1.0,
    batch=2,
    crop=(16, 32),
    learning_rate=3e-3,
    warmup=5,
    save_every_s=0.0,
    validate_every_minutes=0.0,
)

MakeTrainer = Callable[..., Trainer]


class Stop(Exception):
    """Stands for a killed process."""


@pytest.fixture
def trainer_in(sampler: SliceSampler, recipe, architecture) -> MakeTrainer:
    def make(folder: Path, options: TrainingOptions = OPTIONS, seed: int = 0) -> Trainer:
        fresh = SliceSampler(sampler._cases, options.crop, np.random.default_rng(seed))
        return Trainer(folder, len(recipe.channels), architecture, Schedule(), fresh, options, "cpu")

    return make


@pytest.fixture
def trainer(trainer_in: MakeTrainer, tmp_path: Path) -> Trainer:
    return trainer_in(tmp_path / "run")


def train_for(trainer: Trainer, steps: int) -> None:
    """Train until so many steps are done, validate (which does nothing), and be stopped."""

    def validate(progress, network) -> dict[str, float]:
        if progress.pretrain_steps + progress.diffusion_steps >= steps:
            raise Stop
        return {}

    with pytest.raises(Stop):
        trainer.run(lambda _: None, validate)


def assert_same_state(one: Trainer, other: Trainer) -> None:
    assert one.progress == other.progress
    for name, value in one.network.state_dict().items():
        torch.testing.assert_close(other.network.state_dict()[name], value, rtol=0, atol=0)
        torch.testing.assert_close(other.average[name], one.average[name], rtol=0, atol=0)
    ours, theirs = (t.optimiser.state_dict()["state"] for t in (one, other))
    assert ours.keys() == theirs.keys()
    for index, moments in ours.items():
        assert moments.keys() == theirs[index].keys() == {"step", "exp_avg", "exp_avg_sq"}
        for name, value in moments.items():
            torch.testing.assert_close(theirs[index][name], value, rtol=0, atol=0)
    assert torch.equal(one.generator.get_state(), other.generator.get_state())
    assert one.sampler_state == other.sampler_state == other.sampler.generator.bit_generator.state


def test_pre_training_lowers_the_coarse_loss(trainer):
    batch = trainer.sampler.draw(4)
    losses = [trainer._step("pretrain", batch, 3e-3)["coarse"] for _ in range(40)]
    assert np.mean(losses[-5:]) < 0.5 * losses[0]


def test_training_lowers_the_noise_loss(trainer):
    batch = trainer.sampler.draw(4)
    losses = [trainer._step("diffusion", batch, 3e-3)["noise"] for _ in range(25)]
    assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:5])


def test_the_coarse_loss_is_l1_inside_the_patient(trainer):
    batch = trainer.sampler.draw(3)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        coarse = trainer.network.coarse(trainer.network.encoder(batch.x)).numpy()
    inside = batch.inside.numpy() > 0
    expected = np.abs(coarse - batch.y.numpy())[inside].mean()
    assert trainer._losses("pretrain", batch)["coarse"].item() == pytest.approx(expected, rel=1e-4)
    elsewhere = torch.where(batch.inside > 0, batch.y, 9.0)
    changed = Batch(batch.x, elsewhere, batch.inside)
    assert trainer._losses("pretrain", changed)["coarse"].item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_the_noise_loss_is_eq_9(trainer_in, tmp_path, norm):
    trainer = trainer_in(tmp_path / norm, replace(OPTIONS, loss=norm, coarse_weight=0.0))

    class Nothing(torch.nn.Module):
        def forward(self, structure, noisy, gamma):
            return torch.zeros_like(noisy)

    trainer.network.predictor = Nothing()
    values = [trainer._losses("diffusion", trainer.sampler.draw(8)) for _ in range(10)]
    assert [list(v) for v in values] == [["noise"]] * 10  # a coarse weight of 0 is the paper
    # E|ε| = √(2 / π) and E ε² = 1, with as many draws as there are pixels
    expected, error = ((2 / np.pi) ** 0.5, 0.6) if norm == "l1" else (1.0, 2**0.5)
    found = np.mean([float(v["noise"]) for v in values])
    assert found == pytest.approx(expected, abs=4 * error / (80 * 16 * 32) ** 0.5)


def test_gamma_is_drawn_between_the_schedules_ends(trainer):
    gamma = trainer._draw_gamma(20_000).double()
    schedule = trainer.schedule.gamma
    assert gamma.min() >= schedule[-1] - 1e-7
    assert gamma.max() <= 1
    assert gamma.unique().numel() > 19_000  # continuous, not one of a thousand
    # Half of the draws lie below step 250, and a quarter of the others
    early = (gamma > schedule[250]).double().mean()
    assert float(early) == pytest.approx(0.5 + 0.5 * 0.25, abs=0.015)


def test_without_an_early_share_every_step_has_the_same_chance(trainer_in, tmp_path):
    trainer = trainer_in(tmp_path / "paper", replace(OPTIONS, early_share=0.0))
    gamma = trainer._draw_gamma(20_000).double()
    steps = np.searchsorted(-trainer.schedule.gamma.numpy(), -gamma.numpy())
    assert steps.min() >= 1
    assert steps.max() <= 1000
    counts = np.bincount((steps - 1) // 100, minlength=10)
    assert ((counts - 2000) ** 2 / 2000).sum() < 27.9  # chi-squared with 9 degrees of freedom, p = 0.001


@pytest.mark.parametrize(
    ("steps", "share", "factor"),
    [(0, 0.0, 0.2), (4, 0.0, 1.0), (99, 0.0, 1.0), (99, 0.5, 0.525), (99, 1.0, 0.05), (99, 1.5, 0.05)],
)
def test_the_learning_rate_warms_up_and_falls_as_a_cosine_to_a_twentieth(trainer, steps, share, factor):
    trainer.progress.steps = steps
    assert trainer._learning_rate(share) == pytest.approx(factor * OPTIONS.learning_rate)


def test_the_average_follows_the_weights(trainer):
    before = {name: value.clone() for name, value in trainer.average.items()}
    trainer._step("pretrain", trainer.sampler.draw(2), 1e-2)
    decay = 2 / 11  # (1 + n) / (10 + n) after the first step
    for name, value in trainer.network.state_dict().items():
        torch.testing.assert_close(trainer.average[name], decay * before[name] + (1 - decay) * value)
    trainer.progress.steps = 10**6
    before = {name: value.clone() for name, value in trainer.average.items()}
    trainer._average()
    for name, value in trainer.network.state_dict().items():
        torch.testing.assert_close(trainer.average[name], 0.999 * before[name] + 0.001 * value)
    averaged = trainer.averaged()
    assert not averaged.training
    for name, value in averaged.state_dict().items():
        torch.testing.assert_close(value, trainer.average[name])


def test_pre_training_leaves_the_noise_predictor_alone_and_training_moves_all(trainer):
    def moved() -> set[str]:
        now = trainer.network.state_dict()
        return {name.split(".")[0] for name, value in now.items() if not torch.equal(value, before[name])}

    before = {name: value.clone() for name, value in trainer.network.state_dict().items()}
    trainer._step("pretrain", trainer.sampler.draw(2), 1e-2)
    assert moved() == {"encoder", "coarse"}
    before = {name: value.clone() for name, value in trainer.network.state_dict().items()}
    trainer._step("diffusion", trainer.sampler.draw(2), 1e-2)
    assert moved() == {"encoder", "coarse", "predictor"}


@pytest.mark.parametrize("stage", ["pretrain", "diffusion"])
def test_a_stopped_training_goes_on_where_it_was(trainer_in, tmp_path, stage):
    options = replace(OPTIONS, pretrain_minutes=1.0 if stage == "pretrain" else 0.0)
    first = trainer_in(tmp_path / "run", options)
    train_for(first, 3)
    second = trainer_in(tmp_path / "run", options, seed=77)
    assert second.progress.stage == stage
    assert second.progress.steps == 3
    assert_same_state(first, second)
    # And the next step is the same one
    first.sampler.generator.bit_generator.state = first.sampler_state  # of which one batch was drawn ahead
    for trainer in (first, second):
        trainer._step(stage, trainer.sampler.draw(2), 1e-3)
        trainer.sampler_state = trainer.sampler.generator.bit_generator.state
    assert_same_state(first, second)


def test_a_training_killed_between_saves_goes_back_to_the_last(trainer_in, tmp_path):
    first = trainer_in(tmp_path / "run")
    train_for(first, 2)
    saved = (tmp_path / "run" / "progress.json").read_text()
    first._step("pretrain", first.sampler.draw(2), 1e-3)
    (tmp_path / "run" / "state.part").write_bytes(b"half a state")
    (tmp_path / "run" / "state-pretrain-3.safetensors").write_bytes(b"not vouched for")
    second = trainer_in(tmp_path / "run")
    assert second.progress.steps == 2
    assert json.loads(saved)["state"] == "state-pretrain-2.safetensors"
    train_for(second, 3)
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == [
        "log.csv", "progress.json", "state-pretrain-3.safetensors",
    ]  # fmt: skip


def test_two_stages_run_to_the_end_of_their_budgets(trainer_in, tmp_path):
    options = replace(OPTIONS, pretrain_minutes=0.01, diffusion_minutes=0.01, validate_every_minutes=60.0)
    reports, validated = [], []
    trainer = trainer_in(tmp_path / "run", options)

    def validate(progress, network) -> dict[str, float]:
        validated.append(progress.stage)
        return {"score": 1.5}

    trainer.run(lambda r: reports.append((r.progress.stage, set(r.losses), r.learning_rate)), validate)
    assert validated == ["pretrain", "diffusion"]  # at each end
    assert reports[0][:2] == ("pretrain", {"coarse"})
    assert reports[-1][:2] == ("diffusion", {"coarse", "noise"})
    assert all(0 < rate <= options.learning_rate for *_, rate in reports)
    assert trainer.progress.stage == "diffusion"
    assert trainer.progress.elapsed_s >= 0.6
    assert trainer.progress.diffusion_steps == trainer.progress.steps
    rows = (tmp_path / "run" / "log.csv").read_text().splitlines()
    assert rows[0] == "stage,step,elapsed_s,name,value"
    assert sum(row.endswith("score,1.5") for row in rows) == 2
    steps = trainer.progress.pretrain_steps, trainer.progress.diffusion_steps

    again = trainer_in(tmp_path / "run", options)
    again.run(reports.append, lambda *_: pytest.fail("there is nothing left to do"))
    assert (again.progress.pretrain_steps, again.progress.diffusion_steps) == steps
    assert_same_state(trainer, again)


def test_a_loss_that_is_not_finite_stops_the_training(trainer):
    batch = trainer.sampler.draw(2)
    with pytest.raises(FloatingPointError, match="not finite"):
        trainer._step("pretrain", Batch(batch.x, batch.y * float("nan"), batch.inside), 1e-3)


def test_trainings_of_one_seed_are_the_same(trainer_in, tmp_path):
    one, other = (trainer_in(tmp_path / name) for name in ("one", "other"))
    for trainer in (one, other):
        for stage in ("pretrain", "diffusion"):
            trainer._step(stage, trainer.sampler.draw(2), 1e-3)
        trainer.sampler_state = trainer.sampler.generator.bit_generator.state
    assert_same_state(one, other)
