"""Requests as they go over the wire, and how a study becomes one."""

import io
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from random import Random

from tests.fuzz.studies import CANARY

BOUNDARY = b"cut-here"
RELATED = b'multipart/related; type="application/dicom"; boundary=' + BOUNDARY
FORM = b"multipart/form-data; boundary=" + BOUNDARY
ZIP = b"application/zip"

Part = tuple[list[tuple[bytes, bytes]], bytes]
"""Headers and content of a MIME part."""


@dataclass
class Post:
    """One request to post a study.

    Parameters
    ----------
    headers
        Besides Host, Connection and Content-Length; one of these names replaces it, and None leaves it out.
    breaks_http
        Whether the request breaks HTTP itself, so that the server may answer before the application sees it.
    leaves
        Whether the caller closes its side before the end of what it announced, and cannot expect an answer.
    """

    body: bytes
    content_type: bytes | None
    query: bytes = b""
    headers: list[tuple[bytes, bytes | None]] = field(default_factory=list)
    breaks_http: bool = False
    leaves: bool = False

    def encode(self, host: str) -> bytes:
        """Write the request."""
        own = {name.lower() for name, _ in self.headers}
        usual = (
            (b"Host", host.encode()),
            (b"Connection", b"close"),
            (b"Content-Length", b"%d" % len(self.body)),
            (b"Content-Type", self.content_type),
        )
        headers = [header for header in usual if header[0].lower() not in own] + self.headers
        lines = [b"%b: %b\r\n" % (name, value) for name, value in headers if value is not None]
        target = b"/v1/jobs" + (b"?" + self.query if self.query else b"")
        return b"POST " + target + b" HTTP/1.1\r\n" + b"".join(lines) + b"\r\n" + self.body


def archive(files: Mapping[str, bytes]) -> bytes:
    """Zip archive of files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as opened:
        for name, content in files.items():
            opened.writestr(f"{CANARY}/{name}", content)
    return buffer.getvalue()


def form_parts(files: Iterable[tuple[str, bytes]], parameters: bytes | None = None) -> list[Part]:
    """Parts of a form; file names hold the canary."""
    disposition = f'form-data; name="files"; filename="{CANARY}-%s"'
    parts: list[Part] = [
        ([(b"Content-Disposition", (disposition % name).encode())], content) for name, content in files
    ]
    if parameters is not None:
        parts.append(([(b"Content-Disposition", b'form-data; name="parameters"')], parameters))
    return parts


def join(parts: Iterable[Part], boundary: bytes = BOUNDARY) -> bytes:
    """Body of MIME parts."""
    body = []
    for headers, content in parts:
        lines = b"".join(b"%b: %b\r\n" % header for header in headers)
        body.append(b"--%b\r\n%b\r\n%b\r\n" % (boundary, lines, content))
    return b"".join(body) + b"--" + boundary + b"--\r\n"


def wrap(files: Mapping[str, bytes], random: Random) -> Post:
    """Post a study in one of the ways that the API takes."""
    match random.choice(("zip", "form", "form of a zip", "related")):
        case "zip":
            return Post(archive(files), ZIP)
        case "form":
            return Post(join(form_parts(files.items())), FORM)
        case "form of a zip":
            return Post(join(form_parts([("study.zip", archive(files))], b"{}")), FORM)
        case _:
            return Post(join(([(b"Content-Type", b"application/dicom")], c) for c in files.values()), RELATED)


def wrap_archive(content: bytes, random: Random) -> Post:
    """Post what may or may not be an archive."""
    if random.random() < 0.6:
        return Post(content, ZIP)
    return Post(join(form_parts([("study.zip", content)])), FORM)
