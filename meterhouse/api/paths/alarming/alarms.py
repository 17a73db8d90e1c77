"""`/v2/alarms`: alarms are listed, created, shown, changed and deleted."""

from collections.abc import Sequence
from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Response

from meterhouse.alarms.definitions.alarm import UNKNOWN
from meterhouse.alarms.keeping import managed
from meterhouse.alarms.keeping.finding import AlarmId
from meterhouse.alarms.keeping.listing import ALARMS, FLAGS, Page, alarms_of
from meterhouse.alarms.keeping.states import one
from meterhouse.api.access.rules import check
from meterhouse.api.answers.faults import invalid, not_authorized
from meterhouse.api.answers.json_text import answer
from meterhouse.api.asked import Asked, allowed
from meterhouse.api.paths.alarming.bodies import alarm_of
from meterhouse.api.paths.alarming.finding import found
from meterhouse.api.paths.alarming.models import AlarmBody, AlarmShown, documented_body
from meterhouse.api.paths.alarming.rule_projects import check_rule
from meterhouse.api.paths.alarming.shown import alarm_object, no_content
from meterhouse.api.paths.alarming.sorting import SORT, order_of
from meterhouse.api.requests.arguments import Arguments
from meterhouse.api.requests.paging import LIMIT, MARKER, limit_of, marker_of
from meterhouse.api.requests.simple_query import Q, Query, checked_equal, compared, latest, queries_of
from meterhouse.filters import Condition, Filter

router = APIRouter(tags=["alarms"])

ALL_PROJECTS: Final = "all_projects"

FIELDS: Final = (
    *("name", "type", "enabled", "state", "severity", "timestamp", "repeat_actions", "user_id", "project_id"),
    ALL_PROJECTS,
)
"""By what the list can be filtered, as in Aodh 23."""

SORTED: Final = (
    *("alarm_id", "enabled", "name", "type", "severity", "timestamp", "user_id", "project_id", "state"),
    *("repeat_actions", "state_timestamp"),
)
"""By what the list can be ordered, as in Aodh 23."""

ARGUMENTS: Final = Arguments(Q, SORT, LIMIT, MARKER)
NO_ARGUMENTS: Final = Arguments()

AlarmPath = Annotated[str, Path(description="Id of the alarm.")]


@router.get(
    "/v2/alarms",
    openapi_extra=ARGUMENTS.documented,
    responses={200: {"model": list[AlarmShown], "description": "The alarms"}},
)
async def alarms(asked: Annotated[Asked, allowed("telemetry:get_alarms")]) -> Response:
    """List the alarms of the own project.

    The one that was defined last comes first. `q` takes name, type, enabled, state, severity, timestamp,
    repeat_actions, user_id, project_id and all_projects, with the operator eq. An administrator sees other projects by
    project_id, or all by `all_projects`.
    """
    given = await ARGUMENTS.of(asked.request)
    limit, order, marker = limit_of(given, asked.site.settings), order_of(given, SORTED), marker_of(given)
    page = Page(limit, _conditions(queries_of(given), asked), order, marker)
    caller = asked.identity.caller
    rows = await asked.run(lambda: alarms_of(asked.site, caller, page))
    return answer([alarm_object(row) for row in rows])


def _conditions(queries: Sequence[Query], asked: Asked) -> list[Condition]:
    """The conditions of a list, with that on the project whose alarms are meant.

    Raises:
        Fault: one cannot be used (status 400), or is about a project that the caller may not see (401, 403).
    """
    identity = asked.identity
    everybody, project = False, None
    made: list[Condition] = []
    for each in latest(queries, str):
        if each.field not in FIELDS:
            raise invalid("field", each.field, f"only fields {', '.join(FIELDS)} are allowed")
        checked_equal(each)
        if each.field == ALL_PROJECTS:
            everybody = each.boolean()
            continue
        if each.field == "project_id":
            project = each.value
        value = str(each.boolean()).lower() if each.field in FLAGS else each.value
        made.append(compared(Query(each.field, each.op, value, "" if each.field in FLAGS else each.type), ALARMS))
    if everybody:
        check("telemetry:get_alarms:all_projects", identity)
    if project is not None and not identity.is_admin and project != identity.project_id:
        raise not_authorized(project)
    if not everybody and project is None and identity.project_id:
        made.append(Filter("project_id", "eq", identity.project_id, ALARMS))
    return made


@router.post(
    "/v2/alarms",
    status_code=201,
    openapi_extra=documented_body(AlarmBody),
    responses={201: {"model": AlarmShown, "description": "The alarm; its URL is in the header Location"}},
)
async def create(asked: Annotated[Asked, allowed("telemetry:create_alarm")]) -> Response:
    """Create an alarm.

    It belongs to the caller's project and user; an administrator may name others. An alarm that is not the
    administrator's own sees the samples and events of its project alone. The id is made: one in the body is left aside.
    An action `trust+http://…` or `trust+https://…` gets a trust by the caller's token, which ends with the alarm.
    """
    await NO_ARGUMENTS.of(asked.request)
    given, identity = await alarm_of(asked.request), asked.identity
    check_rule(given.entry, identity)

    def made() -> dict[str, Any]:
        with found(""):
            return managed.create(
                asked.site,
                given.entry,
                identity.caller,
                project_id=given.project_id,
                user_id=given.user_id,
                state=given.state or UNKNOWN,
                token=identity.token,
            )

    row = await asked.run(made)
    return answer(alarm_object(row), 201, {"Location": _url(asked, row["alarm_id"])})


def _url(asked: Asked, alarm_id: str) -> str:
    return f"{str(asked.request.base_url).rstrip('/')}/v2/alarms/{alarm_id}"


@router.get("/v2/alarms/{alarm_id}", responses={200: {"model": AlarmShown, "description": "The alarm"}})
async def alarm(alarm_id: AlarmPath, asked: Annotated[Asked, allowed("telemetry:get_alarm")]) -> Response:
    """Show an alarm.

    Users and passwords of its actions are not shown, nor are the ids of its trusts.
    """
    await NO_ARGUMENTS.of(asked.request)
    caller = asked.identity.caller

    def shown() -> dict[str, Any]:
        with found(alarm_id):
            return one(asked.site, AlarmId(alarm_id), caller)

    return answer(alarm_object(await asked.run(shown)))


@router.put(
    "/v2/alarms/{alarm_id}",
    openapi_extra=documented_body(AlarmBody),
    responses={200: {"model": AlarmShown, "description": "The alarm"}},
)
async def change(alarm_id: AlarmPath, asked: Annotated[Asked, allowed("telemetry:change_alarm")]) -> Response:
    """Change an alarm, by its whole definition.

    What the body leaves out gets its default, but for the state, which is kept, and the owner. Only an administrator
    gives an alarm to another project or user. An alarm that a file of the site declares is changed there: status 403.
    """
    await NO_ARGUMENTS.of(asked.request)
    given, identity = await alarm_of(asked.request), asked.identity
    check_rule(given.entry, identity)

    def changed() -> dict[str, Any]:
        with found(alarm_id):
            return managed.change(
                asked.site,
                AlarmId(alarm_id),
                given.entry,
                identity.caller,
                whole=True,
                project_id=given.project_id,
                user_id=given.user_id,
                state=given.state,
                token=identity.token,
            )

    return answer(alarm_object(await asked.run(changed)))


@router.delete(
    "/v2/alarms/{alarm_id}", status_code=204, responses={204: {"description": "It is deleted; there is no body"}}
)
async def delete(alarm_id: AlarmPath, asked: Annotated[Asked, allowed("telemetry:delete_alarm")]) -> Response:
    """Delete an alarm.

    Its history stays, and the trusts that were made for it end.
    """
    await NO_ARGUMENTS.of(asked.request)
    identity = asked.identity

    def deleted() -> None:
        with found(alarm_id):
            managed.remove(asked.site, AlarmId(alarm_id), identity.caller, token=identity.token)

    await asked.run(deleted)
    return no_content()
