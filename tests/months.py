"""Months made by hand: stretches of resources, hours of counters, and the lines that prices make of them."""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa

from meterhouse.billing.lines import Rated
from meterhouse.billing.rating import rate
from meterhouse.definitions import prices

TIME = pa.timestamp("us", "UTC")
TEXTS = (
    *("resource_type", "resource_id", "source", "project_id", "user_id", "name", "flavor", "state", "host", "zone"),
    *("image", "measures", "metadata", "start_witness", "start_evidence", "end_witness", "end_evidence"),
)
MEASURES = ("vcpus", "memory_mib", "root_gib", "ephemeral_gib", "size_gib")
PERIODS = pa.schema(
    [
        *((name, pa.string()) for name in TEXTS),
        *((name, pa.float64()) for name in MEASURES),
        *((name, TIME) for name in ("started_at", "ended_at")),
        ("unconfirmed", pa.bool_()),
    ]
)
COUNTERS = pa.schema(
    [
        *((name, pa.string()) for name in ("meter", "unit", "resource_type", "resource_id", "project_id", "user_id")),
        ("metadata", pa.string()),
        ("hour", TIME),
        ("amount", pa.float64()),
    ]
)


@dataclass
class Month:
    """What existed, and what was counted."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    hours: list[dict[str, Any]] = field(default_factory=list)

    def has(self, resource_id: str, start: str, end: str, resource_type: str = "instance", **more: Any) -> "Month":
        """Add a stretch: of an active instance of project `p`, if nothing else is said."""
        row = {
            "resource_type": resource_type,
            "resource_id": resource_id,
            "project_id": "p",
            "state": "active",
            "started_at": at(start),
            "ended_at": at(end),
            "source": "nova",
            "unconfirmed": False,
            "start_evidence": f"{resource_id}@{start}",
            "end_evidence": f"{resource_id}@{end}",
            **more,
        }
        for key in ("measures", "metadata"):
            if isinstance(row.get(key), dict):
                row[key] = json.dumps(row[key])
        self.rows.append(row)
        return self

    def counted(self, resource_id: str, hour: str, amount: float, **more: Any) -> "Month":
        """Add an hour of a counter: of egress in GiB of project `p`, if nothing else is said."""
        row = {"meter": "egress", "unit": "GiB", "resource_id": resource_id, "project_id": "p", **more}
        self.hours.append({**row, "hour": at(hour), "amount": amount})
        return self

    @property
    def periods(self) -> pa.Table:
        return pa.Table.from_pylist(self.rows, schema=PERIODS)

    @property
    def counters(self) -> pa.Table:
        return pa.Table.from_pylist(self.hours, schema=COUNTERS)


def at(text: str) -> datetime:
    """A time of November 2026 such as `3 12:30`, or in ISO 8601; UTC."""
    if "-" not in text:
        day, _, clock = text.partition(" ")
        text = f"2026-11-{int(day):02}T{clock or '00:00'}"
    made = datetime.fromisoformat(text)
    return made if made.tzinfo else made.replace(tzinfo=UTC)


class Binary:
    """A table of binary units."""

    SIZES: ClassVar = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}

    def factor(self, unit: str | None, to: str | None, /) -> Fraction | None:
        if unit is None or to is None or unit == to:
            return Fraction(1)
        if unit not in self.SIZES or to not in self.SIZES:
            return None
        return Fraction(self.SIZES[unit], self.SIZES[to])


def read(folder: Path, text: str, head: str = "currency: EUR\n") -> prices.Prices:
    """The prices of a file with this text."""
    path = folder / "prices.yaml"
    path.write_text(head + text)
    return prices.read(path)


def rated(folder: Path, text: str, month: Month, head: str = "currency: EUR\n", name: str = "2026-11") -> Rated:
    """A month, rated by the prices of this text."""
    return rate(month, read(folder, text, head), name, Binary())


def bill(of: Rated, *names: str) -> list[tuple[Any, ...]]:
    """Columns of the lines, amounts and quantities as short decimals."""
    rows = of.lines.select(list(names)).to_pylist()
    return [tuple(_short(row[name]) for name in names) for row in rows]


def _short(value: Any) -> Any:
    return f"{value.normalize():f}" if isinstance(value, Decimal) else value
