"""What is known of requests afterwards: an id in every log line and answer, a line of their own, and their times."""

import logging
import re
import time
from typing import Any
from uuid import uuid4

from fastapi import FastAPI
from prometheus_client import CollectorRegistry, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import logs

log = logging.getLogger(__name__)

REQUEST_ID = re.compile(rb"[0-9a-fA-F-]{16,64}")
"""An id that a proxy may give, as X-Request-ID. Hexadecimal, for it goes into logs and must not be a name."""
JOB_ID = re.compile(r"[0-9a-f]{32}")
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
QUIET = frozenset({"/healthz", "/readyz", "/metrics"})
"""Programs ask for these every few seconds; their successes are not worth a line."""
BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 120)


class ObservedApp(FastAPI):
    """An application whose requests are observed, those that end in an unexpected error too."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.registry = CollectorRegistry()
        self._seconds = Histogram(
            "diffdp_http_request_seconds",
            "Time from a request to the beginning of its answer, uploads included.",
            ["method", "route", "status"],
            buckets=BOUNDS_S,
            registry=self.registry,
        )

    def build_middleware_stack(self) -> ASGIApp:
        """Put the observation around all that can answer."""
        return Observation(super().build_middleware_stack(), self._seconds)


class Observation:
    """Gives a request its id, and notes what was answered when."""

    def __init__(self, app: ASGIApp, seconds: Histogram) -> None:
        self._app = app
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        begun = time.perf_counter()

        async def note(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
                self._note(scope, message["status"], time.perf_counter() - begun)
            await send(message)

        with logs.about(request=request_id):
            await self._app(scope, receive, note)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        method = scope["method"] if scope["method"] in METHODS else "other"
        # Of the whole path only if routers bear their prefix themselves
        route = getattr(scope.get("route"), "path", "none")
        self._seconds.labels(method, route, str(status)).observe(seconds)
        about = {"method": method, "route": route, "status": status, "seconds": round(seconds, 4)}
        job_id = scope.get("path_params", {}).get("job_id", "")
        if JOB_ID.fullmatch(job_id):
            about["job"] = job_id
        quiet = route in QUIET and status < 400
        log.log(logging.DEBUG if quiet else logging.INFO, "answered", extra=about)


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and REQUEST_ID.fullmatch(value):
            return bytes(value).decode()
    return uuid4().hex
