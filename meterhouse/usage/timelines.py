"""The life of a resource: from what witnesses said of it, in the order of time, to periods.

Events rule. Audits and polls fill in where an event was lost, and the period says so. The rules:

- An event that begins the resource sets its start, and one that ends it sets its end. The time is the one that the
  service gives in the payload: `launched_at`, and `deleted_at` if it is within `CLOSE` of the event.
- If no such event came, the resource exists since the time that the first notification about it claims, otherwise since
  the first time at which a witness saw it.
- A witness that contradicts what an event said is believed if nobody contradicts it in turn: a sample may be made from
  what an agent remembers. An event that says the same within `CLOSE` sets the boundary, because clocks differ.
- A change that only an audit shows began at the latest of: when a witness saw the old state, the start of the audit
  period, and the time that the audit claims for the last launch.
- After its end by an event, only an event brings a resource back.

A life is folded month by month: `Life` is all that is known at the start of a month, so a month is computed without
those before it, and the result does not depend on how facts were divided. Times are microseconds since 1970, UTC.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Final, NamedTuple

import msgspec

from meterhouse.definitions.resources import ATTRIBUTES, SIZES, ResourceType

CLOSE: Final = 600_000_000
"""How far a payload's time may be from its event, and two clocks from each other: 10 minutes."""

BUILD: Final = 3_600_000_000
"""A resource that was launched later than this after its creation was launched before: Nova renews `launched_at`."""

HOUR: Final = 3_600_000_000

EVENT, AUDIT, POLL = "event", "audit", "poll"

_BITS: Final = {EVENT: 1, AUDIT: 2, POLL: 4}

_UNKNOWN: Final[tuple[Any, ...]] = (None,) * 14

_NAMES: Final = (*ATTRIBUTES, *SIZES, "measures")

_PROJECT, _USER, _NAME, _FLAVOR, _STATE, _HOST, _ZONE, _IMAGE = range(8)
_SPLITTING: Final = (_PROJECT, _FLAVOR, _STATE, _HOST, _ZONE, _IMAGE, 8, 9, 10, 11, 12, 13)
"""Places in `values` whose change begins a new period: all but user and name."""

_BILLED: Final = (_PROJECT, _FLAVOR, 8, 9, 10, 11, 12, 13)
"""Those that decide on who pays, and how much."""

RANKS: Final = {"was": 0, "audit": 1, "poll": 2, "seen": 3, "begins": 4, "is": 5, "ends": 6}
"""The order of facts of the same moment."""


class Fact(NamedTuple):
    """One thing that a witness said.

    Attributes:
        at: when; of a run of audits or polls, the last.
        effect: begins, ends, is, was, seen, audit or poll.
        from_at: start of the first audit period, or the first poll; of an event that an audit sent again, its time by
            the audit; None for others.
        to_at: end of the last audit period, or the last poll.
        reports: how many there were.
        began, created, ended: times that it claims.
        values: project_id, user_id, name, flavor, state, host, zone, image, five sizes, measures; None if not said.
        evidence, last_evidence: ids of the first and the last message, or `meter@time`.
        event_type: what the notification is called, or the meter.
        reporter: who said it; see `reporter_of`.
        source: as of samples.
        step: of polls, the seconds from one to the next in µs.
        quiet_since, quiet_until: of polls, since when no resource of its type had any before the first, and until when
            none had any after the last; 0 if others had.
        stale: of polls, places of sizes that these samples no longer tell, and when one told them last.
    """

    at: int
    effect: str
    from_at: int | None
    to_at: int | None
    reports: int
    began: int | None
    created: int | None
    ended: int | None
    values: tuple[Any, ...]
    evidence: str | None
    last_evidence: str | None
    event_type: str
    reporter: str
    source: str
    step: int = 0
    quiet_since: int = 0
    quiet_until: int = 0
    stale: tuple[tuple[int, int], ...] = ()

    @property
    def witness(self) -> str:
        """event, audit or poll."""
        return POLL if self.effect == "poll" else AUDIT if self.effect == "audit" else EVENT

    @property
    def again(self) -> bool:
        """Whether an audit sent this event again. It says what the resource is when it is sent, not when it was."""
        return self.from_at is not None and self.witness == EVENT


class Boundary(msgspec.Struct, array_like=True, frozen=True):
    """A start or an end: when, by which witness, its evidence and why, and what the witnesses allow."""

    at: int
    witness: str
    evidence: str | None
    reason: str | None
    earliest: int
    latest: int


class Seen(msgspec.Struct, array_like=True, frozen=True):
    """When a witness last reported a resource, in which steps, who, and where the resource was then.

    `since` is the start of the reports that follow each other without a gap; `quiet_until` is when others of its type
    were reported again, if none was after it.
    """

    at: int
    step: int
    reporter: str
    reports: int
    host: str = ""
    since: int = 0
    quiet_until: int = 0


class Life(msgspec.Struct, array_like=True):
    """What is known of a resource at a moment. All of it decides on periods, and nothing else does.

    Attributes:
        source: the source of the evidence.
        start: where the current period started; None if the resource does not exist.
        values: what it is in the current period.
        strong: for each value, whether an event said it.
        first: whether the current period is the first.
        last: when any witness last saw it.
        kinds: which witnesses saw it in the current period: 1 events, 2 audits, 4 polls.
        over: when an event ended it; None if none did.
        audits, polls: when these last reported it.
        doubt: what a witness said against an event, undecided.
        going: what said that the resource is gone, unless it is the event that ended it.
        same: when a witness last said all that it is in the current period.
        parts: when a witness last said a part of it, by place in `values`, if that was later.
        ever: which witnesses ever saw it.
        stale: sizes that samples told and then told no more, and when last, by place in `values`.
    """

    source: str = ""
    start: Boundary | None = None
    values: tuple[Any, ...] = (None,) * 14
    strong: tuple[bool, ...] = (False,) * 14
    first: bool = True
    last: int = 0
    kinds: int = 0
    over: int | None = None
    audits: Seen | None = None
    polls: Seen | None = None
    doubt: Fact | None = None
    going: Fact | None = None
    ever: int = 0
    same: int = 0
    parts: dict[int, int] = {}
    stale: dict[int, int] = {}

    @property
    def host(self) -> str:
        """Where it is; empty if that is not known. The pollsters of a host report what is on it."""
        return self.values[_HOST] or ""


@dataclass(frozen=True)
class Period:
    """One period of a resource; `end` is None while it goes on."""

    source: str
    start: Boundary
    end: Boundary | None
    values: tuple[Any, ...]
    kinds: int
    confirmed: int
    unconfirmed: bool


def fold(life: Life, facts: Sequence[Fact], kind: ResourceType, closed: list[Period]) -> None:
    """Take facts about one resource, in order, into its life; append the periods that they close."""
    for fact in facts:
        _take(life, fact, kind, closed)
        if life.stale or fact.stale:
            told = {place: at for place, at in life.stale.items() if fact.values[place] is None}
            life.stale = {**told, **dict(fact.stale)}


def confirm(life: Life, fact: Fact, kind: ResourceType) -> bool:
    """Take in an audit that says what is known, as most do; false for any other fact, which `fold` takes in."""
    start = life.start
    if (
        fact.effect != "audit"
        or start is None
        or fact.values != life.values
        or life.doubt is not None
        or life.going is not None
        or (life.first and start.reason is not None)
        or fact.ended is not None
        or fact.from_at is None
        or (fact.values[_STATE] or "").lower() in kind.gone
    ):
        return False
    life.same = max(life.same, fact.at)
    _saw(life, fact)
    return True


def _take(life: Life, fact: Fact, kind: ResourceType, closed: list[Period]) -> None:
    if life.going is not None:
        event = fact if fact.effect == "ends" and fact.at - life.going.at <= CLOSE else life.going
        life.going = None
        _end(life, event, kind, closed)
        if event is fact:
            return
    if life.over is not None and (fact.effect != "begins" or (fact.began or fact.at) <= life.over):
        return
    if not life.source:
        life.source = fact.source
    state = (fact.values[_STATE] or "").lower()
    if state in kind.passing or (state in kind.nowhere and fact.values[_HOST] is None):
        fact = _plain(fact, state, kind)
    if fact.effect in ("is", "audit") and state in kind.gone:
        life.going = fact  # the event that ends it may come right after, and knows when
        return
    if fact.effect == "ends":
        _end(life, fact, kind, closed)
        return
    if life.start is None:
        _begin(life, fact, kind, state)
        if life.start is None:
            return
    elif fact.effect == "begins":
        _begun_again(life, fact, kind)
    else:
        _improve_start(life, fact, kind)
    if fact.again:
        _fill(life, fact.values, strong=False)
    if fact.effect == "seen" or fact.again:
        _saw(life, fact)
        return
    _compare(life, fact, kind, closed)
    _saw(life, fact)
    if fact.effect == "audit" and fact.ended is not None and fact.ended <= fact.at + CLOSE:
        _end(life, fact, kind, closed)


def _plain(fact: Fact, state: str, kind: ResourceType) -> Fact:
    """A fact without a state that is none of a period; on no host, if its state says so."""
    values = list(fact.values)
    if state in kind.passing:
        values[_STATE] = None
    else:
        values[_HOST] = ""
    return fact._replace(values=tuple(values))


# -- how it begins --------------------------------------------------------------------------------------------------


def _begin(life: Life, fact: Fact, kind: ResourceType, state: str) -> None:
    if fact.effect == "begins":
        if state in kind.failed and fact.began is None:
            return
        life.start, life.over = _beginning(fact, kind), None
    elif state in kind.absent and fact.began is None:
        return
    else:
        life.start = _first_seen(fact, kind)
    life.first, life.kinds, life.doubt = True, 0, None
    life.values, life.strong = _UNKNOWN, (False,) * 14
    life.last = life.start.at


def _beginning(fact: Fact, kind: ResourceType) -> Boundary:
    at = fact.at if fact.began is None else min(fact.began, fact.at)
    if fact.again:
        reason = f"no event told its beginning; {fact.event_type}, sent again by an audit, says since when it exists"
        return Boundary(at, EVENT, fact.evidence, reason, at, at if "began" in kind.times else at + BUILD)
    return Boundary(at, EVENT, fact.evidence, None, at, at)


def _claimed(fact: Fact, kind: ResourceType) -> tuple[int, int, int] | None:
    """Since when the resource exists by a notification's own words, and what they allow; None if it does not say."""
    if fact.effect == "poll" or (fact.effect == "audit" and fact.from_at is None):
        return None
    began = fact.began if fact.began is not None and fact.began <= fact.at + CLOSE else None
    created = fact.created if fact.created is not None and fact.created <= fact.at + CLOSE else None
    if began is not None:
        if created is not None and began - created > BUILD:
            return created, created, began
        return began, began, began
    if created is not None and "began" not in kind.times:
        # An image is created long before it has any data.
        creates = any("create" in each for each in kind.begins)
        return created, created, max(created, min(fact.at, created + BUILD) if creates else fact.at)
    return None


def _first_seen(fact: Fact, kind: ResourceType) -> Boundary:
    """The start of a resource whose beginning no event has told."""
    witness = fact.witness
    lost = "no event told its beginning; "
    claim = _claimed(fact, kind)
    if claim is not None:
        reason = f"{lost}{fact.event_type} says since when it exists"
        return Boundary(min(claim[0], fact.at), witness, fact.evidence, reason, claim[1], min(claim[2], fact.at))
    first = fact.at if fact.from_at is None else fact.from_at
    if fact.created is not None and first < fact.created <= fact.at:
        first = fact.created
    earliest = fact.created if fact.created is not None and fact.created < first else first - fact.step
    if fact.quiet_since:
        earliest = min(earliest, fact.quiet_since)
    reason = f"{lost}{fact.event_type} is the first that saw it"
    if fact.effect == "audit" and fact.from_at is not None:
        reason = f"{lost}it is in the audit of the period that starts then"
    latest = first
    if fact.effect == "audit" and fact.from_at is not None and fact.to_at is not None:  # it was there in the first one
        latest = max(first, min(fact.at, fact.from_at + (fact.to_at - fact.from_at) // max(fact.reports, 1)))
    return Boundary(first, witness, fact.evidence, reason, earliest, latest)


def _begun_again(life: Life, fact: Fact, kind: ResourceType) -> None:
    """An event that begins a resource that exists already, by another witness or by the same event a second time."""
    start = life.start
    if start is None or (start.witness == EVENT and start.reason is None):
        return
    if not life.first or (fact.again and start.at <= fact.at):
        return
    life.start = _beginning(fact, kind)
    life.last = max(life.last, life.start.at)
    if start.witness == EVENT and not fact.again:  # what it was when it began; not when the event was sent again
        told = fact.values
        life.values = tuple([known if new is None else new for new, known in zip(told, life.values, strict=True)])
        life.strong = tuple([sure or new is not None for new, sure in zip(told, life.strong, strict=True)])


def _improve_start(life: Life, fact: Fact, kind: ResourceType) -> None:
    """A start that no event told is moved to an earlier time that a witness claims, or to the start of its period."""
    start = life.start
    if not life.first or start is None or start.reason is None:
        return
    claim = _claimed(fact, kind)
    if claim is not None and claim[0] < start.at:
        reason = f"no event told its beginning; {fact.event_type} says since when it exists"
        life.start = Boundary(claim[0], fact.witness, fact.evidence, reason, claim[1], min(claim[2], start.at))
    elif claim is None and fact.from_at is not None:
        first = _first_seen(fact, kind)
        if first.at < start.at:
            life.start = first


# -- what it is -----------------------------------------------------------------------------------------------------


def _compare(life: Life, fact: Fact, kind: ResourceType, closed: list[Period]) -> None:
    """Take in what a fact says the resource is."""
    told = fact.values
    if told == life.values and life.doubt is None and (all(life.strong) or fact.effect in ("audit", "poll")):
        life.same = max(life.same, fact.at)
        return
    strong = fact.witness == EVENT
    if life.values is _UNKNOWN:
        life.values, life.strong = told, tuple([strong and value is not None for value in told])
        life.same = fact.at
        return
    if life.doubt is not None and _settle(life, fact, kind, closed):
        life.doubt = None
    differing = [
        place
        for place in _SPLITTING
        if (value := told[place]) is not None and (known := life.values[place]) is not None and value != known
    ]
    against = not strong and any(life.strong[place] for place in differing)
    if against and (fact.reports == 1 or fact.effect == "poll"):
        life.doubt = fact if life.doubt is None else life.doubt
        _fill(life, told, strong, skip=differing)
        return
    if differing:
        _change(life, fact, kind, closed, differing)
    else:
        _fill(life, told, strong)
        if all(one is not None or known is None for one, known in zip(told, life.values, strict=True)):
            life.same = max(life.same, fact.at)
        else:
            life.parts = {**life.parts, **{place: fact.at for place in _SPLITTING if told[place] is not None}}


def _settle(life: Life, fact: Fact, kind: ResourceType, closed: list[Period]) -> bool:
    """Decide on what was said against an event, by the next fact that says anything of it. Returns whether it did."""
    doubt = life.doubt
    assert doubt is not None
    places = [
        place
        for place in _SPLITTING
        if doubt.values[place] is not None
        and life.values[place] is not None
        and doubt.values[place] != life.values[place]
        and fact.values[place] is not None
    ]
    if not places:
        return False
    if any(fact.values[place] == life.values[place] for place in places):
        return True  # the event was right
    if fact.witness == EVENT and fact.at - doubt.at <= CLOSE:
        return True  # the event itself comes now: the clocks differ
    _change(life, doubt, kind, closed, places)
    return True


def _change(life: Life, fact: Fact, kind: ResourceType, closed: list[Period], places: Sequence[int]) -> None:
    """Close the current period where a fact shows a change, and start the next one."""
    start = life.start
    assert start is not None
    boundary = _changed_at(life, fact, kind, places)
    if boundary.reason is not None and boundary.at <= start.at < boundary.latest:
        # It was what it had been for a while that nobody knows: of this, the row of the new values tells.
        earliest = max(boundary.earliest, start.at)
        boundary = msgspec.structs.replace(boundary, at=start.at + 1, earliest=earliest)
    if boundary.at > start.at:
        closed.append(Period(life.source, start, boundary, life.values, life.kinds, boundary.at, False))
        life.start, life.first, life.kinds = boundary, False, 0
    # A period of no length is no period: what it was is forgotten, and the start stays.
    strong = fact.witness == EVENT
    values, by_event = list(life.values), list(life.strong)
    for place, value in enumerate(fact.values):
        if value is not None:
            values[place], by_event[place] = value, strong
    life.values, life.strong = tuple(values), tuple(by_event)
    life.same, life.parts = fact.at, {}


def _changed_at(life: Life, fact: Fact, kind: ResourceType, places: Sequence[int]) -> Boundary:
    """Where the values of some places changed to those of a fact."""
    witness = fact.witness
    if witness == EVENT and fact.effect != "was" and all(kind.tells(_NAMES[at], fact.event_type) for at in places):
        return Boundary(fact.at, EVENT, fact.evidence, None, fact.at, fact.at)
    start = life.start.at if life.start else 0
    seen = max(life.same, start, *(life.parts.get(place, 0) for place in places))
    hint = fact.began if fact.began is not None and seen < fact.began <= fact.at else None
    if fact.effect == "audit":
        first = fact.at if fact.from_at is None else fact.from_at
        latest = fact.at
        if fact.from_at is not None and fact.to_at is not None and fact.reports > 1:
            latest = fact.from_at + (fact.to_at - fact.from_at) // fact.reports + CLOSE
        at = max(seen, hint if hint is not None else first)
        reason = "no event told the change; an audit shows it"
    elif fact.effect == "poll":
        first = fact.at if fact.from_at is None else fact.from_at
        at, latest, reason = max(seen, hint or first), first, "no event told the change; samples show it"
    else:
        at, latest, reason = (
            max(seen, hint or fact.at),
            fact.at,
            f"no event told the change; {fact.event_type} shows it",
        )
    at = min(at, fact.at)
    return Boundary(at, witness, fact.evidence, reason, min(seen, at), max(at, latest))


def _fill(life: Life, told: tuple[Any, ...], strong: bool, skip: Sequence[int] = ()) -> None:
    """Take in values that were not known, and names; what a sample or an audit confirms stays as sure as it was."""
    values, by_event = life.values, life.strong
    new, sure = list(values), list(by_event)
    for place, value in enumerate(told):
        if value is None or place in skip:
            continue
        if values[place] is None or place in (_USER, _NAME):
            new[place] = value
        if strong:
            sure[place] = True
        elif values[place] is None:
            sure[place] = False
    life.values, life.strong = tuple(new), tuple(sure)


def _saw(life: Life, fact: Fact) -> None:
    witness = fact.witness
    at = fact.at
    if witness == AUDIT and fact.from_at is not None and fact.to_at is not None:
        before = life.audits
        step = (fact.to_at - fact.from_at) // max(fact.reports, 1)
        usual = before.step if before is not None and fact.reports < 3 else 0
        if step % HOUR or step < usual:  # sent for one resource, before it is resized or deleted
            life.last = max(life.last, at)
            life.kinds |= _BITS[AUDIT]
            return
        reports = fact.reports + (before.reports if before else 0)
        goes_on = before is not None and before.reporter == fact.reporter and fact.from_at <= before.at + 2 * step
        since = before.since if before is not None and goes_on else fact.from_at
        last = max(fact.to_at, before.at if before else 0)
        life.audits = Seen(last, step, fact.reporter, reports, life.host, since)
    elif witness in (POLL, AUDIT):
        before = life.polls
        reports = fact.reports + (before.reports if before else 0)
        step = fact.step or (at - before.at if before else 0)
        first = at if fact.from_at is None else fact.from_at
        if fact.reports * step < (at - first) * 4 // 5:  # they paused
            first = at
        goes_on = before is not None and first <= before.at + 3 * step
        since = before.since if before is not None and goes_on else first
        quiet = fact.quiet_until if before is None or at >= before.at else before.quiet_until
        life.polls = Seen(max(at, before.at if before else 0), step, fact.reporter, reports, life.host, since, quiet)
        witness = POLL
    life.last = max(life.last, at)
    life.kinds |= _BITS[witness]
    life.ever |= _BITS[witness]


# -- how it ends ----------------------------------------------------------------------------------------------------


def _end(life: Life, fact: Fact, kind: ResourceType, closed: list[Period]) -> None:
    at, reason = fact.at, None
    claim = fact.ended
    if claim is not None and (abs(at - claim) <= CLOSE or (fact.effect != "ends" and claim <= at)):
        at = claim
    earliest = latest = at
    if fact.effect != "ends":
        reason = f"no event told its end; {fact.event_type} says when it ended"
        if claim is None or at != claim:
            earliest, reason = min(life.last, at), f"no event told its end; {fact.event_type} says that it is gone"
    if life.start is None:
        life.over = at
        claimed = _claimed(fact, kind)
        if claimed is None or claimed[0] >= at:
            return
        life.start = _first_seen(fact, kind)
        life.values, life.strong = _UNKNOWN, (False,) * 14
        life.kinds = 0
        _fill(life, tuple(None if place == _STATE else value for place, value in enumerate(fact.values)), True)
        life.source = life.source or fact.source
    elif life.doubt is not None:
        _trailing(life, kind, closed)
    start = life.start
    assert start is not None
    if fact.effect == "ends" and not fact.again and _is_other(life, fact):
        earliest = min(max(life.same, start.at), at)
        reason = f"no event told a change before; {fact.event_type} shows it"
    life.kinds |= _BITS[fact.witness]
    life.ever |= _BITS[fact.witness]
    end = Boundary(at, fact.witness, fact.evidence, reason, earliest, latest)
    if at > start.at:
        closed.append(Period(life.source, start, end, life.values, life.kinds, at, False))
    life.over, life.start, life.doubt = at, None, None
    life.last = max(life.last, at)


def _is_other(life: Life, fact: Fact) -> bool:
    """Whether the event that ends a resource says another project, flavor or size than is known of it."""
    pairs = ((fact.values[place], life.values[place]) for place in _BILLED)
    return any(told is not None and known is not None and told != known for told, known in pairs)


def _trailing(life: Life, kind: ResourceType, closed: list[Period]) -> None:
    """Decide on what was said last against an event: an audit is believed, samples if they have said it for an hour."""
    doubt = life.doubt
    if doubt is None or life.start is None:
        return
    if doubt.effect == "poll" and (doubt.to_at or doubt.at) - (doubt.from_at or doubt.at) < HOUR:
        return
    differing = [
        place for place in _SPLITTING if doubt.values[place] is not None and doubt.values[place] != life.values[place]
    ]
    _change(life, doubt, kind, closed, differing)
    life.doubt = None


class Runs:
    """When a reporter reported resources without a pause: from when to when, one run for each resource.

    Args:
        runs: start and end of each, µs.
        returned: those that follow a pause, of resources that were reported before it.
    """

    def __init__(self, runs: Iterable[tuple[int, int]], returned: Iterable[tuple[int, int]] = ()) -> None:
        ordered = sorted(runs)
        self._returned = sorted(returned)
        self._starts = [start for start, _ in ordered]
        self._ends = list(accumulate((end for _, end in ordered), max))

    @property
    def last(self) -> int:
        """When it was last heard."""
        return self._ends[-1]

    def went_on(self, moment: int) -> bool:
        """Whether it reported some resource before a moment and after it, without a pause."""
        started = bisect_right(self._starts, moment)
        return started > 0 and self._ends[started - 1] >= moment

    def came_back(self, moment: int, patience: int) -> int | None:
        """When it came back, after a pause in which a moment was, with what it had reported before; None if it did not,
        or not for as long as `patience`.
        """
        return next((start for start, end in self._returned if start > moment and end - start >= patience), None)


class Heard(NamedTuple):
    """When the reporters of a type were heard, by reporter; `steps` is in which steps those of polls report, in µs."""

    audits: dict[str, Runs]
    polls: dict[str, Runs]
    steps: dict[str, int]


def last_period(life: Life, kind: ResourceType, heard: Heard, closed: list[Period]) -> Period | None:
    """The period that a resource is in at the end of what is known; None if it does not exist.

    Silence ends it only if a witness that had reported it in known steps went on to report others, without it, for
    more than two steps; the end is when it was last seen. Of witnesses that were not heard either, nothing follows.

    Args:
        life: the resource; it is not changed.
        kind: its type.
        heard: when the reporters of its type were last heard.
        closed: gets a period that what was said last closes.
    """
    if life.going is not None:
        life = msgspec.structs.replace(life)
        going, life.going = life.going, None
        assert going is not None
        _end(life, going, kind, closed)
    if life.start is None:
        return None
    if life.doubt is not None:
        life = msgspec.structs.replace(life)
        _trailing(life, kind, closed)
    start = life.start
    assert start is not None
    end, missed = None, list[tuple[int, str]]()
    state = (life.values[_STATE] or "").lower()
    for name, seen, by in (("audits", life.audits, heard.audits), ("polls", life.polls, heard.polls)):
        if seen is None or state in (kind.nowhere if name == "audits" else kind.polls.silent_in):
            continue  # audits go by host
        step = seen.step
        if name == "polls" and seen.reports < 3:
            step = heard.steps.get(life.host, 0)
        if step <= 0 or (name == "audits" and seen.host != life.host):
            continue  # who audited it does not audit where it is now
        runs = by.get(seen.reporter if name == "audits" else life.host)
        since = max(seen.at, life.last)
        if runs is None or runs.last <= seen.at + step // 2:
            continue  # it was not heard either
        patience = 2 * step + CLOSE if name == "audits" else max(3 * step, HOUR)
        if runs.last < since + patience:
            missed = []
            break
        latest, how = life.last + step, "went on without it"
        if seen.quiet_until > life.last:  # nobody was asked meanwhile
            latest = max(latest, seen.quiet_until + min(step, CLOSE))
        if not runs.went_on(since + patience):
            back = runs.came_back(since, patience)
            if back is None:
                continue  # it paused, and is not back with what it had reported
            latest, how = max(latest, back + min(step, CLOSE)), "came back from a pause without it"
        missed.append((latest, f"{name} of {seen.reporter or 'its type'} {how}"))
    if missed:
        latest = min(each for each, _ in missed)
        reason = "no event told its end; " + "; ".join(text for _, text in missed)
        end = Boundary(life.last, "silence", None, reason, life.last, latest)
        if end.at <= start.at:
            end = Boundary(start.at + 1, "silence", None, reason, start.at, max(latest, start.at + 1))
    values = life.values
    if life.stale and life.ever == _BITS[POLL]:
        start, values = _without_stale_sizes(life, start, end, closed)
    unconfirmed = end is None and life.ever == _BITS[EVENT]
    return Period(life.source, start, end, values, life.kinds, max(life.last, start.at), unconfirmed)


def _without_stale_sizes(
    life: Life, start: Boundary, end: Boundary | None, closed: list[Period]
) -> tuple[Boundary, tuple[Any, ...]]:
    """The start and the values of the last period of a resource that samples alone tell of.

    Such a size holds until the end of the hour of its last sample: what it was later, nothing says.
    """
    values = list(life.values)
    until = min(life.last, end.at - 1) if end is not None else life.last
    said = {place: at for place, at in life.stale.items() if values[place] is not None}
    for moment in sorted({at // HOUR * HOUR + HOUR for at in said.values()}):
        if until // HOUR * HOUR < moment or moment <= start.at:
            continue
        stale = [place for place, at in said.items() if at // HOUR * HOUR + HOUR == moment]
        latest = max(life.last, moment)
        reason = f"no sample of {', '.join(_NAMES[place] for place in stale)} came any more, though others did"
        boundary = Boundary(moment, "silence", None, reason, min(said[place] for place in stale), latest)
        confirmed = max(start.at, *(said[place] for place in stale))
        closed.append(Period(life.source, start, boundary, tuple(values), life.kinds, confirmed, False))
        start = boundary
        for place in stale:
            values[place] = None
    return start, tuple(values)


def confirmed_by(kinds: int) -> str:
    """The witnesses of a period, as `resource_periods` has them."""
    return ",".join(name for bit, name in ((1, "events"), (2, "audits"), (4, "polls")) if kinds & bit)
