"""Collection: drain the stream, land the messages in the lake, and only then let the stream forget them.

Nothing but the stream and the lake is needed for it: while the warehouse is away, messages are landed all the same.
"""

import logging
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass

from meterhouse.collection.landing import Landing, Tally
from meterhouse.collection.syncing import Syncer
from meterhouse.errors import MeterhouseError
from meterhouse.site import Site
from meterhouse.stream import Batch

RETRY_SECONDS = (0.5, 15.0)
"""The first and the longest pause before a batch is landed again that could not be; each is twice the one before."""

STOP_SECONDS = 0.1
"""How often a run that waits asks whether it is to stop."""

INDEX = "landed"
"""Folder below the home folder where the index of landed message_ids is cached."""

log = logging.getLogger(__name__)


@dataclass
class Collected(Tally):
    """What was collected, in how many batches.

    Of `seconds`, `landing_seconds` is what landing took, and `idle_seconds` what passed while nothing came.
    """

    batches: int = 0
    landing_seconds: float = 0.0
    idle_seconds: float = 0.0
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Messages a second while there were any; 0 where there were none."""
        busy = self.seconds - self.idle_seconds
        return self.messages / busy if busy > 0 else 0.0

    def add(self, other: Tally) -> None:
        """Count the other in."""
        super().add(other)
        if isinstance(other, Collected):
            self.batches += other.batches
            self.landing_seconds += other.landing_seconds
            self.idle_seconds += other.idle_seconds
            self.seconds += other.seconds


@dataclass(frozen=True)
class Limits:
    """When a collecting run ends.

    Attributes:
        messages: after so many messages that were not known; None for no such limit.
        seconds: after so many seconds; at least one batch that was not known is landed.
        quiet_seconds: when nothing has come for so long.
        follow: never by itself; `quiet_seconds` says nothing then.
        patience_seconds: a lake that cannot be written is tried again for so long.
        stop: asked often; when it says so, the run ends after the batch that it is at.
    """

    messages: int | None = None
    seconds: float | None = None
    quiet_seconds: float = 0.0
    follow: bool = False
    patience_seconds: float = 0.0
    stop: Callable[[], bool] = lambda: False


ONCE = Limits()


def collect(site: Site, limits: Limits = ONCE) -> Collected:
    """Drain the stream; see `batches`."""
    done = Collected()
    for batch in batches(site, limits):
        done.add(batch)
    return done


def batches(site: Site, limits: Limits = ONCE) -> Generator[Collected]:
    """Drain the stream, and tell of each batch once it is landed; also that nothing came for a while.

    It is acknowledged when it is on the disk; at the end all are.

    A message_id that was landed within METERHOUSE_REDELIVERY_HOURS is not landed again. A kill at any point loses
    nothing: what was not acknowledged comes again, and what was landed is then known. Any number of processes may
    collect from one stream.

    Raises:
        MeterhouseError: the stream or the lake cannot be reached; nothing unlanded was acknowledged.
    """
    given = site.settings
    most = given.collect_batch if limits.messages is None else min(given.collect_batch, limits.messages)
    landing = Landing(site.lake, given.home_path / INDEX, given.redelivery_hours, site.stream.name)
    taken = site.stream.batches(most, quiet_seconds=limits.quiet_seconds, follow=limits.follow)
    syncer = Syncer()
    site.lake.written()  # from here on it is noted
    begun = told = time.monotonic()
    fresh = 0  # redelivered ones do not count: a run that is cut off within a file must get further than the one before
    try:
        for batch in taken:
            done, before = Collected(), time.monotonic()
            if batch.messages:
                landed = _land(landing, batch, limits)
                if landed is None:
                    break
                done.add(landed)
                done.batches = 1
            syncer.acknowledge(site.lake.written(), batch.acknowledge)
            if batch.at_once:
                syncer.wait()
            now = time.monotonic()
            done.landing_seconds, done.seconds, told = now - before, now - told, now
            done.idle_seconds = 0.0 if done.messages else done.seconds
            yield done
            fresh += done.landed + done.dead_letters
            if limits.stop():
                break
            if limits.messages is not None and fresh >= limits.messages:
                break
            if limits.seconds is not None and now - begun >= limits.seconds and (fresh or not batch.messages):
                break
        syncer.wait()
    finally:
        syncer.close()
        taken.close()
        landing.close()


def _land(landing: Landing, batch: Batch, limits: Limits) -> Tally | None:
    """Land a batch; where the lake cannot be written, again after a while, as long as the limits' patience lasts.

    None where the run is to stop meanwhile.
    """
    pause, begun, raws = RETRY_SECONDS[0], time.monotonic(), batch.messages
    while True:
        try:
            return landing.land(raws, batch.positions)
        except MeterhouseError as error:
            if not limits.follow and time.monotonic() + pause - begun > limits.patience_seconds:
                raise
            log.warning("%s; trying again in %.1f s", error, pause)
        raws = [raw._replace(redelivered=True) for raw in raws]  # some may be in the dead letters now
        again_at = time.monotonic() + pause
        while time.monotonic() < again_at:
            if limits.stop():
                return None
            time.sleep(STOP_SECONDS)
        pause = min(2 * pause, RETRY_SECONDS[1])
