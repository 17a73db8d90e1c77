"""Decides alarms of other types than threshold, whose rules are objects: a function for each type."""

from collections.abc import Callable, Sequence

from meterhouse.alarms.evaluation.given import Cycle, Given
from meterhouse.alarms.evaluation.outcomes import Outcome

Decide = Callable[[Cycle, Given], Outcome]
"""What decides an alarm of a type."""

DECIDE: dict[str, Decide] = {}
"""Type of an alarm → what decides it. Alarms of other types are not part of a cycle."""


def outcomes(cycle: Cycle, given: Sequence[Given]) -> list[Outcome]:
    """The outcomes of alarms, in their order; what goes wrong with one of them is its fault alone.

    Args:
        cycle: the cycle.
        given: alarms whose types are in DECIDE.
    """
    return [DECIDE[each.alarm.type](cycle, each) for each in given]
