"""Decides threshold alarms all together, as Aodh and Ceilometer define it.

The window ends now and is `period × (evaluation_periods + 1)` long; the extra period hides the delay of intake. With
`exclude_outliers` it is twice `evaluation_periods` long. The last `evaluation_periods` periods with good points decide:

- If there are fewer periods, the state is insufficient data.
- If all are over the threshold, it is alarm. If none is, it is ok.
- If only some are, the state stays, unless it was insufficient data. Then the last period decides.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from meterhouse.alarms.definitions import units
from meterhouse.alarms.definitions.rules.comparing import COMPARE
from meterhouse.alarms.evaluation.loading import OPERATORS, STATES, States
from meterhouse.alarms.evaluation.outcomes import Outcome
from meterhouse.alarms.evaluation.windows import Windows
from meterhouse.sample_quality.series_table import Flags, Floats, Ints

UNKNOWN, OK, ALARM = range(len(STATES))
"""States, as places in STATES."""

_DISPOSITION: Final = ("unknown", "inside", "outside")


@dataclass(frozen=True)
class Rules:
    """What decides the alarms, in columns of the same length.

    Attributes:
        threshold: of each.
        operator: how a value compares with it, a place in OPERATORS.
        keep: how many periods decide.
        repeat: whether the actions of a state are repeated as long as it lasts.
    """

    threshold: Floats
    operator: npt.NDArray[np.int8]
    keep: Ints
    repeat: Flags


@dataclass(frozen=True)
class Decided:
    """The new states of alarms, in columns.

    Attributes:
        state: the new one, a place in STATES.
        notify: whether the actions of the state are due.
        count: how many periods the reason names.
        mixed: whether the window has points in several units.
    """

    state: States
    notify: Flags
    count: Ints
    mixed: Flags


def decide(rules: Rules, state: States, windows: Windows, *, icehouse: bool = False) -> Decided:
    """Decide alarms in a state, by their windows.

    Args:
        rules: what decides.
        state: the states before.
        windows: the windows.
        icehouse: whether one period is enough, and a reason counts all periods, as in Ceilometer 2014.1.
    """
    periods = np.diff(windows.first)
    request = np.repeat(np.arange(len(windows)), periods)
    over = np.zeros(len(request), np.bool_)
    for code, name in enumerate(OPERATORS):
        at = np.flatnonzero(rules.operator[request] == code)
        if len(at):
            over[at] = COMPARE[name](windows.value[at], rules.threshold[request[at]])
    number = np.bincount(request, weights=over, minlength=len(windows)).astype(np.int64)
    last = np.zeros(len(windows), np.bool_)
    some = np.flatnonzero(periods)
    last[some] = over[windows.first[some + 1] - 1]
    mixed = windows.mixed
    enough = (periods >= (1 if icehouse else rules.keep)) & ~mixed
    agreed = (number == periods) | (number == 0)
    verdict = np.where(last, ALARM, OK)
    new = np.where(enough, np.where(agreed | (state == UNKNOWN), verdict, state), UNKNOWN).astype(np.int8)
    notify = (new != state) | (rules.repeat & enough)
    agreeing = np.where(new == ALARM, number, periods - number)
    count = np.where(new == UNKNOWN, rules.keep, periods if icehouse else agreeing)
    return Decided(new, notify, count, mixed)


def outcomes(decided: Decided, state: States, windows: Windows, chosen: Sequence[int]) -> list[Outcome]:
    """The outcomes of some alarms, with their reasons.

    Args:
        decided: all of them.
        state: their states before.
        windows: their windows.
        chosen: which ones.
    """
    return [_outcome(decided, int(state[number]), windows, number) for number in chosen]


def reasons_of_lacking(decided: Decided, chosen: Ints) -> list[str]:
    """Why alarms whose windows have too few periods are in the state insufficient data."""
    return [f"{count} datapoints are unknown" for count in decided.count[chosen].tolist()]


def _outcome(decided: Decided, state: int, windows: Windows, number: int) -> Outcome:
    new, notify = int(decided.state[number]), bool(decided.notify[number])
    count = int(decided.count[number])
    if decided.mixed[number]:
        what, hint = units.mixed(*windows.units_of(number))
        fault = f"{what}. {hint}"
        return Outcome(STATES[new], f"The alarm {fault}", _reason_data(new, count, None), notify, fault)
    end = int(windows.first[number + 1])
    recent = float(windows.value[end - 1]) if end > windows.first[number] else None
    data = _reason_data(new, count, recent)
    if new == UNKNOWN:
        return Outcome(STATES[new], f"{count} datapoints are unknown", data, notify)
    happened = "Transition to" if new != state else "Remaining as"
    reason = f"{happened} {STATES[new]} due to {count} samples {_DISPOSITION[new]} threshold, most recent: {recent}"
    return Outcome(STATES[new], reason, data, notify)


def _reason_data(state: int, count: int, recent: float | None) -> dict[str, Any]:
    return {"type": "threshold", "disposition": _DISPOSITION[state], "count": count, "most_recent": recent}
