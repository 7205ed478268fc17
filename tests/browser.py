"""A real browser before a real server: what tests of the page and its pictures share."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from playwright.sync_api import Browser, ConsoleMessage, Page, Playwright, Request

from service.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
PATIENCE_S = 120.0
"""Longest wait for anything; the machine may be busy."""


def chromium() -> str | None:
    return shutil.which("chromium")


def launch(playwright: Playwright) -> Browser:
    # As root, and in containers, the sandbox cannot be set up
    options = ["--no-sandbox", "--disable-dev-shm-usage"]
    return playwright.chromium.launch(executable_path=chromium(), args=options)


@contextmanager
def serving(settings: Settings, *, worker: bool = True) -> Iterator[str]:
    """Run `diffdp serve`; gives its address."""
    environment = {**settings.environment(), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "service.cli", "serve", *([] if worker else ["--no-worker"])]
    server = subprocess.Popen(command, env=environment)
    address = f"http://127.0.0.1:{settings.port}"
    try:
        wait_until(lambda: _is_well(f"{address}/{'readyz' if worker else 'healthz'}"), "the server")
        yield address
    finally:
        server.terminate()
        server.wait(60)


def _is_well(address: str) -> bool:
    try:
        return httpx.get(address).is_success
    except httpx.TransportError:
        return False


def wait_until(condition: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.1)


class Visit:
    """A page in a context of its own; what must not happen on it is in `faults`.

    These are console errors, uncaught exceptions, violated policies, requests to other servers, and keys in addresses.
    """

    def __init__(self, browser: Browser, address: str, **options: Any) -> None:
        self.address = address
        self.faults: list[str] = []
        self.context = browser.new_context(accept_downloads=True, **options)
        self.context.set_default_timeout(1000 * PATIENCE_S)
        self.page: Page = self.context.new_page()
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.faults.append(f"uncaught: {error}"))
        self.page.on("request", self._watch)

    def sign_in(self, key: str) -> None:
        """Begin every page with a key, as if it had been typed in."""
        self.context.add_init_script(f"sessionStorage.setItem('diffdp-key', {json.dumps(key)})")

    def close(self) -> None:
        self.context.close()

    def _hear(self, message: ConsoleMessage) -> None:
        # Chromium logs every refused request as an error, whatever the page makes of it
        if message.type in {"error", "warning"} and "Failed to load resource" not in message.text:
            self.faults.append(f"{message.type}: {message.text}")

    def _watch(self, request: Request) -> None:
        address = urlsplit(request.url)
        if address.scheme != "blob" and f"{address.scheme}://{address.netloc}" != self.address:
            self.faults.append(f"request to {request.url}")

    def drop(self, *paths: Path) -> None:
        """Drop files or folders of this machine onto the page, as a file manager would."""
        box = self.page.locator(".drop").bounding_box()
        assert box is not None
        data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
        place = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2, "data": data}
        devtools = self.context.new_cdp_session(self.page)
        for kind in ("dragEnter", "dragOver", "drop"):
            devtools.send("Input.dispatchDragEvent", {"type": kind, **place})
        devtools.detach()

    def send(self, model: str) -> None:
        """Send what was dropped, for a model."""
        self.page.get_by_label("Model").select_option(model)
        self.page.get_by_role("button", name="Send", exact=True).click()

    def load_ms(self) -> Mapping[str, float]:
        """Time from the start of navigation to the end of its parts, as the browser measured it."""
        timing = self.page.evaluate(
            """() => {
                const [navigation] = performance.getEntriesByType("navigation");
                const paints = performance.getEntriesByName("first-contentful-paint");
                return { loaded: navigation.loadEventEnd, painted: paints[0]?.startTime ?? 0 };
            }"""
        )
        return {name: round(value, 1) for name, value in timing.items()}


def required() -> bool:
    """Whether a test without its browser must fail."""
    return bool(os.environ.get("CI"))
