"""Says what becomes of each series of an exporter: which meter of which resource, and which are left out.

A mapping is a YAML file, or stands in the pollster:

    resource_id: "{host}"              # of all rules that have none
    meters:
      - metric: node_filesystem_size_bytes
        where: {fstype: "ext*"}        # only series with such labels
        name: node.filesystem.size     # default: the metric's name
        unit: B
        resource_id: "{host}/{mountpoint}"
"""

import re
from collections.abc import Mapping as Map
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import translate
from typing import Any, Final, Literal

from meterhouse.definitions.entries import Faults
from meterhouse.polling.kinds.templates import Template

Kind = Literal["gauge", "cumulative", "delta"]

TYPES: Final[Map[str, Kind]] = {"counter": "cumulative", "histogram": "cumulative"}
"""Of the meter, by the metric's; all others are gauges."""

KEYS: Final = frozenset({"description", "resource_id", "project_id", "user_id", "metadata", "meters"})
RULE_KEYS: Final = frozenset(
    {
        "metric",
        "where",
        "name",
        "type",
        "unit",
        "scale",
        "resource_id",
        "project_id",
        "user_id",
        "metadata",
        "skip",
        "description",
    }
)
KINDS: Final = ("gauge", "cumulative", "delta")
MAX_METER_LENGTH: Final = 255


@dataclass(frozen=True)
class Rule:
    """What becomes of the series of some metrics.

    Attributes:
        metric: the metric's name, or a glob.
        where: label → what its value must match.
        name: of the meter; empty: the metric's own.
        kind: of the meter; None: by the metric's type.
        unit: of the meter.
        scale: what a value is multiplied by.
        resource_id, project_id, user_id: None if there is none.
        metadata: key → value; None: all labels.
        skip: whether the series give no samples.
    """

    metric: str
    where: tuple[tuple[str, re.Pattern[str]], ...]
    name: Template
    kind: Kind | None
    unit: str
    scale: float
    resource_id: Template | None
    project_id: Template | None
    user_id: Template | None
    metadata: tuple[tuple[str, Template], ...] | None
    skip: bool

    def applies(self, labels: Map[str, str]) -> bool:
        """Whether it is for a series with these labels, of its metric."""
        return all(pattern.match(labels.get(label, "")) for label, pattern in self.where)


class Mapping:
    """The rules of an exporter, in the order of the file: the first that fits a series counts."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.rules = tuple(rules)
        self._exact: dict[str, list[int]] = {}
        self._globs: list[tuple[int, re.Pattern[str]]] = []
        for place, rule in enumerate(self.rules):
            if any(character in rule.metric for character in "*?["):
                self._globs.append((place, re.compile(translate(rule.metric))))
            else:
                self._exact.setdefault(rule.metric, []).append(place)

    def of(self, metric: str) -> list[Rule]:
        """The rules for a metric, the first first."""
        places = self._exact.get(metric, []) + [place for place, pattern in self._globs if pattern.match(metric)]
        return [self.rules[place] for place in sorted(places)]


def compile_mapping(given: Any, faults: Faults, keys: tuple[str, ...] = ()) -> Mapping:
    """Compile the content of a mapping.

    Args:
        given: the content of the file.
        faults: where faults go.
        keys: that lead to it within the entry that the faults are of.
    """
    if not isinstance(given, dict):
        faults.add(keys, "a mapping of metrics is a mapping with the key 'meters'")
        return Mapping(())
    for key in given.keys() - KEYS:
        faults.add((*keys, str(key)), f"is not a key of a mapping; those are {', '.join(sorted(KEYS))}")
    entries = given.get("meters")
    if not isinstance(entries, list) or not entries:
        faults.add((*keys, "meters"), "is not a list of rules")
        return Mapping(())
    shared = {key: given[key] for key in ("resource_id", "project_id", "user_id", "metadata") if key in given}
    rules = [_rule(entry, shared, faults, (*keys, "meters", str(place))) for place, entry in enumerate(entries)]
    return Mapping([rule for rule in rules if rule is not None])


def _rule(entry: Any, shared: Map[str, Any], faults: Faults, keys: tuple[str, ...]) -> Rule | None:
    if not isinstance(entry, dict):
        faults.add(keys, f"{entry!r} is not a rule: a mapping with the key 'metric'")
        return None
    for key in entry.keys() - RULE_KEYS:
        faults.add((*keys, str(key)), f"is not a key of a rule; those are {', '.join(sorted(RULE_KEYS))}")
    metric = entry.get("metric")
    if not isinstance(metric, str) or not metric:
        faults.add((*keys, "metric"), "is not the name of a metric, nor a glob")
        return None
    kind = entry.get("type")
    if kind is not None and kind not in KINDS:
        faults.add((*keys, "type"), f"{kind!r} is none of {', '.join(KINDS)}")
        kind = None
    scale = entry.get("scale", 1)
    if isinstance(scale, bool) or not isinstance(scale, int | float) or scale == 0:
        faults.add((*keys, "scale"), f"{scale!r} is not a number other than 0")
        scale = 1
    unit = entry.get("unit", "")
    if not isinstance(unit, str):
        faults.add((*keys, "unit"), f"{unit!r} is not text")
    merged = {**shared, **entry}

    def template(key: str) -> Template | None:
        return faults.attempt((*keys, key), Template.of, merged[key]) if key in merged else None

    where = entry.get("where", {})
    if not isinstance(where, dict):
        faults.add((*keys, "where"), "is not a mapping of labels to what their values match")
        where = {}
    return Rule(
        metric,
        tuple((str(label), re.compile(translate(str(glob)))) for label, glob in where.items()),
        faults.attempt((*keys, "name"), Template.of, entry.get("name", "{metric}")) or Template(()),
        kind,
        str(unit),
        float(scale),
        template("resource_id"),
        template("project_id"),
        template("user_id"),
        _metadata(merged.get("metadata"), faults, (*keys, "metadata")),
        bool(entry.get("skip", False)),
    )


def _metadata(given: Any, faults: Faults, keys: tuple[str, ...]) -> tuple[tuple[str, Template], ...] | None:
    if given is None:
        return None
    if isinstance(given, list) and all(isinstance(label, str) for label in given):
        given = {label: f"{{{label}}}" for label in given}
    if not isinstance(given, dict):
        faults.add(keys, "is neither a list of labels nor a mapping of keys to texts")
        return None
    made = ((str(key), faults.attempt((*keys, str(key)), Template.of, text)) for key, text in given.items())
    return tuple((key, template) for key, template in made if template is not None)
