"""What is minimised, against its definitions."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from model.checkpoint.manifest import Architecture
from model.diffusion.schedule import NoiseSchedule
from model.networks.diffdp import DiffDP
from model.networks.registry import build
from model.networks.residual import RESIDUAL_SCALE, DiffDPResidual
from model.networks.system import RegressionNetwork
from model.training.objectives import AdversarialObjective, DiffusionObjective, RegressionObjective, objective_of
from model.training.recipe import STAGES_OF, TrainingOptions
from model.training.slices import Batch

SCHEDULE = NoiseSchedule()


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def batch(sampler) -> Batch:
    return sampler.draw(0, 3)


def diffdp(batch: Batch, architecture: Architecture, **options: object) -> DiffusionObjective:
    torch.manual_seed(0)
    return DiffusionObjective(DiffDP(batch.x.shape[1], architecture), TrainingOptions(**options), SCHEDULE)


def test_the_coarse_loss_is_l1_inside_the_patient(batch, architecture):
    objective = diffdp(batch, architecture)
    with torch.no_grad():
        coarse = objective.network.coarse(objective.network.encoder(batch.x)).numpy()
    expected = np.abs(coarse - batch.y.numpy())[batch.inside.numpy() > 0].mean()
    losses_of = objective.phases("pretrain")["network"]
    assert losses_of(batch, generator())["coarse"].item() == pytest.approx(expected, rel=1e-5)
    elsewhere = replace(batch, y=torch.where(batch.inside > 0, batch.y, 9.0))
    assert losses_of(elsewhere, generator())["coarse"].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_the_noise_loss_is_eq_9(sampler, batch, architecture, norm):
    objective = diffdp(batch, architecture, loss=norm, coarse_weight=0.0)

    class Nothing(nn.Module):
        def forward(self, structure: tuple[Tensor, ...], noisy: Tensor, gamma: Tensor) -> Tensor:
            return torch.zeros_like(noisy)

    objective.network.predictor = Nothing()
    source = generator()
    values = [objective.phases("diffusion")["network"](sampler.draw(k, 8), source) for k in range(10)]
    assert [list(v) for v in values] == [["noise"]] * 10  # a coarse weight of 0 is the paper
    # E|ε| = √(2 / π) and E ε² = 1, with as many draws as there are pixels
    expected, error = ((2 / np.pi) ** 0.5, 0.6) if norm == "l1" else (1.0, 2**0.5)
    found = np.mean([float(v["noise"]) for v in values])
    assert found == pytest.approx(expected, abs=4 * error / (80 * 16 * 32) ** 0.5)


def test_the_ideal_noise_predictor_has_no_loss(batch, architecture):
    """The network is given y_t = √γ y_0 + √(1 − γ) ε (Eq. 4): knowing y_0 it can tell ε."""
    objective = diffdp(batch, architecture, coarse_weight=0.0, early_share=0.0)

    class Knowing(nn.Module):
        def forward(self, structure: tuple[Tensor, ...], noisy: Tensor, gamma: Tensor) -> Tensor:
            g = gamma[:, None, None, None]
            return (noisy - g.sqrt() * batch.y) / (1 - g).sqrt()

    objective.network.predictor = Knowing()
    assert objective.phases("diffusion")["network"](batch, generator())["noise"].item() < 1e-3


def test_the_velocity_of_what_the_coarse_dose_leaves_is_what_a_residual_network_learns(batch, architecture):
    """Knowing r_0 it can tell v; outside the patient there is nothing to know."""
    torch.manual_seed(0)
    network = DiffDPResidual(batch.x.shape[1], architecture)
    objective = objective_of(network, TrainingOptions(loss="l2", coarse_weight=0.0), SCHEDULE)
    with torch.no_grad():
        coarse = network.coarse(network.encoder(batch.x))
    clean = torch.where(batch.inside > 0, (batch.y - coarse) / RESIDUAL_SCALE, 0.0)

    class Knowing(nn.Module):
        def forward(self, structure: tuple[Tensor, ...], shown: Tensor, gamma: Tensor) -> Tensor:
            noisy, beside = shown.split(1, dim=1)
            torch.testing.assert_close(beside, coarse)
            g = gamma[:, None, None, None]
            noise = (noisy - g.sqrt() * clean) / (1 - g).sqrt()
            return g.sqrt() * noise - (1 - g).sqrt() * clean

    network.predictor = Knowing()
    losses = objective.phases("diffusion")["network"](batch, generator())
    assert list(losses) == ["velocity"]
    assert losses["velocity"].item() < 1e-3


def test_gamma_is_drawn_between_the_schedules_ends(batch, architecture):
    objective = diffdp(batch, architecture, early_share=0.75, early_step=100)
    gamma = objective.draw_gamma(20_000, generator()).double()
    assert gamma.min() >= SCHEDULE.gamma[-1] - 1e-7
    assert gamma.max() <= 1
    assert gamma.unique().numel() > 19_000  # continuous, not one of a thousand
    # Three quarters of the draws lie below step 100, and a tenth of the others
    early = (gamma > SCHEDULE.gamma[100]).double().mean()
    assert float(early) == pytest.approx(0.75 + 0.25 * 0.1, abs=0.015)


def test_without_an_early_share_every_step_has_the_same_chance(batch, architecture):
    gamma = diffdp(batch, architecture, early_share=0.0).draw_gamma(20_000, generator()).double()
    steps = np.searchsorted(-SCHEDULE.gamma.numpy(), -gamma.numpy())
    assert steps.min() >= 1
    assert steps.max() <= 1000
    counts = np.bincount((steps - 1) // 100, minlength=10)
    assert ((counts - 2000) ** 2 / 2000).sum() < 27.9  # chi-squared with 9 degrees of freedom, p = 0.001


class Fixed(RegressionNetwork):
    """Answers what it was given, whatever the images."""

    def __init__(self, *doses: Tensor) -> None:
        super().__init__(1, Architecture(kind="unet", widths=(1, 1, 1)))
        self.doses = nn.ParameterList(doses)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.doses)


def test_outputs_of_half_the_resolution_are_compared_with_means_over_the_patients_pixels():
    y = torch.arange(16.0).reshape(1, 1, 4, 4)
    inside = torch.ones(1, 1, 4, 4)
    inside[..., 0, 0] = 0  # of the first large pixel, three of four lie inside: 1, 4 and 5, mean 10 / 3
    batch = Batch(torch.zeros(1, 1, 4, 4), y, inside)
    objective = RegressionObjective(Fixed(torch.zeros(1, 1, 2, 2), y + 2.0), TrainingOptions(deep_weight=0.5))
    losses = objective.phases("regression")["network"](batch, generator())
    assert losses["dose"].item() == pytest.approx(2.0)
    means, shares = np.array([10 / 3, 4.5, 10.5, 12.5]), np.array([0.75, 1, 1, 1])
    assert losses["dose_0"].item() == pytest.approx(0.5 * (means * shares).sum() / shares.sum(), rel=1e-5)


class Total(nn.Module):
    """Judges a dose by its mean."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, images: Tensor, dose: Tensor) -> Tensor:
        return self.scale * dose.mean(dim=(1, 2, 3), keepdim=True)


def test_the_discriminator_learns_to_tell_and_the_generator_to_deceive():
    y = torch.full((2, 1, 4, 4), 1.0)
    batch = Batch(torch.zeros(2, 1, 4, 4), y, torch.ones_like(y))
    options = TrainingOptions(adversarial_weight=0.1)
    network, judge = Fixed(torch.full((2, 1, 4, 4), -1.0)), Total()
    objective = AdversarialObjective(network, options, judge)
    assert list(objective.modules) == list(objective.phases("adversarial")) == ["discriminator", "network"]
    softplus = float(np.log1p(np.exp(-1.0)))  # of a planned dose judged 1, and of a predicted one judged -1
    found = objective.phases("adversarial")["discriminator"](batch, generator())
    assert {name: v.item() for name, v in found.items()} == pytest.approx(
        {"planned": 0.5 * softplus, "predicted": 0.5 * softplus}
    )
    sum(found.values()).backward()
    assert judge.scale.grad < 0  # a steeper verdict is better
    assert network.doses[0].grad is None
    found = objective.phases("adversarial")["network"](batch, generator())
    assert found["dose"].item() == pytest.approx(2.0)
    assert found["adversarial"].item() == pytest.approx(0.1 * float(np.log1p(np.exp(1.0))))
    found["adversarial"].backward()
    assert (network.doses[0].grad < 0).all()  # more dose looks more like a planned one


def test_what_lies_outside_the_patient_cannot_give_a_prediction_away():
    y = torch.full((1, 1, 4, 4), 1.0)
    batch = Batch(torch.zeros(1, 1, 4, 4), y, torch.zeros_like(y))
    objective = AdversarialObjective(Fixed(torch.full_like(y, -50.0)), TrainingOptions(), Total())
    found = objective.phases("adversarial")["discriminator"](batch, generator())
    assert found["predicted"].item() == pytest.approx(0.5 * float(np.log1p(np.exp(1.0))))


@pytest.mark.parametrize("kind", STAGES_OF)
def test_every_kind_of_network_learns_a_batch(sampler, conditioner, kind):
    if kind in {"unet", "gan", "prunet", "c3d"}:
        pytest.importorskip("monai")
    torch.manual_seed(0)
    architecture = Architecture(kind=kind, widths=(8, 8, 8, 8, 8), heads=2, groups=4)
    network = build(len(conditioner.channels), architecture)
    if network.volumetric:
        stacked = type(sampler)(sampler._cases, conditioner.channels, (16, 32), 0, depth=16)
        batch = stacked.draw(0, 1)
    else:
        batch = sampler.draw(0, 2)
    objective = objective_of(network, TrainingOptions(), SCHEDULE)
    optimisers = {name: torch.optim.Adam(module.parameters(), 3e-3) for name, module in objective.modules.items()}
    stage = STAGES_OF[kind][-1]
    totals = []
    for _ in range(12):
        for name, losses_of in objective.phases(stage).items():
            with torch.autocast("cpu", torch.bfloat16):
                losses = losses_of(batch, generator())
            total = torch.stack(list(losses.values())).sum()
            optimisers[name].zero_grad()
            total.backward()
            optimisers[name].step()
            if name == "network":
                totals.append(total.item())
    assert np.mean(totals[-3:]) < 0.9 * np.mean(totals[:2])
