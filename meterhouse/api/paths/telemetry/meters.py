"""`/v2/meters`: the meters that have samples."""

from typing import Annotated

from fastapi import APIRouter, Response

from meterhouse.api.answers.json_text import answer
from meterhouse.api.asked import Asked, allowed
from meterhouse.queries.meters import meter_list

router = APIRouter(tags=["meters"])


@router.get("/v2/meters")
async def meters(asked: Annotated[Asked, allowed("telemetry:get_meters")]) -> Response:
    """The meters that have samples."""
    return answer(await asked.run(lambda: meter_list(asked.site, asked.identity.scope)))
