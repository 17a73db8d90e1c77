"""Bodies of requests, which are JSON."""

from typing import Any, Final

import orjson
from fastapi import Request

from meterhouse.api.answers.faults import Fault

JSON_TYPES: Final = frozenset({"", "application/json", "application/javascript", "text/javascript"})
"""Content types that are JSON. A body without one is read as JSON too."""

_FORM: Final = "application/x-www-form-urlencoded"


async def json_body(request: Request) -> Any:
    """The body of a request; None if it has none.

    Raises:
        Fault: its content type is not JSON (status 415), or it is not JSON (status 400).
    """
    body = await request.body()
    if not body.strip():
        return None
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == _FORM and request.method == "GET":
        return None  # whoever sends it means the query string
    if kind not in JSON_TYPES:
        raise Fault(415, f"Unknown mimetype: {kind[:100]}. Send the body as application/json")
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Fault(400, f"The body is not JSON: {error}. Send JSON in UTF-8") from None
