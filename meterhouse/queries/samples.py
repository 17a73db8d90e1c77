"""Samples of the lake, with the quality rules that each breaks; the newest ones without a look at older files."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from meterhouse.filters import SAMPLES as SAMPLE_FIELDS
from meterhouse.filters import Condition, all_of
from meterhouse.queries.meters import meter_span
from meterhouse.queries.sample_search import Search
from meterhouse.scopes import Scope
from meterhouse.site import Site
from meterhouse.stores.lake_faults import retried

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
