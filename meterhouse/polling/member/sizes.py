"""Into how many tasks the slots of a pollster are divided, where its source leaves that to the number of resources."""

import logging
import threading
import time
from typing import Final

from meterhouse.polling import record
from meterhouse.polling.asking import Asking
from meterhouse.polling.pollster import Scheduled
from meterhouse.polling.record import Claimed
from meterhouse.stores.warehouse import Warehouse

RESOURCES: Final = 100
"""How many resources a task has at most, as far as MAX_SHARDS allows."""

MAX_SHARDS: Final = 64

EVERY_SECONDS: Final = 600.0
"""How often the resources of a pollster are counted."""

log = logging.getLogger(__name__)


class Sizes:
    """Counts the resources of pollsters now and then, and divides their coming slots. It may be used from any thread.

    Args:
        warehouse: with the record.
    """

    def __init__(self, warehouse: Warehouse) -> None:
        self._warehouse = warehouse
        self._lock = threading.Lock()
        self._counted_at: dict[tuple[str, str], float] = {}

    def look(self, claim: Claimed, scheduled: Scheduled, asking: Asking) -> None:
        """Count the resources of the pollster of a task, if it is the first of its slot and it is time for it."""
        slot, now = claim.slot, time.monotonic()
        if scheduled.source.shards or claim.piece.shard or claim.piece.page or claim.piece.resources:
            return
        with self._lock:
            counted_at = self._counted_at.get((slot.source, slot.pollster))
            if counted_at is not None and now - counted_at < EVERY_SECONDS:
                return
            self._counted_at[slot.source, slot.pollster] = now
        try:
            size, shards = scheduled.pollster.poll.size(asking, scheduled.source), claim.piece.shards
            wanted = min(max(1, -(-size // RESOURCES)), MAX_SHARDS)
            if wanted > shards or wanted <= shards // 2:
                record.resize(self._warehouse, {(slot.source, slot.pollster, slot.host): wanted})
                log.info("%s/%s has %d resources: slots have %d tasks", slot.source, slot.pollster, size, wanted)
        except Exception as error:  # the slots stay as they are; the next poll says what is wrong
            log.debug("%s/%s: resources cannot be counted: %s", slot.source, slot.pollster, error)
