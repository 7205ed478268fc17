"""The embedded broker: Celery's folder of messages, watched by Celery's event loop as Redis is.

Without the loop the children of a worker share one pipe, and a child that waits for a task holds its lock. If it is
killed then, no child after it hears anything, and the worker cannot even end. With the loop each has a pipe of its own.
"""

import logging
from json import JSONDecodeError
from queue import Empty
from typing import Any

from kombu.asynchronous import Hub
from kombu.connection import Connection
from kombu.transport import filesystem

log = logging.getLogger(__name__)

LOOK_S = 0.2
"""How often a worker looks into the folder."""


class Channel(filesystem.Channel):
    """Where messages are put and found."""

    def _get(self, queue: str, timeout: float | None = None) -> Any:  # noqa: ARG002 - kombu's
        try:
            return super()._get(queue)
        except JSONDecodeError:
            # Its writer was killed, or has not come to its end: a lost message
            log.warning("a message in the folder is torn")
            raise Empty from None


class Transport(filesystem.Transport):
    """The folder, heard from an event loop."""

    Channel = Channel
    implements = filesystem.Transport.implements.extend(asynchronous=True)

    def register_with_event_loop(self, connection: Connection, loop: Hub) -> None:
        """Look into the folder now and then."""
        loop.call_repeatedly(LOOK_S, self._look, connection)

    def _look(self, connection: Connection) -> None:
        """Deliver what has come and can be taken."""
        try:
            while True:
                self.drain_events(connection, timeout=0)
        except TimeoutError:
            pass
