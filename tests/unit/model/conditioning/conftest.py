"""The conditioning of the head-and-neck model on a grid that suits the small patient."""

from collections.abc import Callable, Sequence

import pytest

from model.case import Case
from model.checkpoint.manifest import Channel, NetworkGrid
from model.conditioning import head_and_neck
from model.conditioning.channels import Conditioning, condition

Condition = Callable[..., Conditioning]


@pytest.fixture
def network_grid() -> NetworkGrid:
    """Pixels of the small patient's own size."""
    return NetworkGrid(rows=32, columns=32, pixel_spacing_mm=10.0, slice_spacing_mm=2.5)


@pytest.fixture
def conditioned(network_grid: NetworkGrid) -> Condition:
    """Condition a case as the head-and-neck model does, by default with all its channels."""

    def images(
        case: Case, channels: Sequence[Channel] = head_and_neck.CHANNELS, grid: NetworkGrid = network_grid
    ) -> Conditioning:
        return condition(case, head_and_neck.SITE, grid, channels, head_and_neck.NORMALISATION)

    return images
