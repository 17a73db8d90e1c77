"""Verdicts on points by SQL: the rules as `verdicts.py` has them, said once more, for tests to hold the two equal."""

import math
from string import Template

from meterhouse import sql_files
from meterhouse.definitions.quality_rules import LARGEST_VOLUME, Rule, Rules
from meterhouse.stores.duck import Connection, quoted
from meterhouse.stores.point_identity import identified


def judge(connection: Connection, rules: Rules, carry_hours: int, *, accepts: bool = False) -> None:
    """Create the table `verdicts` from the view `points` and the earlier points of counters in the view `carried`.

    See `sql/lake/judge.sql` for the columns.

    Args:
        connection: of the lake.
        rules: the rules.
        carry_hours: how far back a counter's previous point is looked for.
        accepts: whether points may be accepted: then `points` has a column `accepted`.
    """
    point_bits, accepted = _bits(rules, ("finite", "range", "future")), ""
    if accepts:
        accepted = ", accepted"
        summable = f"isfinite(volume) AND abs(volume) <= {LARGEST_VOLUME!r}::DOUBLE"
        pardoned = f"{point_bits} & {~rules.critical_bits}"
        point_bits = f"CASE WHEN accepted AND {summable} THEN {pardoned} ELSE {point_bits} END"
    query = Template(sql_files.read("lake/judge.sql")).substitute(
        applies=", ".join(f"{_applies(rule)} AS applies_{rule.bit}" for rule in rules.rules) or "true AS applies_none",
        point_bits=point_bits,
        accepted=accepted,
        duplicate_bits=_bits(rules, ("duplicate",)),
        reset_bits=_bits(rules, ("reset",)),
        critical=rules.critical_bits,
        carry_hours=carry_hours,
    )
    merge_copies(connection, accepted)
    connection.execute(f"CREATE OR REPLACE TEMP TABLE verdicts AS {query}")


def merge_copies(connection: Connection, more: str = "") -> None:
    """Create the tables `crowded`, the series and times that several rows of the view `points` have, and `merged`.

    See `sql/lake/merged.sql`. `more` is a further column with a comma before it.
    """
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE crowded AS "
        "SELECT series_id, timestamp FROM points GROUP BY series_id, timestamp HAVING count(*) > 1"
    )
    query = Template(sql_files.read("lake/merged.sql")).substitute(points=identified("points"), more=more)
    connection.execute(f"CREATE OR REPLACE TEMP TABLE merged AS {query}")


def reason_names(rules: Rules, bits: str) -> str:
    """A DuckDB expression for the list of names of the rules in a column of bits."""
    named = ", ".join(f"CASE WHEN {bits} & {1 << rule.bit} != 0 THEN {quoted(rule.name)} END" for rule in rules.rules)
    return f"list_filter([{named}]::VARCHAR[], lambda name: name IS NOT NULL)"


def _applies(rule: Rule) -> str:
    globs = " OR ".join(f"meter GLOB {quoted(glob)}" for glob in rule.meters)
    types = ", ".join(quoted(type) for type in rule.types)
    return f"(({globs}) AND type IN ({types}))"


def _bits(rules: Rules, checks: tuple[str, ...]) -> str:
    cases = [
        f"CASE WHEN applies_{rule.bit} AND {_broken(rule)} THEN {1 << rule.bit} ELSE 0 END"
        for rule in rules.rules
        if rule.check in checks
    ]
    return f"({' | '.join(cases)})::INTEGER" if cases else "0::INTEGER"


def _broken(rule: Rule) -> str:
    match rule.check:
        case "finite":
            return "NOT isfinite(volume)"
        case "range":
            bounds = []
            if rule.minimum > -math.inf:
                bounds.append(f"volume < {rule.minimum!r}::DOUBLE")
            if rule.maximum < math.inf:
                bounds.append(f"volume > {rule.maximum!r}::DOUBLE")
            return f"(isfinite(volume) AND ({' OR '.join(bounds)}))"
        case "future":
            return f"timestamp > recorded_at + to_microseconds({round(rule.tolerance_seconds * 1e6)})"
        case "duplicate":
            return "place > 1"
        case "reset":
            return "previous IS NOT NULL AND volume < previous"
        case _:
            raise ValueError(f"unknown check: {rule.check}")
