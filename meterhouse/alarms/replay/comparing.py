"""Two versions of an alarm, side by side over the same past."""

from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from meterhouse.alarms.replay.run import Replayed


@dataclass(frozen=True)
class Difference:
    """A span in which two versions would have been in different states.

    Attributes:
        start: from, UTC.
        end: until, UTC.
        one: the state of the first.
        other: the state of the second.
    """

    start: datetime
    end: datetime
    one: str
    other: str


def differences(one: Replayed, other: Replayed) -> list[Difference]:
    """The spans in which they differ, in order. Both were run over the same cycles."""
    edges = sorted({edge for each in (one, other) for start, end, _, _ in each.spans() for edge in (start, end)})
    found: list[Difference] = []
    for start, end in pairwise(edges):
        states = _state(one, start), _state(other, start)
        if states[0] == states[1]:
            continue
        if found and found[-1].end == start and (found[-1].one, found[-1].other) == states:
            start = found.pop().start
        found.append(Difference(start, end, *states))
    return found


def _state(of: Replayed, at: datetime) -> str:
    return next(state for start, end, state, _ in of.spans() if start <= at < end)
