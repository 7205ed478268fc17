"""Redis as a broker, for workers that it may leave at any moment."""

from kombu.transport import redis, virtual


class QoS(redis.QoS):
    """The messages that are not yet answered.

    One that is answered gives its worker's place free, even if Redis cannot be told so: Celery only logs that. With one
    message at a time, a worker whose task ended while Redis was away would never hear of another. Redis delivers the
    message once more, which is harmless.
    """

    def ack(self, delivery_tag: str) -> None:
        """Acknowledge a message, or else only forget it."""
        try:
            super().ack(delivery_tag)
        finally:
            virtual.QoS.ack(self, delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:  # noqa: FBT001, FBT002 - kombu's
        """Reject a message, or else only forget it."""
        try:
            super().reject(delivery_tag, requeue=requeue)
        finally:
            virtual.QoS.ack(self, delivery_tag)


class Channel(redis.Channel):
    """Where messages are put and found."""

    QoS = QoS


class Transport(redis.Transport):
    """Redis."""

    Channel = Channel
