"""Samples of the lake, with the quality rules that each breaks; the newest ones without a look at older files."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from meterhouse.filters import SAMPLES as SAMPLE_FIELDS
from meterhouse.filters import Condition, Field, Fields, Filter, all_of
from meterhouse.filters.fields import METADATA
from meterhouse.queries.meters import meter_span
from meterhouse.queries.sample_ids import MESSAGE_ID
from meterhouse.queries.sample_order import Order, ordered
from meterhouse.queries.sample_search import FOUND, Place, Search
from meterhouse.scopes import Scope
from meterhouse.site import Site
from meterhouse.stores.lake_faults import retried
from meterhouse.times import EPOCH, Span

if TYPE_CHECKING:
    import pyarrow as pa

_MICROSECOND = timedelta(microseconds=1)

_INTERNAL: Final = ("series_id", "metadata_id")


@retried
def samples(
    site: Site,
    scope: Scope,
    meter: str,
    *,
    query: Sequence[Condition] = (),
    start: datetime | None = None,
    end: datetime | None = None,
    limit: int = 100,
) -> "pa.Table":
    """A meter's samples of a half-open span, newest first, with the names of the quality rules that each breaks.

    Only samples of the scope are given. `query` are conditions on SAMPLES, all of which have to hold; `metadata.KEY` is
    the sample's own metadata.

    Samples of a gauge or counter with the same series, time and volume are shown once. Those with different volumes
    share an id, and only the one that counts does not break the rule `duplicate`. Volumes are those as corrected.

    Returns:
        The columns id (of a delta, its sample_id; of others, series and time in microseconds since 1970), meter, type,
        unit, volume, user_id, project_id, resource_id, source, timestamp, recorded_at (UTC) and reasons.

    Raises:
        UnknownName: no series of the scope has this meter.
    """
    condition = all_of(scope.within(query, SAMPLE_FIELDS))
    first, last = meter_span(site, scope, meter)
    span = (start or first, end or last + _MICROSECOND)
    return Search(site, meter, condition, span).newest(limit).drop_columns(list(_INTERNAL))


MEASURES: Final[Fields] = {
    **SAMPLE_FIELDS,
    "meter": Field("meter"),
    MESSAGE_ID: Field(MESSAGE_ID),
    f"resource_{METADATA}.": Field(METADATA, "loose"),
    **{f"counter_{name}": SAMPLE_FIELDS[name] for name in ("type", "unit", "volume")},
    "counter_name": Field("meter"),
}
"""What samples of all meters can be queried by, with Ceilometer's older names."""

ALL_TIMES: Final[Span] = (EPOCH, datetime(2262, 1, 1, tzinfo=UTC))


@retried
def find_samples(
    site: Site,
    scope: Scope,
    *,
    meter: str | None = None,
    query: Sequence[Condition] = (),
    start: datetime | None = None,
    end: datetime | None = None,
    order: Sequence[Order] = (),
    limit: int = 100,
    after: Place | None = None,
    good_only: bool = False,
) -> "pa.Table":
    """Samples of a meter, or of all, as `samples` has them.

    Args:
        site: the site.
        scope: whose samples.
        meter: the meter; None for all.
        query: conditions on MEASURES; all of them have to hold.
        start, end: half-open span of event time.
        order: newest first, if it is empty.
        limit: maximum number.
        after: leave out what comes before this sample, newest first, and itself.
        good_only: leave out samples that the quality rules exclude.

    Returns:
        Columns FOUND of `sample_search`; `metadata_id` is null of a sample without metadata.

    Raises:
        UsageError: message ids are asked for that cannot be found.
    """
    span = (start or ALL_TIMES[0], end or ALL_TIMES[1])
    if span[0] >= span[1]:
        return FOUND.empty_table()
    condition = all_of(scope.within(query, MEASURES))
    return ordered(Search(site, meter, condition, span, good_only, after), order, limit)


@retried
def sample_by_id(site: Site, scope: Scope, sample_id: str) -> "pa.Table":
    """The samples that an id means: columns FOUND.

    Raises:
        UsageError: there is none, and it may be a message_id that was not kept.
    """
    condition = all_of([*scope.owned(MEASURES), Filter(MESSAGE_ID, "eq", sample_id, MEASURES)])
    return ordered(Search(site, None, condition, ALL_TIMES), (), 10)
