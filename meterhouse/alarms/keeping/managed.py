"""Alarms from outside: created, changed and deleted by the command line and the API, each with an owner.

Source: the API of Ceilometer 2014.1 and of Aodh 23, see docs/alarms.md.
"""

import json
import logging
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Self

from sqlalchemy import Connection, Row, delete, insert, select, update

from meterhouse import times
from meterhouse.alarms.definitions import actions, units
from meterhouse.alarms.definitions.alarm import STATES, UNKNOWN, Alarm, from_json, from_mapping
from meterhouse.alarms.definitions.rules.combination import CombinationRule
from meterhouse.alarms.definitions.rules.threshold import ThresholdRule
from meterhouse.alarms.definitions.wanted import Condition
from meterhouse.alarms.delivery import trusts
from meterhouse.alarms.keeping import checks, cycles, quotas
from meterhouse.alarms.keeping.apply import FIRST_STATE, changes, values_of
from meterhouse.alarms.keeping.callers import MAX_SHOWN, Caller
from meterhouse.alarms.keeping.defining import defining
from meterhouse.alarms.keeping.finding import Wanted, find
from meterhouse.alarms.keeping.origin import FILE, OUTSIDE
from meterhouse.alarms.keeping.recording import History
from meterhouse.alarms.keeping.states import shown
from meterhouse.errors import DefinitionError, NotAllowed, NotAuthorized, UnknownKeyword
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
    state: str = UNKNOWN,
    token: str | None = None,
) -> dict[str, Any]:
    """Create an alarm; return it as `states.alarm_list` does.

    Args:
        site: the site.
        entry: its definition as a mapping, with the fields of `alarms.yaml`. Numbers and flags may be texts.
        caller: who creates it.
        project_id: the project that will own it; None for the caller's.
        user_id: the user that will own it; None for the caller.
        state: its first state.
        token: the caller's token of Keystone, by which trusts are made for `trust+` actions that name none.

    Raises:
        DefinitionError: it cannot work.
        Unavailable, Refused: Keystone makes no trust.
        NotAllowed: it is for another's project, or writes to a log, and the caller is no administrator.
        OverQuota: the project or the user has the maximum number of alarms.
        UnknownKeyword: it is no state.
    """
    _check_state(state)
    project, user = caller.owner(project_id, user_id)
    made = _checked(site, entry, caller, project)
    with _Trusts(site, token) as trusted:
        trusted.make_for(made)
        made = trusted.given_to(made)
        with defining(site) as connection:
            moment = times.now()
            quotas.check(site, connection, project, user)
            alarm_id = str(uuid.uuid4())
            _check_beside_others(connection, alarm_id, made)
            row = {
                "alarm_id": alarm_id,
                "origin": OUTSIDE,
                "project_id": project,
                "user_id": user,
                **FIRST_STATE,
                "state": state,
                "state_timestamp": moment,
                **values_of(made, moment),
            }
            connection.execute(insert(alarms), row)
            _record(connection, moment, row, "creation", row["definition"], caller)
    return shown({**row, "evaluate_timestamp": None, "held_since": None})


def change(
    site: Site,
    wanted: Wanted,
    entry: Any,
    caller: Caller,
    *,
    whole: bool = False,
    project_id: str | None = None,
    user_id: str | None = None,
    state: str | None = None,
    token: str | None = None,
) -> dict[str, Any]:
    """Change an alarm from outside; return it as `states.alarm_list` does. It keeps its state until it is evaluated.

    Args:
        site: the site.
        wanted: its id or its name.
        entry: the fields to change; with `whole`, the whole definition.
        caller: who changes it.
        whole: whether fields that are left out get their defaults.
        project_id: the project that will own it; None for the one that does. Only an administrator gives it away.
        user_id: the user that will own it; None for the one that does.
        state: its new state; None to keep it.
        token: the caller's token of Keystone; see `create`. Trusts of actions that go are deleted by it.

    Raises:
        UnknownName: there is no such alarm.
        DeclaredInFile: a file declares it.
        DefinitionError: it could not work.
        NotAllowed: it would write to a log, and the caller is no administrator.
        UnknownKeyword: it is no state.
    """
    if state is not None:
        _check_state(state)
    with _Trusts(site, token) as trusted:
        while True:  # Keystone is asked between the transactions: nobody else waits for it
            with defining(site) as connection:
                row = _outside(connection, wanted, caller)
                owner = (project_id or row.project_id, user_id or row.user_id) if caller.admin else _owner(row)
                made, before = _changed(site, row, entry, caller, owner[0], whole=whole)
                made = trusted.given_to(made)
                if not trusted.lacking(made):
                    written = _write(site, connection, row, made, owner, state, caller)
                    break
            trusted.make_for(made)
    _end_trusts(site, set(before) - set(_urls(vars(made))), token)
    return shown({**row._mapping, **written})


def _changed(
    site: Site, row: Row[Any], entry: Any, caller: Caller, project_id: str, *, whole: bool
) -> tuple[Alarm, list[str]]:
    """The alarm that a stored one becomes, and the actions before."""
    old = _entry(row)
    given = entry if whole or not isinstance(entry, Mapping) else {**old, **entry}
    before = _urls(old)
    is_limited = bool(json.loads(row.definition).get("only_project"))
    made = _checked(site, given, caller, project_id, known=before, is_limited=is_limited)
    if made.description and made.description == _sentence(row):
        made = replace(made, description="")  # who reads and writes back does not mean to keep what was made up
    return made, before


def _sentence(row: Row[Any]) -> str | None:
    """The description that a stored alarm is shown with if it has none; None if it has one."""
    try:
        alarm = from_json(row.definition)
    except DefinitionError:
        return None
    return None if alarm.description else alarm.rule.sentence


def _write(
    site: Site,
    connection: Connection,
    row: Row[Any],
    made: Alarm,
    owner: tuple[str, str],
    state: str | None,
    caller: Caller,
) -> dict[str, Any]:
    """Write what an alarm becomes; return the columns that change."""
    moment = times.now()
    written: dict[str, Any] = {}
    detail = json.loads(changes(row.definition, made.as_json()))
    if owner != _owner(row):
        if owner[0] != row.project_id:
            quotas.check(site, connection, *owner)
        written = {"project_id": owner[0], "user_id": owner[1]}
        detail |= {name: value for name, value in written.items() if value != row._mapping[name]}
    if detail:  # without a change, Aodh writes no entry
        _check_beside_others(connection, row.alarm_id, made)
        written |= values_of(made, moment)
    moved = {"state": state, "state_timestamp": moment, "state_reason": MANUAL}
    if state is not None and state != row.state:
        written |= moved
    if written:
        kept = {"evaluate_timestamp": cycles.evaluate_timestamp()} if detail else {}  # it may be disabled next
        connection.execute(update(alarms).where(alarms.c.alarm_id == row.alarm_id).values(**written, **kept))
    new = {**row._mapping, **written}
    if detail:
        _record(connection, moment, new, "rule change", json.dumps(detail, sort_keys=True), caller)
    if "state" in written:
        _record(connection, moment, new, cycles.TRANSITION, _manually(new["state"]), caller)
    return written


def _owner(row: Row[Any]) -> tuple[str, str]:
    return row.project_id, row.user_id


def remove(site: Site, wanted: Wanted, caller: Caller, *, token: str | None = None) -> str:
    """Delete an alarm from outside; return its id. Its history stays, and the trusts that were made for it end.

    Raises:
        UnknownName: there is no such alarm.
        DeclaredInFile: a file declares it.
    """
    with defining(site) as connection:
        row = _outside(connection, wanted, caller)
        connection.execute(delete(alarms).where(alarms.c.alarm_id == row.alarm_id))
        _record(connection, times.now(), row._mapping, "deletion", row.definition, caller)
    _end_trusts(site, _urls(_entry(row)), token)
    return str(row.alarm_id)


def set_state(site: Site, wanted: Wanted, state: str, caller: Caller) -> dict[str, Any]:
    """Set the state of an alarm, also of one that a file declares. Nobody is notified, as in Aodh.

    Raises:
        UnknownName: there is no such alarm.
        UnknownKeyword: it is no state.
    """
    _check_state(state)
    with defining(site) as connection:
        row, moment = find(connection, wanted, caller), times.now()
        values = {"state": state, "state_timestamp": moment, "state_reason": MANUAL}
        connection.execute(update(alarms).where(alarms.c.alarm_id == row.alarm_id).values(**values))
        if state != row.state:
            _record(connection, moment, row._mapping, cycles.TRANSITION, _manually(state), caller)
    return shown({**row._mapping, **values})


def _check_state(state: str) -> None:
    if state not in STATES:
        raise UnknownKeyword("state", str(state), list(STATES))


def _manually(state: str) -> str:
    """What the history says of a state that somebody has set."""
    return json.dumps({"state": state, "transition_reason": MANUAL})


def _record(
    connection: Connection, moment: datetime, row: Mapping[Any, Any], kind: str, detail: str, caller: Caller
) -> None:
    """Write an entry of the history: what a caller has done to an alarm."""
    history = History(connection, moment)
    history.add(
        row["alarm_id"],
        kind,
        detail,
        severity=row["severity"],
        user_id=caller.user_id or None,
        project_id=caller.project_id or None,
        on_behalf_of=row["project_id"] or None,
    )
    history.write()


def _outside(connection: Connection, wanted: Wanted, caller: Caller) -> Row[Any]:
    row = find(connection, wanted, caller)
    if row.origin == FILE:
        raise DeclaredInFile(
            f"alarm '{row.name}' is declared in a file of METERHOUSE_CONFIG_DIR",
            hint="Change it there: alarms.yaml or alarms.d/",
        )
    return row


class DeclaredInFile(NotAllowed, DefinitionError):
    """An alarm that is changed in its file alone."""


def _entry(row: Row[Any]) -> dict[str, Any]:
    """The definition of a stored alarm as a mapping, without the limit to its project."""
    made = json.loads(row.definition)
    made.pop("only_project", None)
    made[f"{made['type']}_rule"] = made.pop("rule")
    return dict(made)


def _urls(definition: Mapping[str, Any]) -> list[str]:
    """All actions of a definition."""
    return [url for key in actions.LISTS for url in definition.get(key, ())]


class _Trusts:
    """The trusts that are made for an alarm's `trust+` actions: one for equal URLs. After an error, they are deleted.

    Args:
        site: the site.
        token: the caller's; None if there is none.
    """

    def __init__(self, site: Site, token: str | None) -> None:
        self._site, self._token = site, token
        self._made: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is not None and self._made:
            _end_trusts(self._site, self._made.values(), self._token)

    def lacking(self, alarm: Alarm) -> list[str]:
        """The actions that need a trust, and name none."""
        return list(dict.fromkeys(url for url in _urls(vars(alarm)) if trusts.needs_one(url)))

    def make_for(self, alarm: Alarm) -> None:
        """Make the trusts that an alarm lacks.

        Raises:
            DefinitionError: there is no token.
            MeterhouseError: Keystone makes none.
        """
        for url in self.lacking(alarm):
            if self._token is None:
                raise DefinitionError(
                    f"alarm '{alarm.name}' has an action that needs a trust, and there is no token to make one",
                    hint="Name a trust, or an application credential, in the URL: trust+https://TRUST_ID@HOST/…",
                )
            if url not in self._made:
                self._made[url] = trusts.create(self._site.settings, self._token, url)

    def given_to(self, alarm: Alarm) -> Alarm:
        """The alarm with the trusts that were made."""
        return _with_actions(alarm, lambda urls: tuple(self._made.get(url, url) for url in urls))


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
            what = f"You are not authorized to create action: {url[:MAX_SHOWN]}"
            raise NotAuthorized(what, hint="Write http://… or https://…")
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
    parts = made.rule.alarm_ids if isinstance(made.rule, CombinationRule) else ()
    if parts:
        known = select(alarms.c.alarm_id).where(alarms.c.alarm_id.in_(parts))
        if made.only_project:  # whether another's alarm exists is none of the caller's business
            known = known.where(alarms.c.project_id == made.only_project)
        found = set(connection.execute(known).scalars())
        for each in parts:
            if each not in found and each != alarm_id:
                raise UnknownPart(
                    f"alarm '{made.name}' combines the alarm {each[:MAX_SHOWN]}, which does not exist",
                    hint="Correct the id",
                )
        others = checks.combined_by(connection, parts)
        others.pop(alarm_id, None)
        for _, what, hint in checks.refused_combinations({alarm_id: made}, others):
            raise DefinitionError(what, hint=hint)
    if any(units.is_of_several(connection, meter) for meter in made.rule.meters):
        refusal = units.refusal(connection, made)
        if refusal is not None:
            raise DefinitionError(f"alarm '{made.name}' {refusal[0]}", hint=refusal[1])


class UnknownPart(DefinitionError):
    """A combination of an alarm that does not exist, or that its owner may not see."""
