"""The smallest model there can be: untrained, but whole."""

from pathlib import Path

import torch

from model.checkpoint.manifest import Architecture, Manifest, SamplerDefaults, Schedule, Training
from model.conditioning import head_and_neck
from model.networks.diffdp import DiffDP
from model.training.run import write_checkpoint


def tiny_manifest() -> Manifest:
    """Return head-and-neck conditioning with a network that is as small as it can be."""
    return Manifest(
        name="tiny",
        version="1",
        description="untrained, for tests",
        created="2026-01-01T00:00:00+00:00",
        licence="MIT",
        architecture=Architecture(widths=(8, 8, 8, 8, 8), heads=2, groups=4),
        channels=head_and_neck.CHANNELS,
        grid=head_and_neck.GRID,
        normalisation=head_and_neck.NORMALISATION,
        schedule=Schedule(),
        defaults=SamplerDefaults(sampler="coarse-ddim", steps=2, samples=1, start_step=250),
        site=head_and_neck.SITE,
        training=Training(
            data="none", patients=0, validation_patients=0, simulated=False, budget="none", steps={},
            software={}, recipe={},
        ),
        figures_of_merit={},
        weights_sha256="",
    )  # fmt: skip


def write_tiny_model(folder: Path) -> None:
    """Write a checkpoint named tiny, with random weights, into a folder of checkpoints."""
    torch.manual_seed(0)
    manifest = tiny_manifest()
    network = DiffDP(len(manifest.channels), manifest.architecture)
    write_checkpoint(folder / "tiny", network.state_dict(), manifest)
