"""A request that its caller may make: the site, who asks, and the work for the answer."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from fastapi import Depends, FastAPI, Request
from fastapi.routing import APIRoute

from meterhouse.api.access.identity import Identity
from meterhouse.api.access.rules import check
from meterhouse.api.serving.running import run
from meterhouse.site import Site

T = TypeVar("T")

_ACTIONS: dict[Callable[..., Any], str] = {}
"""By dependency of `allowed`, the action that it checks."""


@dataclass(frozen=True)
class Asked:
    """A request that its caller may make.

    Attributes:
        request: as it came.
        site: that is asked.
        identity: who asks. Queries take its `scope`, `event_scope` or `caller`.
    """

    request: Request
    site: Site
    identity: Identity

    async def run(self, work: Callable[[], T], *, reads: bool | None = None) -> T:
        """The result of work that may wait for a store; see `running.run`."""
        owner = self.identity.project_id or self.identity.user_id
        return await run(self.request, work, owner, reads=reads)


def allowed(action: str) -> Any:
    """A dependency that gives `Asked`, if the caller may do this action of RULES."""

    async def asked(request: Request) -> Asked:
        identity = request.state.identity = await request.app.state.identify(request)
        request.app.state.rates.check(identity)
        check(action, identity)
        return Asked(request, request.app.state.site, identity)

    _ACTIONS[asked] = action
    return Depends(asked)


def actions(app: FastAPI) -> dict[str, str | None]:
    """The action of RULES that each operation takes, by method and path; None: it asks nobody who they are."""
    found: dict[str, str | None] = {}
    for route in app.routes:
        if isinstance(route, APIRoute):
            taken = [_ACTIONS[each.call] for each in route.dependant.dependencies if each.call in _ACTIONS]
            for method in sorted(route.methods):
                found[f"{method} {route.path}"] = taken[0] if taken else None
    return found
