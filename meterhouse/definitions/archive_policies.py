"""Archive policies: which roll-ups are made of a meter's points, how long they are kept, and what the warehouse gets.

They come from the site's `archive_policies.yaml` or the shipped file, whose comment describes the format. The same
reader takes what Gnocchi's API returns of `archive_policy` and `archive_policy_rule` (JSON is YAML), and Ceilometer's
`gnocchi_resources.yaml`, so each of them can be that file; see https://gnocchi.osci.io/rest.html, "Archive Policy".

A policy decides which rows are made, and no figure in them. So a policy or rule that cannot work stops nothing: it is
left out and reported, and its meters get the next rule's or the default policy.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import yaml

from meterhouse import yaml_lines
from meterhouse.definitions import timespans
from meterhouse.definitions.site_files import in_use, once_a_change
from meterhouse.errors import DefinitionError, shown
from meterhouse.shipped import DEFAULTS
from meterhouse.untrusted import is_plain

FILE: Final = "archive_policies.yaml"
_SHIPPED: Final = DEFAULTS / FILE
HOUR: Final = 3600
DAY: Final = 86400
MIN_POINTS: Final = 4
PERCENTILES: Final = (50.0, 95.0, 99.0)
"""The percentiles that have their own columns, and are computed if a policy names none."""

MAX_NAME: Final = 255
MAX_POLICIES: Final = 1_000
MAX_RULES: Final = 10_000
MAX_TIERS: Final = 10
MAX_PERCENTILES: Final = 20
MAX_POINTS: Final = 1_000_000

AGGREGATES: Final = ("mean", "min", "max", "sum", "std", "count", "first", "last")
"""Gnocchi's aggregation methods that the columns of every tier answer."""

_OF_COUNTERS: Final = ("rate:mean", "rate:sum", "rate:count")
_USUAL: Final = ("mean", "min", "max", "sum", "std", "count")  # Gnocchi's default_aggregation_methods
_PERCENTILE: Final = re.compile(r"(\d{1,2})pct")
_TOP: Final = {
    "default": "default",
    "archive_policy_default": "default",
    "policies": "policies",
    "archive_policies": "policies",
    "rules": "rules",
    "archive_policy_rules": "rules",
    "resources": "resources",
}
_POLICY_KEYS: Final = {"name", "description", "tiers", "percentiles", "aggregates", "min_points", "warehouse"}
_BODY_KEYS: Final = {"name", "description", "definition", "aggregation_methods", "back_window"}
_TIER_KEYS: Final = {"granularity", "keep", "timespan", "points"}
_RULE_KEYS: Final = {"name", "meters", "metric_pattern", "policy", "archive_policy_name"}


@dataclass(frozen=True)
class Tier:
    """Roll-ups of `seconds`; kept for `keep` seconds after the points' time, None for ever."""

    seconds: int
    keep: float | None = None


@dataclass(frozen=True)
class Policy:
    """What is made of a meter's points.

    Attributes:
        name: used by the rules.
        tiers: the finest first; those of an hour and of a day are always there.
        percentiles: from 0 to 100, the lowest first.
        min_points: a tier below an hour is made only if a bucket holds this many points of the series.
        warehouse: whether the hourly and daily tiers are copied to the warehouse.
        description: for people.
    """

    name: str
    tiers: tuple[Tier, ...]
    percentiles: tuple[float, ...] = PERCENTILES
    min_points: int = MIN_POINTS
    warehouse: bool = True
    description: str = ""

    @property
    def finer(self) -> tuple[int, ...]:
        """The granularities below an hour, in seconds, the finest first."""
        return tuple(tier.seconds for tier in self.tiers if tier.seconds < HOUR)

    def made(self, cadence: float | None) -> tuple[int, ...]:
        """The granularities that a series of this cadence gets, in seconds, the finest first.

        Args:
            cadence: median step of its points in seconds; None if it has fewer than two.
        """
        return tuple(tier.seconds for tier in self.tiers if tier.seconds >= HOUR or self._holds(tier.seconds, cadence))

    def _holds(self, seconds: int, cadence: float | None) -> bool:
        return self.min_points <= 1 or (cadence is not None and self.min_points * cadence <= seconds)

    @property
    def meaning(self) -> dict[str, Any]:
        """What decides which rows there are, and what is in them."""
        meaning: dict[str, Any] = {"percentiles": list(self.percentiles), "warehouse": self.warehouse}
        if self.finer:
            meaning |= {"finer": list(self.finer), "min_points": self.min_points}
        return meaning


@dataclass(frozen=True)
class Rule:
    """Meters that a shell glob matches have a policy."""

    glob: str
    policy: str


@dataclass(frozen=True)
class Policies:
    """The archive policies of a site.

    Attributes:
        named: policies by name.
        rules: in the order in which they are looked through: the longest glob first, then as written.
        default: the policy of meters that no rule matches.
        path: the file.
        own: the names of the policies that are the file's, not shipped.
        faults: what cannot work and was left out.
        notes: what of Gnocchi's has no counterpart, and what takes its place.
    """

    named: Mapping[str, Policy]
    rules: tuple[Rule, ...]
    default: str
    path: str
    own: frozenset[str] = frozenset()
    faults: tuple[DefinitionError, ...] = ()
    notes: tuple[DefinitionError, ...] = ()
    _found: dict[str, Rule | None] = field(default_factory=dict, repr=False, compare=False)

    def rule_of(self, meter: str) -> Rule | None:
        """The rule that decides on a meter; None if it has the default policy."""
        if meter not in self._found:
            self._found[meter] = next((rule for rule in self.rules if fnmatchcase(meter, rule.glob)), None)
        return self._found[meter]

    def of(self, meter: str) -> Policy:
        """The policy of a meter."""
        rule = self.rule_of(meter)
        return self.named[rule.policy if rule else self.default]

    def in_warehouse(self, meter: str) -> bool:
        """Whether the hourly and daily tiers of a meter are copied to the warehouse."""
        return self.of(meter).warehouse

    @property
    def granularities(self) -> frozenset[int]:
        """Of all tiers that any meter may get, in seconds."""
        used = {self.default, *(rule.policy for rule in self.rules)}
        return frozenset(tier.seconds for name in used for tier in self.named[name].tiers)

    @property
    def meaning(self) -> str:
        """All that decides on rows, as JSON text that `meanings` reads."""
        rules = [[rule.glob, self.named[rule.policy].meaning] for rule in self.rules]
        return json.dumps({"default": self.named[self.default].meaning, "rules": rules}, sort_keys=True)

    @property
    def fingerprint(self) -> str:
        """A hash of the meaning: names, descriptions, comments and retention do not change it."""
        return hashlib.sha256(self.meaning.encode()).hexdigest()[:16]


def meanings(meaning: str) -> Callable[[str], dict[str, Any]]:
    """What policies of the past said of a meter, by its name; compare it with `Policy.meaning`.

    Args:
        meaning: what `Policies.meaning` was.
    """
    content = json.loads(meaning)

    def of(meter: str) -> dict[str, Any]:
        default: dict[str, Any] = content["default"]
        return next((each for glob, each in content["rules"] if fnmatchcase(meter, glob)), default)

    return of


def load(config_dir: Path | None) -> Policies:
    """The site's policies: those of `archive_policies.yaml` in its configuration folder, or the shipped ones.

    Raises:
        DefinitionError: the file is not YAML, or has no policies and rules at all.
    """
    return _current(in_use(config_dir, FILE, _SHIPPED))


def read(paths: Sequence[Path]) -> Policies:
    """The policies of these files together, with the shipped ones beside them.

    Raises:
        DefinitionError: a file is not YAML, or has no policies and rules at all.
    """
    return _Reading(load(None)).of_files(paths)


@once_a_change
def _current(path: Path) -> Policies:
    return _Reading(None if path == _SHIPPED else load(None)).of_files([path])


def as_text(policies: Policies) -> str:
    """The policies as the text of an `archive_policies.yaml`: the default, the rules and the site's own policies."""
    content = {
        "default": policies.default,
        "rules": [{"meters": rule.glob, "policy": rule.policy} for rule in policies.rules],
        "policies": [_entry(policy) for name, policy in policies.named.items() if name in policies.own],
    }
    parts = [
        yaml.safe_dump({key: value}, width=120, sort_keys=False, default_flow_style=False if key == "default" else None)
        for key, value in content.items()
    ]
    return "".join(parts)


def _entry(policy: Policy) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": policy.name}
    if policy.description:
        entry["description"] = policy.description
    entry["tiers"] = [_tier_entry(tier) for tier in policy.tiers]
    entry["percentiles"] = [int(each) if each % 1 == 0 else each for each in policy.percentiles]
    if policy.min_points != MIN_POINTS:
        entry["min_points"] = policy.min_points
    if not policy.warehouse:
        entry["warehouse"] = False
    return entry


def _tier_entry(tier: Tier) -> dict[str, str]:
    entry = {"granularity": timespans.text(tier.seconds)}
    return entry if tier.keep is None else entry | {"keep": timespans.text(tier.keep)}


class _Reading:
    """Reads files, and collects what cannot work."""

    def __init__(self, shipped: Policies | None) -> None:
        self.shipped = shipped
        self.policies: dict[str, Policy] = {}
        self.refused: set[str] = set()
        self.rules: dict[str, tuple[Rule, str]] = {}
        self.default: tuple[str, str] | None = None
        self.faults: list[DefinitionError] = []
        self.notes: list[DefinitionError] = []

    def of_files(self, paths: Sequence[Path]) -> Policies:
        waiting = [(path, part, entry) for path in paths for part, entry in _entries(path)]
        for path, part, entry in waiting:
            if part == "policies":
                self._policy(path, entry)
        for path, part, entry in waiting:
            if part == "rules":
                self._rule(path, entry)
            elif part == "resources":
                self._resource(path, entry)
            elif part == "default":
                self._default(path, entry)
            elif part == "unknown":
                self._fault(f"unknown key {shown(entry)}", f"{path}:1", f"Known: {', '.join(_TOP)}")
        named = {**(self.shipped.named if self.shipped else {}), **self.policies}
        rules = []
        for rule, where in self.rules.values():
            if self._is_known(rule.policy, f"rule '{rule.glob}'", where):
                rules.append(rule)
        default = self.shipped.default if self.shipped else ""
        if self.default is not None and self._is_known(self.default[0], "default", self.default[1]):
            default = self.default[0]
        for name in self.refused - self.policies.keys() - {default}:
            named.pop(name, None)
        rules.sort(key=lambda rule: -len(rule.glob))
        own, faults, notes = frozenset(self.policies), tuple(self.faults), tuple(self.notes)
        return Policies(named, tuple(rules), default, str(paths[-1]), own, faults, notes)

    def _is_known(self, name: str, what: str, where: str) -> bool:
        known = {**(self.shipped.named if self.shipped else {}), **self.policies}
        if name in self.policies or (name in known and name not in self.refused):
            return True
        if name in self.refused:
            self._fault(f"{what}: the policy '{name}' cannot work, and so this cannot either", where, "Fix the policy")
        else:
            names = ", ".join(sorted(known))
            self._fault(f"{what}: there is no policy {shown(name)}", where, f"Known: {names}")
        return False

    def _fault(self, what: str, where: str, hint: str) -> None:
        self.faults.append(DefinitionError(what, where=where, hint=hint))

    def _note(self, what: str, where: str, hint: str) -> None:
        self.notes.append(DefinitionError(what, where=where, hint=hint))

    # -- policies -------------------------------------------------------------------------------------------

    def _policy(self, path: Path, entry: Any) -> None:
        where = _where(path, entry)
        name = entry.get("name") if isinstance(entry, dict) else None
        if not isinstance(name, str) or not name or len(name) > MAX_NAME or not is_plain(name):
            self._fault("a policy has no name", where, f"Write `- name: …`, of at most {MAX_NAME} characters")
            return
        if name in self.policies or name in self.refused:
            self._fault(f"policy '{name}': there is another one of this name", where, "Give each its own name")
            return
        if len(self.policies) == MAX_POLICIES:
            self._fault(f"policy '{name}': the file has more than {MAX_POLICIES:,} policies", where, "Write fewer")
            return
        try:
            self.policies[name] = self._made(name, entry, where)
        except DefinitionError as error:
            self.refused.add(name)
            self.faults.append(error)

    def _made(self, name: str, entry: Mapping[str, Any], where: str) -> Policy:
        of_gnocchi = "definition" in entry or "aggregation_methods" in entry
        label = f"policy '{name}'"
        _check_keys(entry, _BODY_KEYS if of_gnocchi else _POLICY_KEYS, label, where)
        description = entry.get("description", "")
        if not isinstance(description, str) or not is_plain(description, lines=True):
            raise _error(f"{label}: description is {shown(description)}", where, "Write a text")
        tiers = self._tiers(entry.get("definition" if of_gnocchi else "tiers", []), label, where, of_gnocchi)
        if of_gnocchi:
            methods = self._percentiles_of(entry.get("aggregation_methods", list(_USUAL)), label, where)
            if entry.get("back_window", 0) not in (0, None):
                said = f"{label}: back_window is not needed"
                self._note(said, where, "A point is taken however late it is")
            return Policy(name, tiers, tuple(methods), description=description)
        percentiles = set(_percentiles(entry["percentiles"], label, where)) if "percentiles" in entry else set()
        if "aggregates" in entry:
            percentiles.update(self._percentiles_of(entry["aggregates"], label, where))
        if not {"percentiles", "aggregates"} & entry.keys():
            percentiles = set(PERCENTILES)
        if len(percentiles) > MAX_PERCENTILES:
            raise _error(f"{label}: {len(percentiles)} percentiles", where, f"Name at most {MAX_PERCENTILES}")
        min_points = entry.get("min_points", MIN_POINTS)
        if not isinstance(min_points, int) or isinstance(min_points, bool) or not 0 <= min_points <= MAX_POINTS:
            raise _error(
                f"{label}: min_points is {shown(min_points)}", where, f"Write a whole number from 0 to {MAX_POINTS:,}"
            )
        warehouse = entry.get("warehouse", True)
        if not isinstance(warehouse, bool):
            raise _error(f"{label}: warehouse is {shown(warehouse)}", where, "Write true or false")
        return Policy(name, tiers, tuple(sorted(percentiles)), min_points, warehouse, description)

    def _tiers(self, entries: Any, label: str, where: str, of_gnocchi: bool) -> tuple[Tier, ...]:
        if not isinstance(entries, list) or len(entries) > MAX_TIERS:
            raise _error(f"{label}: its tiers are {shown(entries)}", where, f"Write a list of at most {MAX_TIERS}")
        found: dict[int, Tier] = {}
        for entry in entries:
            seconds, keep = _tier(entry, label, where)
            at = where if not hasattr(entry, "line") else f"{where.rpartition(':')[0]}:{entry.line}"
            if seconds % 1 or not (HOUR % seconds == 0 or seconds == DAY):
                what = f"{label}: there is no tier of {timespans.text(seconds)}"
                if not of_gnocchi:
                    raise _error(what, at, "Take a divisor of 1 hour in seconds, 1 hour or 1 day")
                self._note(
                    what, at, "Statistics of other periods are computed from the tiers and points that are there"
                )
                continue
            if round(seconds) in found:
                raise _error(f"{label}: two tiers of {timespans.text(seconds)}", at, "Leave one out")
            found[round(seconds)] = Tier(round(seconds), keep)
        for seconds in (HOUR, DAY):
            found.setdefault(seconds, Tier(seconds))
        tiers = tuple(found[seconds] for seconds in sorted(found))
        for finer, coarser in pairwise(tiers):
            if coarser.seconds % finer.seconds:
                raise _error(
                    f"{label}: {timespans.text(coarser.seconds)} is not a multiple of {timespans.text(finer.seconds)}",
                    where,
                    "Choose tiers of which each is a multiple of the finer ones",
                )
        return tiers

    def _percentiles_of(self, names: Any, label: str, where: str) -> list[float]:
        """The percentiles among Gnocchi's aggregation methods."""
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or len(names) > 300:
            raise _error(f"{label}: its aggregates are {shown(names)}", where, f"Write a list: {', '.join(_USUAL)}, …")
        wanted: set[str] = set(_USUAL) if names and all(name[:1] in "+-" for name in names) else set()
        for name in names:
            if name == "*":
                wanted.update(f"{percentile:g}pct" for percentile in PERCENTILES)
                self._note(
                    f"{label}: '*' asks for 99 percentiles",
                    where,
                    "It gets the 50th, 95th and 99th; name others as percentiles: [90, …]",
                )
            elif name.startswith("-"):
                wanted.discard(name[1:])
            else:
                wanted.add(name.removeprefix("+"))
        found = set()
        for name in sorted(wanted):
            percentile = _PERCENTILE.fullmatch(name)
            if name == "median":
                found.add(50.0)
            elif percentile and int(percentile[1]):
                found.add(float(percentile[1]))
            elif name.startswith("rate:"):
                self._rate(name, label, where)
            elif name not in AGGREGATES:
                raise _error(
                    f"{label}: unknown aggregate {shown(name)}",
                    where,
                    f"Known: {', '.join(AGGREGATES)}, median, 1pct to 99pct, each also with rate: before",
                )
        return sorted(found)

    def _rate(self, name: str, label: str, where: str) -> None:
        known = (*AGGREGATES, "median")
        if name.removeprefix("rate:") not in known and not _PERCENTILE.fullmatch(name.removeprefix("rate:")):
            raise _error(
                f"{label}: unknown aggregate {shown(name)}", where, f"Known after rate: are {', '.join(known)}"
            )
        if name not in _OF_COUNTERS:
            self._note(f"{label}: {name} is in no column", where, "Declare a derived meter, and use its roll-ups")

    # -- rules ----------------------------------------------------------------------------------------------

    def _rule(self, path: Path, entry: Any) -> None:
        where = _where(path, entry)
        if not isinstance(entry, dict):
            self._fault("a rule is not a mapping", where, "Write `- {meters: …, policy: …}`")
            return
        try:
            _check_keys(entry, _RULE_KEYS, "a rule", where)
        except DefinitionError as error:
            self.faults.append(error)
            return
        given = entry.get("meters", entry.get("metric_pattern"))
        self._add(
            given if isinstance(given, list) else [given], entry.get("policy", entry.get("archive_policy_name")), where
        )

    def _add(self, globs: Sequence[Any], policy: Any, where: str) -> None:
        if not isinstance(policy, str):
            self._fault(f"a rule's policy is {shown(policy)}", where, "Write the name of a policy")
            return
        for glob in globs:
            if not isinstance(glob, str) or not 0 < len(glob) <= MAX_NAME or not is_plain(glob):
                self._fault(f"a rule's meters are {shown(glob)}", where, 'Write a glob or a list of them: "disk.*"')
            elif glob in self.rules and self.rules[glob][0].policy != policy:
                said = f"rule '{glob}': {self.rules[glob][1]} has another policy for it, which is used"
                self._fault(said, where, "Leave one out")
            elif len(self.rules) == MAX_RULES:
                self._fault(f"rule '{glob}': there are more than {MAX_RULES:,}", where, "Write fewer")
                return
            else:
                self.rules.setdefault(glob, (Rule(glob, policy), where))

    def _resource(self, path: Path, entry: Any) -> None:
        """A resource type of `gnocchi_resources.yaml`; that of Liberty has one policy for all of its metrics."""
        where = _where(path, entry)
        metrics = entry.get("metrics") if isinstance(entry, dict) else None
        if not isinstance(metrics, dict | list):
            self._fault("a resource has no metrics", where, "Write `metrics:` with a mapping or a list")
            return
        of_all = entry.get("archive_policy")
        for metric in metrics:
            own = metrics[metric] if isinstance(metrics, dict) else None
            policy = own.get("archive_policy_name", of_all) if isinstance(own, dict) else of_all
            if policy is not None:
                self._add([metric], policy, where)

    def _default(self, path: Path, name: Any) -> None:
        if isinstance(name, str):
            self.default = (name, f"{path}:1")
        else:
            self._fault(f"default is {shown(name)}", f"{path}:1", "Write the name of a policy")


def _entries(path: Path) -> Iterator[tuple[str, Any]]:
    """The file's entries, each with the part that it belongs to.

    Raises:
        DefinitionError: it has none.
    """
    content = yaml_lines.read(path)
    if isinstance(content, dict) and ("name" in content or "metric_pattern" in content):
        content = [content]  # what Gnocchi returns of one policy or rule
    if isinstance(content, list):
        for entry in content:
            is_rule = isinstance(entry, dict) and ("metric_pattern" in entry or "meters" in entry)
            yield "rules" if is_rule else "policies", entry
        return
    if not isinstance(content, dict) or not content.keys() & _TOP.keys():
        raise DefinitionError(
            "the file has no archive policies", where=f"{path}:1", hint="Start the file with `policies:` or `rules:`"
        )
    for key, value in content.items():
        part = _TOP.get(key, "unknown") if isinstance(key, str) else "unknown"
        if part in ("default", "unknown"):
            yield part, value if part == "default" else key
        elif value is None:
            continue
        elif not isinstance(value, list):
            raise DefinitionError(f"`{key}` is not a list", where=f"{path}:1", hint=f"Write a list below `{key}:`")
        else:
            for entry in value:
                yield part, entry


def _tier(entry: Any, label: str, where: str) -> tuple[float, float | None]:
    """The granularity and how long it is kept, both in seconds. Any two of the three keys determine the third."""
    if not isinstance(entry, dict):
        raise _error(f"{label}: a tier is {shown(entry)}", where, "Write `- {granularity: 5 minutes, keep: 30 days}`")
    where = f"{where.rpartition(':')[0]}:{entry.line}" if hasattr(entry, "line") else where
    _check_keys(entry, _TIER_KEYS, f"{label}: a tier", where)
    spans: dict[str, float] = {}
    for key in ("granularity", "keep", "timespan"):
        if entry.get(key) is not None:
            try:
                spans["keep" if key == "timespan" else key] = timespans.seconds(entry[key])
            except ValueError as error:
                raise _error(f"{label}: {key}: {error}", where, "Write e.g. 5 minutes") from None
    points = entry.get("points")
    if points is not None and (not isinstance(points, int) or isinstance(points, bool) or not 0 < points < 10**12):
        raise _error(f"{label}: points is {shown(points)}", where, "Write a whole number above 0")
    granularity, keep = spans.get("granularity"), spans.get("keep")
    if granularity is None:
        if keep is None or points is None:
            raise _error(f"{label}: a tier has no granularity", where, "Write granularity: 5 minutes")
        return keep / points, keep
    if points is None:
        return granularity, keep
    if keep is not None and keep != granularity * points:
        raise _error(
            f"{label}: {points:,} points of {timespans.text(granularity)} are not {timespans.text(keep)}",
            where,
            "Leave one of granularity, timespan and points out",
        )
    return granularity, granularity * points


def _percentiles(given: Any, label: str, where: str) -> list[float]:
    numbers = given if isinstance(given, list) else [given]
    for number in numbers:
        if not isinstance(number, int | float) or isinstance(number, bool) or not 0 <= number <= 100:
            raise _error(f"{label}: a percentile is {shown(number)}", where, "Write numbers from 0 to 100: [50, 95]")
    return [float(number) for number in numbers]


def _check_keys(entry: Mapping[Any, Any], known: set[str], label: str, where: str) -> None:
    unknown = sorted(shown(key).strip("'") for key in entry.keys() - known)
    if unknown:
        raise _error(f"{label} has unknown keys: {', '.join(unknown)}", where, f"Known: {', '.join(sorted(known))}")


def _where(path: Path, entry: Any) -> str:
    return f"{path}:{getattr(entry, 'line', 1)}"


def _error(what: str, where: str, hint: str) -> DefinitionError:
    return DefinitionError(what, where=where, hint=hint)
