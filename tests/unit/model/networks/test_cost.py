"""Operations against counts by hand."""

from itertools import pairwise

from torch import Tensor, nn

from model.checkpoint.manifest import Architecture
from model.networks.baseline import Baseline
from model.networks.c3d import C3D
from model.networks.cost import Cost, cost
from model.networks.diffdp import DiffDP
from model.networks.prunet import PRUNet
from model.networks.system import RegressionNetwork

WIDTHS = (8, 12, 16, 20, 24)
CHANNELS = 5
ROWS, COLUMNS = 32, 48


def convolution(inputs: int, outputs: int, size: int, pixels: int) -> int:
    """Two operations for every product of an output pixel."""
    return 2 * inputs * outputs * size**2 * pixels


class Plain(RegressionNetwork):
    """Two convolutions."""

    def __init__(self) -> None:
        super().__init__(CHANNELS, Architecture(kind="unet", widths=(4, 4, 4)))
        self.layers = nn.Sequential(nn.Conv2d(CHANNELS, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 1, 1))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return (self.layers(images),)


class Stack(Plain):
    """The same, on whole stacks."""

    volumetric = True

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv3d(CHANNELS, 4, 3, padding=1), nn.ReLU(), nn.Conv3d(4, 1, 1))


def test_two_convolutions():
    pixels = ROWS * COLUMNS
    operations = 2 * pixels * (CHANNELS * 4 * 9 + 4)
    assert cost(Plain(), ROWS, COLUMNS) == Cost(parameters=(CHANNELS * 9 + 1) * 4 + 5, once=operations)


def test_volumes_are_counted_by_the_slice():
    pixels = ROWS * COLUMNS
    operations = 2 * pixels * (CHANNELS * 4 * 27 + 4)
    assert cost(Stack(), ROWS, COLUMNS) == Cost(parameters=(CHANNELS * 27 + 1) * 4 + 5, once=operations)


def test_prunet_by_hand():
    pixels = [ROWS * COLUMNS // 4**level for level in range(5)]
    expected = sum(
        convolution(i, o, 3, n) + convolution(o, o, 3, n)
        for (i, o), n in zip(pairwise((CHANNELS, *WIDTHS)), pixels, strict=True)
    )
    for level in range(4):
        width, n = WIDTHS[level], pixels[level]
        dose = 0 if level == 3 else 1
        expected += convolution(WIDTHS[level + 1], width, 1, n)  # transposed: each output has one input pixel
        expected += convolution(2 * width + dose, width, 3, n) + convolution(width, width, 3, n)
        expected += convolution(width, 1, 1, n)
    network = PRUNet(CHANNELS, Architecture(kind="prunet", widths=WIDTHS, groups=4))
    assert cost(network, ROWS, COLUMNS).once == expected


def test_diffusion_tells_the_encoder_from_a_step():
    architecture = Architecture(widths=WIDTHS, heads=2, groups=4)
    diffdp, baseline = (cost(kind(CHANNELS, architecture), ROWS, COLUMNS) for kind in (DiffDP, Baseline))
    assert baseline.once == baseline.coarse == 0
    assert min(diffdp.once, diffdp.coarse, diffdp.step) > 0
    # The two steps differ in the stem's inputs and in three attentions: four projections and two products of tokens
    attended = sum(
        convolution(4 * width, width, 1, tokens) + 2 * 2 * tokens**2 * width
        for width, tokens in ((20, 24), (24, 6), (24, 6))
    )
    stem = convolution(CHANNELS, WIDTHS[0], 3, ROWS * COLUMNS)
    assert diffdp.step - attended == baseline.step - stem


def test_nothing_is_run():
    network = C3D(CHANNELS, Architecture(kind="c3d", widths=WIDTHS))
    small, large = cost(network, 16, 32), cost(network, 16 * 512, 32 * 512)  # whose activations no memory would hold
    assert large.once == 512**2 * small.once
