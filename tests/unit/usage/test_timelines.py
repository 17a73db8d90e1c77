"""From what witnesses said of a resource to its periods: events rule, audits and polls fill in, and the row says so."""

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterhouse import times
from meterhouse.definitions.resources import ATTRIBUTES, SIZES, load
from meterhouse.usage.timelines import HOUR, RANKS, Fact, Heard, Life, Period, Runs, Seen, fold, last_period

RESOURCES = load(None)
NAMES = (*ATTRIBUTES, *SIZES, "measures")


def at(text: str) -> int:
    """`DD HH:MM[:SS]` of November 2026, as microseconds."""
    day, _, clock = text.partition(" ")
    parts = [int(each) for each in (clock or "00:00").split(":")]
    return times.micros(datetime(2026, 11, int(day), *parts, tzinfo=UTC))


def said(effect: str, when: str, **known: Any) -> Fact:
    """A fact; `began`, `created`, `ended`, `since` and `until` as times, other keywords are values."""
    moments = {name: at(known.pop(name)) for name in ("began", "created", "ended", "since", "until") if name in known}
    reports, step = known.pop("reports", 1), known.pop("step", 0)
    reporter, name = known.pop("reporter", "node-1"), known.pop("message", f"{effect} {when}")
    values = tuple(known.pop(each, None) for each in NAMES)
    began, created, ended = (moments.get(each) for each in ("began", "created", "ended"))
    since, until = moments.get("since"), moments.get("until")
    event_type = known.pop("event_type", "compute.instance.update" if effect == "is" else "compute.instance." + effect)
    assert not known
    return Fact(
        *(at(when), effect, since, until, reports, began, created, ended),
        *(values, name, name, event_type, reporter, "openstack", step),
    )


def audit(day: int, **known: Any) -> Fact:
    """The audit of a day, sent soon after it."""
    return said("audit", f"{day + 1} 00:00:12", since=f"{day}", until=f"{day + 1}", **known)


def heard(audits: dict[str, str], polls: dict[str, str] | None = None) -> Heard:
    """Reporters that reported another resource from the first of the month to a day."""
    of_polls = {name: Runs([(at("1"), at(last))]) for name, last in (polls or {}).items()}
    return Heard({name: Runs([(at("1"), at(last))]) for name, last in audits.items()}, of_polls, {})


def lived(facts: Sequence[Fact], kind: str = "instance", others: Heard | None = None) -> list[Period]:
    life, closed = Life(), list[Period]()
    of_type = RESOURCES.named(kind)
    assert of_type is not None
    ordered = sorted(facts, key=lambda fact: (fact.at, RANKS[fact.effect], fact.evidence or ""))
    fold(life, ordered, of_type, closed)
    last = last_period(life, of_type, others or Heard({}, {}, {}), closed)
    return [*closed, *([last] if last else [])]


def spans(periods: Sequence[Period], place: int = 3) -> list[tuple[str, str | None, Any]]:
    def text(micros: int) -> str:
        return f"{datetime.fromtimestamp(micros / 1e6, UTC):%d %H:%M:%S}"

    return [(text(each.start.at), each.end and text(each.end.at), each.values[place]) for each in periods]


SMALL = {"project_id": "p", "flavor": "small", "state": "active", "host": "node-1", "vcpus": 1.0}
LARGE = SMALL | {"flavor": "large", "vcpus": 4.0}


def test_one_event_makes_a_resource_that_exists_until_an_event_ends_it_and_is_unconfirmed() -> None:
    (period,) = lived([said("begins", "1", **SMALL)])
    assert period.end is None
    assert period.unconfirmed
    assert (period.start.witness, period.start.evidence, period.start.reason) == ("event", "begins 1", None)


def test_the_times_of_the_payload_are_those_of_the_period() -> None:
    events = [said("begins", "1 10:00:21", began="1 10:00:20", **SMALL), said("ends", "1 10:03:01", ended="1 10:03")]
    assert spans(lived(events)) == [("01 10:00:20", "01 10:03:00", "small")]


def test_a_resize_divides_the_time_between_two_flavors() -> None:
    events = [said("begins", "1", **SMALL), said("is", "10 12:00", **LARGE), said("ends", "20")]
    assert spans(lived(events)) == [
        ("01 00:00:00", "10 12:00:00", "small"),
        ("10 12:00:00", "20 00:00:00", "large"),
    ]


def test_an_event_of_something_else_shows_a_change_but_not_when_it_was() -> None:
    facts = [said("begins", "1", **SMALL), said("is", "5", event_type="compute.instance.power_off.end", **LARGE)]
    first, second = lived(facts)
    assert second.start.reason == "no event told the change; compute.instance.power_off.end shows it"
    assert (second.start.earliest, second.start.latest) == (at("1"), at("5"))
    assert first.end == second.start


def test_a_failed_build_never_existed() -> None:
    events = [
        said("was", "1", state="building", flavor="small"),
        said("begins", "1 00:05", state="building", created="1", flavor="small"),
        said("ends", "1 00:06", state="deleted", created="1"),
    ]
    assert lived(events) == []


def test_an_instance_that_ran_and_broke_exists() -> None:
    (period,) = lived([said("is", "2", state="error", began="1", flavor="small")])
    assert spans([period]) == [("01 00:00:00", None, "small")]


def test_a_lost_beginning_is_what_the_first_event_claims() -> None:
    (period,) = lived([said("is", "5", began="3 04:00", created="3 03:59", **SMALL)])
    assert spans([period]) == [("03 04:00:00", None, "small")]
    assert period.start.reason is not None
    assert "no event told its beginning" in period.start.reason


def test_a_launch_long_after_the_creation_was_not_the_first() -> None:
    (period,) = lived([said("is", "20", began="19", created="3", **SMALL)])
    assert spans([period]) == [("03 00:00:00", None, "small")]
    assert (period.start.earliest, period.start.latest) == (at("3"), at("19"))


def test_an_audit_tells_of_a_resource_whose_events_were_lost() -> None:
    (period,) = lived([audit(19, began="1", **SMALL)])
    assert spans([period]) == [("01 00:00:00", None, "small")]
    assert not period.unconfirmed


def test_what_began_by_the_first_witness_that_saw_it_began_no_later() -> None:
    (listed,) = lived([audit(19, **SMALL)])
    assert (listed.start.at, listed.start.earliest, listed.start.latest) == (at("19"), at("19"), at("20"))
    (polled,) = lived([said("poll", "9", since="5", until="9", reports=96, step=HOUR, **SMALL)])
    assert (polled.start.earliest, polled.start.at, polled.start.latest) == (at("4 23:00"), at("5"), at("5"))


def test_a_lost_resize_is_found_by_the_audits_within_what_they_allow() -> None:
    first, second = lived([said("begins", "1", **SMALL), audit(9, **SMALL), audit(10, **LARGE), audit(11, **LARGE)])
    assert second.values[3] == "large"
    assert second.start.witness == "audit"
    assert first.end == second.start
    assert at("10 00:00:12") <= second.start.earliest <= second.start.at <= second.start.latest <= at("11 00:00:12")


def test_an_event_that_comes_right_after_an_audit_sets_the_boundary() -> None:
    facts = [said("begins", "1", **SMALL), audit(9, **LARGE), said("is", "10 00:03", **LARGE)]
    assert spans(lived(facts))[1] == ("10 00:03:00", None, "large")


def test_a_sample_of_what_was_before_does_not_undo_an_event() -> None:
    facts = [
        said("begins", "1", **SMALL),
        said("is", "10 12:00", **LARGE),
        said("poll", "10 12:05", since="10 12:05", until="10 12:05", flavor="small", step=300_000_000),
        said("poll", "10 18:00", since="10 12:10", until="10 18:00", flavor="large", reports=70, step=300_000_000),
    ]
    assert [span[2] for span in spans(lived(facts))] == ["small", "large"]


def test_a_live_migration_is_one_instance_on_one_host_after_the_other() -> None:
    facts = [
        said("begins", "1", **SMALL),
        said("is", "5 10:00", **{**SMALL, "host": "node-2"}),
        said("seen", "5 10:00:02", **SMALL),
        audit(5, **{**SMALL, "host": "node-2"}, reporter="node-2"),
        audit(5, **{**SMALL, "host": "node-2"}, reporter="node-1"),
    ]
    assert spans(lived(facts), place=5) == [
        ("01 00:00:00", "05 10:00:00", "node-1"),
        ("05 10:00:00", None, "node-2"),
    ]


def test_an_offloaded_instance_is_on_no_host() -> None:
    facts = [said("begins", "1", **SMALL), said("is", "2", **{**SMALL, "state": "shelved_offloaded", "host": None})]
    assert lived(facts)[1].values[5] == ""


def test_what_a_volume_passes_through_is_no_state_of_it() -> None:
    known = {"project_id": "p", "state": "available", "size_gib": 10.0}
    facts = [
        said("begins", "1", **known),
        said("was", "2", **{**known, "state": "attaching"}),
        said("is", "2 00:01", **{**known, "state": "in-use"}),
    ]
    assert spans(lived(facts, "volume"), place=4) == [
        ("01 00:00:00", "02 00:01:00", "available"),
        ("02 00:01:00", None, "in-use"),
    ]


def test_an_event_that_ends_a_resource_knows_better_when_than_one_that_says_it_is_gone() -> None:
    facts = [
        said("begins", "1", **SMALL),
        said("is", "5 06:37:17", state="deleted"),
        said("ends", "5 06:37:18", ended="5 06:37:16"),
    ]
    (period,) = lived(facts)
    assert spans([period])[0][1] == "05 06:37:16"
    assert period.end is not None
    assert period.end.reason is None


def test_if_only_an_update_said_that_it_is_gone_the_end_says_so() -> None:
    (period,) = lived([said("begins", "1", **SMALL), said("is", "5", state="deleted")])
    assert period.end is not None
    assert period.end.reason is not None
    assert spans([period])[0][1] == "05 00:00:00"


def test_a_change_that_only_the_deletion_shows_is_said_with_the_end() -> None:
    (period,) = lived([said("begins", "2", **SMALL), audit(3, **SMALL), said("ends", "5", **LARGE)])
    assert period.end is not None
    assert (period.values[3], period.end.at, period.end.earliest) == ("small", at("5"), at("4 00:00:12"))
    assert period.end.reason is not None
    assert "no event told a change before" in period.end.reason


def test_nothing_that_comes_after_its_end_brings_a_resource_back() -> None:
    facts = [said("begins", "1", **SMALL), said("ends", "5"), said("is", "5 00:01", **SMALL), audit(5, **SMALL)]
    assert spans(lived(facts)) == [("01 00:00:00", "05 00:00:00", "small")]


DAY = 86_400_000_000


def test_silence_ends_a_resource_if_its_auditor_went_on_without_it() -> None:
    facts = [said("begins", "1", **SMALL), *(audit(day, **SMALL) for day in (1, 2, 3))]
    (period,) = lived(facts, others=heard({"node-1": "8"}))
    assert period.end is not None
    assert (period.end.witness, period.end.at) == ("silence", at("4 00:00:12"))
    assert period.end.latest == period.end.at + DAY
    assert period.end.reason is not None
    assert "audits of node-1 went on without it" in period.end.reason


@pytest.mark.parametrize(
    "others",
    [
        pytest.param(heard({"node-1": "4"}), id="its auditor is silent too"),
        pytest.param(heard({"node-1": "4", "node-2": "20"}), id="another host's audits go on"),
        pytest.param(heard({"node-1": "5"}), id="one audit was lost"),
    ],
)
def test_silence_alone_ends_nothing(others: Heard) -> None:
    facts = [said("begins", "1", **SMALL), *(audit(day, **SMALL) for day in (1, 2, 3))]
    (period,) = lived(facts, others=others)
    assert period.end is None


def test_an_audit_that_still_lists_it_outweighs_the_silence_of_polls() -> None:
    polls = said("poll", "2", since="1", until="2", reports=24, step=3_600_000_000, **SMALL)
    facts = [said("begins", "1", **SMALL), polls, *(audit(day, **SMALL) for day in (1, 2, 3, 4, 5))]
    (period,) = lived(facts, others=heard({"node-1": "6"}, {"node-1": "6"}))
    assert period.end is None


def test_a_reporter_that_paused_too_ends_nothing() -> None:
    facts = [said("begins", "1", **SMALL), *(audit(day, **SMALL) for day in (1, 2, 3))]
    back = Heard({"node-1": Runs([(at("1"), at("4")), (at("15"), at("17"))])}, {}, {})
    (period,) = lived(facts, others=back)
    assert period.end is None


def test_who_audits_a_host_ends_nothing_that_moved_away() -> None:
    moved = said("is", "4 12:00", event_type="compute.instance.live_migration.post.dest.end", **{**SMALL, "host": "b"})
    facts = [said("begins", "1", **SMALL), *(audit(day, **SMALL) for day in (1, 2, 3)), moved]
    assert lived(facts, others=heard({"node-1": "20"}))[-1].end is None


def test_what_is_stopped_need_not_have_samples() -> None:
    polls = said("poll", "2", since="1", until="2", reports=24, step=3_600_000_000, **SMALL)
    stopped = said("is", "2 00:10", **{**SMALL, "state": "stopped"})
    periods = lived([said("begins", "1", **SMALL), polls, stopped], others=heard({}, {"node-1": "9"}))
    assert periods[-1].end is None


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["begins", "is", "was", "seen", "ends", "audit", "poll"]),
        st.integers(1, 27 * 24),
        st.sampled_from([SMALL, LARGE, {**SMALL, "state": "stopped"}, {**SMALL, "host": "node-2"}]),
        st.integers(0, 30),
    ),
    max_size=12,
)


def facts_of(steps: Sequence[tuple[str, int, dict[str, Any], int]]) -> list[Fact]:
    facts = []
    for number, (effect, hour, known, back) in enumerate(steps):
        moment = f"{1 + hour // 24} {hour % 24}:00"
        more: dict[str, Any] = {"message": str(number)}
        if effect in ("audit", "poll"):
            since = max(hour - 1 - back, 0)
            more |= {"since": f"{1 + since // 24} {since % 24}:00", "until": moment, "reports": 1 + back}
        facts.append(said(effect, moment, **known, **more))
    return facts


@given(STEPS)
def test_periods_follow_each_other_and_lie_within_what_the_witnesses_allow(
    steps: list[tuple[str, int, dict[str, Any], int]],
) -> None:
    periods = lived(facts_of(steps))
    for before, after in pairwise(periods):
        assert before.end is not None
        assert before.end.at <= after.start.at
    for each in periods:
        assert each.start.earliest <= each.start.at <= each.start.latest
        if each.end is not None:
            assert each.start.at < each.end.at
            assert each.end.earliest <= each.end.at <= each.end.latest


@given(STEPS, st.randoms(use_true_random=False), st.integers(0, 12))
def test_neither_repeats_nor_where_the_facts_were_divided_change_anything(
    steps: list[tuple[str, int, dict[str, Any], int]], random: Any, cut: int
) -> None:
    facts = sorted(facts_of(steps), key=lambda fact: (fact.at, RANKS[fact.effect], fact.evidence or ""))
    kind = RESOURCES.named("instance")
    assert kind is not None
    whole = lived(facts)
    life, closed = Life(), list[Period]()
    fold(life, facts[:cut], kind, closed)
    life = msgspec.json.decode(msgspec.json.encode(life), type=Life)  # as it is kept between two months
    fold(life, facts[cut:], kind, closed)
    last = last_period(life, kind, Heard({}, {}, {}), closed)
    assert [*closed, *([last] if last else [])] == whole
    events = [fact for fact in facts if fact.effect not in ("audit", "poll")]
    again = [each for fact in facts for each in ([fact, fact] if fact in events and random.random() < 0.5 else [fact])]
    assert [(p.start, p.end, p.values) for p in lived(again)] == [(p.start, p.end, p.values) for p in whole]


def test_what_an_earlier_release_kept_of_a_life_is_read() -> None:
    """Fields are added at the end, with a default: what was kept before lacks them."""
    names = Life.__struct_fields__
    kept = msgspec.json.decode(msgspec.json.encode(Life()))[: names.index("stale")]
    kept[names.index("doubt")] = [1, "poll", 1, 1, 1, None, None, None, [None] * 14, "e", "l", "t", "r", "s", 5]
    kept[names.index("polls")] = [1, 2, "r", 3, "h", 0]
    life = msgspec.json.decode(msgspec.json.encode(kept), type=Life)
    assert (life.polls, life.stale) == (Seen(1, 2, "r", 3, "h", 0), {})
    assert life.doubt is not None
    assert (life.doubt.step, life.doubt.quiet_since, life.doubt.stale) == (5, 0, ())
