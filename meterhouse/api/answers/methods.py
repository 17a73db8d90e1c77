"""The methods that a path takes, for the header Allow of an answer 405."""

from collections.abc import Iterable

from starlette.routing import BaseRoute, Match
from starlette.types import Scope


def methods_of(routes: Iterable[BaseRoute], scope: Scope) -> str:
    """The methods that the path of a request takes: `GET, HEAD, POST`."""
    found: set[str] = set()
    for route in routes:
        match, _ = route.matches(scope)
        if match is not Match.NONE:
            found |= set(getattr(route, "methods", None) or ())
    if "GET" in found:
        found.add("HEAD")
    return ", ".join(sorted(found))
