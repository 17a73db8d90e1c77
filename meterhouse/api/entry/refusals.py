"""Answers to requests that never come to their path."""

from starlette.types import Receive, Scope, Send

from meterhouse.api.answers.faults import Fault, body
from meterhouse.api.answers.json_text import answer


async def refuse(fault: Fault, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a request with a fault, in the form of all errors."""
    await answer(body(fault.status, fault.text), fault.status, fault.headers)(scope, receive, send)
