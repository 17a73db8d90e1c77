"""What a member did, in figures and in log lines: one when a pollster begins to fail, one when it works again."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from meterhouse.polling.polled import Slot
from meterhouse.polling.record import Failed, Finished
from meterhouse.polling.record.settling import Outcome

EVERY_SECONDS: Final = 60.0
"""How often the figures are logged."""

log = logging.getLogger(__name__)


@dataclass
class Done:
    """What a member did.

    Attributes:
        tasks: that were polled, landed and recorded.
        resources, samples: of them.
        failed: attempts of which nothing could be polled.
        missed: tasks that were given up because the member that had them was lost.
    """

    tasks: int = 0
    resources: int = 0
    samples: int = 0
    failed: int = 0
    missed: int = 0


class Report:
    """Counts and logs outcomes. Use it from one thread.

    Attributes:
        done: until now.
    """

    def __init__(self) -> None:
        self.done = Done()
        self._before, self._at = Done(), time.monotonic()
        self._failing: dict[tuple[str, str, str], str] = {}

    def add(self, outcomes: Sequence[Outcome]) -> None:
        """Count what was recorded."""
        done = self.done
        for outcome in outcomes:
            slot, claim = outcome.claim.slot, outcome.claim
            if isinstance(outcome, Finished):
                done.tasks += 1
                done.resources += outcome.resources
                done.samples += outcome.samples
                if self._failing.pop(_key(slot), None) is not None:
                    log.info("%s works again", claim)
            elif isinstance(outcome, Failed):
                done.failed += 1
                if self._failing.get(_key(slot)) != outcome.error:
                    self._failing[_key(slot)] = outcome.error
                    log.warning("%s fails: %s", claim, outcome.error)
            else:
                done.missed += 1
                log.warning("%s is recorded as missed: %s", claim, outcome.error)
        self._figures()

    def _figures(self) -> None:
        seconds = time.monotonic() - self._at
        if seconds < EVERY_SECONDS:
            return
        done, before = self.done, self._before
        log.info(
            "the last %.0f s: %d tasks with %d samples polled, %d attempts failed, %d pollsters failing",
            *(seconds, done.tasks - before.tasks, done.samples - before.samples, done.failed - before.failed),
            len(self._failing),
        )
        self._before, self._at = replace(done), time.monotonic()


def _key(slot: Slot) -> tuple[str, str, str]:
    return slot.source, slot.pollster, slot.host
