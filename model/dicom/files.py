"""Opening files that claim to be DICOM.

Nothing is believed: a file counts as DICOM only if its SOP Class UID (0008,0016) says what it is, sizes are checked
before anything is inflated or decoded, and whatever a broken file makes the reader raise becomes one `StudyError`.
"""

import io
import logging
import os
import threading
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pydicom import Dataset, dcmread
from pydicom.dataelem import RawDataElement
from pydicom.dataset import FileMetaDataset
from pydicom.filereader import read_dataset, read_preamble
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from model.dicom.attributes import uid
from model.dicom.rules import Rule, refuse
from model.errors import DiffDPError, StudyError, is_fault_of_the_machine

MAX_INFLATED_BYTES = 512 * 2**20
"""Most that the deflated files of one study may inflate to: a CT of 1000 slices; deflate can expand a thousandfold."""

STORAGE_CLASSES = "1.2.840.10008.5.1.4.1.1."
"""Root of all standard storage SOP classes (PS3.4 B.5)."""

NATIVE_SYNTAXES: dict[tuple[bool | None, bool | None], UID] = {
    (False, True): ExplicitVRLittleEndian,
    (False, False): ExplicitVRBigEndian,
}
"""(implicit VR, little endian) as found in a data set → its transfer syntax; all others are implicit."""

UNDEFINED_LENGTH = 0xFFFFFFFF
"""Length of an element that is ended by a delimiter (PS3.5 7.1.1)."""

LEAVING = (GeneratorExit, KeyboardInterrupt, SystemExit)
"""What asks a program to stop, not what a file does to it."""

_QUIET = threading.RLock()
"""Warning filters belong to the process, so only one thread at a time may set them aside."""


@dataclass(frozen=True)
class DicomFile:
    """Header of one DICOM file.

    Parameters
    ----------
    path
        Where the file is.
    header
        All elements before the pixel data.
    sop_class
        SOP Class UID (0008,0016).
    pixel_bytes
        Bytes from the start of the pixel data element to the end of the data set; 0 if it was read with its pixels.
    inflated_bytes
        Size of the data set if the file is deflated, else 0.
    """

    path: Path
    header: Dataset
    sop_class: str
    pixel_bytes: int
    inflated_bytes: int


@contextmanager
def reading(what: str, rule: Rule = Rule.DAMAGED_FILE) -> Iterator[None]:
    """Turn every exception of the DICOM reader into a `StudyError`, and keep its warnings out of the log.

    Broken files raise almost any exception, and messages of the reader quote values, so neither they nor its warnings
    may pass: they could hold patient data.
    """
    log = logging.getLogger("pydicom")
    with _QUIET, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        was_disabled, log.disabled = log.disabled, True
        try:
            yield
        except (DiffDPError, MemoryError, *LEAVING):
            raise
        except BaseException as error:
            # The panic of a decoder that is written in Rust is no Exception
            if isinstance(error, OSError) and is_fault_of_the_machine(error):
                raise
            raise refuse(rule, f"{what} cannot be read ({type(error).__name__})") from None
        finally:
            log.disabled = was_disabled


def read_file(path: Path, *, pixels: bool, inflated_limit: int = MAX_INFLATED_BYTES) -> DicomFile | None:
    """Read one file, without its pixels or with them.

    Returns
    -------
    DicomFile or None
        None if the file is not a DICOM object.

    Raises
    ------
    StudyError
        ``damaged-file`` if it begins as DICOM but cannot be read; ``too-large`` if it inflates beyond the limit.
    """
    with _Bounded(path.open("rb", buffering=0)) as file:
        has_preamble = file.read(132)[128:] == b"DICM"
        file.seek(0)
        try:
            with reading("a DICOM file"):
                inflated = _inflate(file, inflated_limit)
                stream = file if inflated is None else io.BytesIO(inflated)
                header = dcmread(stream, force=True, stop_before_pixels=not pixels)
                _check_complete(header)
                sop_class = uid(header, "SOPClassUID")
                declared = uid(header.file_meta, "MediaStorageSOPClassUID")
                if has_preamble and not sop_class and declared.startswith(STORAGE_CLASSES):
                    raise refuse(Rule.DAMAGED_FILE, "a DICOM file names its class in its header only")
                position = stream.tell()
                remaining = stream.seek(0, io.SEEK_END) - position
        except StudyError as error:
            if not has_preamble and error.rule == Rule.DAMAGED_FILE:
                return None
            raise
    if not sop_class or not (has_preamble or sop_class.startswith(STORAGE_CLASSES)):
        return None
    if inflated is not None or "TransferSyntaxUID" not in header.file_meta:
        header.file_meta = FileMetaDataset()
        header.file_meta.TransferSyntaxUID = NATIVE_SYNTAXES.get(header.original_encoding, ImplicitVRLittleEndian)
    return DicomFile(path, header, sop_class, remaining, len(inflated or b""))


def read_headers(paths: Sequence[Path]) -> tuple[list[DicomFile], int]:
    """Read the headers of all DICOM files, in the order of their paths.

    Returns
    -------
    files, other_count
        The DICOM files, and how many files are something else.

    Raises
    ------
    StudyError
        ``nothing-readable``, ``damaged-file`` or ``too-large``.
    """
    files: list[DicomFile] = []
    inflated_limit = MAX_INFLATED_BYTES
    for number, path in enumerate(sorted(paths), start=1):
        try:
            file = read_file(path, pixels=False, inflated_limit=inflated_limit)
        except StudyError as error:
            # Its place, because its name may be a patient's
            message = f"file {number} of {len(paths)}: {error.message}"
            raise StudyError(message, code=error.rule, details={**error.details, "file": number}) from None
        if file is not None:
            files.append(file)
            inflated_limit -= file.inflated_bytes
    if not files:
        raise refuse(Rule.NOTHING_READABLE, f"none of the {len(paths)} files is a DICOM object", files=len(paths))
    return files, len(paths) - len(files)


class _Bounded(io.BufferedReader):
    """A file that is never asked for more than it holds: Python makes room for that much before it reads."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Read up to so many bytes."""
        if size is not None and size > io.DEFAULT_BUFFER_SIZE:
            size = max(0, min(size, os.fstat(self.fileno()).st_size - self.tell()))
        return super().read(size)


def _check_complete(dataset: Dataset) -> None:
    """Refuse a data set with an element shorter than it says; the reader passes over the end of a truncated file."""
    for tag in list(dataset.keys()):
        element = dataset.get_item(tag)
        if not isinstance(element, RawDataElement) or element.value is None or element.length == UNDEFINED_LENGTH:
            continue
        if len(element.value) < element.length:
            raise refuse(
                Rule.DAMAGED_FILE,
                f"an object of class {UID(uid(dataset, 'SOPClassUID')).name or 'unknown'} ends too early: {tag} "
                f"declares {element.length} bytes, {len(element.value)} are there",
                declared_bytes=element.length,
                found_bytes=len(element.value),
            )


def _inflate(file: BinaryIO, limit: int) -> bytes | None:
    """Return the data set of a deflated file (PS3.5 A.5), None for all others; leaves the file at its start.

    The reader would inflate whatever it is given, so it is never given a deflated file.
    """
    read_preamble(file, force=True)
    meta = read_dataset(
        file, is_implicit_VR=False, is_little_endian=True, stop_when=lambda tag, _vr, _length: tag >> 16 != 2
    )
    if uid(meta, "TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
        file.seek(0)
        return None
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    inflated = inflater.decompress(file.read(), limit + 1)
    if len(inflated) > limit:
        raise refuse(
            Rule.TOO_LARGE,
            f"the deflated files hold more than {MAX_INFLATED_BYTES} bytes when inflated",
            limit_bytes=MAX_INFLATED_BYTES,
        )
    return inflated
