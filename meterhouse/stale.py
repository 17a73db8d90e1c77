"""Stale partitions: those that definitions, quality rules, archive policies or derived meters of the past have made.

Each partition keeps the fingerprint of what it was made by, and the warehouse what each fingerprint meant. A partition
is stale if another meaning has made it, and the difference may concern it. Partitions of releases that kept no
fingerprint are not stale. Looking this up reads a range of an index for each other meaning, however old the site is.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Connection, and_, func, select

from meterhouse import meanings, times
from meterhouse.catalog import hours_of_meters
from meterhouse.conversion import used
from meterhouse.definitions.quality_rules import differ
from meterhouse.definitions.resources import load as load_resources
from meterhouse.definitions.units import load as load_units
from meterhouse.meanings import Kept, Meaning
from meterhouse.rollups import policy_changes
from meterhouse.stores.warehouse_tables import conversions, dirty_hours, period_months
from meterhouse.usage import made_by

if TYPE_CHECKING:
    from meterhouse.site import Site

RULES_CHANGED = "the quality rules changed"
"""Why hours are judged again."""

WENT_BACK = ("the lake went back: by what they were made is not known",)


@dataclass(frozen=True)
class Stale:
    """Stale partitions of an asset, for one reason.

    Attributes:
        asset: `samples` or `events`, by arrival hour; `sample_quality` or `rollups`, by event hour; `resource_periods`,
            by month of event time.
        start: the first hour, UTC.
        end: the end of the last hour, UTC.
        hours: how many hours in between are stale.
        changed: what has changed since they were made, such as `meter cpu changed`.
        files: the files and settings that say something else now; empty if that was not kept.
        since: since when what holds now holds, UTC; None if unknown.
    """

    asset: str
    start: datetime
    end: datetime
    hours: int
    changed: tuple[str, ...]
    files: tuple[str, ...]
    since: datetime | None


@dataclass(frozen=True)
class _Asset:
    """How the stale hours of an asset are found.

    Attributes:
        now: what its partitions are made by now.
        hour: the column of the hour, or of the start of the month.
        moment: the start of an hour, by a value of that column.
        of_meaning: the condition for hours that a meaning may have made otherwise; None for no hours.
        changes: what has changed since a meaning, by its text.
        months: whether partitions are months.
    """

    now: Meaning
    hour: ColumnElement[Any]
    moment: Callable[[Any], datetime]
    of_meaning: Callable[[Connection, str, Kept | None], ColumnElement[bool] | None]
    changes: Callable[[str], list[str]]
    months: bool = False

    def end(self, partition: datetime) -> datetime:
        """The end of a partition, or of the hour that is running."""
        if not self.months:
            return partition + times.HOUR
        following = (partition.replace(day=28) + 4 * times.DAY).replace(day=1)
        return max(min(following, times.hour_of(times.now()) + times.HOUR), partition + times.HOUR)

    def others(self, connection: Connection) -> Iterator[tuple[ColumnElement[bool], Kept | None]]:
        """The conditions for stale hours, each with the meaning that has made them; None if that is not known."""
        for fingerprint in [*meanings.others(connection, self.now), used.UNKNOWN]:
            kept = meanings.of(connection, fingerprint)
            if (condition := self.of_meaning(connection, fingerprint, kept)) is not None:
                yield condition, kept


def stale(site: "Site", only: str | None = None) -> list[Stale]:
    """The stale partitions, of one asset or all, in the order of the flow; of each, those that changed last first.

    Raises:
        DefinitionError: a file cannot be read.
    """
    found = []
    with site.warehouse.read() as connection:
        for name, asset in _assets(site).items():
            if only not in (None, name):
                continue
            of_asset = []
            for condition, kept in asset.others(connection):
                query = select(func.min(asset.hour), func.max(asset.hour), func.count()).where(condition)
                first, last, hours = connection.execute(query).one()
                if hours:
                    files = tuple(kept.changed_files(asset.now)) if kept else ()
                    changed = tuple(asset.changes(kept.text)) if kept else WENT_BACK
                    since = _since(site, connection, asset.now, kept, files)
                    end = asset.end(asset.moment(last))
                    if asset.months:
                        starts = connection.execute(select(asset.hour).where(condition)).scalars()
                        hours = sum((asset.end(each) - each) // times.HOUR for each in starts)
                    of_asset.append(Stale(name, asset.moment(first), end, hours, changed, files, since))
            found += sorted(of_asset, key=lambda each: each.end, reverse=True)
    return found


def stale_hours(site: "Site", name: str) -> list[datetime]:
    """The stale hours of an asset, in order.

    Raises:
        DefinitionError: a file cannot be read.
    """
    asset, found = _assets(site)[name], set[Any]()
    with site.warehouse.read() as connection:
        for condition, _ in asset.others(connection):
            found.update(connection.execute(select(asset.hour).where(condition)).scalars())
    return sorted(map(asset.moment, found))


def _assets(site: "Site") -> Mapping[str, _Asset]:
    return {
        "samples": _converted(site, "samples"),
        "events": _converted(site, "events"),
        "sample_quality": _judged(site),
        "rollups": _rolled_up(site),
        "resource_periods": _periods(site),
    }


def _converted(site: "Site", table: str) -> _Asset:
    now = used.meaning_of(table, site.definitions, site.settings)

    def of_meaning(connection: Connection, fingerprint: str, kept: Kept | None) -> ColumnElement[bool]:
        return and_(conversions.c.table_name == table, conversions.c.fingerprint == fingerprint)

    return _Asset(
        now, conversions.c.arrival_hour, lambda hour: times.parse(f"{hour}:00"), of_meaning, now.changes_since
    )


def _judged(site: "Site") -> _Asset:
    now = site.rules.meaning

    def of_meaning(connection: Connection, fingerprint: str, kept: Kept | None) -> ColumnElement[bool] | None:
        if kept is None or not _any(connection, dirty_hours.c.rules == fingerprint):
            return None
        span = hours_of_meters(connection, differ(kept.text, now.text))
        return None if span is None else and_(dirty_hours.c.rules == fingerprint, dirty_hours.c.hour.between(*span))

    return _Asset(now, dirty_hours.c.hour, lambda hour: hour, of_meaning, now.changes_since)


def _rolled_up(site: "Site") -> _Asset:
    now = policy_changes.Declared.of(site)

    def of_meaning(connection: Connection, fingerprint: str, kept: Kept | None) -> ColumnElement[bool] | None:
        if now.has_faults or not _any(connection, dirty_hours.c.policies == fingerprint):
            return None
        span = policy_changes.concerned(connection, now, fingerprint)
        return None if span is None else and_(dirty_hours.c.policies == fingerprint, dirty_hours.c.hour.between(*span))

    return _Asset(now, dirty_hours.c.hour, lambda hour: hour, of_meaning, now.changes_since)


def _periods(site: "Site") -> _Asset:
    resources, units = load_resources(site.settings.config_dir), load_units(site.settings.config_dir)
    now = made_by.meaning_of(resources, units, site.settings)

    def of_meaning(connection: Connection, fingerprint: str, kept: Kept | None) -> ColumnElement[bool] | None:
        if resources.faults or units.faults:
            return None
        return period_months.c.fingerprint == fingerprint

    return _Asset(now, period_months.c.month, lambda month: month, of_meaning, now.changes_since, months=True)


def _any(connection: Connection, condition: ColumnElement[bool]) -> bool:
    return connection.execute(select(dirty_hours.c.hour).where(condition).limit(1)).first() is not None


def _since(
    site: "Site", connection: Connection, now: Meaning, kept: Kept | None, files: tuple[str, ...]
) -> datetime | None:
    """When the present meaning was first used; if it was not yet, or is one of before, when a file was changed."""
    present = meanings.of(connection, now.fingerprint)
    before = None if kept is None else kept.since
    if present is not None and present.since is not None and (before is None or present.since > before):
        return present.since
    folder = site.settings.config_dir
    changed = [folder / name for name in files] if folder else []
    moments = [path.stat().st_mtime for path in changed if path.is_file()]
    return datetime.fromtimestamp(max(moments), UTC) if moments else None
