"""Landing: what was polled goes to the lake, then to the record, in one thread for all tasks of a member.

What comes within a third of a second is one commit. The order is: check that the tasks are still this member's, land,
record. A kill or a pause between two of these counts nothing twice and loses nothing, because a message_id is landed
once, whoever lands it first: the next owner of the task finds the landed batch, and records what it says. If the
warehouse does not answer, samples are landed all the same, and recorded when it answers again. If the lake cannot be
written, they are kept, and landing is retried; meanwhile the member claims nothing.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from meterhouse.errors import Unavailable
from meterhouse.polling.batches import SlotNote
from meterhouse.polling.member.results import Ready, stored
from meterhouse.polling.member.sinks import Sink
from meterhouse.polling.member.troubles import Trouble
from meterhouse.polling.record import Claimed, Failed
from meterhouse.polling.record.settling import Outcome

TOGETHER_SECONDS: Final = 0.3
"""How long the first of a group waits for more, while other tasks are polled."""

TOGETHER_BYTES: Final = 8 << 20
"""Bytes at which a group is landed at once."""

HELD_BYTES: Final = 64 << 20
"""Bytes that may wait to be landed. If there are more, the member claims nothing."""

IDLE_SECONDS: Final = 1.0

log = logging.getLogger(__name__)


class Lander(threading.Thread):
    """Lands and records what workers hand over.

    Args:
        member: name of the member.
        sink: takes the batches; it is used by this thread only.
        still_ours: which of these tasks are still this member's, by their ids.
        record: records outcomes in one transaction, and returns the ids of tasks that another member owns by now.
        polling: whether tasks are being polled, so that more may come soon.
        recorded: called after each transaction with what was recorded, from this thread.
    """

    def __init__(
        self,
        member: str,
        sink: Sink,
        still_ours: Callable[[Sequence[Claimed]], set[int]],
        record: Callable[[Sequence[Outcome]], set[int]],
        polling: Callable[[], bool],
        recorded: Callable[[Sequence[Outcome]], None],
    ) -> None:
        super().__init__(daemon=True, name="landing")
        self._member, self._sink = member, sink
        self._still_ours, self._record = still_ours, record
        self._polling, self._recorded = polling, recorded
        self._wake = threading.Condition()
        self._to_land: list[Ready] = []
        self._to_record: list[Outcome] = []
        self._bytes = 0
        self._first_at = 0.0  # when the first of what waits came, by the steady clock
        self._ending = False
        self._lake, self._warehouse = Trouble("landing polled samples"), Trouble("recording what was polled")

    @property
    def fault(self) -> str:
        """Why nothing more can be taken; empty if it can."""
        if self._lake.said:
            return self._lake.said
        return "too many samples wait to be landed" if self._bytes > HELD_BYTES else ""

    def claims(self) -> list[Claimed]:
        """The tasks that are not recorded yet."""
        with self._wake:
            return [each.claim for each in (*self._to_land, *self._to_record)]

    def hand_over(self, results: Sequence[Ready | Failed]) -> None:
        """Land and record results, soon."""
        with self._wake:
            if not (self._to_land or self._to_record):
                self._first_at = time.monotonic()
            for result in results:
                if isinstance(result, Ready):
                    self._to_land.append(result)
                    self._bytes += len(result.batch)
                else:
                    self._to_record.append(result)
            self._wake.notify_all()

    def settle(self, seconds: float) -> None:
        """Land and record everything, at once, and end; wait for it for at most this long."""
        with self._wake:
            self._ending = True
            self._wake.notify_all()
        if self.is_alive():
            self.join(seconds)

    def run(self) -> None:
        """Land and record, until `settle` is called and nothing is left."""
        while self._wait():
            if self._land_due() <= 0:
                self._land()
            if self._record_due() <= 0:
                self._note()
        self._sink.close()

    def _wait(self) -> bool:
        """Wait until something can be done; return False at the end."""
        with self._wake:
            while True:
                seconds = min(self._land_due(), self._record_due())
                if seconds <= 0:
                    return True
                if self._ending and not (self._to_land or self._to_record):
                    return False
                if not self._wake.wait(min(seconds, IDLE_SECONDS)) and not self._to_land:
                    self._sink.idle()

    def _land_due(self) -> float:
        """Seconds until batches can be landed."""
        if not self._to_land:
            return IDLE_SECONDS
        return max(self._lake.waits(), 0.0 if self._bytes >= TOGETHER_BYTES else self._gathers())

    def _record_due(self) -> float:
        """Seconds until results can be recorded."""
        if not self._to_record:
            return IDLE_SECONDS
        return max(self._warehouse.waits(), self._gathers())

    def _gathers(self) -> float:
        """Seconds until what waits is no longer kept for what comes together with it."""
        if self._ending or not self._polling():
            return 0.0
        return max(0.0, self._first_at + TOGETHER_SECONDS - time.monotonic())

    def _land(self) -> None:
        with self._wake:
            group = self._to_land[:]
        try:
            held = self._held(group)
            settled = self._put([each for each in group if each.claim.task_id in held])
        except Exception as error:  # no error may end landing
            self._lake.began(error)
            return
        self._lake.ended()
        with self._wake:
            del self._to_land[: len(group)]
            self._bytes -= sum(len(each.batch) for each in group)
            self._to_record += settled

    def _held(self, group: Sequence[Ready]) -> set[int]:
        """Which tasks are still this member's; all if the warehouse does not answer."""
        everything = {each.claim.task_id for each in group}
        if self._warehouse.waits() > 0:
            return everything
        try:
            held = self._still_ours([each.claim for each in group])
        except Unavailable as error:
            self._warehouse.began(error)
            return everything
        for each in group:
            if each.claim.task_id not in held:
                log.warning("%s: another member has taken it over; %d samples dropped", each.claim, each.note.samples)
        return held

    def _put(self, group: Sequence[Ready]) -> list[Outcome]:
        """Store batches; return what came of their tasks, which may be what another member has stored."""
        if not group:
            return []
        known = self._sink.put([each.batch for each in group])
        before = [each.claim for each in group if each.claim.message_id in known]
        notes: Mapping[str, SlotNote] = {}
        if before:
            since = min(claim.slot.start for claim in before)
            notes = self._sink.outcomes([claim.message_id for claim in before], since)
        return [stored(each.claim, notes.get(each.claim.message_id, each.note), self._member) for each in group]

    def _note(self) -> None:
        with self._wake:
            outcomes = self._to_record[:]
        try:
            lost = self._record(outcomes)
        except Exception as error:  # no error may end landing
            self._warehouse.began(error)
            return
        self._warehouse.ended()
        with self._wake:
            del self._to_record[: len(outcomes)]
        self._recorded([outcome for outcome in outcomes if outcome.claim.task_id not in lost])
