"""Who asks for alarms, and what they may see and do."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select

from meterhouse.errors import NotAllowed
from meterhouse.stores.warehouse_tables import alarms


@dataclass(frozen=True)
class Caller:
    """Who asks.

    Attributes:
        user_id: the user; empty for the operator at the command line.
        project_id: the project; empty for the operator at the command line.
        admin: whether all projects may be seen and changed.
    """

    user_id: str = ""
    project_id: str = ""
    admin: bool = False

    def visible(self, query: Select[Any]) -> Select[Any]:
        """A query of alarms, of those that this caller may see."""
        return query if self.admin else query.where(alarms.c.project_id == self.project_id)

    def owner(self, project_id: str | None, user_id: str | None) -> tuple[str, str]:
        """The project and the user that will own what this caller makes.

        Args:
            project_id: the project that was asked for; None for the caller's.
            user_id: the user that was asked for; None for the caller.

        Raises:
            NotAllowed: another's, and the caller is no administrator.
        """
        for asked, own, kind in ((project_id, self.project_id, "project"), (user_id, self.user_id, "user")):
            if not self.admin and asked is not None and asked != own:
                raise NotAllowed(
                    f"not authorized to access {kind} {asked}", hint=f"Leave it out, or ask as {kind} {asked}"
                )
        project = self.project_id if project_id is None else project_id
        return project, self.user_id if user_id is None else user_id


OPERATOR = Caller(admin=True)
"""Whoever can run commands on the site."""
