"""What a request for statistics asks for: aggregates, groups and periods.

Source: Ceilometer 6.0.0, `ceilometer/api/controllers/v2/meters.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from meterhouse.api.answers.faults import Fault, invalid, unknown_argument
from meterhouse.api.requests.arguments import Argument, Given
from meterhouse.errors import SHOWN_LENGTH, near_misses
from meterhouse.queries.aggregates import AGGREGATES, CALENDAR, USUAL, percentile

COUNTED: Final = ("resource_id", "user_id", "project_id")
"""What cardinality counts."""

GROUPS: Final = ("user_id", "resource_id", "project_id", "source")
"""What can be grouped by, besides keys of metadata."""

PREFIXES: Final = ("resource_metadata.", "metadata.")

MAX_PERIOD: Final = 200_000_000_000
"""Maximum length of a period in seconds: some 6,300 years, so that it ends before the year 10000."""

MAX_AGGREGATES: Final = 50
"""Maximum number of aggregates, and of groups."""

AGGREGATE: Final = Argument(
    "aggregate",
    "Aggregates to compute, in place of the usual five.",
    parts={
        "func": f"Aggregate to compute: {', '.join(AGGREGATES)}, or a percentile such as p95; may be repeated.",
        "param": f"Parameter of the aggregate cardinality: {', '.join(COUNTED)}.",
    },
)

GROUPBY: Final = Argument(
    "groupby",
    f"Group by {', '.join(GROUPS)}, or metadata.KEY, which came with the samples; may be repeated.",
    repeated=True,
    example="resource_id",
)

PERIOD: Final = Argument(
    "period",
    f"Length of a period in seconds, or one of {', '.join(CALENDAR)}. Default 0: one period of all points. Periods of "
    "a fixed length start at the start of the query, or else at the first point.",
    default="0",
    example="3600",
)

TIMEZONE: Final = Argument(
    "timezone", "IANA name of the time zone whose days, weeks and months count. Default UTC.", example="Europe/Berlin"
)

INCLUDE_EXCLUDED: Final = Argument(
    "include_excluded",
    "Whether to count the points too that the quality rules exclude.",
    "boolean",
    default=False,
)


@dataclass(frozen=True)
class Aggregate:
    """An aggregate that a client asks for.

    Attributes:
        func: its name.
        param: its parameter; empty if there is none.
    """

    func: str
    param: str = ""

    @property
    def key(self) -> str:
        """Its key in answers."""
        return f"{self.func}/{self.param}" if self.param else self.func

    @property
    def name(self) -> str:
        """Its name among those of `queries.aggregates`."""
        return self.key if self.func == "cardinality" else self.func


def aggregates_of(given: Given) -> list[Aggregate]:
    """The aggregates that a request asks for, each once.

    Raises:
        Fault: one is unknown, or has no parameter where it needs one: status 400.
    """
    found: list[Aggregate] = []
    if "aggregate" in given.body:
        found = [_of_object(each) for each in _listed(given.body["aggregate"])]
    else:
        found = _of_pairs(given.values.get("aggregate", ()))
    if len(found) > MAX_AGGREGATES:
        raise Fault(400, f"The request has {len(found)} aggregates. Give at most {MAX_AGGREGATES}")
    return list(dict.fromkeys(_checked(each) for each in found))


def _of_pairs(pairs: Sequence[tuple[str, str]]) -> list[Aggregate]:
    """Functions and parameters; fewer parameters than functions belong to those that need one, in order."""
    indexed: dict[str, dict[str, str]] = {}
    functions, parameters = list[str](), list[str]()
    for name, value in pairs:
        head, _, part = name.rpartition(".")
        if "[" in head:
            indexed.setdefault(head, {})[part] = value
        else:
            (functions if part == "func" else parameters).append(value)
    if len(parameters) > len(functions):
        raise invalid("aggregate.param", parameters[-1], "There is no aggregate.func for it")
    if len(parameters) < len(functions):
        waiting = iter(parameters)
        parameters = [next(waiting, "") if each == "cardinality" else "" for each in functions]
        if (unused := next(waiting, None)) is not None:
            raise invalid("aggregate.param", unused, "Give each aggregate.func its aggregate.param, or none")
    plain = [Aggregate(*each) for each in zip(functions, parameters, strict=True)]
    return [*plain, *(_of_object(each) for _, each in sorted(indexed.items()))]


def _listed(given: object) -> list[object]:
    if not isinstance(given, list):
        raise invalid("aggregate", given, 'Write a list of objects, such as [{"func": "avg"}]')
    return given


def _of_object(given: object) -> Aggregate:
    if not isinstance(given, dict) or not isinstance(given.get("func"), str):
        raise invalid("aggregate", given, 'Write an object, such as {"func": "avg"}')
    for part in given:
        if part not in AGGREGATE.parts:
            raise unknown_argument(str(part), "An aggregate has func and param")
    return Aggregate(given["func"], str(given.get("param") or ""))


def _checked(asked: Aggregate) -> Aggregate:
    if asked.func not in AGGREGATES and percentile(asked.func) is None:
        near = near_misses(asked.func[:60], AGGREGATES) or [*AGGREGATES, "p95"]
        raise Fault(400, f"Invalid aggregation function: {asked.func[:SHOWN_LENGTH]}. Write one of {', '.join(near)}")
    if asked.func == "cardinality" and asked.param not in COUNTED:
        bad = f"{asked.func}.{asked.param[:SHOWN_LENGTH] or None}"
        raise Fault(400, f"Bad aggregate: {bad}. Write what to count as aggregate.param: {', '.join(COUNTED)}")
    if asked.func != "cardinality" and asked.param:
        raise invalid("aggregate.param", asked.param, f"{asked.func} takes no parameter. Leave it out")
    return asked


def names_of(asked: Sequence[Aggregate]) -> list[str]:
    """The names of aggregates among those of `queries.aggregates`; the usual ones if there are none."""
    return list(dict.fromkeys(each.name for each in asked)) or list(USUAL)


def groups_of(given: Given) -> dict[str, str]:
    """What a request groups by: as it is written → its name in `queries.aggregates`.

    Raises:
        Fault: there is no such group: status 400.
    """
    found: dict[str, str] = {}
    for name in given.texts("groupby"):
        prefix = next((each for each in PREFIXES if name.startswith(each) and len(name) > len(each)), None)
        if name not in GROUPS and prefix is None:
            raise unknown_argument(name, f"Invalid groupby field. Write one of {', '.join(GROUPS)}, or metadata.KEY")
        if "\0" in name or len(name) > 255 + len(PREFIXES[0]):
            raise invalid("groupby", name, "The key is too long, or has a NUL character")
        found[name] = name if prefix is None else f"metadata.{name.removeprefix(prefix)}"
    if len(found) > MAX_AGGREGATES:
        raise Fault(400, f"The request has {len(found)} groups. Give at most {MAX_AGGREGATES}")
    return found


def period_of(given: Given) -> int | str:
    """The length of the periods in seconds, 0 for one of all, or one of CALENDAR.

    Raises:
        Fault: it is neither: status 400.
    """
    text = given.text("period")
    text = "0" if text is None else text.strip()
    if text in CALENDAR:
        return text
    if text.isascii() and text.removeprefix("+").isdecimal() and int(text[:20]) <= MAX_PERIOD:
        return int(text)
    known = f"Write 0 to {MAX_PERIOD:,} seconds, or one of {', '.join(CALENDAR)}"
    if text.startswith("-"):
        raise Fault(400, f"Period must be positive. It is {text[:SHOWN_LENGTH]}. {known}")
    raise invalid("period", text, known)
