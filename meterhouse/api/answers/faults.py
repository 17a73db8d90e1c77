"""Errors as Ceilometer and Aodh answer them: an object `error_message` with faultcode and faultstring."""

from meterhouse.errors import (
    Conflict,
    DefinitionError,
    MeterhouseError,
    NotAllowed,
    Unavailable,
    UnknownKeyword,
    UnknownName,
    UsageError,
)


class Fault(Exception):
    """An answer that is an error.

    Args:
        status: of HTTP.
        text: what is wrong and what to do, in one or two sentences.
        headers: of the answer.
    """

    def __init__(self, status: int, text: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(text)
        self.status, self.text, self.headers = status, text, headers or {}


def body(status: int, text: str) -> dict[str, object]:
    """The body of an error."""
    code = "Client" if status < 500 else "Server"
    return {"error_message": {"faultcode": code, "faultstring": text, "debuginfo": None}}


def fault_of(error: MeterhouseError) -> Fault:
    """The answer to an error of the domain."""
    match error:
        case UnknownKeyword():
            status = 400
        case UnknownName():
            status = 404
        case NotAllowed():
            status = 403
        case UsageError() | DefinitionError():
            status = 400
        case Conflict():
            status = 409
        case Unavailable():
            status = 503
        case _:
            status = 500
    return Fault(status, str(error))
