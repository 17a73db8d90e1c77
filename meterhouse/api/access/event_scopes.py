"""Whose events a caller sees."""

from meterhouse.api.access.identity import Identity
from meterhouse.api.answers.faults import Fault
from meterhouse.scopes import ALL_EVENTS, EventScope


def event_scope_of(identity: Identity, *, all_tenants: bool) -> EventScope:
    """Whose events a caller sees.

    Args:
        identity: who asks.
        all_tenants: whether it asks for those of all projects.

    Raises:
        Fault: it has no user or no project: status 403. It asks for all projects, and is no administrator: 403.
    """
    if all_tenants and not identity.is_admin:
        raise Fault(403, "all_tenants takes the role admin. Leave it out, or ask as an administrator")
    if identity.is_operator or all_tenants:
        return ALL_EVENTS
    if not identity.user_id or not identity.project_id:
        raise Fault(403, "Events take a user and a project. Send both X-User-Id and X-Project-Id")
    return identity.event_scope
