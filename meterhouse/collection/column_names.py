"""The names of a sample's columns in files, as those who export samples write them.

Understood are Meterhouse's own names, those of Ceilometer's samples (`counter_name`, as its agents publish them;
`name`, as its file publisher with `json` writes them; `meter`, as its API answered), the headings of
python-ceilometerclient (`Resource ID`), and those of Gnocchi's clients (`timestamp`, `granularity`, `value`).
"""

from collections.abc import Iterable, Sequence
from typing import Final

from meterhouse.errors import near_misses

COLUMNS: Final = ("timestamp", "volume", "meter", "resource_id", "type", "unit", "project_id", "user_id", "source")

GRANULARITY: Final = "granularity"
"""Gnocchi's: over how many seconds a value is aggregated. It only serves to refuse files with several of them."""

SPELLINGS: Final = {
    **{name: name for name in (*COLUMNS, GRANULARITY)},
    **dict.fromkeys(("name", "metric", "meter_name", "counter_name"), "meter"),
    **dict.fromkeys(("value", "counter_volume"), "volume"),
    **dict.fromkeys(("resource",), "resource_id"),
    **dict.fromkeys(("counter_type",), "type"),
    **dict.fromkeys(("counter_unit",), "unit"),
    **dict.fromkeys(("project", "tenant_id"), "project_id"),
    **dict.fromkeys(("user",), "user_id"),
}

UNUSED: Final = frozenset(
    {
        *("id", "message_id", "message_signature", "monotonic_time", "recorded_at"),
        *("resource_metadata", "metadata", "project_name", "user_name", "links"),
    }
)
"""What exports of samples also have, and a sample of a file does not need."""

_DECIDING: Final = ("timestamp", "volume", "meter", "resource_id")


class BadColumns(ValueError):
    """Names that cannot be used; the text says which, and what may be meant."""


def column(name: str) -> str | None:
    """The column that a name stands for, in any case, with spaces for underscores; None if it is not known."""
    plain = "_".join(name.lower().replace("-", " ").replace("_", " ").split())
    return "" if plain in UNUSED else SPELLINGS.get(plain)


def understood(names: Sequence[str]) -> list[str]:
    """The columns that names stand for; an empty text for one that is known and not used.

    Raises:
        BadColumns: a name is not known, or two stand for one column.
    """
    found: dict[str, str] = {}
    columns: list[str] = []
    for place, name in enumerate(names, 1):
        meant = column(name)
        if meant is None:
            raise BadColumns(_unknown(name, place))
        if meant and meant in found:
            raise BadColumns(
                f"has two columns for {meant}: {found[meant].strip()} and {name.strip()}. Keep one of them"
            )
        found[meant] = name
        columns.append(meant)
    return columns


def _unknown(name: str, place: int) -> str:
    shown = name.strip()[:80]
    if not shown:
        return f"has no name for column {place}. Name it or remove it"
    near = near_misses(shown, [*SPELLINGS, *UNUSED])
    meant = f"Did you mean {', '.join(near)}?" if near else f"Known: {', '.join(COLUMNS)}."
    return f"has an unknown column '{shown}'. {meant} Otherwise remove it"


def is_sample(names: Iterable[object]) -> bool:
    """Whether an object with these names is a sample rather than a notification."""
    texts = [name for name in names if isinstance(name, str)]
    if "event_type" in texts or "oslo.message" in texts:
        return False
    columns = {column(name) for name in texts}
    return "volume" in columns or len(columns.intersection(_DECIDING)) > 1
