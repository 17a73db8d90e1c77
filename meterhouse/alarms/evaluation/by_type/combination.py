"""Decides combination alarms by the states of the alarms that they combine.

Source: Ceilometer 2014.1 and Aodh 2.0, `evaluator/combination.py`, in the form of the later one: an `or` with an alarm,
and an `and` with an ok, are sure, whatever is not known.
"""

from collections.abc import Iterable, Mapping

from meterhouse.alarms.definitions.alarm import UNKNOWN
from meterhouse.alarms.definitions.rules.combination import CombinationRule
from meterhouse.alarms.evaluation.outcomes import Outcome


def decide(
    rule: CombinationRule, state: str, repeat_actions: bool, states: Mapping[str, str], *, icehouse: bool = False
) -> Outcome | None:
    """What becomes of a combination in a state; None if nothing happens.

    Args:
        rule: what it combines, and how.
        state: its state.
        repeat_actions: whether the actions of a state are repeated as long as it lasts.
        states: by id, the states of the alarms; one that does not exist has none.
        icehouse: whether all states have to be known, as in Ceilometer 2014.1.
    """
    of = {each: states.get(each, UNKNOWN) for each in rule.alarm_ids}
    unknown = [each for each, known in of.items() if known == UNKNOWN]
    sure = "alarm" if rule.operator == "or" else "ok"
    if unknown and (icehouse or sure not in of.values()):
        data = {"type": "combination", "alarm_ids": unknown}
        return Outcome(UNKNOWN, f"Alarms {','.join(unknown)} are in unknown state", data, notify=state != UNKNOWN)
    ringing = [known == "alarm" for known in of.values()]
    new = "alarm" if (any if rule.operator == "or" else all)(ringing) else "ok"
    if new == state and not repeat_actions:
        return None
    due_to = [each for each, known in of.items() if known == new]
    happened = "Transition to" if new != state else "Remaining as"
    reason = f"{happened} {new} due to alarms {','.join(due_to)} in state {new}"
    return Outcome(new, reason, {"type": "combination", "alarm_ids": due_to}, notify=True)


def in_order(rules: Mapping[str, CombinationRule]) -> list[str]:
    """The ids of combinations, each after those that it combines. Circles, which cannot be created, come last."""
    made: dict[str, None] = {}
    waiting = dict(rules)
    while waiting:
        ready = [each for each, rule in waiting.items() if not _parts(rule, waiting)]
        for each in ready or list(waiting):
            made[each] = None
            del waiting[each]
    return list(made)


def _parts(rule: CombinationRule, of: Iterable[str]) -> bool:
    return any(each in of for each in rule.alarm_ids)
