"""Intake: messages from the stream to samples and events in the lake. What `collect` and the sensor's runs do."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from meterhouse import times
from meterhouse.collection import lag
from meterhouse.collection.collect import ONCE, Collected, Limits, batches
from meterhouse.collection.following import Followed, Follower
from meterhouse.errors import MeterhouseError
from meterhouse.progress import Progress, no_progress
from meterhouse.site import Site
from meterhouse.stream import Backlog

REPORT_SECONDS = 10.0
"""How often an intake keeps what it did, and tells of it."""

MANY_MESSAGES, MANY_BYTES = 2_500, 8 << 20
"""A batch of so many messages or bytes is worth a process of its own for the conversion."""

log = logging.getLogger(__name__)


@dataclass
class Intake:
    """What an intake did: what it collected, and what conversion and catalog made of it meanwhile."""

    collected: Collected = field(default_factory=Collected)
    followed: Followed = field(default_factory=Followed)
    started_at: datetime = field(default_factory=times.now)


def intake(
    site: Site,
    limits: Limits = ONCE,
    *,
    progress: Progress = no_progress,
    report: Callable[[Intake], None] = lambda done: None,
) -> Intake:
    """Drain the stream, and convert and catalog what is landed while it goes on; see `collect.batches`.

    Trouble with definitions or the warehouse does not hold up the landing; it is raised at the end.

    Args:
        site: the site.
        limits: when to end.
        progress: told how many messages (of a folder: bytes) are done, of those that waited at the start.
        report: called every ten seconds and at the end with what was done since the last time.

    Raises:
        MeterhouseError: stream, lake or warehouse cannot be reached, or definitions cannot be read; what was not
            landed was not acknowledged, and what was not converted is the next time.
    """
    whole, part = Intake(), Intake()
    follower = Follower(site)
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
            follower.start_process()  # it takes a while to be ready
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
                follower.later(_keep, site, end_part())
        if not limits.stop():
            follower.finish()
    finally:
        follower.abandon()
        if part.collected.messages or follower.done.converted.notifications or follower.done.catalogued.samples:
            _keep(site, end_part())
    return whole


def _waiting(site: Site) -> Backlog:
    """What waits at the start; nothing is known where the stream is away, which the draining then tells of."""
    try:
        return site.stream.backlog()
    except MeterhouseError:
        return Backlog(())


def _keep(site: Site, done: Intake) -> None:
    """Keep the figures in the warehouse, if it is there."""
    try:
        lag.note(site, done.collected)
        for step, figures, count in (
            ("collect", done.collected, done.collected.messages),
            ("convert", done.followed.converted, done.followed.converted.notifications),
            ("catalog", done.followed.catalogued, done.followed.catalogued.samples),
        ):
            if count:
                kept = {name: value for name, value in vars(figures).items() if name != "newest"}
                site.warehouse.record_run(step, done.started_at, kept)
    except MeterhouseError as error:
        log.warning("the figures of this run are not kept: %s", error)
