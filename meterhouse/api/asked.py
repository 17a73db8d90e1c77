"""A request that its caller may make: the site, who asks, and the work for the answer."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from fastapi import Depends, FastAPI, Request, Response
from fastapi.routing import APIRoute

from meterhouse.api.access.identity import Identity
from meterhouse.api.access.rules import check
from meterhouse.api.answers.json_text import answer_of, json_text
from meterhouse.api.serving.kept_answers import KeptAnswers
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

    async def answer(self, work: Callable[[], Any]) -> Response:
        """The answer with what work returns, as JSON.

        It is kept, and given again to whoever asks the same as the same user of the same project, while nothing has
        changed in the stores and files of `serving.store_states`. So the work may read these alone, and not the clock.
        """
        kept: KeptAnswers = self.request.app.state.kept_answers
        asker = (self.identity.project_id, self.identity.user_id, self.identity.roles)
        url, base = self.request.url, self.request.base_url
        question = f"{self.request.method} {url} {base} ".encode() + await self.request.body()
        return answer_of(await self.run(lambda: kept.of(question, asker, lambda: json_text(work())), reads=True))


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
                found[f"{method} {route.path_format}"] = taken[0] if taken else None
    return found
