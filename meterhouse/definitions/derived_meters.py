"""The derived meters of the site's `derived_meters.yaml`, or the shipped ones: meters that are computed from others.

A definition that cannot work is reported with file, line and reason; it never stops the others.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

from meterhouse import yaml_lines
from meterhouse.definitions.column_expressions import Expression, Input, InvalidExpression, parse
from meterhouse.definitions.site_files import in_use, once_a_change
from meterhouse.errors import DefinitionError, shown
from meterhouse.shipped import DEFAULTS
from meterhouse.untrusted import is_plain

FILE: Final = "derived_meters.yaml"

SHIPPED = DEFAULTS / FILE
"""The file that is used if the site has none of its own."""

_Text = TypeVar("_Text", bound=str)

Kind = Literal["rate", "delta", "convert", "arithmetic", "aggregate"]
Function = Literal["sum", "mean", "count", "min", "max"]

OF_POINTS: Final = ("rate", "delta", "convert")
"""The kinds that give one point for each point of their source; the others give one a bucket."""

KINDS: Final[dict[Kind, frozenset[str]]] = {
    "rate": frozenset({"from", "match", "match_unit", "source_unit", "scale", "maximum", "type"}),
    "delta": frozenset({"from", "match", "match_unit", "source_unit", "growth_only"}),
    "convert": frozenset({"from", "match", "match_unit", "source_unit", "scale", "expression", "maximum", "type"}),
    "arithmetic": frozenset({"expression", "type"}),
    "aggregate": frozenset({"from", "source_unit", "function", "by", "type"}),
}
"""Kind → the keys that it may have beside `name`, `kind`, `unit` and `description`."""

FUNCTIONS: Final[tuple[Function, ...]] = ("sum", "mean", "count", "min", "max")
TYPES: Final = ("gauge", "delta", "cumulative")
MAX_TEXT: Final = 255
MAX_ITEMS: Final = 1_000
"""Maximum number of definitions of a file, and of globs of a definition."""


@dataclass(frozen=True)
class Derived:
    """One derived meter, or one for each meter that `sources` match.

    Attributes:
        name: the meter, or a template: `\\1` stands for the first group of `match` in the source's name.
        kind: how it is computed.
        unit: its unit, or a template with the groups of `match_unit`; None for that of the source.
        type: its type; None for that of the source (`convert`).
        sources: globs of the meters that it is made of; `!glob` leaves one out. Empty for arithmetic.
        match, match_unit: regular expressions that the whole name and unit of the source have to match.
        source_unit: the unit that a source has to have; None for any.
        scale: what a rate or a volume is multiplied by.
        expression: the new volume: of one sample (`convert`), or of several meters of a resource (`arithmetic`).
        maximum: larger values become this one.
        growth_only: whether only increases give a point (`delta`).
        function: how the resources of a group are put together (`aggregate`).
        by: what makes a group: `project_id` and paths in the resource metadata; nothing for one group of all.
        description: a text for people.
        line: where the definition starts in the file, from 1.
    """

    name: str
    kind: Kind
    unit: str | None
    type: str | None
    sources: tuple[str, ...] = ()
    match: str = ".*"
    match_unit: str = ".*"
    source_unit: str | None = None
    scale: Expression | float = 1.0
    expression: Expression | None = None
    maximum: float | None = None
    growth_only: bool = False
    function: Function = "sum"
    by: tuple[str, ...] = ()
    description: str = ""
    line: int = 1

    @property
    def meters(self) -> tuple[str, ...]:
        """The meters or globs that it is made of, as the file has them."""
        return self.expression.meters if self.kind == "arithmetic" and self.expression else self.sources

    @property
    def inputs(self) -> tuple[Input, ...]:
        """The numbers in the resource metadata that it reads, each once."""
        read = [self.scale] if self.expression is None else [self.expression]
        inputs = [each for one in read if isinstance(one, Expression) for each in one.inputs if each.path]
        return tuple(dict.fromkeys(inputs))

    @property
    def metadata(self) -> tuple[tuple[str, ...], ...]:
        """The paths in the resource metadata that it reads, each once."""
        grouped = [path_of(each) for each in self.by if each != "project_id"]
        return tuple(dict.fromkeys([*(each.path for each in self.inputs), *grouped]))

    def takes(self, meter: str, unit: str | None = None) -> bool:
        """Whether a meter is one of its sources; without a unit, in some unit."""
        if self.kind == "arithmetic":
            return meter in self.meters
        if self.source_unit is not None and unit is not None and unit != self.source_unit:
            return False
        excluded = [each[1:] for each in self.sources if each.startswith("!")]
        included = [each for each in self.sources if not each.startswith("!")] or ["*"]
        if any(fnmatchcase(meter, each) for each in excluded) or not any(fnmatchcase(meter, each) for each in included):
            return False
        return re.fullmatch(self.match, meter) is not None and self.named(meter) != meter

    def named(self, meter: str) -> str:
        """The name of the meter that it makes from a source of this name."""
        return _filled(self.match, self.name, meter) if self.kind in OF_POINTS else self.name

    def unit_of(self, unit: str | None) -> str | None:
        """The unit of the meter that it makes from a source in this unit."""
        if self.unit is None or self.kind not in OF_POINTS:
            return unit if self.unit is None else self.unit
        return _filled(self.match_unit, self.unit, unit or "")

    def may_make(self, meter: str) -> bool:
        """Whether it may make a meter of this name, from some source."""
        if "\\" not in self.name:
            return self.name == meter
        parts = self.name.split("\\")
        return meter.startswith(parts[0]) and meter.endswith(parts[-1][1:])

    @property
    def meaning(self) -> dict[str, Any]:
        """All that decides on points: an entry of the file that gives the same definition, whatever else it says."""
        given: dict[str, Any] = {
            "name": self.name,
            "kind": self.kind,
            "unit": self.unit,
            "type": self.type,
            "from": list(self.sources),
            "match": self.match,
            "match_unit": self.match_unit,
            "source_unit": self.source_unit,
            "scale": self.scale.text if isinstance(self.scale, Expression) else self.scale,
            "expression": self.expression.text if self.expression else None,
            "maximum": self.maximum,
            "growth_only": self.growth_only,
            "function": self.function,
            "by": list(self.by),
        }
        has = KINDS[self.kind] | {"name", "kind", "unit"}
        return {key: value for key, value in given.items() if key in has and value is not None}

    def made_of(self) -> str:
        """In words, what it is computed from."""
        meters = ", ".join(self.meters)
        match self.kind:
            case "rate":
                return f"increase a second of {meters}" + _times(self.scale)
            case "delta":
                return f"difference of {meters} to the previous point" + (", if it grew" if self.growth_only else "")
            case "convert":
                return f"{self.expression.text} of {meters}" if self.expression else meters + _times(self.scale)
            case "arithmetic":
                return self.expression.text if self.expression else meters
            case "aggregate":
                return f"{self.function} of {meters}" + (
                    f" by {', '.join(self.by)}" if self.by else " of all resources"
                )


def _times(scale: Expression | float) -> str:
    if isinstance(scale, Expression):
        return f" × {scale.text}"
    return "" if scale == 1 else f" × {scale:g}"


def _filled(pattern: str, template: str, text: str) -> str:
    if "\\" not in template:
        return template
    found = re.fullmatch(pattern, text)
    return found.expand(template) if found else template


def path_of(text: str) -> tuple[str, ...]:
    """The path in the resource metadata that `resource_metadata.x.y` or `metadata.x.y` names."""
    return tuple(text.split(".")[1:])


@dataclass(frozen=True)
class DerivedMeters:
    """The derived meters of a site in the order of the file, what is wrong with the others, and the file."""

    definitions: tuple[Derived, ...]
    faults: tuple[DefinitionError, ...]
    path: str

    @property
    def meaning(self) -> list[dict[str, Any]]:
        """All that decides on points, in an order that does not depend on the file; `meant` reads it."""
        return sorted((each.meaning for each in self.definitions), key=lambda each: json.dumps(each, sort_keys=True))


def meant(meaning: Iterable[dict[str, Any]]) -> tuple[Derived, ...]:
    """The definitions that had this meaning, see `DerivedMeters.meaning`.

    Raises:
        DefinitionError: this release does not know such a definition.
    """
    return tuple(_derived(each, Path(FILE)) for each in meaning)


def load(config_dir: Path | None) -> DerivedMeters:
    """The site's derived meters: those of its configuration folder's file, or the shipped ones.

    Raises:
        DefinitionError: the file as a whole cannot be read.
    """
    return _current(in_use(config_dir, FILE, SHIPPED))


def read(path: Path) -> DerivedMeters:
    """The derived meters of a file.

    Raises:
        DefinitionError: the file as a whole cannot be read.
    """
    content = yaml_lines.read(path)
    entries = content.get("derived_meters") if isinstance(content, dict) else None
    if not isinstance(entries, list):
        raise DefinitionError(
            "the file has no list `derived_meters`", where=f"{path}:1", hint="Start the file with `derived_meters:`"
        )
    if len(entries) > MAX_ITEMS:
        raise DefinitionError(f"the file has more than {MAX_ITEMS:,} definitions", where=f"{path}:1", hint="Use globs")
    made, faults = list[Derived](), list[DefinitionError]()
    for entry in entries:
        try:
            made.append(_derived(entry, path))
        except DefinitionError as error:
            faults.append(error)
    good, circles = _without_circles(_without_repeats(made, path, faults), path)
    return DerivedMeters(tuple(good), tuple(faults + circles), str(path))


_current: Final = once_a_change(read)


def _without_repeats(made: list[Derived], path: Path, faults: list[DefinitionError]) -> list[Derived]:
    """The definitions without those of a literal name that another one has; the first stays."""
    known: dict[str, Derived] = {}
    kept = []
    for each in made:
        first = known.get(each.name)
        if first is not None and "\\" not in each.name and set(first.meters) & set(each.meters):
            what = f"'{each.name}' is defined on line {first.line} already, from the same meter"
            faults.append(DefinitionError(what, where=f"{path}:{each.line}", hint="Delete one of the two"))
            continue
        known.setdefault(each.name, each)
        kept.append(each)
    return kept


def _without_circles(made: list[Derived], path: Path) -> tuple[list[Derived], list[DefinitionError]]:
    """The definitions, and faults for those of literal names that are made of themselves, by way of others."""
    literal = [each for each in made if "\\" not in each.name]
    below = {
        number: [place for place, other in enumerate(literal) if each.takes(other.name)]
        for number, each in enumerate(literal)
    }

    def reaches_itself(start: int) -> bool:
        seen, waiting = set[int](), list(below[start])
        while waiting:
            place = waiting.pop()
            if place == start:
                return True
            if place not in seen:
                seen.add(place)
                waiting += below[place]
        return False

    bad = {id(each): each for number, each in enumerate(literal) if reaches_itself(number)}
    faults = [
        DefinitionError(
            f"'{each.name}' is made of itself: {each.made_of()}",
            where=f"{path}:{each.line}",
            hint="Change `from`, or leave it out there with `!`",
        )
        for each in bad.values()
    ]
    return [each for each in made if id(each) not in bad], faults


def _derived(entry: Any, path: Path) -> Derived:
    line = getattr(entry, "line", 1)

    def fault(what: str, hint: str) -> DefinitionError:
        return DefinitionError(what, where=f"{path}:{line}", hint=hint)

    if not isinstance(entry, dict):
        raise fault("a derived meter is not a mapping", "Write `- name: …` and its keys")
    name = entry.get("name")
    if not isinstance(name, str) or not _is_text(name):
        raise fault("a derived meter has no name", f"Add `name:`, at most {MAX_TEXT} printable characters")
    kind = next((each for each in KINDS if each == entry.get("kind")), None)
    if kind is None:
        raise fault(f"'{name}': kind is {shown(entry.get('kind'))}", f"Write one of {', '.join(KINDS)}")
    known = KINDS[kind] | {"name", "kind", "unit", "description"}
    unknown = sorted(shown(key).strip("'") for key in set(entry) - known)
    if unknown:
        raise fault(
            f"'{name}': kind {kind} has no {', '.join(unknown)}", f"It has {', '.join(sorted(known - {'kind'}))}"
        )
    given = _Given(entry, name, fault)
    description = entry.get("description", "")
    if not isinstance(description, str) or not is_plain(description, lines=True):
        raise fault(f"'{name}': description is {shown(description)}", "Write a text")
    expression = given.expression(of_meters=kind == "arithmetic")
    if kind == "arithmetic" and (expression is None or not expression.meters):
        raise fault(f"'{name}': arithmetic needs an expression of meters", "Write e.g. expression: $(a) / $(b)")
    if kind == "convert" and expression is None and "scale" not in entry:
        raise fault(f"'{name}': convert needs scale or expression", "Write e.g. scale: 1024")
    made = Derived(
        name=name,
        kind=kind,
        unit=given.text("unit"),
        type=given.one_of("type", TYPES) or {"delta": "delta", "convert": None}.get(kind, "gauge"),
        sources=() if kind == "arithmetic" else given.globs("from"),
        match=given.pattern("match"),
        match_unit=given.pattern("match_unit"),
        source_unit=given.text("source_unit"),
        scale=given.scale(),
        expression=expression,
        maximum=given.number("maximum"),
        growth_only=given.flag("growth_only"),
        function=given.one_of("function", FUNCTIONS) or "sum",
        by=given.groups(),
        description=description,
        line=line,
    )
    _check_templates(made, fault)
    if "\\" not in name and name in made.meters:
        raise fault(f"'{name}' has the name of its source", "Samples received under a name count: choose another")
    return made


def _check_templates(made: Derived, fault: Any) -> None:
    """Refuse a template whose groups its pattern lacks, or that stands where no template can."""
    for what, template, pattern in (("name", made.name, made.match), ("unit", made.unit or "", made.match_unit)):
        if "\\" not in template:
            continue
        if made.kind not in OF_POINTS:
            raise fault(f"'{made.name}': {what} is a template", f"Kind {made.kind} makes one meter: write its {what}")
        groups = re.compile(pattern).groups
        for number in re.findall(r"\\(.)", template):
            if not number.isdigit() or not 0 < int(number) <= max(groups, what == "unit" and pattern == ".*"):
                where = "match" if what == "name" else "match_unit"
                raise fault(
                    f"'{made.name}': {what} has \\{number}, but {where} has {groups} groups",
                    f"Write e.g. {where}: '(.*)'",
                )


class _Given:
    """The values of an entry, each checked."""

    def __init__(self, entry: dict[str, Any], name: str, fault: Any) -> None:
        self.entry, self.name, self.fault = entry, name, fault

    def _refused(self, key: str, hint: str) -> Exception:
        refused: Exception = self.fault(f"'{self.name}': {key} is {shown(self.entry.get(key))}", hint)
        return refused

    def text(self, key: str) -> str | None:
        value = self.entry.get(key)
        if value is not None and not _is_text(value):
            raise self._refused(key, "Write a text, in quotes if it is not a word")
        return value

    def one_of(self, key: str, known: "tuple[_Text, ...]") -> "_Text | None":
        value = self.entry.get(key)
        found = next((each for each in known if each == value), None)
        if value is not None and found is None:
            raise self._refused(key, f"Write one of {', '.join(known)}")
        return found

    def flag(self, key: str) -> bool:
        value = self.entry.get(key, False)
        if not isinstance(value, bool):
            raise self._refused(key, "Write true or false")
        return value

    def number(self, key: str) -> float | None:
        value = self.entry.get(key)
        if value is None:
            return None
        if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) < 1e300:  # also NaN
            raise self._refused(key, "Write a number")
        return float(value)

    def globs(self, key: str) -> tuple[str, ...]:
        value = self.entry.get(key)
        texts = [value] if isinstance(value, str) else value
        if not isinstance(texts, list) or not 0 < len(texts) <= MAX_ITEMS or not all(map(_is_text, texts)):
            raise self._refused(key, 'Write the meters that it is made of, e.g. from: [cpu, "disk.*"]')
        return tuple(texts)

    def pattern(self, key: str) -> str:
        value = self.text(key)
        if value is None:
            return "(.*)" if key == "match_unit" and "\\1" in str(self.entry.get("unit")) else ".*"
        try:
            re.compile(value)
        except (re.error, OverflowError, RecursionError) as error:
            raise self._refused(key, f"It is not a regular expression: {error}") from None
        return value

    def scale(self) -> Expression | float:
        value = self.entry.get("scale", 1.0)
        if isinstance(value, str):
            return self._parsed("scale", value, of_meters=False)
        number = self.number("scale") if "scale" in self.entry else 1.0
        return 1.0 if number is None else number

    def expression(self, *, of_meters: bool) -> Expression | None:
        value = self.entry.get("expression")
        if value is None:
            return None
        return self._parsed("expression", str(value), of_meters=of_meters)

    def _parsed(self, key: str, text: str, *, of_meters: bool) -> Expression:
        try:
            return parse(text, of_meters=of_meters)
        except InvalidExpression as error:
            raise self.fault(
                f"'{self.name}': {key}: {error}", "docs/derived-meters.md has what an expression may hold"
            ) from None

    def groups(self) -> tuple[str, ...]:
        value = self.entry.get("by", [])
        texts = [value] if isinstance(value, str) else value
        if not isinstance(texts, list) or len(texts) > 8 or not all(map(_is_group, texts)):
            raise self._refused("by", "Write a list of project_id and resource_metadata.x")
        return tuple(texts)


def _is_group(value: Any) -> bool:
    if value == "project_id":
        return True
    return _is_text(value) and value.startswith(("resource_metadata.", "metadata.")) and all(value.split("."))


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= MAX_TEXT and is_plain(value)
