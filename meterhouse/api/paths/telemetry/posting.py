"""`POST /v2/meters/{meter_name}`: samples that clients have measured."""

import asyncio
import re
import time
from concurrent.futures import Future
from datetime import datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, Request, Response

from meterhouse import times
from meterhouse.api.access.identity import Identity
from meterhouse.api.answers.faults import Fault, invalid
from meterhouse.api.answers.json_text import answer
from meterhouse.api.asked import Asked, allowed
from meterhouse.api.paths.telemetry.names import MeterName
from meterhouse.api.requests.arguments import Argument, Arguments
from meterhouse.api.requests.bodies import json_body
from meterhouse.api.requests.posted_samples import FIELDS, MAX_SAMPLES, MAX_TEXT, REQUIRED, Checked, checked
from meterhouse.collection.idempotency import OtherContent, first_time
from meterhouse.collection.posted_samples import Notified, digest, notifications
from meterhouse.collection.posting import Posting
from meterhouse.definitions.quality_rules import TYPES

KEY: Final = "Idempotency-Key"

MANY_BYTES: Final = 1 << 16
"""A body that is longer is checked beside the loop that talks to clients."""

_VISIBLE: Final = re.compile(r"[\x21-\x7e][\x20-\x7e]{0,254}", re.ASCII)
_ARGUMENTS: Final = Arguments(
    Argument("direct", "Store the samples within the request, so that they can be queried at once.", "boolean")
)


def _text(name: str, *, needed: bool = False) -> dict[str, Any]:
    kinds = [{"type": "string", "minLength": int(needed), "maxLength": MAX_TEXT}, *([] if needed else [_NULL])]
    return {"anyOf": kinds, "description": FIELDS[name]}


_NULL: Final = {"type": "null"}
_TEXTS: Final = {"type": "object", "additionalProperties": {"anyOf": [{"type": "string"}, _NULL]}}
_PROPERTIES: Final[dict[str, Any]] = {
    **{name: _text(name, needed=name in REQUIRED and name != "counter_unit") for name in FIELDS},
    "counter_type": {"type": "string", "enum": list(TYPES), "description": FIELDS["counter_type"]},
    "counter_volume": {"type": "number", "description": FIELDS["counter_volume"]},
    "resource_metadata": {"anyOf": [_TEXTS, _NULL], "description": FIELDS["resource_metadata"]},
}
_SAMPLE: Final[dict[str, Any]] = {"type": "object", "required": list(REQUIRED), "properties": _PROPERTIES}
_BODY: Final[dict[str, Any]] = {
    "type": "array",
    "minItems": 1,
    "maxItems": MAX_SAMPLES,
    "items": {**_SAMPLE, "additionalProperties": False},
}
_DESCRIBED: Final[dict[str, Any]] = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": _BODY}}},
    "parameters": [
        *_ARGUMENTS.documented["parameters"],
        {
            "in": "header",
            "name": KEY,
            "required": False,
            "description": "A text that stands for these samples. A repeat with the same text counts once.",
            "schema": {"type": "string", "maxLength": MAX_TEXT},
        },
    ],
}

_ANSWER: Final = {"application/json": {"schema": {"type": "array", "items": _SAMPLE}}}

router = APIRouter(tags=["meters"])


@router.post(
    "/v2/meters/{meter_name:path}",
    status_code=201,
    openapi_extra=_DESCRIBED,
    responses={201: {"description": "The samples, as they are stored.", "content": _ANSWER}},
)
async def post_samples(
    meter_name: MeterName,
    asked: Annotated[Asked, allowed("telemetry:create_samples")],
) -> Response:
    """Store samples of a meter. They are durable when the answer comes.

    Each sample of the answer has the `message_id` by which it can be asked for.
    """
    given = await _ARGUMENTS.of(asked.request)
    key = _key(asked.request)
    body = await json_body(asked.request)
    now, project, secret = times.now(), asked.identity.project_id, asked.site.settings.telemetry_secret

    def read() -> tuple[datetime, Checked, Notified]:
        samples, moment = checked(body, meter_name, asked.identity, now), now
        if key is not None:
            moment = first_time(asked.site, project, key, digest([meter_name, body]), now)
            if moment != now:
                samples = checked(body, meter_name, asked.identity, moment)
        return moment, samples, notifications(samples.samples, project, key, moment, secret)

    many = key is not None or len(await asked.request.body()) > MANY_BYTES
    try:
        moment, samples, notified = await asked.run(read) if many else read()
    except OtherContent as error:
        raise Fault(422, str(error)) from None
    posting: Posting = asked.request.app.state.posting
    take = posting.land if given.boolean("direct") else posting.send
    later = await _taken(asked, take(notified.messages))
    headers = {"Warning": _warning(later, asked.identity)} if later else None
    return answer(_shown(samples, notified, moment), 201, headers)


def _key(request: Request) -> str | None:
    """The Idempotency-Key; None if there is none."""
    given = request.headers.getlist(KEY)
    if not given:
        return None
    if len(given) > 1 or not _VISIBLE.fullmatch(given[0]):
        text = f"Send one {KEY} of 1 to 255 visible ASCII characters, such as a UUID"
        raise invalid(KEY, ", ".join(given), text)
    return given[0]


async def _taken(asked: Asked, done: "Future[str]") -> str:
    """The result, which does not end with the client: others may be taken together with it.

    Raises:
        Fault: it takes longer than a request may: status 504.
    """
    seconds = asked.site.settings.api_seconds
    end: float = getattr(asked.request.state, "end", time.monotonic() + seconds)
    try:
        return await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(done)), max(end - time.monotonic(), 0.0))
    except TimeoutError:
        raise Fault(
            504,
            f"The samples are not stored after {seconds:g} seconds, and may still be. Post them again with the same "
            f"{KEY} or the same message ids: then they count once",
        ) from None


def _shown(samples: Checked, notified: Notified, now: datetime) -> list[dict[str, Any]]:
    return [
        {
            "counter_name": sample.meter,
            "counter_type": sample.type,
            "counter_unit": sample.unit,
            "counter_volume": sample.volume,
            "user_id": sample.user_id,
            "project_id": sample.project_id,
            "resource_id": sample.resource_id,
            "source": sample.source,
            "timestamp": sample.timestamp,
            "recorded_at": now,
            "resource_metadata": metadata,
            "message_id": sample_id,
        }
        for sample, metadata, sample_id in zip(samples.samples, samples.metadata, notified.ids, strict=True)
    ]


def _warning(why: str, identity: Identity) -> str:
    """That samples are stored, but cannot be queried yet; the reason, which may name servers, is for operators."""
    text = f"The samples are stored, and can be queried later{f': {why}' if identity.is_admin else ''}"
    plain = " ".join(text.replace('"', "'").replace("\\", "/").split()).encode("ascii", "replace").decode()
    return f'199 - "{plain[:500]}"'
