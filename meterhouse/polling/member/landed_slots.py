"""What came of tasks whose batch is in the lake already: read back from there, because nobody recorded it.

Their member was killed or paused between landing and the record.
"""

from collections.abc import Collection
from datetime import datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from meterhouse import times
from meterhouse.polling.batches import EVENT_TYPE, SlotNote, slot_of
from meterhouse.stores.lake import CLOCKS, Lake
from meterhouse.stores.lake_faults import retried

_ROWS = 1_000
"""How many messages are looked through at once."""


@retried
def landed_slots(lake: Lake, message_ids: Collection[str], since: datetime) -> dict[str, SlotNote]:
    """What landed batches say of their tasks, by message_id; without those that are not found, or say nothing.

    Args:
        lake: the lake.
        message_ids: of batches that are landed.
        since: the start of the earliest of their slots.

    Raises:
        MeterhouseError: the lake cannot be read.
    """
    wanted = pa.array(list(message_ids), pa.string())
    found: dict[str, SlotNote] = {}
    earliest = times.arrival_hour(since - timedelta(seconds=CLOCKS))
    paths = lake.matching("notifications", at_least={"arrival_hour": earliest})["path"].to_pylist()
    for path in reversed(paths):  # the newest are usually among the last
        if len(found) == len(message_ids):
            break
        ids = lake.read_file("notifications", path, ["message_id"])["message_id"]
        if not pc.any(pc.is_in(ids, wanted)).as_py():
            continue
        for rows in lake.pieces_of("notifications", path, _ROWS, ["message_id", "event_type", "body"]):
            mine = pc.and_(pc.is_in(rows["message_id"], wanted), pc.equal(rows["event_type"], EVENT_TYPE))
            for row in rows.filter(mine).select(["message_id", "body"]).to_pylist():
                if (slot := slot_of(row["body"])) is not None:
                    found[row["message_id"]] = slot
    return found
