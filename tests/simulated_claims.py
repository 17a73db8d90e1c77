"""What a site claims of a simulated month: its periods and amounts, held against the truth."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

from builders import roll_up
from simulated_losses import Delivery
from simulated_messages import SECOND, Shape, moment
from simulated_month import Month, Stretch
from simulated_truth import MEASURES, Line, differences, measures

from meterhouse import times
from meterhouse.catalog import catalog
from meterhouse.conversion.step import convert
from meterhouse.site import Site

Row = dict[str, Any]

TIMES = ("started_at", "ended_at", "start_earliest", "start_latest", "end_earliest", "end_latest", "confirmed_until")
BILLED = ("project_id", "flavor", *MEASURES)
"""What a price depends on."""
KEPT = (*BILLED, "state", "host", "zone", "image")
"""What a stretch of an instance keeps the same."""

FOREVER = 9_000_000_000_000_000


def periods(site: Site) -> list[Row]:
    """The rows of `resource_periods`; times in microseconds."""
    from sqlalchemy import select

    from meterhouse.stores.warehouse_tables import resource_periods

    with site.warehouse.read() as connection:
        found = [dict(row) for row in connection.execute(select(resource_periods)).mappings()]
    for row in found:
        for name in TIMES:
            row[name] = _micros(row[name])
    return sorted(found, key=lambda row: (row["resource_type"], row["resource_id"], row["started_at"]))


def _micros(value: Any) -> int | None:
    if value is None:
        return None
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    return times.micros(value if value.tzinfo else value.replace(tzinfo=UTC))


def claims(site: Site) -> dict[tuple[str, str], list[Row]]:
    """The periods of each resource."""
    found: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in periods(site):
        found[(row["resource_type"], row["resource_id"])].append(row)
    return dict(found)


def truth(month: Month) -> dict[tuple[str, str], list[Stretch]]:
    """The stretches of each resource."""
    found: dict[tuple[str, str], list[Stretch]] = defaultdict(list)
    for stretch in month.stretches:
        found[(stretch.resource_type, stretch.resource_id)].append(stretch)
    return dict(found)


def described(kind: str, shape: Shape, size: Mapping[str, float]) -> dict[str, Any]:
    """A true stretch in the words of a row."""
    flavor = shape.flavor.name if shape.flavor else None
    sizes = {name: float(size[name]) if name in size else None for name in MEASURES}
    about = {"project_id": shape.project, "flavor": flavor, **sizes}
    return {**about, "state": shape.state, "host": shape.host, "zone": shape.zone, "image": shape.image}


def keys_of(kind: str, names: Sequence[str]) -> list[str]:
    """Those of the names that the truth knows of a type: a format or a network may stand for a flavor."""
    if kind == "instance":
        return list(names)
    known = set(BILLED) - ({"flavor"} if kind != "volume" else set())
    return [name for name in names if name in known]


def true_line(kind: str, stretches: Iterable[Stretch], names: Sequence[str]) -> Line:
    chosen = keys_of(kind, names)
    return _joined(
        (
            each.started_at,
            FOREVER if each.ended_at is None else each.ended_at,
            tuple(described(kind, each.shape, measures(each))[name] for name in chosen),
        )
        for each in stretches
    )


def claimed_line(kind: str, rows: Iterable[Row], names: Sequence[str]) -> Line:
    chosen = keys_of(kind, names)
    return _joined(
        (
            row["started_at"],
            FOREVER if row["ended_at"] is None else row["ended_at"],
            tuple(row[name] for name in chosen),
        )
        for row in rows
    )


def _joined(line: Iterable[tuple[int, int, Any]]) -> Line:
    found: Line = []
    for begun, ended, what in line:
        if found and found[-1][1] == begun and found[-1][2] == what:
            found[-1] = (found[-1][0], ended, what)
        else:
            found.append((begun, ended, what))
    return found


def shown(kind: str, differing: Sequence[tuple[int, int, Any, Any]], names: Sequence[str]) -> str:
    """Differences for a person to read."""
    chosen = keys_of(kind, names)
    lines = []
    for begun, ended, true, claimed in differing[:3]:
        span = f"{moment(begun)} to {moment(min(ended, 4_000_000_000_000_000))}"
        if true is None or claimed is None:
            lines.append(f"{span}: true {true}, claimed {claimed}")
        else:
            which = [f"{n} {t!r}→{c!r}" for n, t, c in zip(chosen, true, claimed, strict=True) if t != c]
            lines.append(f"{span}: " + ", ".join(which))
    return "\n  ".join(lines)


def assert_exact(month: Month, found: Mapping[tuple[str, str], list[Row]], names: Sequence[str] = KEPT) -> None:
    """Every resource of the month was what the periods say, to the microsecond, and nothing else existed."""
    faults, true = [], truth(month)
    for key in sorted(set(true) | set(found)):
        kind = key[0]
        ours, theirs = true_line(kind, true.get(key, ()), names), claimed_line(kind, found.get(key, ()), names)
        if differing := differences(ours, theirs):
            faults.append(f"{key}:\n  {shown(kind, differing, names)}")
    assert not faults, f"{len(faults)} of {len(true)} resources differ:\n" + "\n".join(faults[:4])


def assert_explained(
    month: Month,
    deliveries: Iterable[Delivery],
    found: Mapping[tuple[str, str], list[Row]],
    names: Sequence[str] = BILLED,
    slack: int = 0,
) -> int:
    """Where periods differ from the truth within the month, it is within what their witnesses allow.

    That is: each moment of a difference lies between the earliest and the latest start, or end, of a row of the
    resource; or after a row that says of itself that it is unconfirmed was last confirmed; or no message that arrived
    was sent while the resource was what it truly was.

    Args:
        slack: by how much a clock is ahead: differences of the resources that its host told of may be longer by that.

    Returns:
        How many resources differ.
    """
    true, seen = truth(month), _seen(deliveries)
    faults, differ = [], 0
    for key in sorted(set(true) | set(found)):
        kind, resource = key
        ours = true_line(kind, true.get(key, ()), names)
        everything = differences(ours, claimed_line(kind, found.get(key, ()), names))
        first, last = month.plan.start, month.plan.end
        differing = [(max(b, first), min(e, last), *what) for b, e, *what in everything if b < last and e > first]
        if not differing:
            continue
        differ += 1
        allowed = slack if resource in month.witnessed_ahead else 0
        spans = [
            (row[f"{edge}_earliest"] - allowed, row[f"{edge}_latest"] + allowed)
            for row in found.get(key, ())
            for edge in ("start", "end")
            if row[f"{edge}_earliest"] is not None
        ]
        spans += [(row["confirmed_until"], FOREVER) for row in found.get(key, ()) if row["unconfirmed"]]
        unseen = [
            (begun, ended) for begun, ended, _ in ours if not any(begun <= at < ended for at in seen.get(resource, ()))
        ]
        for begun, ended, is_true, claimed in differing:
            if not _covered(begun, ended, [*spans, *unseen]):
                faults.append(f"{key}:\n  {shown(kind, [(begun, ended, is_true, claimed)], names)}")
    assert not faults, f"{len(faults)} differences are not explained:\n" + "\n".join(faults[:4])
    return differ


def changed(
    month: Month, found: Mapping[tuple[str, str], list[Row]], names: Sequence[str]
) -> list[tuple[tuple[str, str], int, int]]:
    """The differences from the truth within the month: the resource, from and to."""
    true, start, end = truth(month), month.plan.start, month.plan.end
    return [
        (key, max(begun, start), min(ended, end))
        for key in sorted(set(true) | set(found))
        for begun, ended, *_ in differences(
            true_line(key[0], true.get(key, ()), names), claimed_line(key[0], found.get(key, ()), names)
        )
        if begun < end and ended > start
    ]


def _seen(deliveries: Iterable[Delivery]) -> dict[str, list[int]]:
    """When what arrived was sent, by resource."""
    import orjson

    found: dict[str, list[int]] = defaultdict(list)
    for _, message in deliveries:
        if message.of is not None:
            if message.shape is not None:
                found[message.of].append(message.at)
        else:
            for sample in orjson.loads(message.line)["payload"]["samples"]:
                found[sample["resource_id"]].append(message.at - 2 * SECOND)
    return found


def _covered(begun: int, ended: int, spans: Iterable[tuple[int, int]]) -> bool:
    """Whether spans together cover an interval."""
    for low, high in sorted(spans):
        if low > begun:
            return False
        begun = max(begun, high)
        if begun >= ended:
            return True
    return begun >= ended


def widest(found: Mapping[tuple[str, str], list[Row]]) -> int:
    """The longest time between the earliest and the latest that witnesses allow for a boundary."""
    return max(
        row[f"{edge}_latest"] - row[f"{edge}_earliest"]
        for rows in found.values()
        for row in rows
        for edge in ("start", "end")
        if row[f"{edge}_earliest"] is not None
    )


def spent(site: Site, start: datetime, end: datetime) -> dict[tuple[str, str, str, str], Fraction]:
    """What `of_span` counts: (project, type, resource, measure) → measure × seconds."""
    from meterhouse.usage.amounts import of_span

    found: dict[tuple[str, str, str, str], Fraction] = defaultdict(Fraction)
    for row in of_span(site, start, end).periods.to_pylist():
        length = Fraction((row["ended_at"] - row["started_at"]) // times.EPOCH.resolution, SECOND)
        key = (row["project_id"], row["resource_type"], row["resource_id"])
        found[(*key, "seconds")] += length
        for name in MEASURES:
            if row[name]:
                found[(*key, name)] += Fraction(row[name]) * length
    return dict(found)


def fingerprint(site: Site) -> list[tuple[Any, ...]]:
    """All that `resource_periods` says, in order."""
    return [tuple(row.values()) for row in periods(site)]


def compute(site: Site, *, polled: bool = True) -> None:
    """Run every step from the landed notifications to the periods.

    Args:
        polled: whether there are samples; without, only the periods are computed.
    """
    from meterhouse.usage import periods

    if polled:
        convert(site)
        catalog(site)
        roll_up(site)
    periods.compute(site)
