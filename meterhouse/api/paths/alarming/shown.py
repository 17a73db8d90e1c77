"""An alarm as Ceilometer and Aodh answer it."""

import re
from collections.abc import Mapping
from typing import Any, Final

from fastapi import Response

from meterhouse.alarms.definitions.actions import LISTS
from meterhouse.alarms.definitions.alarm import from_mapping
from meterhouse.alarms.definitions.time_constraints import TimeConstraint
from meterhouse.errors import DefinitionError


def alarm_object(row: Mapping[str, Any]) -> dict[str, Any]:
    """The object of an alarm, as a row of `states.alarm_list`."""
    definition = row["definition"]
    kind = row["type"]
    return {
        "alarm_id": row["alarm_id"],
        "name": row["name"],
        "description": definition.get("description") or row["description"] or _sentence(definition),
        "enabled": row["enabled"],
        **{key: definition.get(key, []) for key in LISTS},
        "repeat_actions": definition.get("repeat_actions", False),
        "type": kind,
        "time_constraints": [_constraint(each) for each in definition.get("time_constraints", ())],
        "project_id": row["project_id"],
        "user_id": row["user_id"],
        "timestamp": row["timestamp"],
        "state": row["state"],
        "state_timestamp": row["state_timestamp"],
        "state_reason": row["state_reason"],
        "severity": row["severity"],
        "evaluate_timestamp": row["evaluate_timestamp"],
        f"{kind}_rule": definition.get("rule", {}),
    }


def entry_object(row: Mapping[str, Any]) -> dict[str, Any]:
    """The object of an entry of the history, as a row of `listing.history_of`; a definition without what limits it."""
    return {**row, "detail": _LIMIT.sub("", row["detail"])}


_LIMIT: Final = re.compile(r'"only_project": "(?:[^"\\]|\\.)*", ')
"""The project whose samples alone an alarm sees; other keys follow it in the stored form."""


def _sentence(definition: Mapping[str, Any]) -> str:
    """The description of an alarm of an earlier release, which stored none."""
    content = {key: value for key, value in definition.items() if key not in ("rule", "only_project")}
    content[f"{definition.get('type')}_rule"] = definition.get("rule")
    try:
        return from_mapping(content, "").rule.sentence
    except DefinitionError:  # its evaluation says what is wrong
        return ""


def _constraint(stored: Mapping[str, Any]) -> dict[str, Any]:
    made = TimeConstraint(**stored)
    return {
        "name": made.name,
        "description": made.sentence,
        "start": made.start,
        "duration": made.duration,
        "timezone": made.timezone,
    }


def no_content() -> Response:
    """The answer to what was deleted."""
    return Response(status_code=204)
