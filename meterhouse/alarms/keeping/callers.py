"""Who asks for alarms, and what they may see and do."""

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Select, false

from meterhouse.errors import NotAllowed, NotAuthorized
from meterhouse.stores.warehouse_tables import alarms

MAX_SHOWN: Final = 255
"""How many characters of an id an error repeats at most."""


@dataclass(frozen=True)
class Caller:
    """Who asks.

    Attributes:
        user_id: the user; empty for the operator at the command line.
        project_id: the project; empty for the operator at the command line. Who is no administrator and has none sees
            and owns nothing: alarms without a project are the operator's.
        admin: whether all projects may be seen and changed.
    """

    user_id: str = ""
    project_id: str = ""
    admin: bool = False

    def visible(self, query: Select[Any]) -> Select[Any]:
        """A query of alarms, of those that this caller may see."""
        if self.admin:
            return query
        return query.where(alarms.c.project_id == self.project_id if self.project_id else false())

    def may_see(self, project_id: str) -> bool:
        """Whether this caller may see the alarms of a project; an empty one is the operator's."""
        return self.admin or (self.project_id != "" and self.project_id == project_id)

    def owner(self, project_id: str | None, user_id: str | None) -> tuple[str, str]:
        """The project and the user that will own what this caller makes.

        Args:
            project_id: the project that was asked for; None for the caller's.
            user_id: the user that was asked for; None for the caller.

        Raises:
            NotAuthorized: another's, and the caller is no administrator.
            NotAllowed: there is no project, and the caller is no administrator.
        """
        if not self.admin and not self.project_id:
            raise NotAllowed("not authorized without a project", hint="Log in to a project")
        for asked, own, kind in ((project_id, self.project_id, "project"), (user_id, self.user_id, "user")):
            if not self.admin and asked is not None and asked != own:
                what = f"Not Authorized to access {kind} {asked[:MAX_SHOWN]}"
                raise NotAuthorized(what, hint=f"Leave it out, or ask as that {kind}")
        project = self.project_id if project_id is None else project_id
        return project, self.user_id if user_id is None else user_id


OPERATOR = Caller(admin=True)
"""Whoever can run commands on the site."""
