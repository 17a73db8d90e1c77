"""Answers as JSON. Times are in UTC without a zone, as in Ceilometer's and Aodh's answers."""

from datetime import UTC, datetime
from typing import Any

import orjson
from fastapi import Response

_OPTIONS = orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_NON_STR_KEYS


def answer(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """An answer whose body is JSON; aware times are shown in UTC without a zone, such as `2026-11-20T10:00:00`."""
    return answer_of(json_text(content), status, headers)


def answer_of(text: bytes, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """An answer whose body is JSON that was made before."""
    return Response(text, status, headers, media_type="application/json")


def json_text(content: Any) -> bytes:
    """JSON of an answer."""
    return orjson.dumps(content, default=_shown, option=_OPTIONS)


def _shown(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).replace(tzinfo=None).isoformat()
    raise TypeError(f"a {type(value).__name__} is no JSON")
