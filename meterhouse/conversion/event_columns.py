"""Collects events in columns."""

from array import array
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meterhouse.definitions.events import TEXT_LENGTH, kinds
from meterhouse.stores.lake_tables import EVENTS, TRAIT, taken

_MANY: Final = 1 << 14


class EventColumns:
    """Collects events batch by batch, and returns them as a table in the order of the notifications."""

    def __init__(self) -> None:
        self._rows: array[int] = array("i")
        self._message_ids: list[str] = []
        self._event_types: list[str] = []
        self._generated: array[int] = array("q")
        self._raw: dict[int, str] = {}
        self._values: list[str | None] = []
        self._settled: list[pa.StringArray] = []
        self._value_rows: array[int] = array("i")
        self._value_kinds: array[int] = array("i")

    def add(
        self,
        rows: Sequence[int],
        message_ids: Sequence[str],
        event_type: str,
        generated: Sequence[int],
        traits: Sequence[tuple[int, list[str | None]]],
    ) -> None:
        """Add the events of a batch.

        Args:
            rows: the row of each event's notification. A notification has at most one event.
            message_ids: the ids of the notifications.
            event_type: the type of all the events.
            generated: µs since the epoch, UTC.
            traits: for each kind (`events.kinds`), its text in each event, None if the event does not have the trait.
        """
        self._rows.extend(rows)
        self._message_ids += message_ids
        self._event_types += [event_type] * len(rows)
        self._generated.extend(generated)
        self._value_rows.extend(array("i", rows) * len(traits))
        for kind, column in traits:
            self._values += column
            self._value_kinds.extend(array("i", [kind]) * len(rows))
        if len(self._values) >= _MANY:
            self._settle()

    def _settle(self) -> None:
        # Done before there are too many Python texts for the processor's cache.
        self._settled.append(pa.array(self._values, pa.string()))
        self._values.clear()

    def keep_raw(self, row: int, body: str) -> None:
        """Keep the whole text of a notification with its event."""
        self._raw[row] = body

    def table(self, notifications: pa.Table) -> pa.Table:
        """All events, schema `EVENTS`."""
        unordered = np.frombuffer(self._rows, np.int32)
        order = np.argsort(unordered, kind="stable")
        rows = unordered[order]
        places = pa.array(order)
        columns: dict[str, Any] = {
            "arrival_hour": taken(notifications, "arrival_hour", rows),
            "message_id": pa.array(self._message_ids, pa.string()).take(places),
            "event_type": pa.array(self._event_types, pa.string()).take(places),
            "generated": pa.array(np.frombuffer(self._generated, np.int64)).take(places),
            "traits": self._traits(rows, notifications.num_rows),
            "raw": pa.array([self._raw.get(row) for row in rows.tolist()], pa.string())
            if self._raw
            else pa.nulls(len(rows), pa.string()),
        }
        return pa.table({field.name: columns[field.name].cast(field.type) for field in EVENTS}, schema=EVENTS)

    def _traits(self, rows: Any, notifications: int) -> Any:
        known = kinds()
        value_rows = np.frombuffer(self._value_rows, np.int32)
        value_kinds = np.frombuffer(self._value_kinds, np.int32)
        self._settle()
        values = _cut(pa.concat_arrays(self._settled), value_kinds)
        there = np.flatnonzero(values.is_valid().to_numpy(zero_copy_only=False))
        order = there[np.argsort(value_rows[there], kind="stable")]
        counts = np.bincount(value_rows[order], minlength=notifications)[rows]
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)]).astype(np.int32)
        codes = pa.array(value_kinds[order])
        traits = pa.StructArray.from_arrays(
            [
                pa.array([name for name, _ in known], pa.string()).take(codes),
                pa.array([dtype for _, dtype in known], pa.string()).take(codes),
                values.take(pa.array(order)),
            ],
            fields=list(TRAIT),
        )
        return pa.ListArray.from_arrays(pa.array(offsets), traits)


def _cut(values: pa.StringArray, value_kinds: Any) -> Any:
    """The texts of traits, cut to their maximum length."""
    lengths = pc.utf8_length(values)
    longest = pc.max(lengths).as_py() or 0
    if longest <= TEXT_LENGTH:
        return values
    texts = np.array([dtype in ("text", "none") for _, dtype in kinds()])[value_kinds]
    long = pc.and_(pc.greater(lengths, TEXT_LENGTH), pa.array(texts))
    return pc.if_else(long, pc.utf8_slice_codeunits(values, 0, TEXT_LENGTH), values)
