"""Errors that nobody foresaw: the client gets the request's id, and the log gets the traceback."""

import logging

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from meterhouse.api.answers.faults import Fault
from meterhouse.api.entry.refusals import refuse
from meterhouse.api.entry.request_ids import request_id
from meterhouse.errors import MeterhouseError

log = logging.getLogger(__name__)


class Unexpected:
    """Answers 500 where the application fails. A client that has gone is no failure."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request.

        Raises:
            Exception: the application failed in the middle of an answer, which the server has to break off.
        """
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def noticed(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, noticed)
        except ClientDisconnect:
            return
        except Exception as error:
            log_failure(scope, error)
            if started:
                raise
            await refuse(failure(scope), scope, receive, send)


def failure(scope: Scope) -> Fault:
    """The answer to an error whose reason is none of the client's business."""
    return Fault(500, f"The request failed. The operator finds the reason in the log under {request_id(scope)}")


def log_failure(scope: Scope, error: Exception) -> None:
    """Log an error that the client does not see."""
    where = f"{scope.get('method')} {scope.get('path')}"
    foreseen = isinstance(error, MeterhouseError)  # its text says what and where
    log.error("%s: %s failed: %s", request_id(scope), where, error, exc_info=None if foreseen else error)
