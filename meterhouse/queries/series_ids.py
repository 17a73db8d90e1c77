"""Which series a query is about, as far as the catalog tells before any point is read."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sqlalchemy import ColumnElement, exists, false, func, literal_column, select

from meterhouse import catalog, history
from meterhouse.errors import Replaced
from meterhouse.filters import And, Condition, Leaf, OneOf, all_of
from meterhouse.filters.conditions import leaves_of
from meterhouse.filters.warehouse import compared, joined
from meterhouse.queries.partly_known import UNKNOWN, Both, known, weighed
from meterhouse.queries.raw_points import RawPoints
from meterhouse.queries.sample_ids import POINT_KEY, point_of
from meterhouse.sample_quality.series_table import Flags
from meterhouse.scopes import leaves_out_verify
from meterhouse.site import Site
from meterhouse.stores.lake import is_append
from meterhouse.stores.lake_order import Integers
from meterhouse.stores.warehouse_tables import series
from meterhouse.verification import VERIFY

BEHIND = 200
"""If the catalog is more commits behind, all series of the meter are read."""

_COLUMNS = {"source", "meter", "type", "unit", "resource_id", "project_id", "user_id"}
"""What the catalog has of a series."""


@dataclass(frozen=True)
class Wanted:
    """The series whose points can fulfil a condition.

    Attributes:
        ids: of the series, in order; None if it may be any of the meter's.
        rest: what is still to be decided of their points.
        catalogued: those of the series of which the catalog tells what `truths` says, in order.
        truths: comparison of what series are made from, in `rest` → which of the catalogued series meet it.
    """

    ids: Integers | None
    rest: Condition
    catalogued: Integers
    truths: dict[Leaf, Flags]

    def meets(self, leaf: Leaf, ids: Integers) -> Both:
        """Whether series meet a comparison of what they are made from, as far as it is known."""
        truth = self.truths.get(leaf)
        if truth is None or not len(self.catalogued):
            return UNKNOWN
        at = np.minimum(np.searchsorted(self.catalogued, ids), len(self.catalogued) - 1)
        there = self.catalogued[at] == ids
        return truth[at] | ~there, ~truth[at] | ~there


def is_of_series(leaf: Leaf) -> bool:
    """Whether a comparison is of what a series is made from."""
    return leaf.target.column in _COLUMNS


def wanted_series(site: Site, raw: RawPoints, meter: str | None, condition: Condition) -> Wanted:
    """The series of a meter whose points can fulfil a condition, also those that the catalog does not know yet.

    Args:
        site: the site.
        raw: the points that are asked.
        meter: the meter; None for all.
        condition: on what series are made from, and on other things of their points.
    """
    decided: list[Condition] = []
    others: list[Condition] = []
    for part in _parts(condition):
        of_series = all(is_of_series(leaf) for leaf in leaves_of(part))
        (decided if of_series else others).append(part)
    mixed = list(dict.fromkeys(leaf for part in others for leaf in leaves_of(part) if is_of_series(leaf)))
    named = _of_points(others)
    paths = _not_followed(site) if decided or mixed or named is not None else None
    if paths is None:
        return Wanted(None, condition, np.zeros(0, np.int64), {})
    if not paths and not _has_verify(site, meter):
        decided = [part for part in decided if not leaves_out_verify(part)]
        if not decided and not mixed and named is None:
            return Wanted(None, all_of(others), np.zeros(0, np.int64), {})
    columns = series.c
    of_meter = select(columns.series_id).where(*([] if meter is None else [columns.meter == meter]))
    if named is not None:
        of_meter = of_meter.where(columns.series_id.in_(named))
    with site.warehouse.read() as connection:
        fulfils = joined(all_of(decided), _compared)
        met = [func.coalesce(_compared(leaf), false()) for leaf in mixed]
        rows = connection.execute(of_meter.where(fulfils).add_columns(*met)).all()
        table = np.array([tuple(row) for row in rows], np.int64).reshape(-1, len(mixed) + 1)
        table = table[np.argsort(table[:, 0])]
        ids, truths = table[:, 0], dict(zip(mixed, table[:, 1:].T != 0, strict=True))
        may, _ = weighed(all_of(others), lambda leaf: known(truths[leaf]) if leaf in truths else UNKNOWN)
        may = np.broadcast_to(may, ids.shape)
        ids, truths = ids[may], {leaf: truth[may] for leaf, truth in truths.items()}
        catalogued = ids
        if paths:
            every = np.array(connection.execute(of_meter).scalars().all(), np.int64)
            fresh = np.setdiff1d(raw.ids(paths), every)
            ids = np.union1d(ids, fresh if named is None else np.intersect1d(fresh, named))
    return Wanted(ids, condition if paths else all_of(others), catalogued, truths)


def _compared(leaf: Leaf) -> ColumnElement[bool]:
    """When a comparison of what series are made from is met."""
    return compared(leaf, series.c[leaf.target.column])


def _of_points(parts: Sequence[Condition]) -> list[int] | None:
    """The series of the points that one of the parts asks for; None if none does."""
    for part in parts:
        if isinstance(part, OneOf) and part.target.column == POINT_KEY:
            return sorted({point[0] for text in part.among if (point := point_of(text)) is not None})
    return None


def _parts(condition: Condition) -> Sequence[Condition]:
    """Conditions that all have to hold."""
    if isinstance(condition, And):
        return [each for part in condition.parts for each in _parts(part)]
    return [condition]


def _has_verify(site: Site, meter: str | None) -> bool:
    """Whether `meterhouse verify` has made series of a meter, or of any, as far as the catalog knows."""
    verify = series.c.source == literal_column(f"'{VERIFY}'")  # the index is not used with a parameter
    of_meter = [] if meter is None else [series.c.meter == meter]
    with site.warehouse.read() as connection:
        return bool(connection.execute(select(exists().where(verify, *of_meter))).scalar())


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
