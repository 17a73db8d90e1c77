"""Errors as Ceilometer and Aodh answer them: an object `error_message` with faultcode and faultstring."""

from typing import Final

from meterhouse.errors import (
    SHOWN_LENGTH,
    Conflict,
    DefinitionError,
    InvalidValue,
    MeterhouseError,
    NotAllowed,
    NotAuthorized,
    Unavailable,
    UnknownKeyword,
    UnknownName,
    UsageError,
    shown,
)

MAX_NAME: Final = 255
"""How many characters of a name an answer repeats at most."""


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


RETRY_SECONDS: Final = 5
"""After how many seconds a client should ask again if a server that the site needs is away."""


def unavailable() -> Fault:
    """The answer if a server that the site needs does not answer, without its name."""
    text = f"A server behind the API does not answer. Try again in {RETRY_SECONDS} seconds"
    return Fault(503, text, {"Retry-After": str(RETRY_SECONDS)})


def fault_of(error: MeterhouseError) -> Fault:
    """The answer to an error of the domain."""
    if isinstance(error, InvalidValue) and error.key:
        return invalid(error.key, error.value, sentence(str(error)))
    match error:
        case UnknownKeyword():
            status = 400
        case UnknownName():
            status = 404
        case NotAuthorized():
            status = 401
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
    return Fault(status, sentence(str(error)), {"Retry-After": str(RETRY_SECONDS)} if status == 503 else None)


def sentence(text: str) -> str:
    """A text as a sentence, unless it begins with a name such as `event_rule` or `db.example.org:`."""
    return text[:1].upper() + text[1:] if text.partition(" ")[0].strip(",:;").isalpha() else text


def invalid(name: str, value: object, text: str) -> Fault:
    """The answer to a value that cannot be used, as Ceilometer has it.

    Args:
        name: of the argument or attribute.
        value: as it was given.
        text: what is wrong and what to do.
    """
    shortened = value if isinstance(value, str) else shown(value)
    if len(shortened) > SHOWN_LENGTH:
        shortened = f"{shortened[:SHOWN_LENGTH]}…"
    return Fault(400, f"Invalid input for field/attribute {name[:SHOWN_LENGTH]}. Value: '{shortened}'. {text}")


def unknown_argument(name: str, text: str) -> Fault:
    """The answer to an argument or a field of a query that there is not.

    Args:
        name: of the argument.
        text: what to do.
    """
    return Fault(400, f'Unknown argument: "{name[:SHOWN_LENGTH]}": {text}')


def not_found(kind: str, name: str) -> Fault:
    """The answer to a name that there is not, as Ceilometer has it: `Sample 1 Not Found`."""
    return Fault(404, f"{kind} {name[:MAX_NAME]} Not Found")


def not_authorized(project_id: str) -> Fault:
    """The answer to a query for the data of another project, as Ceilometer has it."""
    return Fault(
        401,
        f"Not Authorized to access project {project_id[:MAX_NAME]}. Ask for your own project, or as an administrator",
    )
