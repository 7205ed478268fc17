"""What a network costs: parameters, and floating-point operations per slice."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from model.networks.system import DiffusionNetwork, DoseNetwork


@dataclass(frozen=True)
class Cost:
    """Parameters, and operations of a forward pass per slice: two per multiply-add of convolutions and matrix products.

    Attributes
    ----------
    parameters
        Number of trainable values.
    once
        Operations that a slice needs once: all of a regression; `encode` of a diffusion network.
    coarse
        Operations of `coarse_dose`, 0 if the network has none.
    step
        Operations of one `predict_noise`, 0 for a regression.
    """

    parameters: int
    once: int
    coarse: int = 0
    step: int = 0


def cost(network: DoseNetwork, rows: int, columns: int) -> Cost:
    """Count a network's parameters and operations without running it.

    Parameters
    ----------
    network
        On the CPU.
    rows, columns
        Size of a slice, multiples of `network.multiple`. A volumetric network is given `network.multiple` slices, and
        its operations are divided by their number.
    """
    parameters = sum(parameter.numel() for parameter in network.parameters())
    slices = network.multiple if network.volumetric else 1
    size = (slices, rows, columns) if network.volumetric else (rows, columns)
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        images = torch.empty(1, network.channels, *size)
        if not isinstance(network, DiffusionNetwork):
            return Cost(parameters, _operations(lambda: network(images)) // slices)
        features = network.encode(images)
        noisy, gamma = torch.empty(1, 1, *size), torch.empty(1)
        return Cost(
            parameters,
            once=_operations(lambda: network.encode(images)),
            coarse=_operations(lambda: network.coarse_dose(features)),
            step=_operations(lambda: network.predict_noise(features, noisy, gamma)),
        )


def _operations(run: Callable[[], object]) -> int:
    """Count with attention as plain matrix products: the counter does not know the CPU's fused one."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        run()
    return int(counter.get_total_flops())
