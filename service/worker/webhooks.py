"""Calls back: signing, sending to checked addresses only, and the courier that empties the outbox."""

import base64
import hashlib
import hmac
import logging
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any

import httpcore

from service.about import software_version
from service.errors import CallbackRefused
from service.jobs.callbacks import Receivers
from service.jobs.outbox import Delivery, Outbox

log = logging.getLogger(__name__)

AT_ONCE = 4
"""Calls at a time: one slow receiver must not hold up the others."""

GONE = 410
"""The receiver wants no more calls."""


class DeliveryFailed(Exception):
    """An attempt that failed; `final` says that no other can succeed."""

    def __init__(self, reason: str, *, final: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.final = final


def sign(keys: Sequence[bytes], message_id: str, timestamp: int, body: str) -> str:
    """Return the header ``webhook-signature``: one signature per key, so that keys can be replaced.

    See the Standard Webhooks specification, version 1, "Verifying webhook authenticity".
    """
    signed = f"{message_id}.{timestamp}.{body}".encode()
    digests = (hmac.new(key, signed, hashlib.sha256).digest() for key in keys)
    return " ".join(f"v1,{base64.b64encode(digest).decode()}" for digest in digests)


class Sender:
    """Makes one attempt at a call.

    Parameters
    ----------
    keys
        That sign.
    timeout_s
        Longest time from the connection to the status of the answer.
    clock
        Seconds since 1970.
    """

    def __init__(
        self, receivers: Receivers, keys: Sequence[bytes], *, timeout_s: float, clock: Callable[[], float] = time.time
    ) -> None:
        self._receivers = receivers
        self._keys = keys
        self._timeout_s = timeout_s
        self._clock = clock

    def send(self, delivery: Delivery) -> None:
        """Call; redirects are not followed, for they could lead anywhere.

        Raises
        ------
        DeliveryFailed
        """
        if not self._keys:
            raise DeliveryFailed("there is no webhook secret")
        timestamp = int(self._clock())
        headers: dict[bytes | str, bytes | str] = {
            "Content-Type": "application/json",
            "User-Agent": f"DiffDP/{software_version()}",
            "webhook-id": delivery.id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": sign(self._keys, delivery.id, timestamp, delivery.body),
        }
        try:
            status = self._post(delivery.url, headers, delivery.body.encode())
        except CallbackRefused as error:
            raise DeliveryFailed(error.message) from None
        except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError, OSError) as error:
            raise DeliveryFailed(type(error).__name__) from None
        if not 200 <= status < 300:
            raise DeliveryFailed(f"the receiver answered {status}", final=status == GONE)

    def _post(self, url: str, headers: Mapping[bytes | str, bytes | str], body: bytes) -> int:
        receiver, trust = self._receivers.parse(url), self._trust
        backend = _CheckedBackend(self._receivers, time.monotonic() + self._timeout_s)
        parts = httpcore.URL(
            scheme=receiver.scheme.encode(),
            host=receiver.host.encode(),
            port=receiver.port,
            target=receiver.target.encode(),
        )
        with (
            httpcore.ConnectionPool(network_backend=backend, ssl_context=trust) as pool,
            pool.stream("POST", parts, headers=headers, content=body) as answer,
        ):
            # Its body is of no use
            return answer.status

    @cached_property
    def _trust(self) -> ssl.SSLContext:
        return ssl.create_default_context()


class Courier:
    """Empties the outbox, several calls at a time; any number of couriers may do so."""

    def __init__(self, outbox: Outbox, sender: Sender) -> None:
        self._outbox = outbox
        self._sender = sender
        self._free = threading.Semaphore(AT_ONCE)
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="courier")

    def look(self) -> None:
        """Begin all calls that are due."""
        while True:
            self._free.acquire()
            delivery = None
            try:
                delivery = self._outbox.take()
            finally:
                if delivery is None:
                    self._free.release()
            if delivery is None:
                return
            self._pool.submit(self._deliver, delivery)

    def _deliver(self, delivery: Delivery) -> None:
        about = {"job": delivery.job_id, "attempt": delivery.attempt}
        try:
            self.attempt(delivery)
        except Exception as error:
            # It stays in the outbox, and is due again when its attempt has run out
            log.exception("a call back ended without an answer", exc_info=error, extra=about)
        finally:
            self._free.release()

    def attempt(self, delivery: Delivery) -> None:
        """Make one attempt and note how it ended."""
        about = {"job": delivery.job_id, "attempt": delivery.attempt}
        try:
            self._sender.send(delivery)
        except DeliveryFailed as error:
            given_up = self._outbox.failed(delivery, error.reason, final=error.final)
            log.log(
                logging.ERROR if given_up else logging.WARNING,
                "call back %s: %s",
                "given up" if given_up else "to be tried again",
                error.reason,
                extra=about,
            )
        else:
            self._outbox.delivered(delivery)
            log.info("called back", extra=about)


class _CheckedBackend(httpcore.NetworkBackend):
    """Connects to addresses that were checked, and ends everything at a deadline."""

    def __init__(self, receivers: Receivers, deadline: float) -> None:
        self._receivers = receivers
        self._deadline = deadline
        self._network = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ARG002 - the deadline counts
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        failed: Exception = httpcore.ConnectError("the name has no address")
        for address in self._receivers.resolve(host, port):
            try:
                stream = self._network.connect_tcp(
                    address, port, _left(self._deadline, httpcore.ConnectTimeout), local_address, socket_options
                )
            except httpcore.ConnectError as error:
                failed = error
            else:
                return _TimedStream(stream, self._deadline)
        raise failed


class _TimedStream(httpcore.NetworkStream):
    """A stream on which no operation lasts beyond a deadline, however slowly the other side drips."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: float) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002
        return self._stream.read(max_bytes, _left(self._deadline, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002
        self._stream.write(buffer, _left(self._deadline, httpcore.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002
    ) -> httpcore.NetworkStream:
        left_s = _left(self._deadline, httpcore.ConnectTimeout)
        return _TimedStream(self._stream.start_tls(ssl_context, server_hostname, left_s), self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _left(deadline: float, late: type[Exception]) -> float:
    left_s = deadline - time.monotonic()
    if left_s <= 0:
        raise late("the deadline has passed")
    return left_s
