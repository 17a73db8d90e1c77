"""Checks of audits: whether the services report each hour what exists, as bills need it.

Nova and Cinder do not by themselves. Something that exists for days, and sends no other notification, is then not
counted.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, select

from meterhouse import times
from meterhouse.doctor.findings import Finding
from meterhouse.site import Site
from meterhouse.stores.warehouse_tables import series

WINDOW = timedelta(hours=3)
"""The arrivals that are looked at. An hourly audit comes at least twice in them."""

PATIENCE = timedelta(minutes=90)
"""If a service has been heard of for this long, its hourly audit should have come too."""

POLLS = re.compile(r"telemetry\.polling")
POLLED = ("cpu", "memory.usage")
"""Meters of instances that polling agents measure."""


@dataclass(frozen=True)
class Service:
    """A service that sends audits only if it is told to.

    Attributes:
        what: the things whose existence it audits.
        sends: matches the event types of its notifications about them.
        audits: matches those of the audits.
        to_do: how to get audits.
    """

    what: str
    sends: re.Pattern[str]
    audits: re.Pattern[str]
    to_do: str


NOVA = Service(
    "instances",
    re.compile(r"(compute\.)?instance\."),
    re.compile(r"(compute\.)?instance\.exists\Z"),
    "set `instance_usage_audit = True` and `instance_usage_audit_period = hour` in `[DEFAULT]` of each nova.conf",
)
CINDER = Service(
    "volumes",
    re.compile(r"volume\."),
    re.compile(r"volume\.exists\Z"),
    "run `cinder-volume-usage-audit --send_actions` each hour by cron, with `volume_usage_audit_period = hour`",
)


def audits(site: Site) -> Iterator[Finding]:
    """Whether audits come from the services that send notifications, or whose instances are polled."""
    now = times.now()
    first = _first_arrivals(site, now - WINDOW)
    heard = missing = 0
    for service in (NOVA, CINDER):
        seen = [moment for event_type, moment in first.items() if service.sends.match(event_type)]
        if service is NOVA and not seen and _are_polled(site, now - WINDOW):
            seen = [moment for event_type, moment in first.items() if POLLS.match(event_type)]
        audited = any(service.audits.match(event_type) for event_type in first)
        heard += bool(seen)
        if seen and not audited and now - min(seen) >= PATIENCE:
            missing += 1
            found = f"no audit of the {service.what} that exist came in the last {WINDOW.seconds // 3600} h"
            yield Finding("audits", "warning", found, service.to_do)
    if not missing:
        yield Finding("audits", "ok", "audits come" if heard else "nothing came that needs audits")


def _first_arrivals(site: Site, since: datetime) -> dict[str, datetime]:
    """When the first notification of each event type came, since a time."""
    files = site.lake.files("notifications", at_least={"arrival_hour": times.arrival_hour(since)})
    with site.lake.connect() as duck:
        site.lake.view(duck, "notifications", files)
        return dict(
            duck.execute(
                "SELECT event_type, min(received_at) FROM notifications WHERE received_at >= ? GROUP BY ALL", [since]
            ).fetchall()
        )


def _are_polled(site: Site, since: datetime) -> bool:
    """Whether polling agents have measured instances since a time."""
    with site.warehouse.read() as connection:
        newest = connection.execute(select(func.max(series.c.last_seen)).where(series.c.meter.in_(POLLED))).scalar()
    return newest is not None and newest >= since
