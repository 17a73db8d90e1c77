"""Rules of CloudKitty's hashmap module, mapped to prices.

CloudKitty rates what it collected in each period (of an hour, if nothing else is set). A service is a metric of its
`metrics.yml`; of each thing, the quantity is `factor` × the metric + `offset`. In each group of rules, the cost is

    flat × rate × quantity

where `flat` is the largest cost of the flat mappings that match, and `rate` the product of those of the rate mappings.
Of the thresholds that are reached, that of the highest level counts: a field's adds its cost to `flat`, or multiplies
`rate`; a service's is added to, or multiplies, the result. The groups are added. Source: CloudKitty's
`cloudkitty/rating/hash/__init__.py`.

So a group is a list of prices, one for each combination of values. What cannot be a price is named with the reason;
nothing is left out silently.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from itertools import product
from math import prod
from pathlib import Path
from typing import Any, Final

from meterhouse import yaml_lines
from meterhouse.definitions.prices import DIGITS, TEXTS, fault_of
from meterhouse.errors import DefinitionError, shown

MAX_COMBINATIONS: Final = 1_000
"""Maximum number of prices that a group of rules may become."""

_GIB: Final = 1 << 30

_METRICS: Final[Mapping[str, tuple[str, str, int]]] = {
    **dict.fromkeys(("cpu", "instance", "compute"), ("instance", "count", 1)),
    "vcpus": ("instance", "vcpus", 1),
    "memory": ("instance", "memory_mib", 1),
    "disk.root.size": ("instance", "root_gib", 1),
    "disk.ephemeral.size": ("instance", "ephemeral_gib", 1),
    **dict.fromkeys(("volume.size", "volume"), ("volume", "size_gib", 1)),
    **dict.fromkeys(("volume.snapshot.size", "snapshot.size", "snapshot"), ("snapshot", "size_gib", 1)),
    **dict.fromkeys(("volume.backup.size", "backup.size"), ("backup", "size_gib", 1)),
    "image.size": ("image", "size_gib", _GIB),
    **dict.fromkeys(("ip.floating", "network.floating", "floating_ip"), ("floating_ip", "count", 1)),
}
"""Metrics, and services before there was a metrics.yml → type of resource, its measure, the metric's volume of one."""

_OLD_SERVICES: Final = {"image": "image.size"}
"""Services before there was a metrics.yml → metrics."""

_SHIPPED_FACTORS: Final = {
    "image.size": "1/1048576",
    **dict.fromkeys(
        ("network.bw.in", "network.bw.out", "network.incoming.bytes", "network.outgoing.bytes"), "1/1000000"
    ),
}
"""The factors of CloudKitty's own metrics.yml."""

_COUNTERS: Final = {
    "network.bw.in": "network.incoming.bytes",
    "network.bw.out": "network.outgoing.bytes",
    "network.incoming.bytes": "network.incoming.bytes",
    "network.outgoing.bytes": "network.outgoing.bytes",
}

_FIELDS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("flavor", "flavor_name", "instance_type", "volume_type"), "flavor"),
    **dict.fromkeys(("availability_zone", "zone"), "zone"),
    **dict.fromkeys(("image_id", "image_ref"), "image"),
    **dict.fromkeys(("display_name", "name"), "name"),
    **{each: each for each in ("host", "state", "project_id", "user_id")},
    "id": "resource_id",
}
"""Fields → columns of periods; other fields are looked up in the metadata."""

_KINDS: Final = ("services", "fields", "groups", "mappings", "thresholds")
_OTHER: Final = None


@dataclass
class Imported:
    """Entries for `prices`, and remarks: what was left out or differs."""

    entries: list[dict[str, Any]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Quantity:
    """What a service counts: a measure of a type of resource, times `factor`, plus `offset`; or always 1."""

    resource_type: str
    measure: str
    factor: Fraction
    offset: Fraction


@dataclass(frozen=True)
class _Case:
    """A combination of values of a group: where it holds, and what it costs."""

    where: dict[str, Any]
    costs: "_Costs"


@dataclass
class _Costs:
    """What the rules of a group that match come to."""

    flat: Fraction = Fraction(0)
    rate: Fraction = Fraction(1)
    level: Fraction = Fraction(-1)
    threshold: tuple[str, str, Fraction] | None = None
    matched: bool = False

    def mapping(self, kind: str, cost: Fraction) -> None:
        self.matched = True
        if kind == "rate":
            self.rate *= cost
        else:
            self.flat = max(self.flat, cost)

    def reach(self, scope: str, level: Fraction, kind: str, cost: Fraction) -> None:
        self.matched = True
        if level > self.level:
            self.level, self.threshold = level, (scope, kind, cost)

    def per_quantity(self) -> Fraction:
        """What each unit of the quantity costs."""
        flat, rate = self.flat, self.rate
        scope, kind, cost = self.threshold or ("", "", Fraction(0))
        if scope == "field":
            flat, rate = (flat + cost, rate) if kind == "flat" else (flat, rate * cost)
        return rate * flat * (cost if scope == "service" and kind == "rate" else 1)

    def per_thing(self) -> Fraction:
        """What each thing costs, whatever its quantity is."""
        scope, kind, cost = self.threshold or ("", "", Fraction(0))
        return cost if scope == "service" and kind == "flat" else Fraction(0)


class _NotMapped(Exception):
    """A rule that no price can be."""


def imported(paths: Sequence[Path], period: int = 3600, columns: Mapping[str, str] | None = None) -> Imported:
    """The prices that hashmap rules made.

    Args:
        paths: JSON or YAML: answers of `/v1/rating/module_config/hashmap/`, each or all in one file; lists that the
            client printed as JSON; and `metrics.yml`.
        period: CloudKitty's collect period in seconds.
        columns: field → column of periods, or `metadata.` and a key; in place of what is known.

    Raises:
        DefinitionError: a file cannot be read, or has nothing of this.
    """
    reader = _Reader()
    for path in paths:
        reader.read(path)
    if not reader.of["services"]:
        where = ", ".join(map(str, paths))
        raise DefinitionError(
            "there are no services", where=where, hint="Export /v1/rating/module_config/hashmap/services"
        )
    return _Importer(reader, period, {**_FIELDS, **(columns or {})}).made()


class _Reader:
    """The objects of the files by kind, and the metrics."""

    def __init__(self) -> None:
        self.of: dict[str, dict[str, dict[str, Any]]] = {kind: {} for kind in _KINDS}
        self.metrics: dict[str, list[tuple[str, dict[str, Any]]]] = {}
        self.remarks: list[str] = []

    def read(self, path: Path) -> None:
        content = yaml_lines.read(path)
        found = False
        if isinstance(content, dict) and isinstance(content.get("metrics"), dict):
            self._metrics(path, content["metrics"])
            found = True
        lists = [content] if isinstance(content, list) else []
        if isinstance(content, dict):
            lists += [content[kind] for kind in _KINDS if isinstance(content.get(kind), list)]
            if "scripts" in content:
                self.remarks.append(f"{path}: scripts (pyscripts) are code: write prices in their place")
                found = True
        for entry in (entry for each in lists for entry in each):
            found = True
            self._object(path, entry)
        if not found:
            raise DefinitionError(
                "the file has no hashmap rules and no metrics",
                where=f"{path}:1",
                hint=f"It should have {', '.join(_KINDS)} or metrics, as CloudKitty's API returns them",
            )

    def _metrics(self, path: Path, metrics: Mapping[str, Any]) -> None:
        for metric, entries in metrics.items():
            for entry in entries if isinstance(entries, list) else [entries]:
                if isinstance(entry, dict):
                    self.metrics.setdefault(str(entry.get("alt_name") or metric), []).append((str(metric), entry))
                else:
                    self.remarks.append(f"{path}: metric {shown(metric)} is not a mapping")

    def _object(self, path: Path, entry: Any) -> None:
        if not isinstance(entry, dict):
            self.remarks.append(f"{path}: {shown(entry)} is not an object")
            return
        one = {str(key).strip().lower().replace(" ", "_"): value for key, value in entry.items()}
        one = {key: None if value in ("", "None") else value for key, value in one.items()}
        one["tenant_id"] = one.get("tenant_id") or one.pop("project_id", None)
        one["type"] = one.get("type") or one.get("map_type") or "flat"
        for key in ("start", "end"):
            if one.get(key) is not None:
                one[key] = _instant(one[key])
        one["line"] = f"{path}:{getattr(entry, 'line', 1)}"
        kind = _kind(one)
        if kind is None:
            self.remarks.append(f"{one['line']}: an object without an id that CloudKitty has: left out")
        elif one.get("deleted") is None:
            self.of[kind][str(one[f"{kind[:-1]}_id"])] = one


def _kind(one: Mapping[str, Any]) -> str | None:
    """What an object is: its own id, and what it needs."""
    if one.get("mapping_id"):
        return "mappings"
    if one.get("threshold_id"):
        return "thresholds"
    if one.get("name") is None:
        return None
    for kind in ("fields", "services", "groups"):
        if one.get(f"{kind[:-1]}_id"):
            return kind
    return None


class _Importer:
    def __init__(self, reader: _Reader, period: int, columns: Mapping[str, str]) -> None:
        self.reader, self.period, self.columns = reader, period, columns
        self.found = Imported(remarks=list(reader.remarks))

    def made(self) -> Imported:
        services, fields = self.reader.of["services"], self.reader.of["fields"]
        used = set[str]()
        for service in sorted(services.values(), key=lambda each: str(each["name"])):
            of_fields = {
                key: each for key, each in fields.items() if str(each.get("service_id")) == service["service_id"]
            }
            rules = [
                {
                    **each,
                    "kind": kind,
                    "field": str(of_fields[str(each["field_id"])]["name"]) if each.get("field_id") else None,
                }
                for kind in ("mappings", "thresholds")
                for each in self.reader.of[kind].values()
                if str(each.get("service_id")) == service["service_id"] or str(each.get("field_id")) in of_fields
            ]
            used |= {each["line"] for each in rules}
            if rules:
                self._service(str(service["name"]), rules)
            else:
                self._remark(service["line"], f"service {service['name']}", "it has no rules")
        for kind in ("mappings", "thresholds"):
            for each in self.reader.of[kind].values():
                if each["line"] not in used:
                    self._remark(
                        each["line"],
                        f"{kind[:-1]} {each[f'{kind[:-1]}_id']}",
                        "its service or field is not in the files",
                    )
        if self.found.entries:
            self.found.remarks.append(
                "CloudKitty counts whole periods in which something was there: add `durations: hours begun` to the "
                "prices if the bills should too"
            )
        return self.found

    def _remark(self, where: str, what: str, reason: str) -> None:
        self.found.remarks.append(f"{where}: {what}: {reason}")

    def _service(self, name: str, rules: Sequence[dict[str, Any]]) -> None:
        groups = self.reader.of["groups"]
        of_group: dict[str, list[dict[str, Any]]] = {}
        for rule in rules:
            group = rule.get("group_id")
            label = str(groups[str(group)]["name"]) if str(group) in groups else str(group or "")
            of_group.setdefault(label, []).append(rule)
        metrics = self.reader.metrics.get(name)
        if metrics is None:
            metric = _OLD_SERVICES.get(name, name)
            metrics = [(metric, {"factor": _SHIPPED_FACTORS.get(metric, 1)})]
        if len(metrics) > 1:
            self._remark(
                rules[0]["line"], f"service {name}", "several metrics have its name: prices are for each of them"
            )
        for name_of in sorted({each["field"] for each in rules} - {None} - set(self.columns)):
            self._remark(rules[0]["line"], f"service {name}", f"its field {name_of} is looked up in the metadata")
        for metric, entry in metrics:
            for group, of in sorted(of_group.items()):
                label = f"{name} ({group})" if group else name
                label += f" of {metric}" if len(metrics) > 1 else ""
                try:
                    if metric in _COUNTERS:
                        self._counter(name, label, metric, entry, of)
                    else:
                        self._things(name, label, _quantity(metric, entry), of)
                except _NotMapped as error:
                    self._remark(of[0]["line"], label, f"{error}: left out")

    # -- services of things -------------------------------------------------------------------------------------

    def _things(self, service: str, label: str, quantity: _Quantity, rules: Sequence[dict[str, Any]]) -> None:
        good = [each for each in rules if self._is_usable(label, each)]
        tenants = sorted({str(each["tenant_id"]) for each in good if each.get("tenant_id")})
        edges = sorted({str(each[key]) for each in good for key in ("start", "end") if each.get(key)})
        for start, end in zip([None, *edges], [*edges, None], strict=True):
            valid = [each for each in good if _is_valid(each, start)]
            for tenant in [None, *tenants]:
                of = [each for each in valid if each.get("tenant_id") in (None, tenant)]
                scope: dict[str, Any] = {"resource_type": quantity.resource_type}
                if tenants:
                    scope["project_id"] = _glob(tenant) if tenant else [f"!{_glob(each)}" for each in tenants]
                for case in _cases(of, quantity, self.columns):
                    self._prices(service, label, quantity, {**scope, **case.where}, case.costs, (start, end))

    def _is_usable(self, label: str, rule: Mapping[str, Any]) -> bool:
        number = _number(rule.get("cost"))
        if number is None or rule["type"] not in ("flat", "rate"):
            what = f"cost is {shown(rule.get('cost'))}, type is {shown(rule['type'])}"
            self._remark(rule["line"], label, f"{what}: left out")
            return False
        if number < 0:
            self._remark(rule["line"], label, f"the cost {rule['cost']} is below 0: write a discount")
            return False
        if rule["kind"] == "thresholds" and _number(rule.get("level")) is None:
            self._remark(rule["line"], label, f"level is {shown(rule.get('level'))}: left out")
            return False
        value = str(rule.get("value") or "")
        if (
            rule["field"] is not None
            and rule["kind"] == "mappings"
            and (not value or len(value) > 200 or value[0] == "!")
        ):
            self._remark(rule["line"], label, f"value is {shown(rule.get('value'))}: left out")
            return False
        return True

    def _prices(
        self,
        service: str,
        label: str,
        quantity: _Quantity,
        where: dict[str, Any],
        costs: _Costs,
        validity: tuple[str | None, str | None],
    ) -> None:
        if not costs.matched:
            return
        hours = Fraction(3600, self.period)
        per_quantity = costs.per_quantity() * hours
        per_thing = costs.per_thing() * hours + per_quantity * quantity.offset
        wanted = [("", quantity.measure, per_quantity * quantity.factor)]
        if quantity.measure == "count":
            wanted = [("", "count", wanted[0][2] + per_thing)]
        elif per_thing:
            wanted.append((" each", "count", per_thing))
        for suffix, measure, price in wanted:
            written = _decimal(price)
            if written is None:
                raise _NotMapped(f"a price of {price} has more than {DIGITS} digits after the point")
            entry: dict[str, Any] = {"name": f"{label}{suffix}", "service": service, "where": where}
            if measure != "count":
                entry["measure"] = measure
            entry |= {"per": "hour", "price": written}
            entry |= {key: value for key, value in zip(("from", "to"), validity, strict=True) if value is not None}
            self._add(entry)

    def _add(self, entry: dict[str, Any]) -> None:
        fault = fault_of(entry)
        if fault is not None:
            raise _NotMapped(fault)
        self.found.entries.append(entry)

    # -- services of counters -----------------------------------------------------------------------------------

    def _counter(
        self, service: str, label: str, metric: str, entry: Mapping[str, Any], rules: Sequence[dict[str, Any]]
    ) -> None:
        """A price of what a counter counted: of a group that has one flat mapping of the service alone."""
        good = [each for each in rules if self._is_usable(label, each)]
        if len(good) != 1 or good[0]["kind"] != "mappings" or good[0]["field"] is not None or good[0]["type"] != "flat":
            raise _NotMapped("a counter can have one flat mapping of its service, no fields and no thresholds")
        factor, offset = _fraction(entry.get("factor", 1)), _fraction(entry.get("offset", 0))
        if factor is None or factor <= 0 or offset != 0 or entry.get("mutate", "NONE") != "NONE":
            raise _NotMapped("of a counter, factor has to be above 0, offset 0 and mutate NONE")
        rule = good[0]
        price = _decimal((_number(rule["cost"]) or Fraction(0)) * factor * _GIB)
        if price is None:
            raise _NotMapped(f"its price for a GiB has more than {DIGITS} digits after the point")
        made: dict[str, Any] = {
            "name": label,
            "service": service,
            "meter": _COUNTERS[metric],
            "unit": "GiB",
            "price": price,
        }
        if rule.get("tenant_id"):
            made["where"] = {"project_id": _glob(str(rule["tenant_id"]))}
        made |= {key: str(rule[of]) for key, of in (("from", "start"), ("to", "end")) if rule.get(of)}
        self._add(made)
        self._remark(
            rule["line"], label, "priced by the increase of the counter; CloudKitty rated its aggregate of each period"
        )


def _quantity(metric: str, entry: Mapping[str, Any]) -> _Quantity:
    known = _METRICS.get(metric)
    if known is None:
        raise _NotMapped(
            f"the metric {shown(metric)} is not one that periods have: write a price of a measure or a meter"
        )
    resource_type, measure, times = known
    factor, offset = _fraction(entry.get("factor", 1)), _fraction(entry.get("offset", 0))
    if factor is None or offset is None or factor <= 0 or offset < 0:
        raise _NotMapped(f"factor is {shown(entry.get('factor'))}, offset is {shown(entry.get('offset'))}")
    mutate = str(entry.get("mutate") or "NONE")
    if mutate == "NUMBOOL":
        return _Quantity(resource_type, "count", Fraction(1), Fraction(0))
    whole = measure in ("count", "vcpus") and factor.denominator == offset.denominator == 1
    whole = whole or (factor == 1 and offset.denominator == 1)
    if mutate in ("CEIL", "FLOOR") and not whole:
        raise _NotMapped(f"mutate {mutate} rounds each period's quantity")
    if mutate not in ("NONE", "CEIL", "FLOOR"):
        raise _NotMapped(f"mutate {mutate} makes a quantity of a status: write prices with a condition on state")
    return _Quantity(resource_type, measure, factor * times, offset)


def _cases(rules: Sequence[Mapping[str, Any]], quantity: _Quantity, columns: Mapping[str, str]) -> Iterator[_Case]:
    """The combinations of values that the rules of a group tell apart.

    A rule of a tenant comes after those of all, and replaces that of the same value or level.
    """
    ordered = sorted(rules, key=lambda each: each.get("tenant_id") is not None)
    of_service: dict[Any, tuple[str, Fraction]] = {}
    mappings: dict[str, dict[str, tuple[str, Fraction]]] = {}
    thresholds: dict[str | None, dict[Fraction, tuple[str, Fraction]]] = {}
    for each in ordered:
        rule = (str(each["type"]), _number(each["cost"]) or Fraction(0))
        if each["kind"] == "thresholds":
            thresholds.setdefault(each["field"], {})[_number(each["level"]) or Fraction(0)] = rule
        elif each["field"] is None:
            of_service[_OTHER] = rule
        else:
            mappings.setdefault(each["field"], {})[str(each["value"])] = rule
    dimensions: list[list[tuple[str, Any, Any]]]
    dimensions = [[("value", name, value) for value in [*values, _OTHER]] for name, values in sorted(mappings.items())]
    for name, levels in sorted(thresholds.items(), key=lambda each: (each[0] is not None, each[0] or "")):
        dimensions.append([("level", name, bounds) for bounds in _buckets(sorted(levels))])
    size = prod(map(len, dimensions))
    if size > MAX_COMBINATIONS:
        raise _NotMapped(f"its rules have {size:,} combinations of values, more than {MAX_COMBINATIONS:,}")
    for combination in product(*dimensions):
        where: dict[str, Any] = {}
        costs = _Costs()
        for rule in of_service.values():
            costs.mapping(*rule)
        if not all(
            _apply(part, name, value, where, costs, mappings, thresholds, quantity, columns)
            for part, name, value in combination
        ):
            continue
        yield _Case(where, costs)


def _apply(
    part: str,
    name: Any,
    value: Any,
    where: dict[str, Any],
    costs: _Costs,
    mappings: Mapping[str, Mapping[str, tuple[str, Fraction]]],
    thresholds: Mapping[str | None, Mapping[Fraction, tuple[str, Fraction]]],
    quantity: _Quantity,
    columns: Mapping[str, str],
) -> bool:
    """Add what one dimension says to a case; false if the case cannot be."""
    if part == "value":
        globs = [f"!{_glob(each)}" for each in mappings[name]] if value is _OTHER else _glob(value)
        _where(where, columns.get(name, f"metadata.{name}"), globs)
        if value is not _OTHER:
            costs.mapping(*mappings[name][value])
        return True
    low, high = value
    if name is None:
        if quantity.measure == "count":
            one = quantity.factor + quantity.offset
            if (low is not None and one < low) or (high is not None and one >= high):
                return False
        else:
            bounds = {
                key: _exact((edge - quantity.offset) / quantity.factor)
                for key, edge in (("from", low), ("below", high))
                if edge is not None and edge > quantity.offset
            }
            if high is not None and high <= quantity.offset:
                return False
            if bounds:
                where[quantity.measure] = bounds
    else:
        bounds = {key: _exact(edge) for key, edge in (("from", low), ("below", high)) if edge is not None}
        column = columns.get(name, f"metadata.{name}")
        if column in TEXTS:
            raise _NotMapped(f"thresholds of the field {name} compare texts")
        if bounds:
            _where(where, column, bounds)
    if low is not None:
        kind, cost = thresholds[name][low]
        costs.reach("service" if name is None else "field", low, kind, cost)
    return True


def _where(where: dict[str, Any], column: str, condition: Any) -> None:
    key = column.removeprefix("metadata.")
    place = where.setdefault("metadata", {}) if column.startswith("metadata.") else where
    if key in place:
        raise _NotMapped(f"two of its fields are {column}, or one has mappings and thresholds")
    place[key] = condition


def _buckets(levels: Sequence[Fraction]) -> Iterator[tuple[Fraction | None, Fraction | None]]:
    yield None, levels[0]
    for number, level in enumerate(levels):
        yield level, levels[number + 1] if number + 1 < len(levels) else None


def _is_valid(rule: Mapping[str, Any], start: str | None) -> bool:
    """Whether a rule is valid from the start of a part of time, which no rule's start or end lies in."""
    begins, ends = rule.get("start"), rule.get("end")
    if start is None:
        return begins is None
    return (begins is None or str(begins) <= start) and (ends is None or start < str(ends))


def _instant(given: Any) -> str:
    """A time of CloudKitty's, which is in UTC unless it says otherwise, as a price has it."""
    try:
        value = given if isinstance(given, datetime) else datetime.fromisoformat(str(given).strip())
    except ValueError:
        return str(given)
    return (value if value.tzinfo else value.replace(tzinfo=UTC)).astimezone(UTC).isoformat()


def _glob(value: str | None) -> str:
    """A glob that matches this value alone."""
    return "".join(f"[{each}]" if each in "[*?" else each for each in str(value))


def _number(value: Any) -> Fraction | None:
    """A number as it is written."""
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        return None
    try:
        found = Decimal(value.strip() if isinstance(value, str) else repr(value))
    except (InvalidOperation, ValueError):
        return None
    return Fraction(found) if found.is_finite() and abs(found) < 10**15 else None


def _fraction(value: Any) -> Fraction | None:
    """A number, or a fraction such as 1/1048576."""
    if isinstance(value, str) and "/" in value:
        above, _, below = value.partition("/")
        numbers = _number(above), _number(below)
        return numbers[0] / numbers[1] if numbers[0] is not None and numbers[1] else None
    return _number(value)


def _decimal(value: Fraction) -> str | None:
    """A number as a decimal; None if it has more than `DIGITS` digits after the point."""
    times = value * 10**DIGITS
    if times.denominator != 1 or value >= 10**15:
        return None
    whole, rest = divmod(times.numerator, 10**DIGITS)
    return f"{whole}.{rest:0{DIGITS}}".rstrip("0").rstrip(".")


def _exact(value: Fraction) -> str:
    written = _decimal(value)
    if written is None:
        raise _NotMapped(f"a threshold at {value} has more than {DIGITS} digits after the point")
    return written
