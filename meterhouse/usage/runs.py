"""Evidence in the order of resource and time, in which audits in a row that say the same are one row."""

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import pyarrow as pa

from meterhouse import sql_files
from meterhouse.site import Site
from meterhouse.stores.duck import Connection, arrow
from meterhouse.stores.lake_tables import EVIDENCE, TIME

ROWS_AT_ONCE: Final = 500_000
"""Rows are put in order together up to about this many."""

HOUR: Final = 3_600_000_000


def in_order(site: Site, files: list[str], count: int) -> Iterator[pa.Table]:
    """The rows of files of evidence (URIs), divided by resource, in the order of time; columns of EVIDENCE.

    Args:
        site: the site.
        files: URIs of files of the lake's table `evidence`.
        count: about how many rows they have.
    """
    parts = -(-count // ROWS_AT_ONCE)
    for part in range(parts):
        with site.lake.connect() as duck:
            site.lake.view(duck, "evidence", files)
            chosen = f" WHERE hash(resource_id) % {parts} = {part}" if parts > 1 else ""
            duck.execute(f"CREATE TEMP TABLE chosen AS FROM evidence{chosen}")
            rows = _merged(duck)
        yield rows


def _merged(duck: Connection) -> pa.Table:
    """The rows of the table `chosen`."""
    rows = arrow(duck, sql_files.read("lake/evidence_rows.sql"))
    if not rows.num_rows:
        return EVIDENCE.empty_table()
    place, resource, said, reports, what = (
        rows[name].to_numpy() for name in ("place", "resource", "said_at", "reports", "what")
    )
    since, until = (np.asarray(rows[name].fill_null(0)) for name in ("from_at", "to_at"))
    # An audit of whole hours is one of many. Others are sent for one resource, before it is resized or deleted.
    regular = np.asarray(rows["is_audit"]) & np.asarray(rows["from_at"].is_valid()) & ((until - since) % HOUR == 0)
    joins = np.zeros(rows.num_rows, np.bool_)
    joins[1:] = (
        (resource[1:] == resource[:-1])
        & regular[1:]
        & regular[:-1]
        & (what[1:] == what[:-1])
        & (since[1:] <= until[:-1])
    )
    counted = _new_reports(since, until, reports, joins)
    starts = np.flatnonzero(~joins)
    ends = np.append(starts[1:], rows.num_rows) - 1
    duck.register(
        "runs",
        pa.table(
            {
                "number": pa.array(np.arange(len(starts))),
                "first_place": pa.array(place[starts]),
                "last_place": pa.array(place[ends]),
                "said_at": pa.array(np.maximum.reduceat(said, starts)).cast(TIME),
                "to_at": pa.array(np.maximum.reduceat(until, starts)).cast(TIME),
                "reports": pa.array(np.add.reduceat(counted, starts)),
            }
        ),
    )
    found = arrow(
        duck,
        "SELECT c.* REPLACE (r.said_at AS said_at, r.reports AS reports, l.last_message_id AS last_message_id,"
        " CASE WHEN c.to_at IS NOT NULL THEN r.to_at END AS to_at)"
        " FROM runs AS r JOIN chosen AS c ON c.rowid = r.first_place JOIN chosen AS l ON l.rowid = r.last_place"
        " ORDER BY r.number",
    )
    return found.select(EVIDENCE.names).cast(EVIDENCE)


def _new_reports(since: Any, until: Any, reports: Any, joins: Any) -> Any:
    """How many audits each row adds to its run: one that was read twice, or lies in a run already, adds what is new."""
    counted = reports.copy()
    again = np.flatnonzero(joins & (since < np.roll(until, 1)))
    if len(again):
        before, length = until[again - 1], until[again] - since[again]
        fresh = np.maximum(until[again] - np.maximum(since[again], before), 0)
        counted[again] = np.rint(reports[again] * fresh / np.maximum(length, 1)).astype(np.int64)
    return counted
