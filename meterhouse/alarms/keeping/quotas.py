"""How many alarms a project and a user may have.

As in Aodh, a quota of a project takes the place of the setting. Unlike there, it counts the project's alarms, not the
user's: that is what its name says.
"""

from dataclasses import dataclass

from sqlalchemy import Connection, delete, func, insert, select

from meterhouse.alarms.keeping.callers import Caller
from meterhouse.errors import NotAllowed, OverQuota, UsageError
from meterhouse.site import Site
from meterhouse.stores.warehouse_tables import alarm_quotas, alarms

NO_LIMIT = -1


@dataclass(frozen=True)
class Quota:
    """The quota of a project.

    Attributes:
        project_id: the project.
        maximum: of its alarms; NO_LIMIT for any number.
        used: how many it has.
    """

    project_id: str
    maximum: int
    used: int


def quota(site: Site, project_id: str, caller: Caller) -> Quota:
    """The quota of a project.

    Raises:
        NotAllowed: it is another's, and the caller is no administrator.
    """
    if not caller.admin and (not project_id or project_id != caller.project_id):
        raise NotAllowed(f"not authorized to see the quota of project {project_id}", hint="Ask for your own")
    with site.warehouse.read() as connection:
        used = _count(connection, None, project_id=project_id)
        return Quota(project_id, _maximum(site, connection, project_id), used)


def set_quota(site: Site, project_id: str, maximum: int, caller: Caller) -> Quota:
    """Set the maximum number of a project's alarms. What it has already, it keeps.

    Raises:
        NotAllowed: the caller is no administrator.
        UsageError: the number is below -1, or there is no project.
    """
    _check_admin(caller)
    if not project_id:
        raise UsageError("there is no project", hint="Name one")
    if maximum < NO_LIMIT:
        raise UsageError(f"the maximum number {maximum}", hint="Write 0 or more, or -1 for no limit")
    with site.warehouse.begin() as connection:
        connection.execute(delete(alarm_quotas).where(alarm_quotas.c.project_id == project_id))
        connection.execute(insert(alarm_quotas).values(project_id=project_id, maximum=maximum))
    return quota(site, project_id, caller)


def delete_quota(site: Site, project_id: str, caller: Caller) -> Quota:
    """Go back to METERHOUSE_ALARM_PROJECT_QUOTA for a project.

    Raises:
        NotAllowed: the caller is no administrator.
    """
    _check_admin(caller)
    with site.warehouse.begin() as connection:
        connection.execute(delete(alarm_quotas).where(alarm_quotas.c.project_id == project_id))
    return quota(site, project_id, caller)


def _check_admin(caller: Caller) -> None:
    if not caller.admin:
        raise NotAllowed("not authorized to change quotas", hint="Ask an administrator")


def check(site: Site, connection: Connection, project_id: str, user_id: str) -> bool:
    """Make sure that there is room for one more alarm; return whether their number is limited at all.

    Args:
        site: the site.
        connection: the writing transaction that will add it.
        project_id: its project.
        user_id: its user.

    Raises:
        OverQuota: there is none.
    """
    is_limited = False
    for kind, who, maximum, owner in (
        ("project", project_id, _maximum(site, connection, project_id), {"project_id": project_id}),
        ("user", user_id, site.settings.alarm_user_quota, {"user_id": user_id}),
    ):
        if maximum == NO_LIMIT or not who:
            continue
        is_limited = True
        if _count(connection, maximum, **owner) < maximum:
            continue
        used = _count(connection, None, **owner)
        raise OverQuota(
            f"Alarm quota exceeded for user {user_id} on project {project_id}: the {kind} has {used:,} alarms of "
            f"{maximum:,}",
            hint="Delete some, or let an administrator raise the quota",
        )
    return is_limited


def _maximum(site: Site, connection: Connection, project_id: str) -> int:
    query = select(alarm_quotas.c.maximum).where(alarm_quotas.c.project_id == project_id)
    found = connection.execute(query).scalar()
    return site.settings.alarm_project_quota if found is None else int(found)


def _count(connection: Connection, most: int | None, **owner: str) -> int:
    """How many alarms an owner has; a count stops at the most that matters."""
    found = select(alarms.c.alarm_id).filter_by(**owner).limit(most).subquery()
    return int(connection.execute(select(func.count()).select_from(found)).scalar() or 0)
