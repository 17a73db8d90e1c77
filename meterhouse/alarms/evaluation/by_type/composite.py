"""Decides composite alarms: rules joined by `and` and `or`.

The rules are asked in their order, and only as far as needed, for the reason names those that were. If that leaves it
open, all are asked, and a rule whose window is mixed counts as what its last value says if the alarm's state is not
known, and else as the opposite of that.

Source: Aodh 23, `aodh/evaluator/composite.py`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from meterhouse.alarms.definitions.alarm import UNKNOWN
from meterhouse.alarms.definitions.rules.composite import CompositeRule, Join, Part
from meterhouse.alarms.evaluation.by_type.compared import Verdict
from meterhouse.alarms.evaluation.outcomes import Outcome

_WHY = {"alarm": "outside their threshold.", "ok": "inside their threshold.", UNKNOWN: "state evaluated to unknown."}
_OPPOSITE = {"alarm": "ok", "ok": "alarm"}


@dataclass
class _Asked:
    """A rule, and what it says once it was asked."""

    rule: Part
    name: str
    verdict: Verdict
    state: str | None = None
    asked: bool = False

    def says(self, state: str) -> bool:
        """Ask it."""
        if not self.asked:
            self.asked, self.state = True, self.verdict.state
        return self.state == state


def decide(rule: CompositeRule, state: str, repeat_actions: bool, verdicts: Sequence[Verdict]) -> Outcome | None:
    """What becomes of a composite alarm in a state; None if nothing happens.

    Args:
        rule: the rules, and how they are joined.
        state: its state.
        repeat_actions: whether the actions of a state are repeated as long as it lasts.
        verdicts: what the windows of its rules say, in their order.
    """
    asked = [_Asked(part, f"rule{n}", one) for n, (part, one) in enumerate(zip(rule.parts, verdicts, strict=True), 1)]
    new = _sure(rule, asked)
    if new is None:
        for each in asked:
            each.says("alarm")
            if each.verdict.trend is not None:
                each.state = each.verdict.trend if state == UNKNOWN else _OPPOSITE[each.verdict.trend]
        new = _sure(rule, asked)
    new = new or UNKNOWN
    if new == state and not (repeat_actions and new != UNKNOWN):
        return None
    form = _form(rule.joined, iter(asked))
    due_to = {each.name: {"type": each.rule.TYPE, **each.rule.as_dict()} for each in asked if each.state == new}
    happened = "transition to" if new != state else "remaining as"
    reason = (
        f"Composite rule alarm with composition form: {form} {happened} {new}, due to rules: "
        f"{', '.join(sorted(due_to))} {_WHY[new]}"
    )
    data: dict[str, Any] = {"type": "composite", "composition_form": form, "causative_rules": due_to}
    return Outcome(new, reason, data, notify=True)


def _sure(rule: CompositeRule, asked: Sequence[_Asked]) -> str | None:
    if _holds(rule.joined, "alarm", iter(asked), True):
        return "alarm"
    return "ok" if _holds(rule.joined, "ok", iter(asked), True) else None


def _holds(one: Join | Part, state: str, asked: Iterator[_Asked], ask: bool) -> bool:
    """Whether a rule or a join is in a state. Once that is known, the other rules are passed over without asking."""
    if not isinstance(one, Join):
        rule = next(asked)
        return ask and rule.says(state)
    every = (one.operator == "and") == (state == "alarm")  # not (a and b) is (not a) or (not b)
    found = every
    for part in one.parts:
        open_still = ask and found == every
        held = _holds(part, state, asked, open_still)
        if open_still:
            found = held
    return found if ask else False


def _form(one: Join | Part, asked: Iterator[_Asked]) -> str:
    if not isinstance(one, Join):
        return next(asked).name
    return "(" + f" {one.operator} ".join(_form(part, asked) for part in one.parts) + ")"
