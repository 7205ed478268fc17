"""Every kind of network can be had, and a missing MONAI is told clearly."""

import sys
from typing import get_args

import pytest
import torch

from model.checkpoint.manifest import Architecture, NetworkKind
from model.errors import CheckpointError
from model.networks.registry import build
from model.networks.system import DiffusionNetwork, RegressionNetwork

KINDS: tuple[NetworkKind, ...] = get_args(NetworkKind)
WITH_MONAI = {"unet", "gan", "c3d"}


def architecture(kind: NetworkKind) -> Architecture:
    return Architecture(kind=kind, widths=(8, 8, 8, 8, 8), heads=2, groups=4)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_its_class(kind):
    with torch.device("meta"):
        network = build(3, architecture(kind))
    assert type(network).__name__.lower() == kind.replace("-", "")
    assert (network.channels, network.architecture) == (3, architecture(kind))
    assert isinstance(
        network, DiffusionNetwork if kind in {"diffdp", "diffdp-residual", "baseline"} else RegressionNetwork
    )
    assert network.volumetric == (kind == "c3d")


@pytest.mark.parametrize("kind", KINDS)
def test_without_monai_only_those_that_need_it_are_refused(kind, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "monai"]:
        monkeypatch.delitem(sys.modules, name)
    for name in ("unet", "gan", "c3d"):
        monkeypatch.delitem(sys.modules, f"model.networks.{name}", raising=False)
    monkeypatch.setitem(sys.modules, "monai", None)
    if kind not in WITH_MONAI:
        build(3, architecture(kind))
        return
    with pytest.raises(CheckpointError, match=r"diffdp\[compared\]") as caught:
        build(3, architecture(kind))
    assert caught.value.rule == "extra-missing"
