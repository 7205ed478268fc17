"""Headers that tell browsers what an answer may do: nothing, unless the answer itself says more."""

from collections.abc import Mapping
from types import MappingProxyType

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

SECURITY_HEADERS: Mapping[str, str] = MappingProxyType(
    {
        "Cache-Control": "no-store",
        # Reports are documents with styles and pictures of their own; nothing else has any use for them
        "Content-Security-Policy": (
            "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; "
            "frame-ancestors 'none'"
        ),
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
    }
)


class SecurityHeaders:
    """Puts the headers on every answer that does not bring its own.

    Parameters
    ----------
    hsts_s
        Time for which browsers shall use https only; 0: they are not told.
    """

    def __init__(self, app: ASGIApp, hsts_s: int) -> None:
        self._app = app
        self._headers = dict(SECURITY_HEADERS)
        if hsts_s:
            self._headers["Strict-Transport-Security"] = f"max-age={hsts_s}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_with_headers)
