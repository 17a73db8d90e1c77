"""Collection: drains the stream, lands the messages in the lake, and only then acknowledges them.

It needs only the stream and the lake. While the warehouse is unavailable, messages are still landed.
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
"""The first and the longest pause before landing a batch is retried. Each pause is twice as long as the one before."""

STOP_SECONDS = 0.1
"""How often a run that waits checks whether it should stop."""

INDEX = "landed"
"""Folder in the home folder where the index of landed message_ids is cached."""

log = logging.getLogger(__name__)


@dataclass
class Collected(Tally):
    """What was collected.

    Of `seconds`, landing took `landing_seconds`, and nothing came for `idle_seconds`.
    """

    batches: int = 0
    landing_seconds: float = 0.0
    idle_seconds: float = 0.0
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Messages a second, without idle time; 0 if there were none."""
        busy = self.seconds - self.idle_seconds
        return self.messages / busy if busy > 0 else 0.0

    def add(self, other: Tally) -> None:
        """Add the counts of another run."""
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
        messages: after this many new messages; None for no limit.
        seconds: after this many seconds, but not before at least one new batch is landed; None for no limit.
        quiet_seconds: when nothing has come for this long.
        follow: never by itself; `quiet_seconds` has no effect.
        patience_seconds: how long to retry if the lake cannot be written.
        stop: called often; if it returns true, the run ends after the current batch.
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
    """Drain the stream, and yield the result of each batch once it is landed; also when nothing came for a while.

    A batch is acknowledged when it is synced to disk. At the end all batches are acknowledged.

    A message_id that was landed within METERHOUSE_REDELIVERY_HOURS is not landed again. A kill at any point loses
    nothing: messages that were not acknowledged come again, and those that were landed are recognised. Any number of
    processes may collect from one stream.

    Raises:
        MeterhouseError: the stream or the lake cannot be reached; nothing unlanded was acknowledged.
    """
    settings = site.settings
    size = settings.collect_batch if limits.messages is None else min(settings.collect_batch, limits.messages)
    folder, secret = settings.home_path / INDEX, settings.telemetry_secret
    landing = Landing(site.lake, folder, settings.redelivery_hours, site.stream.name, secret)
    taken = site.stream.batches(size, quiet_seconds=limits.quiet_seconds, follow=limits.follow)
    syncer = Syncer()
    site.lake.written()  # starts to record written files
    started = reported = time.monotonic()
    fresh = 0  # without redelivered messages: a run that ends within a file must get further than the one before
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
            done.landing_seconds, done.seconds, reported = now - before, now - reported, now
            done.idle_seconds = 0.0 if done.messages else done.seconds
            yield done
            fresh += done.landed + done.dead_letters
            if limits.stop():
                break
            if limits.messages is not None and fresh >= limits.messages:
                break
            if limits.seconds is not None and now - started >= limits.seconds and (fresh or not batch.messages):
                break
        syncer.wait()
    finally:
        syncer.close()
        taken.close()
        landing.close()


def _land(landing: Landing, batch: Batch, limits: Limits) -> Tally | None:
    """Land a batch. If the lake cannot be written, retry until the limits' `patience_seconds` are over.

    Returns None if the run was stopped meanwhile.
    """
    pause, started, raws = RETRY_SECONDS[0], time.monotonic(), batch.messages
    while True:
        try:
            return landing.land(raws, batch.positions)
        except MeterhouseError as error:
            if not limits.follow and time.monotonic() + pause - started > limits.patience_seconds:
                raise
            log.warning("%s; retrying in %.1f s", error, pause)
        raws = [raw._replace(redelivered=True) for raw in raws]  # some may be in the dead letters now
        retry_at = time.monotonic() + pause
        while time.monotonic() < retry_at:
            if limits.stop():
                return None
            time.sleep(STOP_SECONDS)
        pause = min(2 * pause, RETRY_SECONDS[1])
