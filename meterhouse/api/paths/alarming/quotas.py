"""`/v2/quotas`: how many alarms a project may have."""

from collections.abc import Mapping
from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Request, Response

from meterhouse.alarms.keeping import quotas
from meterhouse.alarms.keeping.quotas import NO_LIMIT, Quota
from meterhouse.api.answers.faults import Fault, invalid
from meterhouse.api.answers.json_text import answer
from meterhouse.api.asked import Asked, allowed
from meterhouse.api.paths.alarming.alarms import NO_ARGUMENTS
from meterhouse.api.paths.alarming.bodies import MAX_ID, required
from meterhouse.api.paths.alarming.models import Quotas, documented_body
from meterhouse.api.paths.alarming.shown import no_content
from meterhouse.api.requests.arguments import Argument, Arguments
from meterhouse.errors import shown
from meterhouse.untrusted import is_plain

router = APIRouter(tags=["quotas"])

RESOURCE: Final = "alarms"
MAX_LIMIT: Final = 10_000_000
"""Maximum of a quota that is no -1."""

ARGUMENTS: Final = Arguments(Argument("project_id", "The project. Default: the own one."))


@router.get(
    "/v2/quotas",
    openapi_extra=ARGUMENTS.documented,
    responses={200: {"model": Quotas, "description": "The quotas"}},
)
async def shown_quotas(asked: Annotated[Asked, allowed("telemetry:get_quotas")]) -> Response:
    """Show the quota of a project.

    It is the maximum number of its alarms; -1 stands for any number. Only an administrator sees another project's.
    """
    given = await ARGUMENTS.of(asked.request)
    project, caller = _project(given.text("project_id")) or asked.identity.project_id, asked.identity.caller
    return answer(_object(await asked.run(lambda: quotas.quota(asked.site, project, caller))))


@router.post(
    "/v2/quotas",
    status_code=201,
    openapi_extra=documented_body(Quotas),
    responses={201: {"model": Quotas, "description": "The quotas"}},
)
async def set_quotas(asked: Annotated[Asked, allowed("telemetry:update_quotas")]) -> Response:
    """Set the quota of a project.

    The alarms that it has already, it keeps.
    """
    await NO_ARGUMENTS.of(asked.request)
    project, limit = await _wanted(asked.request)
    caller = asked.identity.caller

    def changed() -> Quota:
        if limit is None:
            return quotas.quota(asked.site, project, caller)
        return quotas.set_quota(asked.site, project, limit, caller)

    return answer(_object(await asked.run(changed)), 201)


@router.delete(
    "/v2/quotas/{project_id}", status_code=204, responses={204: {"description": "It is deleted; there is no body"}}
)
async def delete_quotas(
    project_id: Annotated[str, Path(description="The project.")],
    asked: Annotated[Asked, allowed("telemetry:delete_quotas")],
) -> Response:
    """Delete the quota of a project.

    From then on, METERHOUSE_ALARM_PROJECT_QUOTA counts.
    """
    await NO_ARGUMENTS.of(asked.request)
    project, caller = _project(project_id) or "", asked.identity.caller
    await asked.run(lambda: quotas.delete_quota(asked.site, project, caller))
    return no_content()


def _object(found: Quota) -> dict[str, Any]:
    return {"project_id": found.project_id, "quotas": [{"resource": RESOURCE, "limit": found.maximum}]}


def _project(given: str | None) -> str | None:
    if given is not None and (len(given) > MAX_ID or not is_plain(given)):
        raise invalid("project_id", given, f"Write at most {MAX_ID} characters, none of which is a control")
    return given


async def _wanted(request: Request) -> tuple[str, int | None]:
    """The project, and the maximum number of its alarms; None to leave it as it is."""
    body = await required(request, "body")
    if not isinstance(body, dict):
        raise Fault(400, f"The body is {shown(body)}. Write an object with project_id and quotas")
    _check_keys(body, ("project_id", "quotas"))
    project = body.get("project_id")
    if project is None or project == "":
        raise invalid("project_id", None, "Mandatory field missing. Give the id of the project")
    if not isinstance(project, str):
        raise invalid("project_id", project, "Wrong type. Write a text")
    listed = body.get("quotas") or []
    if not isinstance(listed, list) or not all(isinstance(each, dict) for each in listed):
        raise invalid("quotas", listed, 'Value not a valid list. Write [{"resource": "alarms", "limit": 10}]')
    limits = [_limit(each) for each in listed]
    return _project(project) or "", limits[-1] if limits else None


def _limit(given: Mapping[str, Any]) -> int:
    _check_keys(given, ("resource", "limit"))
    for name in ("resource", "limit"):
        if given.get(name) is None:
            raise invalid(name, None, f"Mandatory field missing. Give the {name}")
    if given["resource"] != RESOURCE:
        raise invalid("resource", given["resource"], f"Value should be one of: {RESOURCE}")
    limit = given["limit"]
    if isinstance(limit, str) and limit.removeprefix("-").isdecimal() and limit.isascii() and len(limit) < 16:
        limit = int(limit)
    if not isinstance(limit, int) or isinstance(limit, bool):
        raise invalid("limit", limit, "Write an integer")
    if limit < NO_LIMIT:
        raise invalid("limit", limit, f"Value should be greater or equal to {NO_LIMIT}")
    if limit > MAX_LIMIT:
        raise invalid("limit", limit, f"Value should be at most {MAX_LIMIT:,}, or {NO_LIMIT} for any number")
    return limit


def _check_keys(given: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for name in given:
        if name not in known:
            raise Fault(400, f"Unknown attribute for argument body: {name[:100]}. Known: {', '.join(known)}")
