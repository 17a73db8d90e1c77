"""Alarms from outside: created, changed and deleted by the command line and the API, each with an owner.

Source: the API of Ceilometer 2014.1 and of Aodh 23, see docs/alarms.md.
"""

import json
import logging
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from meterhouse import times
from meterhouse.alarms.definitions import actions, units
from meterhouse.alarms.definitions.alarm import STATES, Alarm, from_mapping
from meterhouse.alarms.definitions.rules.threshold import ThresholdRule
from meterhouse.alarms.definitions.wanted import Condition
from meterhouse.alarms.delivery import trusts
from meterhouse.alarms.keeping import checks, cycles, quotas
from meterhouse.alarms.keeping.apply import FIRST_STATE, LEASE, WAIT_SECONDS, changes, values_of
from meterhouse.alarms.keeping.callers import Caller
from meterhouse.alarms.keeping.finding import find
from meterhouse.alarms.keeping.origin import FILE, OUTSIDE
from meterhouse.alarms.keeping.recording import History
from meterhouse.alarms.keeping.states import alarm as shown
from meterhouse.errors import DefinitionError, MeterhouseError, NotAllowed, UnknownKeyword
from meterhouse.settings import networks
from meterhouse.site import Site
from meterhouse.stores.warehouse_tables import alarms

log = logging.getLogger(__name__)

MANUAL = "Manually set via API"
"""The reason of a state that somebody has set, as Aodh words it."""


def create(
    site: Site,
    entry: Any,
    caller: Caller,
    *,
    project_id: str | None = None,
    user_id: str | None = None,
    token: str | None = None,
) -> dict[str, Any]:
    """Create an alarm; return it as `states.alarm` does.

    Args:
        site: the site.
        entry: its definition as a mapping, with the fields of `alarms.yaml`. Numbers and flags may be texts.
        caller: who creates it.
        project_id: the project that will own it; None for the caller's.
        user_id: the user that will own it; None for the caller.
        token: the caller's token of Keystone, by which trusts are made for `trust+` actions that name none.

    Raises:
        DefinitionError: it cannot work.
        Unavailable, Refused: Keystone makes no trust.
        NotAllowed: it is for another's project, or writes to a log, and the caller is no administrator.
        OverQuota: the project or the user has the maximum number of alarms.
    """
    project, user = caller.owner(project_id, user_id)
    made = _with_trusts(site, _checked(site, entry, caller, project), token)
    alarm_id, moment = str(uuid.uuid4()), times.now()
    with site.warehouse.lease(LEASE, wait_seconds=WAIT_SECONDS) as lease, lease.begin() as connection:
        quotas.check(site, connection, project, user)
        _check_beside_others(connection, alarm_id, made)
        values = values_of(made, moment)
        owner = {"origin": OUTSIDE, "project_id": project, "user_id": user}
        connection.execute(
            insert(alarms).values(alarm_id=alarm_id, **FIRST_STATE, state_timestamp=moment, **owner, **values)
        )
        history = History(connection, moment)
        history.add(alarm_id, "creation", values["definition"], **_by(caller, made.severity, project))
        history.write()
    return shown(site, alarm_id, caller)


def change(
    site: Site, wanted: str, entry: Any, caller: Caller, *, whole: bool = False, token: str | None = None
) -> dict[str, Any]:
    """Change an alarm from outside; return it as `states.alarm` does. It keeps its state until it is evaluated.

    Args:
        site: the site.
        wanted: its id or its name.
        entry: the fields to change; with `whole`, the whole definition.
        caller: who changes it.
        whole: whether fields that are left out get their defaults.
        token: the caller's token of Keystone; see `create`. Trusts of actions that go are deleted by it.

    Raises:
        UnknownName: there is no such alarm.
        DefinitionError: it could not work, or a file declares it.
        NotAllowed: it would write to a log, and the caller is no administrator.
    """
    moment = times.now()
    with site.warehouse.lease(LEASE, wait_seconds=WAIT_SECONDS) as lease:
        with site.warehouse.read() as connection:
            row = _outside(connection, wanted, caller)
        given = entry if whole or not isinstance(entry, Mapping) else {**_entry(row), **entry}
        before = _urls(_entry(row))
        is_limited = bool(json.loads(row.definition).get("only_project"))
        made = _checked(site, given, caller, row.project_id, known=before, is_limited=is_limited)
        made = _with_trusts(site, made, token)
        with lease.begin() as connection:
            _check_beside_others(connection, row.alarm_id, made)
            values = values_of(made, moment)
            detail = changes(row.definition, values["definition"])
            if json.loads(detail):  # without a change, Aodh writes no entry
                cycles.keep_time(connection, row.alarm_id)
                connection.execute(update(alarms).where(alarms.c.alarm_id == row.alarm_id).values(**values))
                history = History(connection, moment)
                history.add(row.alarm_id, "rule change", detail, **_by(caller, made.severity, row.project_id))
                history.write()
    _end_trusts(site, set(before) - set(_urls(vars(made))), token)
    return shown(site, row.alarm_id, caller)


def remove(site: Site, wanted: str, caller: Caller, *, token: str | None = None) -> str:
    """Delete an alarm from outside; return its id. Its history stays, and the trusts that were made for it end.

    Raises:
        UnknownName: there is no such alarm.
        DefinitionError: a file declares it.
    """
    with site.warehouse.lease(LEASE, wait_seconds=WAIT_SECONDS) as lease, lease.begin() as connection:
        row = _outside(connection, wanted, caller)
        connection.execute(delete(alarms).where(alarms.c.alarm_id == row.alarm_id))
        history = History(connection, times.now())
        history.add(row.alarm_id, "deletion", row.definition, **_by(caller, row.severity, row.project_id))
        history.write()
    _end_trusts(site, _urls(_entry(row)), token)
    return str(row.alarm_id)


def set_state(site: Site, wanted: str, state: str, caller: Caller) -> dict[str, Any]:
    """Set the state of an alarm, also of one that a file declares. Nobody is notified, as in Aodh.

    Raises:
        UnknownName: there is no such alarm.
        UnknownKeyword: it is no state.
    """
    if state not in STATES:
        raise UnknownKeyword("state", str(state), list(STATES))
    moment = times.now()
    with site.warehouse.lease(LEASE, wait_seconds=WAIT_SECONDS) as lease, lease.begin() as connection:
        row = find(connection, wanted, caller)
        values = {"state": state, "state_timestamp": moment, "state_reason": MANUAL}
        connection.execute(update(alarms).where(alarms.c.alarm_id == row.alarm_id).values(**values))
        if state != row.state:
            detail = json.dumps({"state": state, "transition_reason": MANUAL})
            history = History(connection, moment)
            history.add(row.alarm_id, "state transition", detail, **_by(caller, row.severity, row.project_id))
            history.write()
    return shown(site, row.alarm_id, caller)


def _by(caller: Caller, severity: str, project_id: str) -> dict[str, Any]:
    """What the history says of who did it."""
    return {
        "severity": severity,
        "user_id": caller.user_id or None,
        "project_id": caller.project_id or None,
        "on_behalf_of": project_id or None,
    }


def _outside(connection: Connection, wanted: str, caller: Caller) -> Row[Any]:
    row = find(connection, wanted, caller)
    if row.origin == FILE:
        raise DefinitionError(
            f"alarm '{row.name}' is declared in a file of METERHOUSE_CONFIG_DIR",
            hint="Change it there: alarms.yaml or alarms.d/",
        )
    return row


def _entry(row: Row[Any]) -> dict[str, Any]:
    """The definition of a stored alarm as a mapping, without the limit to its project."""
    made = json.loads(row.definition)
    made.pop("only_project", None)
    made[f"{made['type']}_rule"] = made.pop("rule")
    return dict(made)


def _urls(definition: Mapping[str, Any]) -> list[str]:
    """All actions of a definition."""
    return [url for key in actions.LISTS for url in definition.get(key, ())]


def _with_trusts(site: Site, made: Alarm, token: str | None) -> Alarm:
    """The alarm with a trust in each `trust+` action that names none: one for equal URLs."""
    wanted = dict.fromkeys(url for url in _urls(vars(made)) if trusts.needs_one(url))
    if not wanted:
        return made
    if token is None:
        raise DefinitionError(
            f"alarm '{made.name}' has an action that needs a trust, and there is no token to make one",
            hint="Name a trust, or an application credential, in the URL: trust+https://TRUST_ID@HOST/…",
        )
    with_trust: dict[str, str] = {}
    try:
        for url in wanted:
            with_trust[url] = trusts.create(site.settings, token, url)
    except MeterhouseError:
        trusts.delete(site.settings, with_trust.values(), token)
        raise
    return _with_actions(made, lambda urls: tuple(with_trust.get(url, url) for url in urls))


def _with_actions(made: Alarm, change: Callable[[tuple[str, ...]], tuple[str, ...]]) -> Alarm:
    return replace(
        made,
        alarm_actions=change(made.alarm_actions),
        ok_actions=change(made.ok_actions),
        insufficient_data_actions=change(made.insufficient_data_actions),
    )


def _end_trusts(site: Site, urls: Iterable[str], token: str | None) -> None:
    """Delete the trusts of actions that are no more. One that cannot be deleted is useless without the alarm."""
    for fault in trusts.delete(site.settings, urls, token):
        log.warning("a trust of an alarm that is gone is still in Keystone: %s", fault)


def _checked(
    site: Site,
    entry: Any,
    caller: Caller,
    project_id: str,
    known: Iterable[str] = (),
    *,
    is_limited: bool = False,
) -> Alarm:
    """The alarm that a caller's mapping defines.

    What is not the operator's reads the samples of its own project only, and what `is_limited` to them already stays
    so, whoever changes it. Actions that are `known` keep the user and
    password that nobody is shown.
    """
    made = from_mapping(entry, "", as_text=True)
    made = _with_actions(made, lambda urls: actions.with_known_userinfo(urls, known))
    for url in _urls(vars(made)):
        if url.startswith(("log:", "test:")) and not caller.admin:
            raise NotAllowed(f"not authorized to create the action {url}", hint="Write http://… or https://…")
        refusal = actions.refusal(url, OUTSIDE, networks(site.settings.webhook_allow))
        if refusal is not None:
            raise DefinitionError(
                f"alarm '{made.name}' has an action that it cannot call: {refusal[0]}", hint=refusal[1]
            )
    if caller.admin and project_id == caller.project_id and not is_limited:
        return made
    if isinstance(made.rule, ThresholdRule):  # the peers add it to the query, for everybody to see
        own = Condition("project_id", "eq", project_id)
        if own not in made.rule.query:
            made = replace(made, rule=replace(made.rule, query=(*made.rule.query, own)))
    return replace(made, only_project=project_id)


def _check_beside_others(connection: Connection, alarm_id: str, made: Alarm) -> None:
    parts = getattr(made.rule, "alarm_ids", ())
    if made.only_project and parts:  # first: whether another's alarm exists is none of the caller's business
        query = select(alarms.c.alarm_id).where(alarms.c.project_id == made.only_project)
        own = set(connection.execute(query).scalars())
        for each in parts:
            if each not in own:
                raise DefinitionError(
                    f"alarm '{made.name}' combines the alarm {each}, which does not exist", hint="Correct the id"
                )
    others = checks.combinations(connection)
    others.pop(alarm_id, None)
    for _, what, hint in checks.refused_combinations({alarm_id: made}, others):
        raise DefinitionError(what, hint=hint)
    if units.meters_of_several(connection).intersection(made.rule.meters):
        refusal = units.refusal(connection, made)
        if refusal is not None:
            raise DefinitionError(f"alarm '{made.name}' {refusal[0]}", hint=refusal[1])
