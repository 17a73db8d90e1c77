"""Takes posted samples: into the stream, as all others come, or at once into the lake.

Both are durable when they are said to be taken. Requests that come at the same time are taken together.
"""

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace

from meterhouse.collection.collect import INDEX
from meterhouse.collection.following import follow
from meterhouse.collection.landing import Landing
from meterhouse.errors import MeterhouseError, Unavailable
from meterhouse.site import Site
from meterhouse.stores.disk import sync
from meterhouse.stream import Raw
from meterhouse.stream.group_commit import GroupCommit
from meterhouse.stream.publishing import publisher

SOURCE = "api"
"""The lake's column `source` of notifications that did not come by the stream."""

FOLLOW_SECONDS = 20.0
"""How long to wait for a process that converts already, or catalogs."""


@dataclass
class Posting:
    """Takes the notifications of posted samples, for any number of threads.

    Args:
        site: the site.
    """

    site: Site
    _stream: GroupCommit[str] = field(init=False, repr=False)
    _direct: GroupCommit[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        stream = publisher(self.site.settings)

        def publish(messages: Sequence[bytes]) -> str:
            stream.publish(messages)
            return ""

        self._stream = GroupCommit(publish, idle=stream.idle, close=stream.close, name="posting")
        landing = _Direct(self.site)
        self._direct = GroupCommit(landing.take, close=landing.close, name="posting directly")

    def send(self, messages: Sequence[bytes]) -> "Future[str]":
        """Put notifications into the stream. The result, an empty text, comes when they are durable.

        Raises:
            Unavailable: too many wait. As the result: the stream cannot be reached, and they are not in it.
        """
        return self._stream.submit(messages)

    def land(self, messages: Sequence[bytes]) -> "Future[str]":
        """Land notifications, convert them and add their samples to the catalog: then every query finds them.

        The result is empty, or says why they are landed, but not converted: then this is done later.

        Raises:
            Unavailable: too many wait. As the result: the lake cannot be written, and they are not in it.
        """
        return self._direct.submit(messages)

    def close(self) -> None:
        """Take what waits, and end."""
        self._stream.close()
        self._direct.close()


class _Direct:
    """Lands in one thread, with a lake of its own: two threads must not share an open table."""

    def __init__(self, site: Site) -> None:
        self._site = replace(site)
        self._landing: Landing | None = None

    def take(self, messages: Sequence[bytes]) -> str:
        """See `Posting.land`."""
        site, settings = self._site, self._site.settings
        try:
            if self._landing is None:
                site.lake.written()  # starts to record written files
                folder = settings.home_path / INDEX
                self._landing = Landing(site.lake, folder, settings.redelivery_hours, SOURCE, settings.telemetry_secret)
            self._landing.land([Raw(message, SOURCE) for message in messages])
            sync(set(site.lake.written()))
        except MeterhouseError as error:
            raise Unavailable(f"the samples are not stored: {error}") from error
        except OSError as error:
            raise Unavailable(f"the samples are not stored: {error.strerror or error}") from error
        try:
            follow(site, wait_seconds=FOLLOW_SECONDS)
        except MeterhouseError as error:
            return str(error)
        return ""

    def close(self) -> None:
        """Save the index of what was landed."""
        if self._landing is not None:
            self._landing.close()
