"""Checks of usage: whether the periods of resources follow the lake, and whether audits or samples confirm them."""

from collections.abc import Iterator
from datetime import timedelta

from meterhouse import times
from meterhouse.doctor.findings import Finding, age
from meterhouse.site import Site
from meterhouse.untrusted import printable
from meterhouse.usage import keeping_up

LATE = timedelta(hours=1)
"""Periods that are this far behind are late: on a large site, a run and the pause after it take some minutes."""


def periods(site: Site) -> Iterator[Finding]:
    """Whether the periods of resources follow what is landed and rolled up."""
    found = keeping_up.behind(site)
    if not found.commits:
        yield Finding("periods", "ok", "the periods of resources are those of all that is landed")
        return
    commits = "1 commit is" if found.commits == 1 else f"{found.commits} commits are"
    if found.since is None:
        waited, how = LATE * 2, "for longer than the lake's log goes back"
    else:
        waited = times.now() - found.since
        how = f"the oldest of {age(waited.total_seconds())} ago"
    said = f"{commits} not in the periods of resources yet, {how}"
    if waited <= LATE:
        yield Finding("periods", "ok", said)
    else:
        to_do = "see that Dagster's daemon and `periods_sensor` run, or run `meterhouse rollup`"
        yield Finding("periods", "warning", said, to_do)


def confirmed(site: Site) -> Iterator[Finding]:
    """Whether audits or samples tell of the resources that exist, if they tell of others of the type."""
    part, days = "unconfirmed resources", keeping_up.CONFIRMED_BY.days
    alone = doubted = 0
    for found in keeping_up.confirmed(site):
        alone += found.unconfirmed
        if found.confirmed and found.waiting:
            doubted += 1
            said = (
                f"{found.waiting} of type {found.resource_type} exist by events alone for more than {days} days, the "
                f"first is {printable(found.first or '')}; audits or samples report {found.confirmed} others"
            )
            to_do = "the event of their end may be lost: look at `meterhouse periods --unconfirmed`"
            yield Finding(part, "warning", said, to_do)
    if not doubted and alone:
        said = f"{alone} resources are known by events alone; no audit and no sample can confirm them yet"
        yield Finding(part, "ok", said)
    elif not doubted:
        yield Finding(part, "ok", "audits or samples confirm all resources that exist")
