"""The smallest models there can be, and a simulated patient who is quickly made."""

from pathlib import Path

import numpy as np
import torch

from model.case import Case
from model.checkpoint.manifest import Architecture, Manifest, SamplerDefaults, Schedule, Training
from model.cohort.pelvis import simulated_pelvis
from model.cohort.rectum import Effort, planned
from model.conditioning import head_and_neck, rectum
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


def tiny_rectum_manifest() -> Manifest:
    """Return the same for the rectum, on coarse voxels, as if it had learnt from simulated patients."""
    manifest = tiny_manifest()
    grid = rectum.GRID.model_copy(update={"rows": 128, "columns": 128, "pixel_spacing_mm": 4.0})
    return manifest.model_copy(
        update={
            "name": "tiny-rectum",
            "channels": rectum.CHANNELS,
            "grid": grid,
            "normalisation": rectum.NORMALISATION,
            "site": rectum.SITE,
            "training": manifest.training.model_copy(update={"data": "simulated data: none", "simulated": True}),
        }
    )


def write_tiny_model(folder: Path, manifest: Manifest | None = None) -> None:
    """Write a checkpoint with random weights into a folder of checkpoints, by default that of `tiny_manifest`."""
    torch.manual_seed(0)
    manifest = manifest or tiny_manifest()
    network = DiffDP(len(manifest.channels), manifest.architecture)
    write_checkpoint(folder / manifest.name, network.state_dict(), manifest)


def tiny_rectum() -> Case:
    """Return a simulated rectum patient on coarse voxels with a plan of little effort: three seconds of work."""
    patient = simulated_pelvis(1, shape=(48, 128, 128), spacing_mm=(6.0, 4.0, 4.0))
    return planned(patient, np.random.default_rng(0), Effort((4, 8), 8.0, 5.0))
