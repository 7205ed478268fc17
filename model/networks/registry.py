"""The network of each kind that a manifest can name."""

from importlib import import_module

from model.checkpoint.manifest import Architecture, NetworkKind
from model.errors import CheckpointError
from model.networks.system import DoseNetwork

_CLASSES: dict[NetworkKind, tuple[str, str]] = {
    "diffdp": ("model.networks.diffdp", "DiffDP"),
    "diffdp-residual": ("model.networks.residual", "DiffDPResidual"),
    "baseline": ("model.networks.baseline", "Baseline"),
    "unet": ("model.networks.unet", "UNet"),
    "gan": ("model.networks.gan", "Gan"),
    "deeplabv3plus": ("model.networks.deeplabv3plus", "DeepLabV3Plus"),
    "c3d": ("model.networks.c3d", "C3D"),
    "prunet": ("model.networks.prunet", "PRUNet"),
}
"""Modules and classes by name: some modules need MONAI, which is installed with `diffdp[compared]` only."""


def build(channels: int, architecture: Architecture) -> DoseNetwork:
    """Return an untrained network of the architecture's kind.

    Parameters
    ----------
    channels
        Number of structure images.
    architecture
        Kind and sizes.

    Raises
    ------
    CheckpointError
        If the kind needs MONAI and it is not installed (rule ``extra-missing``).
    ValueError
        If the kind cannot have these widths.
    """
    module, name = _CLASSES[architecture.kind]
    try:
        network: type[DoseNetwork] = getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != "monai":
            raise
        raise CheckpointError(
            f"a network of kind {architecture.kind} needs MONAI: install diffdp[compared]", code="extra-missing"
        ) from error
    return network(channels, architecture)
