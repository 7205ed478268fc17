"""Who posts studies and is called back."""

import base64
import itertools
import random
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
from standardwebhooks import Webhook

SECRET = "whsec_" + base64.b64encode(b"c" * 32).decode()
POSTERS = 3
RETRY_S = 1.0


class Receiver:
    """Takes calls back; fails now and then, as receivers do."""

    def __init__(self, chance: random.Random) -> None:
        self.calls: dict[str, list[str]] = defaultdict(list)
        self.refused = 0
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if chance.random() < 0.2:
                    receiver.refused += 1
                    self.send_response(503)
                else:
                    told = Webhook(SECRET).verify(body, dict(self.headers))
                    receiver.calls[told["data"]["id"]].append(self.headers["webhook-id"])
                    self.send_response(204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Caller:
    """Posts studies until each is accepted, with a key that makes repetitions harmless.

    Parameters
    ----------
    studies
        Zip archives, taken in turn; of each, seeds 0 and 1 are asked for.
    """

    def __init__(self, address: str, studies: Sequence[Path], callback_url: str) -> None:
        self._address = address
        self._callback_url = callback_url
        self._bodies = [path.read_bytes() for path in studies]
        self._pool = ThreadPoolExecutor(POSTERS)
        self._lock = threading.Lock()
        self.accepted: dict[str, tuple[int, int]] = {}
        """Job → its study and seed."""
        self.repeated = 0
        """Requests that got no answer, or one that asks to come again."""

    def post(self, jobs: int) -> None:
        """Begin to post so many jobs."""
        kinds = itertools.cycle(itertools.product(range(len(self._bodies)), (0, 1)))
        for number, kind in zip(range(jobs), kinds, strict=False):
            self._pool.submit(self._post, number, kind)

    def _post(self, number: int, kind: tuple[int, int]) -> None:
        study, seed = kind
        query = {"model": "tiny", "seed": seed, "priority": number % 3, "callback_url": self._callback_url}
        headers = {"Content-Type": "application/zip", "Idempotency-Key": f"chaos-{number}"}
        while True:
            try:
                answer = httpx.post(
                    f"{self._address}/v1/jobs", content=self._bodies[study], params=query, headers=headers, timeout=120
                )
            except httpx.TransportError:
                answer = None
            if answer is not None and answer.status_code == 202:
                with self._lock:
                    self.accepted[answer.json()["id"]] = kind
                return
            if answer is not None and answer.status_code not in {429, 500, 503}:
                raise AssertionError(answer.text)
            with self._lock:
                self.repeated += 1
            time.sleep(RETRY_S)
