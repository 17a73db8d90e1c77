"""Landing: what was polled goes to the lake, then to the record, in one thread for all tasks of a member.

What comes within a third of a second is one commit. The order is: check that the tasks are still this member's, land,
record. A kill or a pause between two of these counts nothing twice and loses nothing, because a message_id is landed
once, whoever lands it first: the next owner of the task finds the landed batch, and records what it says. If the
warehouse does not answer, samples are landed all the same, and recorded when it answers again. If the lake cannot be
written, they are kept, and landing is retried; meanwhile the member claims nothing.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final, TypeVar

from meterhouse.errors import MeterhouseError, Unavailable
from meterhouse.polling.member.results import Ready, stored
from meterhouse.polling.member.sinks import Sink
from meterhouse.polling.member.troubles import Trouble
from meterhouse.polling.record import Claimed, Failed
from meterhouse.polling.record.settling import Outcome
from meterhouse.stores.lake_faults import first_line

TOGETHER_SECONDS: Final = 0.3
"""How long the first of a group waits for more, while other tasks are polled."""

TOGETHER_BYTES: Final = 8 << 20
"""Bytes at which a group is landed at once."""

HELD_BYTES: Final = 64 << 20
"""Bytes that may wait to be landed. If there are more, the member claims nothing."""

IDLE_SECONDS: Final = 1.0

CLOCKS: Final = timedelta(hours=1)
"""By how much the clocks of hosts that land may differ."""

Result = TypeVar("Result", bound=Ready | Outcome)

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
        self._tried: set[str] = set()  # message_ids of batches of which nobody knows whether they are stored
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
        """The tasks that are not recorded yet, each once: its last claim."""
        with self._wake:
            return [each.claim for each in _last((*self._to_land, *self._to_record))]

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
            waiting, queued = self._to_land[:], self._to_record[:]
        group = [each for each in _last((*queued, *waiting)) if isinstance(each, Ready)]
        try:
            held = self._held(group)
            settled = self._put([each for each in group if each.claim.task_id in held], queued)
        except Exception as error:  # no error may end landing
            self._lake.began(error)
            return
        self._lake.ended()
        with self._wake:
            del self._to_land[: len(waiting)]
            self._bytes -= sum(len(each.batch) for each in waiting)
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

    def _put(self, group: Sequence[Ready], queued: Sequence[Outcome]) -> list[Outcome]:
        """Store batches; return what came of their tasks, which may be what was stored of an earlier claim.

        Args:
            group: at most one claim of each task.
            queued: what is not recorded yet. If a batch of a task is stored, no other one of it is.
        """
        stored_now = {each.claim.task_id: each for each in queued if not isinstance(each, Failed)}
        long_ago = self._stored_long_ago(group)
        outcomes: list[Outcome] = []
        fresh: list[Ready] = []
        for each in group:
            before = stored_now.get(each.claim.task_id) or long_ago.get(each.claim.task_id)
            if before is None:
                fresh.append(each)
            else:
                outcomes.append(replace(before, claim=each.claim))
        if fresh:
            outcomes += self._put_fresh(fresh)
        return outcomes

    def _put_fresh(self, group: Sequence[Ready]) -> list[Outcome]:
        """Store batches, of which some may have been stored within the hours of which the sink knows."""
        ids = [each.claim.message_id for each in group]
        try:
            known = self._sink.put([each.batch for each in group])
        except Exception:
            self._tried.update(ids)
            raise
        self._tried.clear()
        before = [each.claim for each in group if each.claim.message_id in known]
        # From where the sink knows them on: the clock of the host that stored them may have been behind.
        found = self._read_back(before, self._sink.known_since())
        for claim in before:
            if claim.task_id not in found:  # its lease runs out, and its next owner looks again
                log.error("%s: its message_id is landed, but not with what came of the task: nothing recorded", claim)
        landed = [stored(each.claim, each.note, self._member) for each in group if each.claim.message_id not in known]
        return [*landed, *found.values()]

    def _stored_long_ago(self, group: Sequence[Ready]) -> dict[int, Outcome]:
        """By their ids, what came of tasks whose batch may have been stored before the time of which the sink knows."""
        until = self._sink.known_since() + CLOCKS
        unsure = [each.claim for each in group if each.claim.uncertain or each.claim.message_id in self._tried]
        return self._read_back([claim for claim in unsure if claim.slot.start < until], until)

    def _read_back(self, claims: Sequence[Claimed], since: datetime) -> dict[int, Outcome]:
        """What stored batches say of these tasks, by their ids; without those that are not found.

        Args:
            claims: the tasks.
            since: when the first may have been stored, if that was not in the first of the slots.
        """
        if not claims:
            return {}
        since = min(since, *(claim.slot.start for claim in claims)) - CLOCKS
        notes = self._sink.outcomes([claim.message_id for claim in claims], since)
        found: dict[int, Outcome] = {}
        for claim in claims:
            if (note := notes.get(claim.message_id)) is not None:
                with contextlib.suppress(KeyError, TypeError):  # not as members write it
                    found[claim.task_id] = stored(claim, note, self._member)
        return found

    def _note(self) -> None:
        with self._wake:
            queued = self._to_record[:]
        outcomes = _last(queued)
        try:
            not_recorded = self._record_all(outcomes)
        except Exception as error:  # no error may end landing
            self._warehouse.began(error)
            return
        self._warehouse.ended()
        with self._wake:
            del self._to_record[: len(queued)]
        self._recorded([outcome for outcome in outcomes if outcome.claim.task_id not in not_recorded])

    def _record_all(self, outcomes: Sequence[Outcome]) -> set[int]:
        """Record outcomes; return the ids of tasks of which nothing was recorded.

        One that the warehouse cannot take keeps no other from being recorded. The lease of its task runs out, and the
        next owner polls it again, or finds what is stored.
        """
        try:
            return self._record(outcomes)
        except MeterhouseError:  # whatever the outcomes are
            raise
        except Exception as error:
            if len(outcomes) == 1:
                claim = outcomes[0].claim
                log.error("%s: what came of it cannot be recorded, and is dropped: %s", claim, first_line(error))
                return {claim.task_id}
            half = len(outcomes) // 2
            return self._record_all(outcomes[:half]) | self._record_all(outcomes[half:])


def _last(results: Iterable[Result]) -> list[Result]:
    """Of each task, what came of its last claim: a member may claim a task again whose lease it lost."""
    found: dict[int, Result] = {}
    for each in results:
        before = found.get(each.claim.task_id)
        if before is None or before.claim.generation <= each.claim.generation:
            found[each.claim.task_id] = each
    return list(found.values())
