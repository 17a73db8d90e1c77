"""Who asks: user, project and roles of a request, and what of the site they may see."""

from dataclasses import dataclass, field

from meterhouse.alarms.keeping.callers import Caller
from meterhouse.scopes import ALL_EVENTS, EVERYTHING, EventScope, Scope

ADMIN = "admin"


@dataclass(frozen=True)
class Identity:
    """Who asks.

    Attributes:
        user_id: the user; empty if it is not known.
        project_id: the project; empty if there is none.
        roles: in lower case.
        token: the token of Keystone that came with the request.
        of_system: whether the roles are those of the whole system, not of a project.
    """

    user_id: str
    project_id: str
    roles: frozenset[str]
    token: str | None = field(default=None, repr=False)
    of_system: bool = False

    @property
    def is_admin(self) -> bool:
        """Whether all projects may be seen and changed."""
        return ADMIN in self.roles

    @property
    def is_operator(self) -> bool:
        """Whether it is an administrator of no project: the operator of the site."""
        return self.is_admin and (self.of_system or (not self.project_id and not self.user_id))

    @property
    def scope(self) -> Scope:
        """Whose samples, meters and resources may be seen."""
        return EVERYTHING if self.is_admin else Scope(self.project_id)

    @property
    def event_scope(self) -> EventScope:
        """Whose events may be seen, as in Ceilometer 6.0.0: an administrator's are those of no project too."""
        if self.is_operator:
            return ALL_EVENTS
        if self.is_admin:
            return EventScope(self.project_id, without_project=True)
        return EventScope(self.project_id, self.user_id)

    @property
    def caller(self) -> Caller:
        """Who asks for alarms."""
        return Caller(self.user_id, self.project_id, self.is_admin)
