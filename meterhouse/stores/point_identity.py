"""What makes samples copies of one point, in DuckDB's SQL.

A gauge's or counter's point is (series, time, volume), so that it needs no id: a compacted hour has none. A delta's is
(series, time, sample_id), because two deltas may share a time and a volume.
"""

from string import Template

from meterhouse import sql_files


def identified(relation: str) -> str:
    """A query for the rows of a relation with the columns delta_id, level and arrival; see `point_identity.sql`."""
    return Template(sql_files.read("lake/point_identity.sql")).substitute(relation=relation)


def missing(offered: str, present: str) -> str:
    """A query for the numbers `_row` of the offered samples whose points are not present; see `missing_points.sql`."""
    return Template(sql_files.read("lake/missing_points.sql")).substitute(
        offered=identified(offered), present=identified(present)
    )
