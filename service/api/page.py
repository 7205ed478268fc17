"""The dosimetrist's page: files as they are, under a policy that lets them talk to this service only."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from http import HTTPStatus
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Annotated

from fastapi import APIRouter, Header, Response

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types"
)

DOCS_POLICY = (
    # Swagger UI draws its icons from data and sets styles of its elements
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

MEDIA_TYPES = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml", "ttf": "font/ttf"}
"""What is served, by the end of its name."""

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True)
class _PageFile:
    body: bytes
    media_type: str
    tag: str


@cache
def _page_files() -> Mapping[str, _PageFile]:
    """All files of the page by their path; a few megabytes."""

    def below(folder: Traversable, prefix: str) -> dict[str, _PageFile]:
        found: dict[str, _PageFile] = {}
        for entry in folder.iterdir():
            media_type = MEDIA_TYPES.get(entry.name.rpartition(".")[2])
            if entry.is_dir():
                found |= below(entry, f"{prefix}{entry.name}/")
            elif media_type:
                body = entry.read_bytes()
                found[prefix + entry.name] = _PageFile(body, media_type, f'"{hashlib.sha256(body).hexdigest()[:20]}"')
        return found

    return below(files("service.web"), "")


@router.get("/")
def page() -> Response:
    """Return the page."""
    html = files("service.web").joinpath("index.html").read_bytes()
    return Response(html, media_type="text/html", headers={"Content-Security-Policy": PAGE_POLICY})


@router.get("/docs")
def docs() -> Response:
    """Return the description of the HTTP interface."""
    html = files("service.web").joinpath("docs.html").read_bytes()
    return Response(html, media_type="text/html", headers={"Content-Security-Policy": DOCS_POLICY})


@router.get("/web/{path:path}")
def page_file(path: str, if_none_match: Annotated[str, Header()] = "") -> Response:
    """Return a part of the page; browsers keep it, and ask whether it has changed."""
    file = _page_files().get(path)
    if file is None:
        return Response(status_code=HTTPStatus.NOT_FOUND)
    headers = {"ETag": file.tag, "Cache-Control": "no-cache"}
    if file.tag in if_none_match:
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    return Response(file.body, media_type=file.media_type, headers=headers)
