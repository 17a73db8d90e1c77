"""Decides a rule that compares the values of a window with a threshold, as Aodh does.

Source: Aodh 23, `aodh/evaluator/threshold.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from meterhouse.alarms.definitions.alarm import UNKNOWN
from meterhouse.alarms.definitions.rules.comparing import COMPARE
from meterhouse.alarms.evaluation.outcomes import Outcome


@dataclass(frozen=True)
class Verdict:
    """What the values of a window say.

    Attributes:
        state: ok or alarm; insufficient data if there are too few values; None if only some are over the threshold.
        trend: then, what the last value says; else None.
        values: the values that decided, oldest first.
        over: how many of them are over the threshold.
        wanted: how many values are needed.
        lack: why the state is insufficient data; empty if it is not.
        icehouse: whether a reason counts all values, as Ceilometer 2014.1 does.
    """

    state: str | None
    trend: str | None
    values: tuple[float, ...]
    over: int
    wanted: int
    lack: str = ""
    icehouse: bool = False

    @property
    def most_recent(self) -> float | None:
        """The last value."""
        return self.values[-1] if self.values else None


def verdict(
    values: Sequence[float], comparison_operator: str, threshold: float, wanted: int, *, icehouse: bool = False
) -> Verdict:
    """Compare the last values of a window.

    Args:
        values: oldest first.
        comparison_operator: one of COMPARE.
        threshold: what to compare with.
        wanted: how many values decide.
        icehouse: whether one is enough, as in Ceilometer 2014.1.
    """
    last = tuple(values[-wanted:])
    if len(last) < (1 if icehouse else wanted):
        return Verdict(UNKNOWN, None, last, 0, wanted, f"{wanted} datapoints are unknown", icehouse)
    over = [bool(COMPARE[comparison_operator](value, threshold)) for value in last]
    if all(over) or not any(over):
        return Verdict("alarm" if over[-1] else "ok", None, last, sum(over), wanted, "", icehouse)
    return Verdict(None, "alarm" if over[-1] else "ok", last, sum(over), wanted, "", icehouse)


def outcome(found: Verdict, state: str, repeat_actions: bool, kind: str = "threshold") -> Outcome | None:
    """What becomes of an alarm in a state; None if nothing happens.

    Args:
        found: what its window says.
        state: its state.
        repeat_actions: whether the actions of a state are repeated as long as it lasts.
        kind: the type in the reason's data.
    """
    new = found.state
    if new is None:
        if state != UNKNOWN and not repeat_actions:
            return None
        new = found.trend if state == UNKNOWN else state
    assert new is not None
    if new == UNKNOWN:
        data = {"type": kind, "disposition": "unknown", "count": found.wanted, "most_recent": found.most_recent}
        return Outcome(UNKNOWN, found.lack, data, notify=state != UNKNOWN)
    if new == state and not repeat_actions:
        return None
    disposition = "inside" if new == "ok" else "outside"
    count = len(found.values) - found.over if new == "ok" else found.over
    if found.icehouse:
        count = len(found.values)
    data = {"type": kind, "disposition": disposition, "count": count, "most_recent": found.most_recent}
    happened = "Transition to" if new != state else "Remaining as"
    reason = f"{happened} {new} due to {count} samples {disposition} threshold, most recent: {found.most_recent}"
    return Outcome(new, reason, data, notify=True)
