"""Where notifications go that Meterhouse itself sends: into the stream that it collects, so that all take one road."""

from collections.abc import Sequence
from typing import Protocol

import orjson

from meterhouse.settings import Settings

ENVELOPE_VERSION = "2.0"


class Publisher(Protocol):
    """Puts messages into the stream. Use it from one thread at a time."""

    def publish(self, bodies: Sequence[bytes]) -> None:
        """Put messages into the stream. When this returns, no kill and no power cut loses them.

        Args:
            bodies: messages without line feeds, as `enveloped` makes them.

        Raises:
            Unavailable: they are not in the stream; or some are, but nobody knows which. It is safe to send the same
                messages again, because each message_id is landed once.
        """

    def idle(self) -> None:
        """Keep the connection alive. Call it about each second in which nothing is published."""

    def close(self) -> None:
        """Close the connection, if there is one."""


def publisher(settings: Settings) -> Publisher:
    """The publisher for the stream that the settings name: a folder, or the first broker that answers."""
    if settings.is_spool:
        from meterhouse.stream.spool_publishing import SpoolPublisher

        return SpoolPublisher(settings.spool)
    from meterhouse.stream.amqp_publishing import AmqpPublisher

    return AmqpPublisher.from_settings(settings)


def enveloped(message: dict[str, object]) -> bytes:
    """A notification in the form of oslo.messaging's `messagingv2` driver."""
    body = {"oslo.version": ENVELOPE_VERSION, "oslo.message": orjson.dumps(message).decode()}
    return orjson.dumps(body)
