"""Zip archives: in, under limits, and out."""

import lzma
import shutil
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

from model.errors import is_fault_of_the_machine
from service.errors import UploadError, UploadTooLarge
from service.intake.limits import Limits

BLOCK_BYTES = 2**20
RATIO_COUNTS_FROM_BYTES = 64 * 2**20
"""Archives that expand to less are harmless whatever their ratio; a small phantom CT packs extremely well."""

ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The earliest time a zip entry can bear: results carry no time, so that a repetition gives the same bytes."""


def is_archive(path: Path) -> bool:
    """Whether a file begins like a zip archive, also an empty one."""
    with path.open("rb") as file:
        return file.read(4) in {b"PK\x03\x04", b"PK\x05\x06"}


def unpack(archive: Path, folder: Path, limits: Limits) -> list[Path]:
    """Write the files of an archive into a folder, numbered in their order.

    Names and paths in the archive are ignored, and archives in archives are left as they are.

    Raises
    ------
    UploadError
        ``archive-invalid`` if it is damaged, encrypted or empty.
    UploadTooLarge
        ``too-many-files`` or ``archive-too-large``, both before more than the limit is written.
    """
    packed_bytes = archive.stat().st_size
    allowed_bytes = int(min(limits.max_expanded_bytes, max(RATIO_COUNTS_FROM_BYTES, limits.max_ratio * packed_bytes)))
    try:
        with zipfile.ZipFile(archive) as opened:
            entries = [entry for entry in opened.infolist() if not entry.is_dir()]
            if not entries:
                raise UploadError("the archive is empty", code="archive-invalid")
            if len(entries) > limits.max_files:
                raise UploadTooLarge(
                    f"the archive holds {len(entries)} files, at most {limits.max_files} are read",
                    code="too-many-files",
                )
            written = []
            for number, entry in enumerate(entries):
                target = folder / f"{number:05d}.dcm"
                # Declared sizes can lie, so what comes out is counted
                allowed_bytes -= _expand(opened, entry, target, allowed_bytes, limits)
                written.append(target)
            return written
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError, ValueError) as error:
        if isinstance(error, OSError) and is_fault_of_the_machine(error):
            raise
        raise UploadError(
            "the archive is damaged, encrypted or packed in an unknown way", code="archive-invalid"
        ) from error


def _expand(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path, allowed_bytes: int, limits: Limits) -> int:
    size = 0
    with archive.open(entry) as source, target.open("xb") as sink:
        while block := source.read(BLOCK_BYTES):
            size += len(block)
            if size > allowed_bytes:
                raise UploadTooLarge(
                    f"the archive expands to more than {limits.max_expanded_bytes} bytes or than "
                    f"{limits.max_ratio:g} times its size",
                    code="archive-too-large",
                )
            sink.write(block)
    return size


def pack(files: Mapping[str, Path], archive: Path) -> None:
    """Write files into a zip archive under the given names; the same files give the same bytes."""
    with zipfile.ZipFile(archive, "w") as target:
        for name, path in files.items():
            entry = zipfile.ZipInfo(name, ZIP_EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o600 << 16
            with path.open("rb") as source, target.open(entry, "w", force_zip64=True) as sink:
                shutil.copyfileobj(source, sink, BLOCK_BYTES)
