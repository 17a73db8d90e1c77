"""Who asks, in the way that the settings say: by headers, or by a token of Keystone."""

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

from fastapi import Request

from meterhouse.api.access.headers import identity_of_headers
from meterhouse.api.access.identity import Identity
from meterhouse.api.access.tokens import Tokens
from meterhouse.keystone import TOKEN
from meterhouse.settings import Settings

Identify = Callable[[Request], Awaitable[Identity]]
"""Who a request is of."""


def identifying(settings: Settings, closing: AsyncExitStack) -> Identify:
    """What finds out who a request is of.

    Args:
        settings: METERHOUSE_API_AUTH decides.
        closing: gets what has to be closed at the end.

    Raises:
        MeterhouseError: a file that the settings name cannot be used.
    """
    if settings.api_auth == "none":
        return _by_headers
    tokens = Tokens(settings)
    closing.push_async_callback(tokens.close)

    async def by_token(request: Request) -> Identity:
        return await tokens.identity(request.headers.get(TOKEN))

    return by_token


async def _by_headers(request: Request) -> Identity:
    return identity_of_headers(request.headers)
