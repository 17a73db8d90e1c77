"""What the definitions of alarms say, in columns, kept in a file below METERHOUSE_HOME from one cycle to the next.

To read and parse 100,000 definitions takes most of a second. The file is good as long as the history of the warehouse
has the entry that was the newest when it was written, and no later one but for transitions of states: whoever creates,
changes or deletes an alarm writes one.
"""

import json
import os
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from sqlalchemy import Connection, select

from meterhouse import __version__
from meterhouse.alarms.definitions.time_constraints import TimeConstraint
from meterhouse.alarms.evaluation.requests import Requests, Shape
from meterhouse.alarms.keeping.cycles import OF_EVALUATION
from meterhouse.private_files import make_file
from meterhouse.stores.warehouse_tables import alarm_history

FILE: Final = "alarms.arrow"
FORM: Final = 1
"""The number of the file's form."""


@dataclass(frozen=True)
class Alarms:
    """Alarms, in columns of text."""

    alarm_id: pa.Array
    name: pa.Array
    type: pa.Array
    severity: pa.Array
    origin: pa.Array
    project_id: pa.Array
    user_id: pa.Array

    def __len__(self) -> int:
        return len(self.alarm_id)


@dataclass(frozen=True)
class Rules:
    """Threshold alarms, in columns; the number of one is that of its request.

    Attributes:
        at: their places among all alarms.
        requests: the windows that they need.
        threshold: of each.
        operator: how a value compares with it, a place in OPERATORS.
        repeat: whether the actions of a state are repeated as long as it lasts.
        constraint: when it is evaluated, a place in `constraints`; -1 for always.
        constraints: time constraints of alarms.
    """

    at: npt.NDArray[np.int64]
    requests: Requests
    threshold: npt.NDArray[np.float64]
    operator: npt.NDArray[np.int8]
    repeat: npt.NDArray[np.bool_]
    constraint: npt.NDArray[np.int32]
    constraints: Sequence[tuple[TimeConstraint, ...]]

    def __len__(self) -> int:
        return len(self.at)

    def in_force(self, holds: Sequence[bool]) -> "Rules":
        """Those that are evaluated, if some constraints hold and others do not."""
        if all(holds):
            return self
        return self.some(np.flatnonzero(np.array([*holds, True])[self.constraint]))

    def some(self, chosen: npt.NDArray[np.int64]) -> "Rules":
        """Some of them, in their order."""
        return replace(
            self,
            at=self.at[chosen],
            requests=self.requests.some(chosen),
            threshold=self.threshold[chosen],
            operator=self.operator[chosen],
            repeat=self.repeat[chosen],
            constraint=self.constraint[chosen],
        )


@dataclass(frozen=True)
class Known:
    """What definitions say. `faults` are what is wrong with those that cannot be used, by place among `alarms`."""

    alarms: Alarms
    rules: Rules
    faults: dict[int, str] = field(default_factory=dict)


def key(connection: Connection) -> tuple[str, int] | None:
    """The newest entry of the history, its id and its number; None if there is none."""
    columns = alarm_history.c
    row = connection.execute(
        select(columns.event_id, columns.sequence).order_by(columns.sequence.desc()).limit(1)
    ).first()
    return None if row is None else (row.event_id, row.sequence)


def _is_good(connection: Connection, event_id: str, sequence: int) -> bool:
    columns = alarm_history.c
    if connection.execute(select(columns.sequence).where(columns.event_id == event_id)).scalar() != sequence:
        return False
    later = select(columns.sequence).where(columns.sequence > sequence, columns.type.not_in(OF_EVALUATION)).limit(1)
    return connection.execute(later).first() is None


def read(home: Path, connection: Connection) -> Known | None:
    """What the file has; None if there is none, or it is not good any more."""
    try:
        with pa.memory_map(str(home / FILE)) as source:
            alarms = pa.ipc.open_stream(source).read_all()
            about = json.loads(alarms.schema.metadata[b"meterhouse"])
            if about["form"] != [FORM, __version__] or not _is_good(connection, *about["key"]):
                return None
            rules = pa.ipc.open_stream(source).read_all()
            shapes = [
                Shape(tuple(each["form"]), each["by_metadata"], *_shape(pa.ipc.open_stream(source).read_all()))
                for each in about["shapes"]
            ]
    except (OSError, pa.ArrowException, ValueError, KeyError, TypeError):
        return None
    taken = {name: rules[name].combine_chunks().to_numpy(zero_copy_only=False) for name in rules.column_names}
    resources = about["resources"]
    requests = Requests(
        about["names"],
        taken["meter"],
        taken["statistic"],
        taken["period"],
        taken["keep"],
        taken["look_back"],
        taken["exclude_outliers"],
        taken["aligned"],
        taken["over"],
        shapes,
        about["keys"],
        None if resources is None else frozenset(resources),
    )
    constraints = [tuple(TimeConstraint(**one) for one in each) for each in about["constraints"]]
    return Known(
        Alarms(*(alarms[name].combine_chunks() for name in Alarms.__dataclass_fields__)),
        Rules(
            taken["at"],
            requests,
            taken["threshold"],
            taken["operator"],
            taken["repeat"],
            taken["constraint"],
            constraints,
        ),
        {int(place): fault for place, fault in about["faults"].items()},
    )


_REQUESTS: Final = (*("meter", "statistic", "period", "keep", "look_back", "exclude_outliers", "aligned", "over"),)
_OWN: Final = ("threshold", "operator", "repeat", "constraint")


def _shape(table: pa.Table) -> tuple[npt.NDArray[np.int64], list[pa.Array]]:
    columns = [column.combine_chunks() for column in table.columns]
    return columns[0].to_numpy(), columns[1:]


def write(home: Path, key: tuple[str, int] | None, known: Known) -> None:
    """Keep what definitions say; without a key, or if the file cannot be written, nothing is kept."""
    if key is None:
        return
    rules, requests = known.rules, known.rules.requests
    about = {
        "form": [FORM, __version__],
        "key": key,
        "faults": known.faults,
        "names": list(requests.names),
        "keys": list(requests.keys),
        "resources": None if requests.resources is None else sorted(requests.resources),
        "constraints": [[asdict(one) for one in each] for each in rules.constraints],
        "shapes": [{"form": shape.form, "by_metadata": shape.by_metadata} for shape in requests.shapes],
    }
    alarms = pa.table({name: getattr(known.alarms, name) for name in Alarms.__dataclass_fields__})
    columns: dict[str, Any] = {"at": rules.at}
    columns |= {name: getattr(requests, name) for name in _REQUESTS}
    columns |= {name: getattr(rules, name) for name in _OWN}
    shapes = [
        pa.table({"number": shape.numbers, **{f"v{n}": column for n, column in enumerate(shape.values)}})
        for shape in requests.shapes
    ]
    path = home / f"{FILE}.{uuid.uuid4().hex[:8]}"
    with suppress(OSError):
        make_file(path)
        try:
            with pa.OSFile(str(path), "wb") as sink:
                for table in (
                    alarms.replace_schema_metadata({"meterhouse": json.dumps(about)}),
                    pa.table(columns),
                    *shapes,
                ):
                    with pa.ipc.new_stream(sink, table.schema) as stream:
                        stream.write_table(table)
            os.replace(path, home / FILE)
        finally:
            path.unlink(missing_ok=True)
