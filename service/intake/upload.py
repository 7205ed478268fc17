"""Request bodies, streamed to disk as they come: a zip archive, or MIME parts."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol, Self

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from service.errors import MediaTypeError, UploadError, UploadTooLarge
from service.intake.limits import Limits

MAX_PARAMETERS_BYTES = 64 * 1024
ARCHIVE_SUFFIX = ".zip"
"""Marks the file of a body that says of itself that it is an archive."""

ACCEPTED = 'application/zip, multipart/form-data or multipart/related; type="application/dicom"'


class Receiver(Protocol):
    """Takes a body block by block."""

    def write(self, block: bytes) -> None:
        """Take the next block."""

    def close(self) -> None:
        """Note that the body has ended."""


class Upload:
    """A body on its way into a folder; a context, at whose end no file is left open.

    Parameters
    ----------
    content_type
        Of the whole body.
    folder
        Empty; receives the files under names of our own.
    limits
        What the body may cost.

    Raises
    ------
    MediaTypeError
        If the type is none that is read.
    """

    def __init__(self, content_type: str, folder: Path, limits: Limits) -> None:
        self._folder = folder
        self._limits = limits
        self._received = 0
        self._digests: list[str] = []
        self._files = ExitStack()
        self._receiver = self._choose(content_type)
        self.parameters: bytes | None = None

    def __enter__(self) -> Self:
        """Begin to receive."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close what is open."""
        self._files.close()

    @property
    def files_sha256(self) -> str:
        """Digest of all files in their order, whatever wraps them."""
        return hashlib.sha256("".join(self._digests).encode()).hexdigest()

    def write(self, block: bytes) -> None:
        """Take the next block of the body.

        Raises
        ------
        UploadTooLarge, UploadError
        """
        self._received += len(block)
        if self._received > self._limits.max_body_bytes:
            raise UploadTooLarge(f"the body is larger than {self._limits.max_body_bytes} bytes")
        self._receiver.write(block)

    def close(self) -> None:
        """Note that the body has ended.

        Raises
        ------
        UploadError
            If it is empty or incomplete.
        """
        if not self._received:
            raise UploadError("the body is empty", code="body-empty")
        self._receiver.close()
        if not self._digests:
            raise UploadError("the body holds no file: send DICOM files or one zip archive as parts 'files'")

    def open_file(self, suffix: str = ".part") -> "FileReceiver":
        """Begin the next file."""
        number = len(self._digests)
        if number >= self._limits.max_files:
            raise UploadTooLarge(f"more than {self._limits.max_files} files", code="too-many-files")
        self._digests.append("")

        def finished(digest: str) -> None:
            self._digests[number] = digest

        self._files.close()
        file = self._files.enter_context((self._folder / f"{number:05d}{suffix}").open("xb"))
        return FileReceiver(file, finished)

    def _choose(self, content_type: str) -> Receiver:
        kind, options = parse_options_header(content_type)
        if kind in {b"application/zip", b"application/x-zip-compressed"}:
            return self.open_file(ARCHIVE_SUFFIX)
        is_form = kind == b"multipart/form-data"
        is_related = kind == b"multipart/related" and options.get(b"type", b"").lower() == b"application/dicom"
        if not is_form and not is_related:
            raise MediaTypeError(f"the body must be {ACCEPTED}")
        boundary = options.get(b"boundary")
        if not boundary:
            raise UploadError("the Content-Type header lacks the boundary of its parts")
        return PartsReceiver(boundary, self, named=is_form)


class FileReceiver:
    """Writes one file and computes its digest."""

    def __init__(self, file: BinaryIO, finished: Callable[[str], None]) -> None:
        self._file = file
        self._finished = finished
        self._digest = hashlib.sha256()

    def write(self, block: bytes) -> None:
        """Take the next block."""
        self._file.write(block)
        self._digest.update(block)

    def close(self) -> None:
        """End the file."""
        self._file.close()
        self._finished(self._digest.hexdigest())


class ParametersReceiver:
    """Keeps the part with the parameters."""

    def __init__(self, upload: Upload) -> None:
        self._upload = upload
        self._text = b""

    def write(self, block: bytes) -> None:
        """Take the next block."""
        self._text += block
        if len(self._text) > MAX_PARAMETERS_BYTES:
            raise UploadTooLarge(f"the part 'parameters' is larger than {MAX_PARAMETERS_BYTES} bytes")

    def close(self) -> None:
        """Hand the text over."""
        if self._upload.parameters is not None:
            raise UploadError("there are two parts 'parameters'")
        self._upload.parameters = self._text


@contextmanager
def _as_upload_errors() -> Iterator[None]:
    try:
        yield
    except FormParserError:
        raise UploadError("the body is not made of MIME parts as its Content-Type header says") from None


class PartsReceiver:
    """Splits a body into its MIME parts (RFC 2046 section 5.1).

    Parameters
    ----------
    named
        Whether parts are form fields with names (RFC 7578); else each is a DICOM file, as in DICOM PS3.18 section 8.
    """

    def __init__(self, boundary: bytes, upload: Upload, *, named: bool) -> None:
        self._upload = upload
        self._named = named
        self._part: Receiver | None = None
        self._header = [b"", b""]
        self._headers: dict[bytes, bytes] = {}
        self._complete = False
        with _as_upload_errors():
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin,
                    "on_header_field": lambda data, start, end: self._collect(0, data[start:end]),
                    "on_header_value": lambda data, start, end: self._collect(1, data[start:end]),
                    "on_header_end": self._end_header,
                    "on_headers_finished": self._end_headers,
                    "on_part_data": self._data,
                    "on_part_end": self._end,
                    "on_end": self._end_all,
                },
            )

    def write(self, block: bytes) -> None:
        """Take the next block."""
        with _as_upload_errors():
            self._parser.write(block)

    def close(self) -> None:
        """Note that the body has ended."""
        if not self._complete:
            raise UploadError("the body ends within a part")

    def _begin(self) -> None:
        self._headers = {}

    def _collect(self, index: int, text: bytes) -> None:
        self._header[index] += text

    def _end_header(self) -> None:
        name, value = self._header
        self._headers.setdefault(name.lower(), value)
        self._header = [b"", b""]

    def _end_headers(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        name = options.get(b"name")
        if self._named and name == b"parameters":
            self._part = ParametersReceiver(self._upload)
        elif not self._named or name == b"files":
            self._part = self._upload.open_file()
        else:
            raise UploadError("a form may only hold parts 'files' and 'parameters'")

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._part is not None:
            self._part.write(data[start:end])

    def _end(self) -> None:
        if self._part is not None:
            self._part.close()
            self._part = None

    def _end_all(self) -> None:
        self._complete = True
