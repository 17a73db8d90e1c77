"""Points as corrected: by a query of DuckDB, which NumPy's readers run too, on the few points that may be changed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from meterhouse import times
from meterhouse.corrections.recorded import Correction
from meterhouse.filters import on_lake
from meterhouse.stores import duck
from meterhouse.stores.duck import Connection

COLUMNS = ("source", "meter", "type", "unit", "resource_id", "project_id", "user_id")
"""The columns that corrections choose points by, besides `timestamp` and `volume`."""

Flags = npt.NDArray[np.bool_]


def corrected(connection: Connection, relation: str, corrections: Sequence[Correction]) -> str:
    """A query for the rows of a relation as corrected, with a further column `accepted`.

    Args:
        connection: it gets the corrections' values as variables, because a view has no parameters.
        relation: a name, or a query in brackets, with COLUMNS, `timestamp` and `volume`.
        corrections: in the order in which they take effect.
    """
    query = f"SELECT *, false AS accepted FROM {relation}"
    for each in corrections:
        met = _met(connection, each)
        match each.action:
            case "delete":
                query = f"SELECT * FROM ({query}) WHERE NOT {met}"
            case "replace":
                volume = _changed(connection, each)
                query = f"SELECT * REPLACE (CASE WHEN {met} THEN {volume} ELSE volume END AS volume) FROM ({query})"
            case "accept":
                query = f"SELECT * REPLACE (accepted OR {met} AS accepted) FROM ({query})"
    return query


def touched(connection: Connection, relation: str, before: Sequence[Correction], one: Correction) -> str:
    """A query for the rows of a relation that a correction changes, as those before it leave them.

    It has a further column `becomes`: the volume afterwards; null of deleted points.
    """
    query = corrected(connection, relation, before)
    becomes = {"delete": "NULL::DOUBLE", "accept": "volume"}.get(one.action) or _changed(connection, one)
    return f"SELECT *, {becomes} AS becomes FROM ({query}) WHERE {_met(connection, one)}"


def _met(connection: Connection, one: Correction) -> str:
    condition, values = on_lake(one.chosen)
    names = _set(connection, one, "v", [one.meter, one.start_at, one.end_at, *values])
    for name in names[3:]:
        condition = condition.replace("?", name, 1)
    meter, start, end = names[:3]
    return f"coalesce(meter = {meter} AND timestamp >= {start} AND timestamp < {end} AND {condition}, false)"


def _changed(connection: Connection, one: Correction) -> str:
    if one.factor is not None:
        return f"volume * {_set(connection, one, 'f', [one.factor])[0]}"
    return _set(connection, one, "f", [one.volume])[0]


def _set(connection: Connection, one: Correction, kind: str, values: Sequence[Any]) -> list[str]:
    """Set variables; return the expressions for them."""
    made = []
    for number, value in enumerate(values):
        name = f"correction_{one.correction_id}_{kind}{number}"
        connection.execute(f"SET VARIABLE {name} = ?", [value])
        made.append(f"getvariable('{name}')")
    return made


@dataclass(frozen=True)
class Changed:
    """What corrections make of points that were read.

    Attributes:
        kept: which of them are not deleted.
        volume: of each; of no meaning for deleted ones.
        accepted: which of them are accepted.
    """

    kept: Flags
    volume: npt.NDArray[np.float64]
    accepted: Flags


def change(
    corrections: Sequence[Correction],
    meters: Callable[[str], Flags],
    time: npt.NDArray[np.int64],
    volume: npt.NDArray[np.float64],
    describe: Callable[[npt.NDArray[np.int64]], pa.Table],
) -> Changed | None:
    """Apply corrections to points; None if they change none of them.

    Args:
        corrections: in the order in which they take effect.
        meters: which of the points are of a meter.
        time: µs since 1970, UTC.
        volume: in the meter's unit.
        describe: returns COLUMNS of some of the points, by their places.
    """
    may = np.zeros(len(time), np.bool_)
    for each in corrections:
        start, end = times.micros(each.start_at), times.micros(each.end_at)
        within = (time >= start) & (time < end)
        if within.any():
            may |= within & meters(each.meter)
    at = np.flatnonzero(may)
    if not len(at):
        return None
    points = describe(at).select(COLUMNS)
    points = points.append_column("timestamp", pa.array(time[at]).cast(pa.timestamp("us", "UTC")))
    points = points.append_column("volume", pa.array(volume[at])).append_column("place", pa.array(at))
    with duck.SINGLE.connect() as connection:
        connection.register("read_points", points)
        query = corrected(connection, "read_points", corrections)
        found = duck.arrow(connection, f"SELECT place, volume, accepted FROM ({query})")
    place = found["place"].to_numpy()
    kept, accepted, volumes = np.ones(len(time), np.bool_), np.zeros(len(time), np.bool_), volume.copy()
    kept[at] = False
    kept[place] = True
    volumes[place] = found["volume"].to_numpy()
    accepted[place] = found["accepted"].to_numpy()
    return Changed(kept, volumes, accepted)
