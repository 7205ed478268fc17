"""Who may use the API."""

import hashlib
import hmac
from collections.abc import Sequence

from fastapi import Request
from pydantic import SecretStr

from service.errors import Unauthorised


class KeyCheck:
    """Lets a request pass that shows one of the keys as ``Authorization: Bearer``; any request if there are no keys."""

    def __init__(self, keys: Sequence[SecretStr]) -> None:
        self._digests = [_digest(key.get_secret_value()) for key in keys]

    def __call__(self, request: Request) -> None:
        """Check a request.

        Raises
        ------
        Unauthorised
        """
        if not self._digests:
            return
        scheme, _, key = request.headers.get("Authorization", "").partition(" ")
        shown = _digest(key.strip())
        # Every key is compared in full, so that the time tells nothing
        matches = [hmac.compare_digest(shown, digest) for digest in self._digests]
        if scheme.lower() != "bearer" or not any(matches):
            raise Unauthorised("a valid API key is needed: Authorization: Bearer …")


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
