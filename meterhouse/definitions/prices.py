"""The prices of the site's `prices.yaml`: prices, discounts, minimums and taxes, by which a month is rated.

A definition that cannot work is reported with file, line and reason; it never stops the others. Numbers are decimals as
they are written: `0.1` is a tenth.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, tzinfo
from decimal import Decimal, InvalidOperation
from fnmatch import fnmatchcase, translate
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, Literal, TypeVar
from zoneinfo import ZoneInfo

from meterhouse import yaml_lines
from meterhouse.definitions.site_files import in_use, once_a_change
from meterhouse.errors import DefinitionError, UsageError, shown
from meterhouse.shipped import DEFAULTS
from meterhouse.untrusted import is_plain

FILE: Final = "prices.yaml"

SHIPPED: Final = DEFAULTS / FILE
"""The file that is used if the site has none of its own: it has no prices."""

Per = Literal["hour", "day", "month"]
Tiering = Literal["graduated", "by_volume"]
Rounding = Literal["half_up", "half_even", "half_down", "up", "down"]

PERS: Final[tuple[Per, ...]] = ("hour", "day", "month")
TIERINGS: Final[tuple[Tiering, ...]] = ("graduated", "by_volume")
ROUNDINGS: Final[tuple[Rounding, ...]] = ("half_up", "half_even", "half_down", "up", "down")

TEXTS: Final = (
    "resource_type",
    "resource_id",
    "project_id",
    "user_id",
    "name",
    "flavor",
    "state",
    "host",
    "zone",
    "image",
)
"""The columns of a period that a condition may compare with globs."""

OF_COUNTERS: Final = ("resource_type", "resource_id", "project_id", "user_id")
"""Those of them that the hours of a counter have."""

UNITS: Final[Mapping[str, str | None]] = {
    "count": None,
    "vcpus": "vCPU",
    "memory_mib": "MiB",
    "root_gib": "GiB",
    "ephemeral_gib": "GiB",
    "size_gib": "GiB",
}
"""The measures that are columns of a period → their units. Others are keys of its `measures`, in units of their own."""

SCOPES: Final = ("project_id", "price", "service")
"""What a discount, a minimum or a tax may be limited to."""

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

MAX_TEXT: Final = 255
MAX_ITEMS: Final = 10_000
"""Maximum number of entries of a list."""

DIGITS: Final = 12
"""Maximum number of digits after the point: that many a line has."""

_FLOAT_DIGITS: Final = 15
"""A YAML number of at most this many digits is what it is written as; a longer one may be rounded when it is read."""

_PRICE_KEYS: Final = frozenset(
    {
        *("name", "service", "description", "where", "measure", "meter", "unit", "per", "price"),
        *("graduated", "by_volume", "times", "included", "durations", "from", "to"),
    }
)
_Text = TypeVar("_Text", bound=str)
_Fault = Callable[[str, str], DefinitionError]


@dataclass(frozen=True)
class Condition:
    """What a price is for. All parts have to hold.

    Attributes:
        texts: column → globs; `!glob` leaves values out. If all globs leave out, everything else matches, also what
            is not known.
        metadata: key of the metadata, or path in it with dots → globs.
        ranges: measure, or `metadata.` and a key or path → from (inclusive), below (exclusive); None for no bound.
    """

    texts: tuple[tuple[str, tuple[str, ...]], ...] = ()
    metadata: tuple[tuple[str, tuple[str, ...]], ...] = ()
    ranges: tuple[tuple[str, Decimal | None, Decimal | None], ...] = ()


@dataclass(frozen=True)
class Slice:
    """A slice of a tiered price: up to a quantity (inclusive; None for all above the slices before), at a price."""

    up_to: Decimal | None
    price: Decimal


@dataclass(frozen=True)
class TimeOfDay:
    """A time of day with its own price.

    Attributes:
        name: what the bill calls it.
        start, end: minutes after midnight, in the time zone of the file; an end at or before the start is on the next
            day.
        days: the days on which it starts, 0 for Monday.
        price: for a unit.
    """

    name: str
    start: int
    end: int
    days: frozenset[int]
    price: Decimal


@dataclass(frozen=True)
class Price:
    """A price of what a resource is (`measure` × time), or of what a counter counted (`meter`).

    Attributes:
        name: what the bill calls it. Several entries may share it: for other resources, or for other times.
        service: the group of prices that it belongs to.
        where: what it is for.
        meter: globs of counters; empty for a price of time.
        measure: `count`, a column of the period or a key of its measures, see `UNITS`.
        unit: the unit of the quantity, without the time; None for the measure's or counter's own.
        per: the time that the price is for; None for a counter.
        price: for a unit; 0 if it has tiers.
        tiering, tiers: graduated: each slice at its price; by volume: all at the price of the slice that is reached.
        times: times of day at other prices; the first that matches counts.
        included: so much of each project's quantity in a month costs nothing.
        begun: whether each begun hour counts whole, once for each resource, with its largest size in that hour.
        start, end: when it is valid; the end is exclusive; None for always.
        description: a text for people; empty for the name.
        line: where it starts in the file, from 1.
    """

    name: str
    service: str
    where: Condition
    meter: tuple[str, ...] = ()
    measure: str = "count"
    unit: str | None = None
    per: Per | None = "hour"
    price: Decimal = Decimal(0)
    tiering: Tiering | None = None
    tiers: tuple[Slice, ...] = ()
    times: tuple[TimeOfDay, ...] = ()
    included: Decimal = Decimal(0)
    begun: bool = False
    start: datetime | None = None
    end: datetime | None = None
    description: str = ""
    line: int = 1

    @property
    def is_for(self) -> str:
        """In words, what it is for: `instance; flavor m1.*; vcpus from 4`."""
        texts = sorted(self.where.texts, key=lambda each: each[0] != "resource_type")
        of_texts = [", ".join(globs) if key == "resource_type" else f"{key} {', '.join(globs)}" for key, globs in texts]
        of_metadata = [f"metadata {key} {', '.join(globs)}" for key, globs in self.where.metadata]
        of_ranges = [_range(*each) for each in self.where.ranges]
        return "; ".join([*self.meter, *of_texts, *of_metadata, *of_ranges])

    @property
    def costs(self) -> str:
        """In words, what it costs: `0.01`, `0.02 up to 100, then 0.01`, `0.01, night 0.005`."""
        parts = [
            f"{each.price:f} up to {each.up_to:f}" if each.up_to is not None else f"{each.price:f} above"
            for each in self.tiers
        ]
        if self.tiering == "by_volume":
            parts.append("all at one of these")
        if not parts:
            parts = [f"{self.price:f}", *(f"{each.name} {each.price:f}" for each in self.times)]
        if self.included:
            parts.append(f"{self.included:f} included")
        return ", ".join(parts)

    def overlaps(self, other: "Price") -> bool:
        """Whether there is a time at which both are valid."""
        return (self.start is None or other.end is None or self.start < other.end) and (
            other.start is None or self.end is None or other.start < self.end
        )


@dataclass(frozen=True)
class Scope:
    """What a discount, a minimum or a tax is limited to: globs of projects, prices and services; empty for all."""

    project_id: tuple[str, ...] = ()
    price: tuple[str, ...] = ()
    service: tuple[str, ...] = ()

    def may_have(self, price: str, service: str) -> bool:
        """Whether lines of this price and service may belong to it, of some project."""
        return matches(self.price, price) and matches(self.service, service)


@dataclass(frozen=True)
class Rule:
    """A discount, a minimum or a tax.

    Attributes:
        name: what the bill calls it.
        scope: what it is limited to.
        percent: of what it is computed from (discount, tax).
        amount: in the currency (discount, minimum).
        service: the service that its line belongs to (minimum).
        start, end: when it is valid; the end is exclusive; None for always.
        line: where it starts in the file, from 1.
    """

    name: str
    scope: Scope
    percent: Decimal | None = None
    amount: Decimal | None = None
    service: str = ""
    start: datetime | None = None
    end: datetime | None = None
    line: int = 1


@dataclass(frozen=True)
class Prices:
    """The content of prices.yaml.

    Attributes:
        currency: of all amounts, ISO 4217.
        time_zone: the IANA name of the zone in which months, days and times of day are meant.
        digits: the number of digits after the point to which amounts are rounded.
        rounding: how they are rounded.
        metadata: the keys of the metadata that a line carries, and is cut by; None: all, and it is not.
        prices, discounts, minimums, taxes: in the order of the file.
        faults: what is wrong with the others.
        path: the file.
    """

    currency: str
    time_zone: str
    digits: int = 2
    rounding: Rounding = "half_up"
    metadata: tuple[str, ...] | None = None
    prices: tuple[Price, ...] = ()
    discounts: tuple[Rule, ...] = ()
    minimums: tuple[Rule, ...] = ()
    taxes: tuple[Rule, ...] = ()
    faults: tuple[DefinitionError, ...] = ()
    path: str = FILE

    @property
    def zone(self) -> tzinfo:
        """The time zone."""
        return UTC if self.time_zone == "UTC" else ZoneInfo(self.time_zone)

    def span(self, month: str) -> tuple[datetime, datetime]:
        """The first instant of a month (`2026-11`) in the time zone, and that of the next one.

        Raises:
            UsageError: it is not a month.
        """
        found = re.fullmatch(r"(\d{4})-(\d\d)", month.strip(), re.ASCII)
        if found is None or not 1 <= int(found[2]) <= 12 or not 1970 <= int(found[1]) <= 2260:
            raise UsageError(f"'{month}' is not a month", hint="Write YYYY-MM, such as 2026-11")
        year, number = int(found[1]), int(found[2])
        start = datetime(year, number, 1, tzinfo=self.zone)
        end = datetime(year + number // 12, number % 12 + 1, 1, tzinfo=self.zone)
        return start.astimezone(UTC), end.astimezone(UTC)


def matches(globs: tuple[str, ...], value: str | None) -> bool:
    """Whether a value matches one of the globs, and none of those after `!`.

    If there are only globs after `!`, or none, everything else matches, also a value that is not known (None).
    """
    return matcher(globs)(value)


def matcher(globs: tuple[str, ...]) -> Callable[[str | None], bool]:
    """`matches` for many values."""
    wanted = _one_of([each for each in globs if not each.startswith("!")])
    unwanted = _one_of([each[1:] for each in globs if each.startswith("!")])
    if wanted is None and unwanted is None:
        return lambda value: True
    if wanted is None:
        return lambda value: value is None or not (unwanted is not None and unwanted(value))
    if unwanted is None:
        return lambda value: value is not None and wanted(value)
    return lambda value: value is not None and wanted(value) and not unwanted(value)


def _one_of(globs: list[str]) -> Callable[[str], bool] | None:
    """Whether a value matches one of the globs; None if there are none."""
    if not globs:
        return None
    literal = frozenset(each for each in globs if not any(mark in each for mark in "*?["))
    if len(literal) == len(globs):
        return literal.__contains__
    pattern = re.compile("|".join(translate(each) for each in globs if each not in literal))
    return lambda value: value in literal or pattern.match(value) is not None


def load(config_dir: Path | None) -> Prices:
    """The site's prices: those of its configuration folder's file, or the shipped file, which has none.

    Raises:
        DefinitionError: the file as a whole cannot be read.
    """
    return _current(in_use(config_dir, FILE, SHIPPED))


def read(path: Path) -> Prices:
    """The prices of a file.

    Raises:
        DefinitionError: the file as a whole cannot be read, or its currency, time zone or rounding cannot be used.
    """
    content = yaml_lines.read(path)
    if not isinstance(content, dict) or not isinstance(content.get("prices"), list):
        raise DefinitionError(
            "the file has no list `prices`", where=f"{path}:1", hint="Start the file with `currency:` and `prices:`"
        )
    head = _Given(content, "", f"{path}:{getattr(content, 'line', 1)}", UTC)
    head.known(
        {"currency", "time_zone", "rounding", "metadata", "prices", "discounts", "minimums", "taxes"}, "the file"
    )
    zone_name = head.text("time_zone") or "UTC"
    zone = head.zone(zone_name)
    digits, rounding = _rounding(content.get("rounding"), head)
    faults = list[DefinitionError]()

    def entries(key: str, make: Callable[[Any, str, tzinfo], Any]) -> list[Any]:
        listed = content.get(key) or []
        if not isinstance(listed, list) or len(listed) > MAX_ITEMS:
            raise head.refused(key, f"Write a list of at most {MAX_ITEMS:,} entries")
        made = []
        for entry in listed:
            try:
                made.append(make(entry, str(path), zone))
            except DefinitionError as error:
                faults.append(error)
        return made

    prices = _of_one_kind(entries("prices", _price), str(path), faults)
    faults += _repeats(prices, str(path))
    rules = {
        key: entries(key, lambda *given, key=key: _rule(key, *given)) for key in ("discounts", "minimums", "taxes")
    }
    names = (
        {each.name for each in prices}
        | {each.service for each in prices}
        | {each.service for each in rules["minimums"]}
    )
    names |= {each.name for each in rules["minimums"]}
    for key, made in rules.items():
        faults += _of_nothing(key, made, names, str(path))
    return Prices(
        currency=head.currency(),
        time_zone=zone_name,
        digits=digits,
        rounding=rounding,
        metadata=head.globs("metadata", "Write a list of keys") if content.get("metadata") is not None else None,
        prices=tuple(prices),
        discounts=tuple(rules["discounts"]),
        minimums=tuple(rules["minimums"]),
        taxes=tuple(rules["taxes"]),
        faults=tuple(sorted(faults, key=lambda each: int(each.where.rpartition(":")[2]))),
        path=str(path),
    )


_current: Final = once_a_change(read)


def gaps(prices: Iterable[Price]) -> list[str]:
    """Times between two entries of one price, for the same resources, at which none of them is valid."""
    of: dict[tuple[str, Condition, tuple[str, ...]], list[Price]] = {}
    for each in prices:
        of.setdefault((each.name, each.where, each.meter), []).append(each)
    found = []
    first = datetime.min.replace(tzinfo=UTC)
    for (name, *_), entries in of.items():
        entries.sort(key=lambda each: each.start or first)
        for one, other in pairwise(entries):
            if one.end is not None and other.start is not None and one.end < other.start:
                span = f"from {one.end:%Y-%m-%d %H:%M} to {other.start:%Y-%m-%d %H:%M} (UTC)"
                found.append(f"'{name}' is not valid {span}: between lines {one.line} and {other.line}")
    return found


def _repeats(prices: Iterable[Price], path: str) -> list[DefinitionError]:
    """Faults for prices that are for the same, and at the same time, as one of their name before them."""
    found = []
    of: dict[tuple[str, Condition, tuple[str, ...]], list[Price]] = {}
    for each in prices:
        before = of.setdefault((each.name, each.where, each.meter), [])
        first = next((other for other in before if other.overlaps(each)), None)
        if first is not None:
            already = f"is on line {first.line} already, for the same and at the same time; that one counts then"
            what = f"'{each.name}' {already}"
            hint = "Give the first a `to` and this one a `from`, or another name"
            found.append(DefinitionError(what, where=f"{path}:{each.line}", hint=hint))
        before.append(each)
    return found


def _of_one_kind(prices: list[Price], path: str, faults: list[DefinitionError]) -> list[Price]:
    """The prices without those whose quantities cannot be added to those of the first of their name."""
    kept = list[Price]()
    first: dict[str, Price] = {}
    tiered = {each.name for each in prices if each.tiers or each.included}
    for each in prices:
        one = first.setdefault(each.name, each)
        units = [(of.unit or UNITS.get(of.measure) or of.measure, of.per, of.begun) for of in (one, each)]
        what = ""
        if bool(one.meter) != bool(each.meter):
            what = f"'{each.name}' is a price of a meter on one of the lines {one.line} and {each.line} only"
        elif each.name in tiered and units[0] != units[1]:
            what = f"'{each.name}' has tiers or an included amount, and other units on line {one.line}"
        if what:
            hint = "Entries of one name are added: give this one another name"
            faults.append(DefinitionError(what, where=f"{path}:{each.line}", hint=hint))
        else:
            kept.append(each)
    return kept


def _of_nothing(key: str, rules: Iterable[Rule], names: set[str], path: str) -> list[DefinitionError]:
    """Faults for rules of prices or services that no price has: they would never count."""
    found = []
    for each in rules:
        for what, globs in (("price", each.scope.price), ("service", each.scope.service)):
            for glob in globs:
                if not any(fnmatchcase(name, glob.removeprefix("!")) for name in names):
                    hint = f"The file has {shown_names(names)}" if names else "The file has no prices"
                    reason = f"'{each.name}' of {key} is for the {what} {shown(glob)}, which no price has"
                    found.append(DefinitionError(reason, where=f"{path}:{each.line}", hint=hint))
    return found


def shown_names(names: Iterable[str]) -> str:
    """Names for a hint, at most ten."""
    ordered = sorted(names)
    return ", ".join(ordered[:10]) + (", …" if len(ordered) > 10 else "")


def _rounding(given: Any, head: "_Given") -> tuple[int, Rounding]:
    if given is None:
        return 2, "half_up"
    if not isinstance(given, dict):
        raise head.refused("rounding", "Write e.g. rounding: {digits: 2, mode: half_up}")
    part = _Given(given, "rounding", f"{head.path}:{getattr(given, 'line', head.line)}", head.zone_info)
    part.known({"digits", "mode"}, "rounding")
    digits = given.get("digits", 2)
    if not isinstance(digits, int) or isinstance(digits, bool) or not 0 <= digits <= DIGITS:
        raise part.refused("digits", f"Write a whole number from 0 to {DIGITS}")
    return digits, part.one_of("mode", ROUNDINGS) or "half_up"


def _price(entry: Any, path: str, zone: tzinfo) -> Price:
    given = _named(entry, path, zone, "a price")
    given.known(_PRICE_KEYS, f"'{given.name}'")
    of_counter = "meter" in entry
    if of_counter and (wrong := sorted({"measure", "per", "durations"} & set(entry))):
        raise given.fault(f"a price of a meter has no {', '.join(wrong)}", "A counter is priced by what it counted")
    measure = given.text("measure") or "count"
    per = None if of_counter else given.one_of("per", PERS) or "hour"
    durations = given.one_of("durations", ("exact", "hours begun")) or "exact"
    if durations == "hours begun" and per != "hour":
        raise given.fault(f"durations is 'hours begun', but the price is per {per}", "Write per: hour")
    if of_counter and entry.get("unit") is None:
        raise given.fault("a price of a meter needs a unit", "Write e.g. unit: GiB")
    if measure == "count" and not of_counter and entry.get("unit") is not None:
        raise given.fault("a price of a resource as such has no unit", "Add measure:, or delete unit:")
    tiering = next((each for each in TIERINGS if each in entry), None)
    costs = [key for key in ("price", *TIERINGS) if key in entry]
    if len(costs) != 1:
        has = f"has {' and '.join(costs)}" if costs else "costs nothing"
        raise given.fault(has, "Write one of price, graduated and by_volume")
    times = given.times()
    if times and tiering:
        raise given.fault("tiers have no times of day", "Write a flat price with times, or two prices")
    start, end = given.validity()
    return Price(
        name=given.name,
        service=given.text("service") or "Other",
        where=given.condition(of_counter),
        meter=given.globs("meter", "Write a meter, or globs of meters") if of_counter else (),
        measure=measure,
        unit=given.text("unit"),
        per=per,
        price=given.amount("price", DIGITS) if tiering is None else Decimal(0),
        tiering=tiering,
        tiers=given.tiers(tiering) if tiering else (),
        times=times,
        included=given.amount("included", DIGITS) if "included" in entry else Decimal(0),
        begun=durations == "hours begun",
        start=start,
        end=end,
        description=given.prose("description"),
        line=given.line,
    )


def fault_of(entry: dict[str, Any]) -> str | None:
    """Why an entry of `prices` cannot work; None if it can."""
    try:
        _price(entry, FILE, UTC)
    except DefinitionError as error:
        return error.what
    return None


def _rule(key: str, entry: Any, path: str, zone: tzinfo) -> Rule:
    label = {"discounts": "a discount", "minimums": "a minimum", "taxes": "a tax"}[key]
    given = _named(entry, path, zone, label)
    costs = {"discounts": ("percent", "amount"), "minimums": ("amount",), "taxes": ("percent",)}[key]
    extra = {"service"} if key == "minimums" else set[str]()
    given.known({"name", "where", "from", "to", *costs, *extra}, f"'{given.name}'")
    if len([each for each in costs if each in entry]) != 1:
        raise given.fault(f"{label} needs {' or '.join(costs)}", f"Write e.g. {costs[0]}: 10")
    percent = given.amount("percent", DIGITS - 2) if "percent" in entry else None
    if percent is not None and key == "discounts" and percent > 100:
        raise given.refused("percent", "Write a number from 0 to 100")
    start, end = given.validity()
    return Rule(
        name=given.name,
        scope=given.scope(),
        percent=percent,
        amount=given.amount("amount", DIGITS) if "amount" in entry else None,
        service=(given.text("service") or "Minimum") if key == "minimums" else "",
        start=start,
        end=end,
        line=given.line,
    )


def _named(entry: Any, path: str, zone: tzinfo, label: str) -> "_Given":
    where = f"{path}:{getattr(entry, 'line', 1)}"
    if not isinstance(entry, dict):
        raise DefinitionError(f"{label} is not a mapping", where=where, hint="Write `- name: …` and its keys")
    name = entry.get("name")
    if not isinstance(name, str) or not _is_text(name):
        hint = f"Add `name:`, at most {MAX_TEXT} printable characters"
        raise DefinitionError(f"{label} has no name", where=where, hint=hint)
    return _Given(entry, name, where, zone)


class _Given:
    """The values of an entry, each checked."""

    def __init__(self, entry: Mapping[str, Any], name: str, where: str, zone: tzinfo) -> None:
        self.entry, self.name, self.where, self.zone_info = entry, name, where, zone
        self.path, _, line = where.rpartition(":")
        self.line = int(line)

    def fault(self, what: str, hint: str) -> DefinitionError:
        return DefinitionError(f"'{self.name}': {what}" if self.name else what, where=self.where, hint=hint)

    def refused(self, key: str, hint: str) -> DefinitionError:
        return self.fault(f"{key} is {shown(self.entry.get(key))}", hint)

    def known(self, keys: Iterable[str], label: str) -> None:
        unknown = sorted(shown(key).strip("'") for key in set(self.entry) - set(keys))
        if unknown:
            hint = f"It has {', '.join(sorted(keys))}"
            raise DefinitionError(f"{label} has unknown keys: {', '.join(unknown)}", where=self.where, hint=hint)

    def text(self, key: str) -> str | None:
        value = self.entry.get(key)
        if value is not None and not _is_text(value):
            raise self.refused(key, "Write a text, in quotes if it is not a word")
        return value

    def prose(self, key: str) -> str:
        value = self.entry.get(key, "")
        if not isinstance(value, str) or not is_plain(value, lines=True):
            raise self.refused(key, "Write a text")
        return " ".join(value.split())

    def one_of(self, key: str, known: "tuple[_Text, ...]") -> "_Text | None":
        value = self.entry.get(key)
        found = next((each for each in known if each == value), None)
        if value is not None and found is None:
            raise self.refused(key, f"Write one of {', '.join(known)}")
        return found

    def currency(self) -> str:
        value = self.entry.get("currency")
        if not isinstance(value, str) or not re.fullmatch("[A-Z]{3}", value):
            raise self.refused("currency", "Write a code of ISO 4217, such as EUR")
        return value

    def zone(self, name: str) -> tzinfo:
        if name == "UTC":
            return UTC
        try:
            return ZoneInfo(name)
        except (KeyError, ValueError, OSError):
            raise self.refused("time_zone", "Write an IANA name, such as Europe/Berlin") from None

    def decimal(self, key: str, value: Any, digits: int) -> Decimal:
        """A number as it is written, not below 0."""
        hint = f"Write a number from 0, with at most {digits} digits after the point"
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise self.fault(f"{key} is {shown(value)}", hint)
        try:
            found = Decimal(value.strip() if isinstance(value, str) else repr(value))
        except (InvalidOperation, ValueError):  # more digits than Python prints
            raise self.fault(f"{key} is {shown(value)}", hint) from None
        if not found.is_finite() or not 0 <= found < Decimal(10) ** 15:
            raise self.fault(f"{key} is {shown(value)}", hint)
        if isinstance(value, float) and len(found.as_tuple().digits) > _FLOAT_DIGITS:
            raise self.fault(f"{key} has more than {_FLOAT_DIGITS} digits", "Write it in quotes")
        if found != found.quantize(Decimal(1).scaleb(-digits)):
            raise self.fault(f"{key} is {shown(value)}", hint)
        return found.normalize() + 0  # 1e2 and 100 are the same price

    def amount(self, key: str, digits: int) -> Decimal:
        return self.decimal(key, self.entry.get(key), digits)

    def globs(self, key: str, hint: str) -> tuple[str, ...]:
        return self._globs(key, self.entry.get(key), hint)

    def _globs(self, key: str, value: Any, hint: str) -> tuple[str, ...]:
        texts = value if isinstance(value, list) else [value]
        texts = [_as_text(each) for each in texts]
        if not 0 < len(texts) <= MAX_ITEMS or not all(map(_is_text, texts)):
            raise self.fault(f"{key} is {shown(value)}", hint)
        return tuple(texts)

    def _part(self, key: str) -> Mapping[str, Any]:
        value = self.entry.get(key)
        if value is not None and not isinstance(value, dict):
            raise self.refused(key, f"Write e.g. {key}: {{project_id: a}}")
        return value or {}

    def scope(self) -> Scope:
        part = self._part("where")
        unknown = sorted(shown(each).strip("'") for each in set(part) - set(SCOPES))
        if unknown:
            raise self.fault(f"where has unknown keys: {', '.join(unknown)}", f"It has {', '.join(SCOPES)}")
        return Scope(**{key: self._globs(f"where.{key}", value, "Write globs") for key, value in part.items()})

    def condition(self, of_counter: bool) -> Condition:
        part = self._part("where")
        texts, metadata, ranges = [], [], []
        for key, value in part.items():
            label = f"where.{shown(key)}".replace("'", "")
            if key == "metadata":
                if not isinstance(value, dict) or not all(map(_is_text, value)):
                    raise self.fault(f"{label} is {shown(value)}", "Write e.g. metadata: {stage: prod}")
                for path, wanted in value.items():
                    if isinstance(wanted, dict):
                        ranges.append(self._range(f"metadata.{path}", wanted, f"{label}.{path}"))
                    else:
                        metadata.append((path, self._globs(f"{label}.{path}", wanted, "Write globs")))
            elif of_counter and key not in OF_COUNTERS:
                known = ", ".join((*OF_COUNTERS, "metadata"))
                raise self.fault(f"{label}: the hours of a counter have no {shown(key)}", f"They have {known}")
            elif key in TEXTS:
                texts.append((str(key), self._globs(label, value, "Write a value, or a list of globs")))
            elif isinstance(value, dict) and _is_text(key):
                ranges.append(self._range(key, value, label))
            else:
                known = ", ".join((*TEXTS, "metadata"))
                hint = f"Write one of {known}, or a measure with from and below, such as vcpus: {{from: 4, below: 8}}"
                raise self.fault(f"{label} is {shown(value)}", hint)
        if not of_counter and "resource_type" not in part:
            hint = 'Add e.g. where: {resource_type: instance}, or "*" for all'
            raise self.fault("it does not say what it is for", hint)
        return Condition(tuple(sorted(texts)), tuple(sorted(metadata)), tuple(sorted(ranges)))

    def _range(self, key: str, value: Mapping[str, Any], label: str) -> tuple[str, Decimal | None, Decimal | None]:
        if key == "count" or not value or set(value) - {"from", "below"}:
            raise self.fault(f"{label} is {shown(dict(value))}", "Write e.g. {from: 100, below: 500}")
        low = self.decimal(f"{label}.from", value["from"], DIGITS) if "from" in value else None
        high = self.decimal(f"{label}.below", value["below"], DIGITS) if "below" in value else None
        if low is not None and high is not None and low >= high:
            raise self.fault(f"{label}: from {low} is not before below {high}", "Nothing is in this range")
        return key, low, high

    def tiers(self, key: str) -> tuple[Slice, ...]:
        listed = self.entry.get(key)
        hint = f"Write e.g. {key}: [{{up_to: 100, price: 0.2}}, {{price: 0.1}}]"
        if not isinstance(listed, list) or not 0 < len(listed) <= 100:
            raise self.refused(key, hint)
        made, reached = list[Slice](), Decimal(0)
        for number, each in enumerate(listed, 1):
            last = number == len(listed)
            if not isinstance(each, dict) or set(each) != ({"price"} if last else {"price", "up_to"}):
                what = "has price, and no up_to" if last else "has up_to and price"
                raise self.fault(f"{key}: slice {number} is {shown(each)}", f"{'The last' if last else 'Each'} {what}")
            up_to = None if last else self.decimal(f"{key}: up_to", each["up_to"], DIGITS)
            if up_to is not None and up_to <= reached:
                raise self.fault(
                    f"{key}: up_to {up_to:f} does not follow {reached:f}", "Write slices in ascending order"
                )
            made.append(Slice(up_to, self.decimal(f"{key}: price", each["price"], DIGITS)))
            reached = up_to or reached
        return tuple(made)

    def times(self) -> tuple[TimeOfDay, ...]:
        listed = self.entry.get("times") or []
        hint = 'Write e.g. times: [{name: night, from: "22:00", to: "06:00", days: [mon-fri], price: 0.1}]'
        if not isinstance(listed, list) or len(listed) > 100:
            raise self.refused("times", hint)
        made = list[TimeOfDay]()
        for each in listed:
            if not isinstance(each, dict) or not {"name", "price"} <= set(each) <= {
                "name",
                "from",
                "to",
                "days",
                "price",
            }:
                raise self.fault(f"times has {shown(each)}", hint)
            if not _is_text(each["name"]) or each["name"] in [other.name for other in made]:
                raise self.fault(f"times: name is {shown(each['name'])}", "Give each time a name of its own")
            start, end = self._clock(each.get("from", "00:00")), self._clock(each.get("to", "24:00"))
            if start >= 24 * 60:
                raise self.fault("times: from is 24:00", 'Write "00:00"')
            price = self.decimal("times: price", each["price"], DIGITS)
            made.append(TimeOfDay(each["name"], start, end, self._days(each.get("days")), price))
        return tuple(made)

    def _clock(self, value: Any) -> int:
        """Minutes after midnight. YAML reads 22:00 without quotes as the number 22 × 60."""
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 24 * 60:
            return value
        found = re.fullmatch(r"(\d\d?):(\d\d)", value, re.ASCII) if isinstance(value, str) else None
        minutes = int(found[1]) * 60 + int(found[2]) if found else -1
        if found is None or int(found[2]) > 59 or minutes > 24 * 60:
            raise self.fault(f"times: {shown(value)} is not a time of day", 'Write e.g. "22:00"')
        return minutes

    def _days(self, value: Any) -> frozenset[int]:
        if value is None:
            return frozenset(range(7))
        found = set[int]()
        for each in value if isinstance(value, list) else [value]:
            first, dash, last = each.partition("-") if isinstance(each, str) else ("", "", "")
            if first not in DAYS or (last if dash else first) not in DAYS:
                hint = f"Write some of {', '.join(DAYS)}, or mon-fri"
                raise self.fault(f"times: {shown(each)} is not a day of the week", hint)
            start, end = DAYS.index(first), DAYS.index(last if dash else first)
            found |= {number % 7 for number in range(start, end + 1 + 7 * (end < start))}
        return frozenset(found)

    def validity(self) -> tuple[datetime | None, datetime | None]:
        start, end = self._instant("from"), self._instant("to")
        if start is not None and end is not None and start >= end:
            raise self.fault("from is not before to", "It would never be valid; `to` is the first day after")
        return start, end

    def _instant(self, key: str) -> datetime | None:
        value = self.entry.get(key)
        if value is None:
            return None
        if isinstance(value, str):
            try:
                value = datetime.fromisoformat(value.strip())
            except ValueError:
                raise self.refused(key, "Write a day, such as 2026-11-01") from None
        elif isinstance(value, date) and not isinstance(value, datetime):
            value = datetime.combine(value, time())
        if not isinstance(value, datetime) or not 1970 <= value.year <= 2260:
            raise self.refused(key, "Write a day, such as 2026-11-01")
        return (value if value.tzinfo else value.replace(tzinfo=self.zone_info)).astimezone(UTC)


def _range(key: str, low: Decimal | None, high: Decimal | None) -> str:
    bounds = [f"from {low:f}" if low is not None else "", f"below {high:f}" if high is not None else ""]
    return " ".join([key, *filter(None, bounds)])


def _as_text(value: Any) -> Any:
    """Numbers and booleans as the metadata has them as text: a flavor may be called 1."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else value


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= MAX_TEXT and is_plain(value)
