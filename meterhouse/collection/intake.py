"""Intake: messages from the stream become samples and events in the lake. `collect` and the sensor's runs do this."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from meterhouse import times
from meterhouse.collection import lag
from meterhouse.collection.collect import ONCE, Collected, Limits, batches
from meterhouse.collection.following import Came, Followed, Follower, nobody
from meterhouse.errors import MeterhouseError
from meterhouse.progress import Progress, no_progress
from meterhouse.site import Site
from meterhouse.stream import Backlog

REPORT_SECONDS = 10.0
"""How often an intake records and reports what it did."""

MANY_MESSAGES, MANY_BYTES = 2_500, 8 << 20
"""A batch of this many messages or bytes is worth a separate process for the conversion."""

log = logging.getLogger(__name__)


@dataclass
class Intake:
    """What an intake did: what it collected, and what it converted and catalogued meanwhile."""

    collected: Collected = field(default_factory=Collected)
    followed: Followed = field(default_factory=Followed)
    started_at: datetime = field(default_factory=times.now)


def intake(
    site: Site,
    limits: Limits = ONCE,
    *,
    progress: Progress = no_progress,
    report: Callable[[Intake], None] = lambda done: None,
    came: Came = nobody,
) -> Intake:
    """Drain the stream, and meanwhile convert and catalog what is landed; see `collect.batches`.

    Errors of definitions or the warehouse do not hold up landing. They are raised at the end.

    Args:
        site: the site.
        limits: when to end.
        progress: gets how many messages (for a folder, bytes) are done, of those that waited at the start.
        report: called every ten seconds and at the end with what was done since the last call.
        came: called each time when new events are in the lake, from any thread; it must return at once.

    Raises:
        MeterhouseError: stream, lake or warehouse cannot be reached, or definitions cannot be read. What was not
            landed was not acknowledged, and the next run converts what was not converted.
    """
    whole, part = Intake(), Intake()
    follower = Follower(site, came)
    reported = time.monotonic()

    def end_part() -> Intake:
        nonlocal part, reported
        ended, part, reported = part, Intake(), time.monotonic()
        ended.followed, follower.done = follower.done, Followed()
        whole.collected.add(ended.collected)
        whole.followed.add(ended.followed)
        report(ended)
        return ended

    try:
        waited = _waiting(site)
        if waited.messages >= MANY_MESSAGES or waited.bytes >= MANY_BYTES:
            follower.start_process()  # now, because it takes a while to be ready
        for batch in batches(site, limits):
            part.collected.add(batch)
            if batch.messages:
                if batch.messages >= MANY_MESSAGES or batch.bytes >= MANY_BYTES:
                    follower.start_process()
                follower.landed()
            else:
                follower.retry()
            counted = whole.collected, part.collected
            so_far = sum(one.bytes if waited.bytes else one.messages for one in counted)
            progress(so_far, max(so_far, waited.bytes or waited.messages))
            if time.monotonic() - reported >= REPORT_SECONDS:
                follower.later(_record, site, end_part())
        if not limits.stop():
            follower.finish()
    finally:
        follower.abandon()
        if part.collected.messages or follower.done.converted.notifications or follower.done.catalogued.samples:
            _record(site, end_part())
    return whole


def _waiting(site: Site) -> Backlog:
    """What waits at the start; empty if the stream cannot be reached, which draining then reports."""
    try:
        return site.stream.backlog()
    except MeterhouseError:
        return Backlog(())


def _record(site: Site, done: Intake) -> None:
    """Record the figures in the warehouse, if it can be reached."""
    try:
        lag.record(site, done.collected)
        for step, figures, count in (
            ("collect", done.collected, done.collected.messages),
            ("convert", done.followed.converted, done.followed.converted.notifications),
            ("catalog", done.followed.catalogued, done.followed.catalogued.samples),
        ):
            if count:
                kept = {name: value for name, value in vars(figures).items() if name != "newest"}
                site.warehouse.record_run(step, done.started_at, kept)
    except MeterhouseError as error:
        log.warning("the figures of this run are not recorded: %s", error)
