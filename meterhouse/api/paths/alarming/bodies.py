"""Alarms as clients of Ceilometer and Aodh send them.

Source: Aodh 23, executed. What a client only reads, such as `timestamp`, is left aside: clients write back what they
have read.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from fastapi import Request

from meterhouse.alarms.definitions.actions import LISTS
from meterhouse.alarms.definitions.alarm import SEVERITIES, STATES
from meterhouse.alarms.definitions.rules.kinds import REFUSED, RULES
from meterhouse.api.answers.faults import Fault, invalid
from meterhouse.api.requests.arguments import truth
from meterhouse.api.requests.bodies import json_body
from meterhouse.errors import near_misses, shown
from meterhouse.untrusted import is_plain

_READ: Final = ("alarm_id", "timestamp", "state_timestamp", "state_reason", "evaluate_timestamp")
"""Attributes that a client only reads."""

_OWNERS: Final = ("project_id", "user_id")
_DEFINED: Final = ("name", "type", "description", "severity", "time_constraints", *LISTS)
_FLAGS: Final = ("enabled", "repeat_actions")
_RULES: Final = tuple(f"{each}_rule" for each in (*RULES, *REFUSED))
_KNOWN: Final = (*_READ, *_OWNERS, *_DEFINED, *_FLAGS, *_RULES, "state")

MAX_ID: Final = 255
"""Maximum number of characters of the id of a project or user."""


@dataclass(frozen=True)
class Given:
    """What a client wants an alarm to be.

    Attributes:
        entry: its definition.
        project_id: the project that shall own it; None if none is given.
        user_id: the user that shall own it; None if none is given.
        state: its state; None if none is given.
    """

    entry: dict[str, Any]
    project_id: str | None
    user_id: str | None
    state: str | None


async def alarm_of(request: Request) -> Given:
    """The alarm in the body of a request.

    Raises:
        Fault: it is none, or lacks an attribute, or one cannot be used: status 400.
    """
    body = await required(request, "data")
    if not isinstance(body, dict):
        raise Fault(400, f"The body is {shown(body)}. Write an object with the attributes of an alarm")
    for name in body:
        if name not in _KNOWN:
            near = near_misses(name[:100], _KNOWN) or [each for each in _KNOWN if each not in (*_READ, *_RULES)]
            raise Fault(400, f"Unknown attribute for argument data: {name[:100]}. Known: {', '.join(near)}")
    given = {name: value for name, value in body.items() if value is not None}
    kind = _kind(given)
    for name, known in (("state", STATES), ("severity", SEVERITIES)):
        if name in given and given[name] not in known:
            raise invalid(name, _plain(given[name]), f"Value should be one of: {', '.join(known)}")
    entry = {name: given[name] for name in (*_DEFINED, f"{kind}_rule") if name in given}
    entry |= {name: _flag(name, given[name]) for name in _FLAGS if name in given}
    project_id, user_id = (_owner(name, given) for name in _OWNERS)
    return Given(entry, project_id, user_id, given.get("state"))


async def required(request: Request, name: str) -> Any:
    """The body of a request that must have one.

    Args:
        request: with the body.
        name: Aodh's name of it.

    Raises:
        Fault: there is none, or it is not JSON: status 400 or 415.
    """
    if not (await request.body()).strip():
        raise Fault(400, f'Missing argument: "{name}". Send a body as application/json')
    return await json_body(request)


def _kind(given: Mapping[str, Any]) -> str:
    """The type of an alarm, which has a name and the rule of the type."""
    for name, of in (("name", "the name of the alarm"), ("type", "the type of the rule, such as threshold")):
        value = given.get(name)
        if value is None:
            raise invalid(name, None, f"Mandatory field missing. Give {of}")
        if not isinstance(value, str):
            raise invalid(name, _plain(value), "Wrong type. Write a text")
    kind = str(given["type"])
    if kind not in (*RULES, *REFUSED):
        raise invalid("type", kind, f"Value should be one of: {', '.join(RULES)}")
    own = f"{kind}_rule"
    if own not in given:
        raise Fault(400, f"{own} must be set for {kind} type alarm. Give it as an object")
    for other in _RULES:
        if other in given and other != own:
            raise Fault(400, f"{other} must not be set for {kind} type alarm. Leave it out")
    return kind


def _flag(name: str, value: Any) -> bool:
    found = value if isinstance(value, bool) else truth(str(value)) if isinstance(value, str | int) else None
    if found is None:
        raise invalid(name, _plain(value), "Value not an unambiguous boolean. Write true or false")
    return found


def _owner(name: str, given: Mapping[str, Any]) -> str | None:
    value = given.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise invalid(name, _plain(value), "Wrong type. Write a text")
    if len(value) > MAX_ID or not is_plain(value):
        raise invalid(name, value, f"Write at most {MAX_ID} characters, none of which is a control character")
    return value


def _plain(value: Any) -> Any:
    return value if isinstance(value, str | int | float) else shown(value)
