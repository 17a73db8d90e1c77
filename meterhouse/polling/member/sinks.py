"""Where batches of samples go: into the lake, or into the stream that is collected."""

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Protocol

from meterhouse import times
from meterhouse.errors import MeterhouseError
from meterhouse.polling.batches import SlotNote
from meterhouse.site import Site

if TYPE_CHECKING:
    from meterhouse.collection.landing import Landing
    from meterhouse.stream.publishing import Publisher

SOURCE = "polled"
"""The value of the column `source` of notifications that members land."""


class Sink(Protocol):
    """Takes batches. Use it from one thread."""

    def put(self, batches: Collection[bytes]) -> frozenset[str]:
        """Store batches. When this returns, no kill and no power cut loses them.

        Returns:
            The message_ids of those that had been stored before, as far as that can be told.

        Raises:
            MeterhouseError: nobody knows whether they are stored. It is safe to put the same batches again.
        """
        ...

    def outcomes(self, message_ids: Collection[str], since: datetime) -> Mapping[str, SlotNote]:
        """What batches that had been stored before say of their tasks; see `landed_slots`.

        Raises:
            MeterhouseError: they cannot be read.
        """
        ...

    def known_since(self) -> datetime:
        """Of which batches `put` says that they had been stored before: those that were stored since this instant."""
        ...

    def idle(self) -> None:
        """Called about each second in which nothing is put."""

    def close(self) -> None:
        """Release what is held."""


class LakeSink:
    """Lands batches in the lake."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._landing: Landing | None = None

    def put(self, batches: Collection[bytes]) -> frozenset[str]:
        """See `Sink.put`."""
        from meterhouse.collection.collect import INDEX
        from meterhouse.collection.landing import Landing
        from meterhouse.stores.disk import sync
        from meterhouse.stream import Raw

        site, settings = self._site, self._site.settings
        try:
            if self._landing is None:
                site.lake.written()  # starts to record written files
                folder = settings.home_path / INDEX
                self._landing = Landing(site.lake, folder, settings.redelivery_hours, SOURCE, settings.telemetry_secret)
            self._landing.land([Raw(batch, SOURCE) for batch in batches])
            sync(set(site.lake.written()))
        except OSError as error:
            raise MeterhouseError(f"polled samples cannot be landed: {error.strerror or error}") from error
        return self._landing.known

    def outcomes(self, message_ids: Collection[str], since: datetime) -> Mapping[str, SlotNote]:
        """See `Sink.outcomes`."""
        from meterhouse.polling.member.landed_slots import landed_slots

        return landed_slots(self._site.lake, message_ids, since)

    def known_since(self) -> datetime:
        """See `Sink.known_since`; by the clock of this host, as the landed messages have it."""
        return times.now() - timedelta(hours=self._site.settings.redelivery_hours)

    def idle(self) -> None:
        """Nothing to keep alive."""

    def close(self) -> None:
        """Save the index of landed message_ids."""
        if self._landing is not None:
            self._landing.close()


class StreamSink:
    """Publishes batches to the stream, which is collected as any other notification: by message_id, once.

    Of two batches of a task, the first in the stream's order is landed.
    """

    def __init__(self, site: Site) -> None:
        self._site = site
        self._publisher: Publisher | None = None

    def put(self, batches: Collection[bytes]) -> frozenset[str]:
        """See `Sink.put`; it never knows which were published before."""
        if self._publisher is None:
            from meterhouse.stream.publishing import publisher

            self._publisher = publisher(self._site.settings)
        self._publisher.publish(list(batches))
        return frozenset()

    def outcomes(self, message_ids: Collection[str], since: datetime) -> Mapping[str, SlotNote]:
        """Nothing is known."""
        return {}

    def known_since(self) -> datetime:
        """Of none."""
        return times.now()

    def idle(self) -> None:
        """Keep the connection alive."""
        if self._publisher is not None:
            self._publisher.idle()

    def close(self) -> None:
        """Close the connection."""
        if self._publisher is not None:
            self._publisher.close()


def sink(site: Site) -> Sink:
    """Where the site's samples go: METERHOUSE_POLL_TO."""
    return LakeSink(site) if site.settings.poll_to == "lake" else StreamSink(site)
