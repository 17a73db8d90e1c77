"""Alarms from outside: created, changed and deleted by the command line and the API, each with an owner.

Source: the API of Ceilometer 2014.1 and of Aodh 23, see docs/alarms.md.
"""

import json
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Connection, Row, select

from meterhouse import times
from meterhouse.alarms.definitions import actions, units
from meterhouse.alarms.definitions.alarm import STATES, UNKNOWN, Alarm, from_json, from_mapping
from meterhouse.alarms.definitions.rules.combination import CombinationRule
from meterhouse.alarms.definitions.rules.threshold import ThresholdRule
from meterhouse.alarms.definitions.wanted import Condition
from meterhouse.alarms.keeping import checks, cycles, quotas
from meterhouse.alarms.keeping.apply import FIRST_STATE, changes, values_of
from meterhouse.alarms.keeping.callers import MAX_SHOWN, Caller
from meterhouse.alarms.keeping.finding import Wanted, find
from meterhouse.alarms.keeping.origin import FILE, OUTSIDE
from meterhouse.alarms.keeping.states import shown
from meterhouse.alarms.keeping.trusting import Trusts, end_trusts, urls_of, with_actions
from meterhouse.alarms.keeping.writing import Write, carry_out, entry
from meterhouse.errors import DefinitionError, NotAllowed, NotAuthorized, UnknownKeyword
from meterhouse.settings import networks
from meterhouse.site import Site
from meterhouse.stores.warehouse_tables import alarms

MANUAL = "Manually set via API"
"""The reason of a state that somebody has set, as Aodh words it."""


def create(
    site: Site,
    given: Any,
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
        given: its definition as a mapping, with the fields of `alarms.yaml`. Numbers and flags may be texts.
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
    owner = caller.owner(project_id, user_id)
    made = _checked(site, given, caller, owner[0])
    with Trusts(site, token) as trusted:
        trusted.make_for(made)
        made = trusted.given_to(made)
        written = carry_out(site, lambda connection: _creation(site, connection, made, owner, state, caller))
    assert written is not None
    return shown({**written.values, "evaluate_timestamp": None, "held_since": None})


def _creation(
    site: Site, connection: Connection, made: Alarm, owner: tuple[str, str], state: str, caller: Caller
) -> Write:
    moment, alarm_id = times.now(), str(uuid.uuid4())
    is_limited = quotas.check(site, connection, *owner)
    _check_beside_others(connection, alarm_id, made)
    row = {
        "alarm_id": alarm_id,
        "origin": OUTSIDE,
        "project_id": owner[0],
        "user_id": owner[1],
        **FIRST_STATE,
        "state": state,
        "state_timestamp": moment,
        **values_of(made, moment),
    }
    entries = [entry(row, "creation", row["definition"], moment, caller)]
    return Write("insert", alarm_id, row, entries, alone=is_limited or _combines(made))


def change(
    site: Site,
    wanted: Wanted,
    given: Any,
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
        given: the fields to change; with `whole`, the whole definition.
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
    with Trusts(site, token) as trusted:
        changing = _Change(site, wanted, given, caller, whole, project_id, user_id, state, trusted)
        while True:  # Keystone is asked between the transactions: nobody else waits for it
            written = carry_out(site, changing.plan)
            if not trusted.lacking(changing.made):
                break
            trusted.make_for(changing.made)
    end_trusts(site, set(changing.before) - set(urls_of(vars(changing.made))), token)
    return shown({**changing.row._mapping, **(written.values if written else {})})


@dataclass
class _Change:
    """A change of an alarm. `plan` reads the alarm: `row`; `before` are its actions; `made` is what it becomes."""

    site: Site
    wanted: Wanted
    given: Any
    caller: Caller
    whole: bool
    project_id: str | None
    user_id: str | None
    state: str | None
    trusted: Trusts
    row: Row[Any] = field(init=False)
    before: list[str] = field(init=False)
    made: Alarm = field(init=False)

    def plan(self, connection: Connection) -> Write | None:
        """What is to be written; None if nothing changes, or trusts are to be made first."""
        self.row = row = _outside(connection, self.wanted, self.caller)
        owner = (row.project_id, row.user_id)
        if self.caller.admin:
            owner = (self.project_id or owner[0], self.user_id or owner[1])
        self.made = self.trusted.given_to(self._made(owner[0]))
        if self.trusted.lacking(self.made):
            return None
        return self._write(connection, owner)

    def _made(self, project_id: str) -> Alarm:
        old = _entry(self.row)
        self.before = urls_of(old)
        given = self.given if self.whole or not isinstance(self.given, Mapping) else {**old, **self.given}
        limit = str(_definition(self.row.definition).get("only_project", ""))
        made = _checked(self.site, given, self.caller, project_id, self.before, limit)
        if made.description and made.description == _sentence(self.row):
            made = replace(made, description="")  # who reads and writes back does not mean to keep what was made up
        return made

    def _write(self, connection: Connection, owner: tuple[str, str]) -> Write | None:
        row, moment = self.row, times.now()
        detail = json.loads(changes(row.definition, self.made.as_json()))
        new: dict[str, Any] = {
            name: value for name, value in zip(_OWNER, owner, strict=True) if value != row._mapping[name]
        }
        is_limited = "project_id" in new and quotas.check(self.site, connection, *owner)
        detail |= new
        if detail:  # without a change, Aodh writes no entry
            _check_beside_others(connection, row.alarm_id, self.made)
            new |= values_of(self.made, moment)
        moves = self.state is not None and self.state != row.state
        if moves:
            new |= {"state": self.state, "state_timestamp": moment, "state_reason": MANUAL}
        if not new:
            return None
        after = {**row._mapping, **new}
        entries = []
        if detail:
            text = json.dumps(detail, sort_keys=True)
            entries.append(entry(after, "rule change", text, moment, self.caller))
        if moves:
            entries.append(entry(after, cycles.TRANSITION, _manually(after["state"]), moment, self.caller))
        known = {name: row._mapping[name] for name in ("definition", *_OWNER, *(("state",) if moves else ()))}
        return Write("update", row.alarm_id, new, entries, known, alone=is_limited or _combines(self.made))


_OWNER = ("project_id", "user_id")


def _combines(made: Alarm) -> bool:
    """Whether it rests on what other alarms are: nobody may change these until it is written."""
    return isinstance(made.rule, CombinationRule)


def _sentence(row: Row[Any]) -> str | None:
    """The description that a stored alarm is shown with if it has none; None if it has one."""
    try:
        alarm = from_json(row.definition)
    except DefinitionError:
        return None
    return None if alarm.description else alarm.rule.sentence


def remove(site: Site, wanted: Wanted, caller: Caller, *, token: str | None = None) -> str:
    """Delete an alarm from outside; return its id. Its history stays, and the trusts that were made for it end.

    Raises:
        UnknownName: there is no such alarm.
        DeclaredInFile: a file declares it.
    """

    def plan(connection: Connection) -> Write:
        row = _outside(connection, wanted, caller)
        entries = [entry(row._mapping, "deletion", row.definition, times.now(), caller)]
        return Write("delete", row.alarm_id, {}, entries, {"definition": row.definition})

    written = carry_out(site, plan)
    assert written is not None
    end_trusts(site, urls_of(_definition(written.as_read["definition"])), token)
    return written.alarm_id


def set_state(site: Site, wanted: Wanted, state: str, caller: Caller) -> dict[str, Any]:
    """Set the state of an alarm, also of one that a file declares. Nobody is notified, as in Aodh.

    Raises:
        UnknownName: there is no such alarm.
        UnknownKeyword: it is no state.
    """
    _check_state(state)
    found: list[Row[Any]] = []

    def plan(connection: Connection) -> Write:
        row, moment = find(connection, wanted, caller), times.now()
        found.append(row)
        entries = [entry(row._mapping, cycles.TRANSITION, _manually(state), moment, caller)]
        values = {"state": state, "state_timestamp": moment, "state_reason": MANUAL}
        return Write("update", row.alarm_id, values, entries if state != row.state else [], {"state": row.state})

    written = carry_out(site, plan)
    assert written is not None
    return shown({**found[-1]._mapping, **written.values})


def _check_state(state: str) -> None:
    if state not in STATES:
        raise UnknownKeyword("state", str(state), list(STATES))


def _manually(state: str) -> str:
    """What the history says of a state that somebody has set."""
    return json.dumps({"state": state, "transition_reason": MANUAL})


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
    made = {key: value for key, value in _definition(row.definition).items() if key not in ("only_project", "rule")}
    made[f"{row.type}_rule"] = _definition(row.definition).get("rule")
    return made


def _definition(stored: str) -> dict[str, Any]:
    """A stored definition; empty if it is damaged, of which its evaluation says what is wrong."""
    try:
        made = json.loads(stored)
    except (ValueError, RecursionError):
        return {}
    return made if isinstance(made, dict) else {}


def _checked(
    site: Site,
    given: Any,
    caller: Caller,
    project_id: str,
    known: Iterable[str] = (),
    limit: str = "",
) -> Alarm:
    """The alarm that a caller's mapping defines.

    What is not the operator's reads the samples of its own project only, and what has had such a limit already keeps
    one, whoever changes it. Actions that are `known` keep the user and password that nobody is shown.
    """
    made = from_mapping(given, "", as_text=True)
    made = with_actions(made, lambda urls: actions.with_known_userinfo(urls, known))
    for url in urls_of(vars(made)):
        if url.startswith(("log:", "test:")) and not caller.admin:
            what = f"You are not authorized to create action: {url[:MAX_SHOWN]}"
            raise NotAuthorized(what, hint="Write http://… or https://…")
        refusal = actions.refusal(url, OUTSIDE, networks(site.settings.webhook_allow))
        if refusal is not None:
            raise DefinitionError(
                f"alarm '{made.name}' has an action that it cannot call: {refusal[0]}", hint=refusal[1]
            )
    if caller.admin and project_id == caller.project_id and not limit:
        return made
    if isinstance(made.rule, ThresholdRule):  # the peers add it to the query, for everybody to see
        own, other = (Condition("project_id", "eq", each) for each in (project_id, limit))
        query = tuple(each for each in made.rule.query if own == other or each != other)
        made = replace(made, rule=replace(made.rule, query=query if own in query else (*query, own)))
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
