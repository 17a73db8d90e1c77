"""The table of rules: which roles may do what. The documentation's table is made from it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from meterhouse.api.access.identity import ADMIN, Identity
from meterhouse.api.answers.faults import MAX_NAME, Fault

MEMBER: Final = "member"
READER: Final = "reader"

IMPLIED: Final[Mapping[str, tuple[str, ...]]] = {
    ADMIN: (MEMBER, READER),
    MEMBER: (READER,),
    "manager": (MEMBER, READER),
    "_member_": (MEMBER, READER),
}
"""Role → the roles that it has as well, as in Keystone; `_member_` is what Keystone called a member until Queens."""


@dataclass(frozen=True)
class Rule:
    """Who may do something.

    Attributes:
        role: the role that it takes.
        meaning: what may be done, for the documentation.
        status: of the refusal.
    """

    role: str
    meaning: str
    status: int = 403


RULES: Final[Mapping[str, Rule]] = {
    "telemetry:get_meters": Rule(READER, "List meters"),
    "telemetry:compute_statistics": Rule(READER, "Compute statistics"),
    "telemetry:get_samples": Rule(READER, "List samples"),
    "telemetry:get_sample": Rule(READER, "Show a sample"),
    "telemetry:query_sample": Rule(READER, "List samples by a complex query"),
    "telemetry:get_resources": Rule(READER, "List resources"),
    "telemetry:get_resource": Rule(READER, "Show a resource"),
    "telemetry:events:index": Rule(READER, "List events"),
    "telemetry:events:show": Rule(READER, "Show an event"),
    "telemetry:get_event_types": Rule(ADMIN, "List types of events", 401),
    "telemetry:get_traits": Rule(ADMIN, "List the traits of a type of events", 401),
    "telemetry:get_capabilities": Rule(READER, "List capabilities"),
    "telemetry:create_samples": Rule(MEMBER, "Post samples"),
    "telemetry:get_alarms": Rule(READER, "List the alarms of the own project"),
    "telemetry:get_alarms:all_projects": Rule(ADMIN, "List the alarms of all projects"),
    "telemetry:query_alarm": Rule(READER, "List alarms by a complex query"),
    "telemetry:get_alarm": Rule(READER, "Show an alarm"),
    "telemetry:create_alarm": Rule(MEMBER, "Create an alarm"),
    "telemetry:change_alarm": Rule(MEMBER, "Change an alarm"),
    "telemetry:delete_alarm": Rule(MEMBER, "Delete an alarm"),
    "telemetry:get_alarm_state": Rule(READER, "Show the state of an alarm"),
    "telemetry:change_alarm_state": Rule(MEMBER, "Set the state of an alarm"),
    "telemetry:alarm_history": Rule(READER, "List what happened to an alarm, and why"),
    "telemetry:query_alarm_history": Rule(READER, "List what happened to alarms by a complex query"),
    "telemetry:get_metrics": Rule(READER, "Show what is counted of evaluations, which is nothing"),
    "telemetry:get_quotas": Rule(READER, "Show the quotas of the own project"),
    "telemetry:update_quotas": Rule(ADMIN, "Set the quotas of a project"),
    "telemetry:delete_quotas": Rule(ADMIN, "Delete the quotas of a project"),
}
"""By action: Ceilometer's and Aodh's name of it where they have one."""


def check(action: str, identity: Identity) -> None:
    """Make sure that a caller may do something.

    Raises:
        Fault: it may not: status 403, or what the rule says.
    """
    rule = RULES[action]
    roles = set(identity.roles)
    for role in identity.roles:
        roles.update(IMPLIED.get(role, ()))
    if rule.role not in roles:
        hint = "Ask for it, or as another user"
        if identity.token and not identity.roles:
            hint = "The token is of no project: ask Keystone for one that is"
        text = f"The action {action} takes the role {rule.role}. {hint}"
        if rule.status == 401:  # as Ceilometer and Panko say it
            text = f"Not Authorized to access project {(identity.project_id or '')[:MAX_NAME]}. {text}"
        raise Fault(rule.status, text)
