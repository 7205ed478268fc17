"""Checkpoints on disk: found whole, or refused."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from model.checkpoint.manifest import Manifest
from model.checkpoint.store import MANIFEST, WEIGHTS, file_sha256, find_checkpoints, open_checkpoint
from model.errors import CheckpointError

REPOSITORY = Path(__file__).resolve().parents[4]


@pytest.fixture
def folder(tiny_models, tmp_path) -> Path:
    """A copy of the tiny checkpoint that may be damaged."""
    return Path(shutil.copytree(tiny_models / "tiny", tmp_path / "models" / "tiny"))


def edit(folder: Path, **changes: object) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(manifest | changes))


def test_a_manifest_survives_the_disk_with_its_channels_in_order(tiny_models, tiny_manifest):
    manifest = open_checkpoint(tiny_models / "tiny").manifest
    assert manifest.channels == tiny_manifest.channels
    assert manifest == tiny_manifest.model_copy(update={"weights_sha256": manifest.weights_sha256})
    assert Manifest.model_validate_json(manifest.model_dump_json()) == manifest


def test_the_hash_is_that_of_sha256sum(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")  # FIPS 180-2, appendix B.1
    assert file_sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_damaged_weights_are_refused(folder):
    weights = bytearray((folder / WEIGHTS).read_bytes())
    weights[-1] ^= 1
    (folder / WEIGHTS).write_bytes(weights)
    with pytest.raises(CheckpointError, match="SHA-256") as caught:
        open_checkpoint(folder)
    assert caught.value.rule == "checkpoint-damaged"


@pytest.mark.parametrize("name", [MANIFEST, WEIGHTS])
def test_missing_files_are_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=name):
        open_checkpoint(folder)


@pytest.mark.parametrize("changes", [{"format": "diffdp-checkpoint/2"}, {"surprise": 1}, {"grid": {"rows": 3}}])
def test_manifests_of_another_kind_are_refused(folder, changes):
    edit(folder, **changes)
    with pytest.raises(CheckpointError, match="not a manifest"):
        open_checkpoint(folder)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[]"])
def test_what_is_no_manifest_at_all_is_refused(folder, content):
    (folder / MANIFEST).write_bytes(content)
    with pytest.raises(CheckpointError, match="not a manifest"):
        open_checkpoint(folder)


def test_every_checkpoint_of_every_folder_is_found_by_name(folder, tmp_path):
    other = shutil.copytree(folder, tmp_path / "more" / "second")
    edit(other, name="second")
    (tmp_path / "more" / "empty").mkdir()
    assert list(find_checkpoints([folder.parent, other.parent])) == ["tiny", "second"]


def test_two_checkpoints_of_one_name_are_refused(folder):
    shutil.copytree(folder, folder.parent / "copy")
    with pytest.raises(CheckpointError) as caught:
        find_checkpoints([folder.parent])
    assert caught.value.rule == "checkpoint-twice"


def test_reading_manifests_and_conditioning_need_no_torch():
    modules = "model.checkpoint.store, model.conditioning.channels, model.conditioning.prescription"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=True)
