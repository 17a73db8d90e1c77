"""Which series a query is about, as far as the catalog tells before any point is read."""

from dataclasses import dataclass

import numpy as np
from sqlalchemy import exists, literal_column, select

from meterhouse import catalog, history
from meterhouse.errors import Replaced
from meterhouse.filters import SERIES, And, Condition, all_of, fields_of, on_warehouse
from meterhouse.queries.raw_points import RawPoints
from meterhouse.scopes import leaves_out_verify
from meterhouse.site import Site
from meterhouse.stores.lake import is_append
from meterhouse.stores.lake_order import Integers
from meterhouse.stores.warehouse_tables import series
from meterhouse.verification import VERIFY

BEHIND = 200
"""If the catalog is more commits behind, all series of the meter are read."""

_COLUMNS = {field.column for field in SERIES.values()} & set(series.c.keys())


@dataclass(frozen=True)
class Wanted:
    """The series whose points can fulfil a condition.

    Attributes:
        ids: of the series, in order; None if it may be any of the meter's.
        rest: what is still to be decided of their points.
    """

    ids: Integers | None
    rest: Condition


def wanted_series(site: Site, raw: RawPoints, meter: str, condition: Condition) -> Wanted:
    """The series of a meter whose points can fulfil a condition, also those that the catalog does not know yet."""
    parts: list[Condition] = []
    others: list[Condition] = []
    for part in _parts(condition):
        of_series = {field.column for field in fields_of(part)} <= _COLUMNS
        (parts if of_series else others).append(part)
    paths = _not_followed(site) if parts else None
    if paths is None:
        return Wanted(None, condition)
    if not paths and not _has_verify(site, meter):
        parts = [part for part in parts if not leaves_out_verify(part)]
        if not parts:
            return Wanted(None, all_of(others))
    columns = series.c
    with site.warehouse.read() as connection:
        known = select(columns.series_id).where(columns.meter == meter)
        fulfils = on_warehouse(all_of(parts), lambda field: columns[field.column])
        ids = np.array(connection.execute(known.where(fulfils)).scalars().all(), np.int64)
        if paths:
            catalogued = np.array(connection.execute(known).scalars().all(), np.int64)
            ids = np.union1d(ids, np.setdiff1d(raw.ids(paths), catalogued))
    return Wanted(np.sort(ids), condition if paths else all_of(others))


def _parts(condition: Condition) -> list[Condition]:
    """Conditions that all have to hold."""
    if isinstance(condition, And):
        return [each for part in condition.parts for each in _parts(part)]
    return [condition]


def _has_verify(site: Site, meter: str) -> bool:
    """Whether `meterhouse verify` has made series of a meter, as far as the catalog knows."""
    verify = series.c.source == literal_column(f"'{VERIFY}'")  # the index is not used with a parameter
    with site.warehouse.read() as connection:
        return bool(connection.execute(select(exists().where(verify, series.c.meter == meter))).scalar())


def _not_followed(site: Site) -> set[str] | None:
    """The files of samples that are not in the catalog yet; None if they are many, or may have been merged."""
    lake, reached = site.lake, history.followed_position(site, catalog.FOLLOWER)
    newest = lake.version(catalog.TABLE)
    if newest == reached.version:
        return set()
    if newest - reached.version > BEHIND or not history.is_same_history(lake, catalog.TABLE, reached):
        return None
    try:
        commits = list(lake.commits(catalog.TABLE, reached.version, newest))
    except Replaced:
        return None
    paths = {action["path"] for commit in commits if is_append(commit) for action in commit.added}
    return paths if paths <= lake.live(catalog.TABLE) else None
