"""Who asks, in the way that the settings say: by headers, or by a token of Keystone."""

from collections.abc import Awaitable, Callable

from fastapi import Request

from meterhouse.api.access.headers import identity_of_headers
from meterhouse.api.access.identity import Identity
from meterhouse.api.access.tokens import Tokens
from meterhouse.keystone import TOKEN

Identify = Callable[[Request], Awaitable[Identity]]
"""Who a request is of."""


def identifying(tokens: Tokens | None) -> Identify:
    """What finds out who a request is of.

    Args:
        tokens: validates tokens; None: headers are believed.
    """
    if tokens is None:
        return _by_headers

    async def by_token(request: Request) -> Identity:
        return await tokens.identity(request.headers.get(TOKEN))

    return by_token


async def _by_headers(request: Request) -> Identity:
    return identity_of_headers(request.headers)
