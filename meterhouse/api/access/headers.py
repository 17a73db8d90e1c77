"""Identities by headers, without a check: for a site whose API only its own machine reaches.

The headers are those that aodhclient's `noauth` sends, and that Keystone's middleware sets for Ceilometer.
"""

from collections.abc import Mapping

from meterhouse.api.access.identity import ADMIN, Identity

USER, PROJECT, ROLES = "x-user-id", "x-project-id", "x-roles"


def identity_of_headers(headers: Mapping[str, str]) -> Identity:
    """Who a request says that it is: without any of the headers, the operator; without roles, a member.

    Args:
        headers: of the request, by their names in lower case.
    """
    user, project, roles = (headers.get(name) for name in (USER, PROJECT, ROLES))
    if user is None and project is None and roles is None:
        return Identity("", "", frozenset({ADMIN}))
    given = "member" if roles is None else roles
    return Identity(user or "", project or "", frozenset(each.strip().lower() for each in given.split(",")))
