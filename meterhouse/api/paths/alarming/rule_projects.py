"""Whose samples the rule of an alarm asks for."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from meterhouse.api.access.identity import Identity
from meterhouse.api.answers.faults import not_authorized

_FIELDS: Final = ("project_id", "project")


def check_rule(entry: Mapping[str, Any], identity: Identity) -> None:
    """Make sure that no query of an alarm's rule names another project than the caller's own.

    Args:
        entry: the definition of the alarm, as a client sent it.
        identity: who asks.

    Raises:
        Fault: one does: status 401, as Aodh has it.
    """
    if identity.is_admin:
        return
    for each in _objects(entry):
        project = each.get("value")
        if each.get("field") in _FIELDS and isinstance(project, str) and project != identity.project_id:
            raise not_authorized(project)


def _objects(given: Any) -> Iterator[Mapping[Any, Any]]:
    """All objects within a value, however deep."""
    left = [given]
    while left:
        each = left.pop()
        if isinstance(each, dict):
            yield each
            left += each.values()
        elif isinstance(each, list):
            left += each
