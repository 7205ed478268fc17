"""Messages as Celery handles them here."""

from celery.worker.request import Request
from kombu.transport.virtual import QoS


class FreeingRequest(Request):  # type: ignore[misc]
    """A message that gives its worker's place free when it is answered, even if the broker cannot be told so.

    Celery logs an acknowledgement that fails and goes on, but its channel counts the message as unanswered ever after.
    With one message at a time, a worker whose task ended while Redis was away would never hear of another. Redis
    delivers the message once more, which is harmless.
    """

    def acknowledge(self) -> None:
        """Acknowledge the message, or else only forget it."""
        try:
            super().acknowledge()
        finally:
            self._free()

    def reject(self, requeue: bool = False) -> None:  # noqa: FBT001, FBT002 - Celery's
        """Reject the message, or else only forget it."""
        try:
            super().reject(requeue=requeue)
        finally:
            self._free()

    def _free(self) -> None:
        if not self.message.acknowledged:
            # Not Redis' own way, which asks Redis
            QoS.ack(self.message.channel.qos, self.message.delivery_tag)  # type: ignore[no-untyped-call]
