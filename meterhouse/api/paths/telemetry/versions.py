"""`/`: the versions of the API."""

from fastapi import APIRouter, Request, Response

from meterhouse.api.answers.json_text import answer
from meterhouse.api.answers.links import base_of, link
from meterhouse.api.paths.telemetry.models import Versions

router = APIRouter(tags=["versions"])


@router.get("/", responses={200: {"model": Versions, "description": "The versions"}})
async def list_versions(request: Request) -> Response:
    """List the versions of the API.

    There is one, v2. Whoever reaches the API may ask for them.
    """
    base = base_of(request)
    described = {"href": "http://docs.openstack.org/", "rel": "describedby", "type": "text/html"}
    v2 = {
        "id": "v2",
        "links": [link("self", base, "v2"), described],
        "media-types": [{"base": "application/json", "type": "application/vnd.openstack.telemetry-v2+json"}],
        "status": "stable",
        "updated": "2013-02-13T00:00:00Z",
    }
    return answer({"versions": {"values": [v2]}})
