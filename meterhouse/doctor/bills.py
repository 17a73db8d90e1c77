"""Check of bills: whether the files of closed months are whole."""

from collections.abc import Iterator

from meterhouse.billing import closing, frozen
from meterhouse.doctor.findings import Finding
from meterhouse.errors import Damaged
from meterhouse.site import Site


def closed_months(site: Site) -> Iterator[Finding]:
    """Whether all files of the closed months are those that were written when the months were closed."""
    part = "closed months"
    months = closing.closed(site)
    damaged = 0
    for each in months:
        try:
            frozen.check(frozen.in_lake(site.lake, each.month), each, closing.folder_of(site, each.month))
        except Damaged as error:
            damaged += 1
            yield Finding(part, "failed", f"{error.where}: {error.what}", error.hint)
    for month in closing.lost(site, months):
        damaged += 1
        where = closing.folder_of(site, month)
        yield Finding(part, "failed", f"{where}: {month} was closed, but its files are gone", "restore the folder")
    if not months and not damaged:
        yield Finding(part, "ok", "no month is closed")
    elif not damaged:
        many = f"{len(months)} months are" if len(months) > 1 else "1 month is"
        yield Finding(part, "ok", f"{many} closed, the last is {months[-1].month}; all files are whole")
