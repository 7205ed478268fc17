"""Find checkpoints on disk and make sure that they are what they say."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from model.checkpoint.manifest import Manifest
from model.errors import CheckpointError

SHIPPED = Path(__file__).parent / "shipped"
"""Checkpoints that come with the package."""

MANIFEST = "manifest.json"
WEIGHTS = "weights.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose weights agree with the hash in its manifest."""

    folder: Path
    manifest: Manifest

    @property
    def weights(self) -> Path:
        """The safetensors file."""
        return self.folder / WEIGHTS


def file_sha256(path: Path) -> str:
    """SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def open_checkpoint(folder: Path) -> Checkpoint:
    """Read a checkpoint's manifest and check its weights.

    Raises
    ------
    CheckpointError
        If a file is missing, the manifest is not understood or the weights have another hash.
    """
    for name in (MANIFEST, WEIGHTS):
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder} is no checkpoint: {name} is missing")
    try:
        manifest = Manifest.model_validate_json((folder / MANIFEST).read_bytes())
    except ValidationError as error:
        raise CheckpointError(f"{folder / MANIFEST} is not a manifest of this version: {error}") from error
    found = file_sha256(folder / WEIGHTS)
    if found != manifest.weights_sha256:
        raise CheckpointError(
            f"the weights of {manifest.name} have SHA-256 {found}, the manifest says {manifest.weights_sha256}",
            code="checkpoint-damaged",
        )
    return Checkpoint(folder, manifest)


def find_checkpoints(folders: Sequence[Path] = (SHIPPED,)) -> dict[str, Checkpoint]:
    """Open every checkpoint below the given folders, by name.

    Raises
    ------
    CheckpointError
        If a folder is absent, a checkpoint cannot be used, or two have the same name.
    """
    found: dict[str, Checkpoint] = {}
    for folder in folders:
        if not folder.is_dir():
            raise CheckpointError(f"{folder}, where checkpoints should be, is no folder")
        for manifest in sorted(folder.glob(f"*/{MANIFEST}")):
            checkpoint = open_checkpoint(manifest.parent)
            if checkpoint.manifest.name in found:
                raise CheckpointError(f"two checkpoints are named {checkpoint.manifest.name}", code="checkpoint-twice")
            found[checkpoint.manifest.name] = checkpoint
    return found
