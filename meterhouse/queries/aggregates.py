"""What statistics can compute, and what they can group by."""

AGGREGATES = ("count", "sum", "avg", "min", "max", "stddev")
GROUPS = ("resource_id", "project_id", "user_id", "source")
