"""What each kind of network is trained to do."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.diffusion.schedule import NoiseSchedule, add_noise, velocity
from model.networks.residual import DiffDPResidual
from model.networks.system import DiffusionNetwork, DoseNetwork, Features, RegressionNetwork
from model.training.recipe import Stage, TrainingOptions
from model.training.slices import Batch

Losses = dict[str, Tensor]
"""Terms by name, to be added up."""


class Objective(ABC):
    """What the training of a network minimises.

    Attributes
    ----------
    network
        What is averaged, validated and shipped.
    modules
        Everything that is trained, the network among it; each has an optimiser of its own.
    """

    def __init__(self, network: DoseNetwork, options: TrainingOptions) -> None:
        self.network = network
        self.modules: Mapping[str, nn.Module] = {"network": network}
        self.options = options

    @abstractmethod
    def phases(self, stage: Stage) -> Mapping[str, Callable[[Batch, torch.Generator], Losses]]:
        """Return what is done with one batch, in order: the losses of which module are computed, then lowered."""


class DiffusionObjective(Objective):
    """Eq. 9 of the paper, and before it, if the network has a coarse head, that head's L1.

    Parameters
    ----------
    schedule
        From which γ is drawn.
    """

    def __init__(self, network: DiffusionNetwork, options: TrainingOptions, schedule: NoiseSchedule) -> None:
        super().__init__(network, options)
        self._diffusion = network
        self.schedule = schedule

    def phases(self, stage: Stage) -> Mapping[str, Callable[[Batch, torch.Generator], Losses]]:
        """Return one phase."""
        return {"network": self._pretrain if stage == "pretrain" else self._train}

    def _pretrain(self, batch: Batch, generator: torch.Generator) -> Losses:  # noqa: ARG002
        return {"coarse": self._coarse_loss(self._diffusion.encode(batch.x), batch)}

    def _train(self, batch: Batch, generator: torch.Generator) -> Losses:
        features = self._diffusion.encode(batch.x)
        losses: Losses = {}
        if self.options.coarse_weight and self._diffusion.coarse_dose(features) is not None:
            losses["coarse"] = self.options.coarse_weight * self._coarse_loss(features, batch)
        gamma = self.draw_gamma(len(batch.y), generator).to(batch.y.device)
        noise = torch.randn(batch.y.shape, generator=generator).to(batch.y.device)
        name, error = self._denoising_error(features, batch, noise, gamma)
        losses[name] = error.abs().mean() if self.options.loss == "l1" else error.square().mean()
        return losses

    def _denoising_error(self, features: Features, batch: Batch, noise: Tensor, gamma: Tensor) -> tuple[str, Tensor]:
        noisy = add_noise(batch.y, noise, gamma)
        return "noise", self._diffusion.predict_noise(features, noisy, gamma).float() - noise

    def _coarse_loss(self, features: tuple[Tensor, ...], batch: Batch) -> Tensor:
        coarse = self._diffusion.coarse_dose(features)
        assert coarse is not None  # noqa: S101 - asked before
        return masked_l1(coarse, batch.y, batch.inside)

    def draw_gamma(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw t, then γ anywhere between γ_t and γ_{t−1}, so that f learns the continuous noise intensity."""
        early = torch.rand(count, generator=generator) < self.options.early_share
        last = torch.where(early, self.options.early_step, self.schedule.steps)
        t = 1 + (torch.rand(count, generator=generator) * last).long().clamp(max=self.schedule.steps - 1)
        low, high = self.schedule.gamma[t], self.schedule.gamma[t - 1]
        return (low + (high - low) * torch.rand(count, generator=generator)).float()


class ResidualObjective(DiffusionObjective):
    """The same for a network that diffuses what its coarse dose leaves: the velocity's error in place of Eq. 9's."""

    def __init__(self, network: DiffDPResidual, options: TrainingOptions, schedule: NoiseSchedule) -> None:
        super().__init__(network, options, schedule)
        self._residual = network

    def _denoising_error(self, features: Features, batch: Batch, noise: Tensor, gamma: Tensor) -> tuple[str, Tensor]:
        # Outside the patient the coarse dose is of no use, and nothing is left to diffuse
        clean = self._residual.diffused(features, batch.y) * batch.inside
        found = self._residual.predict_velocity(features, add_noise(clean, noise, gamma), gamma)
        return "velocity", found.float() - velocity(clean, noise, gamma)


class RegressionObjective(Objective):
    """L1 between predicted and planned dose inside the patient, of all outputs of the network."""

    def __init__(self, network: RegressionNetwork, options: TrainingOptions) -> None:
        super().__init__(network, options)
        self._regression = network

    def phases(self, stage: Stage) -> Mapping[str, Callable[[Batch, torch.Generator], Losses]]:  # noqa: ARG002
        """Return one phase."""
        return {"network": lambda batch, _: self._dose_losses(self._regression(batch.x), batch)}

    def _dose_losses(self, doses: tuple[Tensor, ...], batch: Batch) -> Losses:
        *earlier, last = doses
        losses = {"dose": masked_l1(last, batch.y, batch.inside)}
        for k, dose in enumerate(earlier):
            losses[f"dose_{k}"] = self.options.deep_weight * masked_l1(dose, *_pooled(batch, dose.shape))
        return losses


class AdversarialObjective(RegressionObjective):
    """The L1, and a discriminator that learns to tell planned from predicted doses (Mahmood et al., 1807.06489).

    Parameters
    ----------
    discriminator
        Maps structure images and dose to logits, positive for planned doses.
    """

    def __init__(self, network: RegressionNetwork, options: TrainingOptions, discriminator: nn.Module) -> None:
        super().__init__(network, options)
        self._discriminator = discriminator
        self.modules = {"discriminator": discriminator, "network": network}

    def phases(self, stage: Stage) -> Mapping[str, Callable[[Batch, torch.Generator], Losses]]:  # noqa: ARG002
        """Return the discriminator's phase and the generator's."""
        return {"discriminator": self._discriminate, "network": self._generate}

    def _discriminate(self, batch: Batch, generator: torch.Generator) -> Losses:  # noqa: ARG002
        with torch.no_grad():
            predicted = self._in_patient(self._regression(batch.x)[-1], batch)
        planned, found = self._discriminator(batch.x, batch.y), self._discriminator(batch.x, predicted)
        return {"planned": 0.5 * _verdict(planned, real=True), "predicted": 0.5 * _verdict(found, real=False)}

    def _generate(self, batch: Batch, generator: torch.Generator) -> Losses:  # noqa: ARG002
        doses = self._regression(batch.x)
        losses = self._dose_losses(doses, batch)
        found = self._discriminator(batch.x, self._in_patient(doses[-1], batch))
        return losses | {"adversarial": self.options.adversarial_weight * _verdict(found, real=True)}

    @staticmethod
    def _in_patient(dose: Tensor, batch: Batch) -> Tensor:
        """Outside the patient, of which the L1 says nothing, the planned dose: nothing to tell them apart by."""
        return torch.where(batch.inside > 0, dose, batch.y)


def masked_l1(dose: Tensor, y: Tensor, inside: Tensor) -> Tensor:
    """Mean absolute difference of dose maps of one shape, weighted by `inside`."""
    return ((dose.float() - y).abs() * inside).sum() / inside.sum().clamp(min=1)


def _pooled(batch: Batch, shape: torch.Size) -> tuple[Tensor, Tensor]:
    """Dose maps and masks at an output's lower resolution: means over the patient's part of each larger pixel."""
    if batch.y.shape == shape:
        return batch.y, batch.inside
    factor = batch.y.shape[-1] // shape[-1]
    pool = functional.avg_pool3d if batch.y.ndim == 5 else functional.avg_pool2d
    share = pool(batch.inside, factor)
    return pool(batch.y * batch.inside, factor) / share.clamp(min=1e-6), share


def _verdict(logits: Tensor, *, real: bool) -> Tensor:
    return functional.binary_cross_entropy_with_logits(logits.float(), torch.full_like(logits, float(real)).float())


def objective_of(network: DoseNetwork, options: TrainingOptions, schedule: NoiseSchedule) -> Objective:
    """Return the objective of a network's kind."""
    if isinstance(network, DiffDPResidual):
        return ResidualObjective(network, options, schedule)
    if isinstance(network, DiffusionNetwork):
        return DiffusionObjective(network, options, schedule)
    assert isinstance(network, RegressionNetwork)  # noqa: S101 - there is no third kind
    if network.architecture.kind == "gan":
        from model.networks.gan import DoseDiscriminator  # noqa: PLC0415 - needs an extra

        return AdversarialObjective(network, options, DoseDiscriminator(network.channels, network.architecture))
    return RegressionObjective(network, options)
