"""Situations that Nova, Cinder and Ceilometer bring about: what is claimed of a resource then."""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import simulated_messages as forms
from simulated_claims import Row, claims, compute
from simulated_losses import land
from simulated_messages import DAY, HOUR, MINUTE, SECOND, Flavor, Message, Recorded, Shape

from meterhouse import times
from meterhouse.site import Site
from meterhouse.stream.envelope import unwrap
from meterhouse.times import EPOCH

MONDAY = times.micros(EPOCH + timedelta(days=20_731))  # 2026-10-05
SMALL, LARGE = Flavor("2", "m1.small", 1, 2048, 20), Flavor("4", "m1.large", 4, 8192, 80)
VM = Shape("shop", "u-1", "web", "active", SMALL, "node-1", "az-1", "image-1")
DISK = Shape("shop", "u-1", "disk", "available", Flavor("9", "fast"), "cinder-1@a#b", "az-1", size_gib=10.0)

_count = iter(range(1_000_000))


def said(at: int, event_type: str, payload: Any, publisher: str = "x.node-1") -> Message:
    """A notification."""
    message_id = f"m-{next(_count)}"
    line = forms.body(event_type, message_id, publisher, at, payload)
    return Message(at, "event", "", "", None, event_type, None, message_id, line)


def nova(at: int, operation: str, shape: Shape = VM, **more: Any) -> Message:
    """A notification of Nova's about the instance `vm`, which was launched on Monday at noon; `more` may say other."""
    recorded = Recorded(
        more.pop("created", MONDAY + 12 * HOUR - 20 * SECOND),
        more.pop("launched", MONDAY + 12 * HOUR),
        more.pop("deleted", 0),
    )
    payload = forms.nova(more.pop("id", "vm"), shape, recorded, **more)
    return said(at, f"compute.instance.{operation}", payload, f"compute.{shape.host}")


def cinder(at: int, operation: str, shape: Shape = DISK, **more: Any) -> Message:
    """A notification of Cinder's about the volume `disk`, which was created on Monday at noon."""
    recorded = Recorded(MONDAY + 12 * HOUR, more.pop("launched", MONDAY + 12 * HOUR))
    return said(at, f"volume.{operation}", forms.volume("disk", shape, recorded, **more), "volume.cinder-1@a#b")


def audit(begun: int, ended: int) -> dict[str, Any]:
    """The audit period of a payload."""
    return {"audit_period_beginning": forms.seconds(begun), "audit_period_ending": forms.seconds(ended)}


def found(site: Site, messages: Sequence[Message], resource: tuple[str, str] = ("instance", "vm")) -> list[Row]:
    """The periods of a resource, after the messages."""
    land(site, [(message.at + SECOND // 2, message) for message in messages])
    compute(site, polled=False)
    return claims(site).get(resource, [])


def spans(rows: Sequence[Row], *names: str) -> list[tuple[Any, ...]]:
    """When periods start and end, in seconds after Monday noon, and more of them."""

    def after(at: int | None) -> float | None:
        return None if at is None else (at - MONDAY - 12 * HOUR) / SECOND

    return [(after(row["started_at"]), after(row["ended_at"]), *(row[name] for name in names)) for row in rows]


NOON = MONDAY + 12 * HOUR
CREATED = nova(NOON + SECOND, "create.end")


def test_an_instance_exists_from_its_launch_to_the_time_of_its_deletion(site: Site) -> None:
    gone = nova(NOON + HOUR + SECOND, "delete.end", replace(VM, state="deleted"), deleted=NOON + HOUR)
    rows = found(site, [CREATED, gone])
    assert spans(rows, "state", "vcpus") == [(0, 3600, "active", 1)]
    assert (rows[0]["start_reason"], rows[0]["end_reason"], rows[0]["unconfirmed"]) == (None, None, False)


def test_an_instance_of_which_nothing_else_is_known_goes_on_unconfirmed(site: Site) -> None:
    rows = found(site, [CREATED])
    assert spans(rows, "unconfirmed") == [(0, None, True)]


@pytest.mark.parametrize("state", ["building", "error"])
def test_an_instance_that_was_never_launched_never_existed(site: Site, state: str) -> None:
    building = replace(VM, state="building")
    messages = [
        nova(NOON, "create.start", building, launched=0),
        nova(NOON + MINUTE, "create.error", replace(VM, state=state), launched=0),
        nova(NOON + MINUTE, "create.end", replace(VM, state=state), launched=0),
        nova(NOON + HOUR, "delete.start", replace(VM, state="error"), launched=0),
        nova(NOON + HOUR, "delete.end", replace(VM, state="deleted"), launched=0, deleted=NOON + HOUR),
    ]
    assert found(site, messages) == []


def test_an_instance_that_ran_and_broke_still_exists(site: Site) -> None:
    """Nova's own usage counts it until it is deleted."""
    broken = replace(VM, state="error")
    messages = [nova(NOON + DAY, "update", broken, old_state="error"), nova(NOON + DAY + 1, "delete.start", broken)]
    rows = found(site, messages)
    assert spans(rows, "vcpus") == [(0, None, 1)]


def test_the_new_size_counts_from_the_end_of_the_resize(site: Site) -> None:
    """Nova's `finish_resize.start` already says the new flavor and host."""
    large = replace(VM, flavor=LARGE, host="node-2")
    end = NOON + HOUR + 300 * SECOND
    messages = [
        CREATED,
        nova(NOON + HOUR, "resize.prep.start"),
        nova(NOON + HOUR + SECOND, "resize.start"),
        nova(NOON + HOUR + 60 * SECOND, "resize.end"),
        nova(NOON + HOUR + 61 * SECOND, "finish_resize.start", large),
        nova(end, "finish_resize.end", replace(large, state="resized"), launched=end),
        nova(end + HOUR, "resize.confirm.start", replace(large, state="resized"), launched=end),
        nova(end + HOUR + SECOND, "resize.confirm.end", large, launched=end),
    ]
    rows = found(site, messages)
    assert spans(rows, "vcpus", "host", "state") == [
        (0, 3900, 1, "node-1", "active"),
        (3900, 7501, 4, "node-2", "resized"),
        (7501, None, 4, "node-2", "active"),
    ]
    assert [row["start_reason"] for row in rows] == [None] * 3


def test_the_source_of_a_live_migration_does_not_take_the_instance_back(site: Site) -> None:
    """`_post.end` of the source comes last and still names the source; its clock may be ahead as well."""
    there = replace(VM, host="node-2")
    messages = [
        CREATED,
        nova(NOON + HOUR, "live_migration._post.start"),
        nova(NOON + HOUR + SECOND, "live_migration.post.dest.start", VM),
        nova(NOON + HOUR + 2 * SECOND, "live_migration.post.dest.end", there),
        nova(NOON + HOUR + 3 * MINUTE, "live_migration._post.end", VM),
        nova(NOON + 2 * HOUR, "delete.end", replace(there, state="deleted"), deleted=NOON + 2 * HOUR),
        nova(NOON + 2 * HOUR + MINUTE, "live_migration._post.end", VM),
    ]
    assert spans(found(site, messages), "host") == [(0, 3602, "node-1"), (3602, 7200, "node-2")]


def test_an_offloaded_instance_is_on_no_host_and_needs_no_audit(site: Site) -> None:
    offloaded = replace(VM, state="shelved_offloaded", host=None)
    days = [(MONDAY + n * DAY, MONDAY + (n + 1) * DAY) for n in range(9)]
    others = [
        nova(ended + SECOND * n, "exists", VM, id=other, launched=MONDAY - DAY, **audit(begun, ended))
        for begun, ended in days
        for n, other in enumerate(("vm-2", "vm-3"))
    ]
    messages = [
        CREATED,
        nova(MONDAY + DAY, "exists", VM, **audit(MONDAY, MONDAY + DAY)),
        nova(MONDAY + 2 * DAY, "exists", VM, **audit(MONDAY + DAY, MONDAY + 2 * DAY)),
        said(NOON + 2 * DAY, "compute.instance.shelve_offload.end", forms.nova("vm", offloaded, Recorded(NOON, NOON))),
        *others,
    ]
    rows = found(site, messages)
    assert spans(rows, "state", "host") == [(0, 172800, "active", "node-1"), (172800, None, "shelved_offloaded", None)]


def test_a_deletion_that_an_update_told_before_is_the_deletions(site: Site) -> None:
    """As in a real stream: the update has an empty `deleted_at`, a `terminated_at`, a later timestamp, and an audit
    period of no length that is before the end of the shutdown."""
    deleted = replace(VM, state="deleted")
    update = nova(NOON + HOUR + 300_000, "update", deleted, old_state="active")
    told = json.loads(update.line)
    told["payload"] |= {"deleted_at": "", "terminated_at": forms.iso(NOON + HOUR), **audit(NOON + HOUR, NOON + HOUR)}
    shut = nova(NOON + HOUR + 150_000, "shutdown.end")
    end = nova(NOON + HOUR + 500_000, "delete.end", deleted, deleted=NOON + HOUR)
    rows = found(site, [CREATED, shut, replace(update, line=json.dumps(told).encode()), end])
    assert spans(rows, "end_witness", "end_reason", "end_evidence") == [(0, 3600, "event", None, end.message_id)]


def test_an_audit_of_a_deleted_instance_says_when_it_ended_if_the_event_was_lost(site: Site) -> None:
    deleted = nova(
        MONDAY + DAY, "exists", replace(VM, state="deleted"), deleted=NOON + HOUR, **audit(MONDAY, MONDAY + DAY)
    )
    rows = found(site, [CREATED, deleted])
    assert spans(rows, "end_witness") == [(0, 3600, "audit")]
    assert rows[0]["end_reason"]


def test_an_audit_alone_says_since_when_the_instance_exists(site: Site) -> None:
    rows = found(site, [nova(MONDAY + DAY, "exists", VM, **audit(MONDAY, MONDAY + DAY))])
    assert spans(rows, "start_witness") == [(0, None, "audit")]
    assert rows[0]["start_reason"]


def test_an_audit_does_not_carry_a_later_flavor_back_over_its_period(site: Site) -> None:
    large, end = replace(VM, flavor=LARGE), NOON + 6 * HOUR
    messages = [
        CREATED,
        nova(end, "finish_resize.end", large, launched=end),
        nova(MONDAY + DAY, "exists", large, launched=end, **audit(MONDAY, MONDAY + DAY)),
    ]
    assert spans(found(site, messages), "vcpus") == [(0, 21600, 1), (21600, None, 4)]


def test_what_audits_show_of_a_lost_resize_began_when_nova_launched_it_again(site: Site) -> None:
    large, end = replace(VM, flavor=LARGE), NOON + 30 * HOUR
    messages = [
        CREATED,
        nova(MONDAY + DAY, "exists", VM, **audit(MONDAY, MONDAY + DAY)),
        *(
            nova(MONDAY + n * DAY, "exists", large, launched=end, **audit(MONDAY + (n - 1) * DAY, MONDAY + n * DAY))
            for n in (2, 3, 4)
        ),
    ]
    rows = found(site, messages)
    assert spans(rows, "vcpus") == [(0, 108000, 1), (108000, None, 4)]
    assert rows[1]["start_witness"] == "audit"
    assert rows[1]["start_earliest"] >= MONDAY + DAY - 1
    assert rows[1]["start_earliest"] <= end <= rows[1]["start_latest"]


def test_an_event_of_another_operation_shows_a_lost_resize_but_not_its_moment(site: Site) -> None:
    large = replace(VM, flavor=LARGE, state="stopped")
    rows = found(site, [CREATED, nova(NOON + DAY, "power_off.end", large)])
    assert spans(rows, "vcpus") == [(0, 86400, 1), (86400, None, 4)]
    assert rows[1]["start_reason"]
    assert rows[1]["start_earliest"] <= NOON + SECOND
    assert rows[1]["start_latest"] == NOON + DAY


def test_a_lost_change_in_the_first_day_leaves_a_row_that_says_what_it_may_be(site: Site) -> None:
    """The old type is known of one moment alone: when the volume was created."""
    fast = replace(DISK, flavor=Flavor("8", "slow"))
    messages = [cinder(NOON, "create.end"), cinder(MONDAY + DAY, "exists", fast, **audit(MONDAY, MONDAY + DAY))]
    rows = found(site, messages, ("volume", "disk"))
    assert spans(rows, "flavor") == [(0, 1e-6, "fast"), (1e-6, None, "slow")]
    assert rows[1]["start_reason"]
    assert (rows[1]["start_earliest"], rows[1]["start_latest"]) == (NOON, pytest.approx(MONDAY + DAY, abs=SECOND))


def test_an_audit_that_went_off_ends_nothing_though_deletions_go_on(site: Site) -> None:
    """Nova audits an instance once more before it deletes it: that is no proof that it audits the others."""
    both = [
        nova(MONDAY + n * DAY + k, "exists", VM, id=name, **audit(MONDAY + (n - 1) * DAY, MONDAY + n * DAY))
        for n in range(1, 5)
        for k, name in enumerate(("vm", "vm-2"))
    ]
    later = MONDAY + 15 * DAY + HOUR
    once_more = nova(later, "exists", VM, id="vm-2", **audit(MONDAY + 15 * DAY, later))
    gone = nova(later + 1, "delete.end", replace(VM, state="deleted"), id="vm-2", deleted=later)
    assert spans(found(site, [CREATED, *both, once_more, gone])) == [(0, None)]


def test_silence_of_one_instance_while_its_hosts_audits_go_on_ends_it_with_the_reason(site: Site) -> None:
    messages = [
        nova(MONDAY + n * DAY + k, "exists", VM, id=name, **audit(MONDAY + (n - 1) * DAY, MONDAY + n * DAY))
        for n in range(1, 12)
        for k, name in enumerate(("vm", "vm-2", "vm-3"))
        if name != "vm" or n < 5
    ]
    (row,) = found(site, [CREATED, *messages])
    assert row["end_witness"] == "silence"
    assert row["end_reason"]
    # The audit of the fifth day says that it was there until its end; that of the sixth does not name it.
    assert MONDAY + 4 * DAY - 1 <= row["end_earliest"] <= row["ended_at"] <= row["end_latest"] <= MONDAY + 5 * DAY


def test_what_is_gone_after_a_long_pause_of_its_auditor_ended_in_the_pause(site: Site) -> None:
    """The audit is off for three days. It comes back with vm-2, and lists vm no more."""
    messages = [
        nova(MONDAY + n * DAY + 7 * SECOND, "exists", VM, id=name, **audit(MONDAY + (n - 1) * DAY, MONDAY + n * DAY))
        for n in (*range(1, 8), *range(11, 18))
        for name in ("vm", "vm-2")
        if name != "vm" or n < 8
    ]
    (row,) = found(site, [CREATED, *messages])
    assert (row["end_witness"], row["end_earliest"]) == ("silence", MONDAY + 7 * DAY + 7 * SECOND)
    assert "came back from a pause without it" in row["end_reason"]
    assert MONDAY + 10 * DAY <= row["end_latest"] <= MONDAY + 11 * DAY
    assert claims(site)["instance", "vm-2"][-1]["ended_at"] is None


def test_an_auditor_that_comes_back_with_others_alone_ends_nothing(site: Site) -> None:
    before = [
        nova(MONDAY + n * DAY + 7, "exists", VM, id=name, **audit(MONDAY + (n - 1) * DAY, MONDAY + n * DAY))
        for n in range(1, 8)
        for name in ("vm", "vm-2")
    ]
    after = [
        nova(MONDAY + n * DAY + 7, "exists", VM, id="vm-3", **audit(MONDAY + (n - 1) * DAY, MONDAY + n * DAY))
        for n in range(11, 18)
    ]
    assert [row["ended_at"] for row in found(site, [CREATED, *before, *after])] == [None]


@pytest.mark.parametrize("at_once", [True, False])
def test_what_is_seen_again_after_years_has_no_two_periods_at_a_time(site: Site, at_once: bool) -> None:
    """Silence ended it. When an audit lists it again, it says that it was launched while the first period was."""
    first, again = MONDAY - 900 * DAY, MONDAY - 400 * DAY

    def audited(day: int, name: str, launched: int) -> Message:
        period = audit(day - DAY, day)
        return nova(day + MINUTE, "exists", VM, id=name, created=launched - MINUTE, launched=launched, **period)

    earlier = [
        audited(first + n * DAY, name, first - 9 * DAY)
        for n in range(12)
        for name in ("vm", "vm-2", "vm-3")
        if name != "vm" or n < 5
    ]
    later = [audited(again, "vm", first + 2 * DAY)]
    if not at_once:
        assert [row["end_witness"] for row in found(site, earlier)] == ["silence"]
    rows = found(site, [*earlier, *later] if at_once else later)
    assert [(row["started_at"], row["ended_at"]) for row in rows] == [(first + 2 * DAY, None)]


def test_creations_and_deletions_that_an_audit_repeats_a_day_later_change_nothing(site: Site) -> None:
    """cinder-volume-usage-audit --send_actions: new message ids, its own timestamp, no time of deletion."""
    run = MONDAY + DAY + 5 * MINUTE
    gone = replace(DISK, state="deleting")
    once = [cinder(NOON, "create.end"), cinder(NOON + HOUR, "delete.end", gone)]
    again = [
        cinder(run, "exists", replace(DISK, state="deleted"), **audit(MONDAY, MONDAY + DAY)),
        cinder(run, "create.start", **audit(NOON, NOON)),
        cinder(run + 1, "create.end", **audit(NOON, NOON)),
        cinder(run + 2, "delete.start", gone, **audit(NOON + HOUR, NOON + HOUR)),
        cinder(run + 3, "delete.end", gone, **audit(NOON + HOUR, NOON + HOUR)),
    ]
    assert spans(found(site, [*once, *again], ("volume", "disk"))) == [(0, 3600)]


def test_repeated_actions_of_an_audit_stand_in_for_lost_events(site: Site) -> None:
    run = MONDAY + DAY + 5 * MINUTE
    again = [
        cinder(run, "exists", replace(DISK, state="deleted"), **audit(MONDAY, MONDAY + DAY)),
        cinder(run + 1, "create.end", **audit(NOON, NOON)),
        cinder(run + 3, "delete.end", replace(DISK, state="deleting"), **audit(NOON + HOUR, NOON + HOUR)),
    ]
    assert spans(found(site, again, ("volume", "disk"))) == [(0, 3600)]


@pytest.mark.parametrize("told", [True, False])
def test_a_creation_that_an_audit_repeats_moves_no_start(site: Site, told: bool) -> None:
    """A volume that was restored for 45 s, and extended before the audit that says it again, with its size by then."""
    run, there = MONDAY + DAY + 5 * MINUTE, NOON + 45 * SECOND
    larger = replace(DISK, size_gib=20.0)
    original = [cinder(there + SECOND, "create.end", launched=there)] if told else []
    resized = cinder(NOON + HOUR, "resize.end", replace(larger, state="extending"), launched=there)
    again = [
        cinder(run, "create.start", larger, launched=there, **audit(NOON, NOON)),
        cinder(run + 1, "create.end", larger, launched=there, **audit(NOON, NOON)),
    ]
    rows = found(site, [*original, resized, *again], ("volume", "disk"))
    if told:
        assert spans(rows, "size_gib") == [(45, 3600, 10), (3600, None, 20)]
        assert [row["start_reason"] for row in rows] == [None, None]
    else:
        assert spans(rows, "size_gib") == [(45, None, 20)]
        assert "no event told its beginning" in rows[0]["start_reason"]


def test_an_image_whose_upload_was_lost_may_have_begun_until_it_was_seen(site: Site) -> None:
    payload = {"id": "picture", "owner": "shop", "created_at": "2026-10-05T12:00:00Z", "size": 2**30}
    messages = [
        said(NOON, "image.create", payload | {"status": "queued", "size": None}),
        said(NOON + HOUR, "image.update", payload | {"status": "active"}),
    ]
    (row,) = found(site, messages, ("image", "picture"))
    assert (row["start_earliest"], row["started_at"], row["start_latest"]) == (NOON, NOON, NOON + HOUR)


def test_an_audit_before_an_action_confirms_nothing(site: Site) -> None:
    """Nova sends `exists` of the running period before a resize: of instances that no periodic audit knows too."""
    period = audit(MONDAY, NOON + 90 * MINUTE)
    messages = [CREATED, nova(NOON + 90 * MINUTE, "exists", **period), nova(NOON + 91 * MINUTE, "resize.start")]
    assert [row["unconfirmed"] for row in found(site, messages)] == [True]
    (daily,) = found(site, [nova(MONDAY + DAY + MINUTE, "exists", **audit(MONDAY, MONDAY + DAY))])
    assert not daily["unconfirmed"]


def test_statuses_on_the_way_make_no_periods_of_their_own(site: Site) -> None:
    messages = [
        cinder(NOON, "create.end"),
        cinder(NOON + HOUR, "attach.start", replace(DISK, state="attaching")),
        cinder(NOON + HOUR + 2 * SECOND, "attach.end", replace(DISK, state="in-use")),
        cinder(NOON + 2 * HOUR, "resize.start", replace(DISK, state="extending")),
        cinder(NOON + 2 * HOUR + SECOND, "resize.end", replace(DISK, state="extending", size_gib=20.0)),
        cinder(NOON + 3 * HOUR, "detach.start", replace(DISK, state="detaching", size_gib=20.0)),
        cinder(NOON + 3 * HOUR + SECOND, "detach.end", replace(DISK, size_gib=20.0)),
    ]
    rows = found(site, messages, ("volume", "disk"))
    assert [row["start_reason"] for row in rows] == [None] * len(rows)
    assert spans(rows, "size_gib")[-1] == (10801, None, 20)
    assert sum(end - start for start, end, size in spans(rows, "size_gib") if size == 10) == 7201


def test_an_accepted_transfer_belongs_to_the_new_project_from_its_end(site: Site) -> None:
    given = replace(DISK, project="bank", user="u-9")
    messages = [
        cinder(NOON, "create.end"),
        cinder(NOON + HOUR, "transfer.accept.start"),
        cinder(NOON + HOUR + SECOND, "transfer.accept.end", given),
    ]
    assert spans(found(site, messages, ("volume", "disk")), "project_id") == [(0, 3601, "shop"), (3601, None, "bank")]


def test_a_soft_deleted_instance_that_is_restored_existed_all_the_while(site: Site) -> None:
    messages = [
        CREATED,
        nova(NOON + HOUR, "soft_delete.end", replace(VM, state="soft-delete")),
        nova(NOON + 2 * HOUR, "restore.end"),
    ]
    assert spans(found(site, messages), "state") == [
        (0, 3600, "active"),
        (3600, 7200, "soft-delete"),
        (7200, None, "active"),
    ]


def test_both_forms_of_a_notification_count_once(site: Site) -> None:
    gone = replace(VM, state="deleted")
    times_of = Recorded(NOON - 20 * SECOND, NOON + 400_000, 0)
    ended = replace(times_of, deleted_at=NOON + HOUR + 700_000)
    messages = [
        said(NOON + SECOND, "compute.instance.create.end", forms.nova("vm", VM, times_of)),
        said(NOON + SECOND + 5_000, "instance.create.end", forms.nova_versioned("vm", VM, times_of)),
        said(NOON + HOUR + SECOND, "instance.delete.end", forms.nova_versioned("vm", gone, ended)),
        said(NOON + HOUR + SECOND + 5_000, "compute.instance.delete.end", forms.nova("vm", gone, ended)),
    ]
    (row,) = spans(found(site, messages))
    assert row == (pytest.approx(0.4, abs=0.5), pytest.approx(3600.7, abs=0.8))


def test_what_the_functional_suite_sends_is_not_counted(site: Site) -> None:
    from simulated_claims import spent

    sample = forms.sample(
        "cpu", "cumulative", "ns", "vm-v", "shop", "u-1", forms.polled_instance("vm-v", VM), "meterhouse-verify"
    )
    polls = []
    for n in range(30):
        text = sample % (n * 10**9, forms.iso(NOON + n * HOUR), f"v-{n}")
        polls.append(
            said(NOON + n * HOUR, "telemetry.polling", {"samples": [json.loads(text)]}, "telemetry.publisher.x")
        )
    land(site, [(message.at, message) for message in polls])
    compute(site)
    assert spent(site, forms.moment(MONDAY), forms.moment(MONDAY + 7 * DAY)) == {}


REAL = {
    "24c2fc21": [("2014-03-03 22:08:06.585401", "2014-03-05 06:37:17.585401", "active", 1)],
    "aed9e5e2": [],  # deleted while it was built
    "0c9aa68e": [("2014-03-17 01:37:44.194870", None, "active", 1)],
    "7d0a1770": [("2013-08-26 21:36:53.268272", None, "error", None)],  # ran, and broke; its deletion failed
    "c90e16a1": [("2013-04-16 09:26:57.667761", "2014-03-02 18:11:46.990505", "active", 2)],
}
"""By the start of an instance's id: the first of its periods in Nova's real streams."""


@pytest.mark.parametrize("instance", REAL)
def test_real_streams_of_nova_give_the_periods_that_they_tell_of(instance: str, site: Site, shared: Path) -> None:
    messages = []
    for line in (shared / "notifications" / "legacy-compute-streams.jsonl").read_bytes().splitlines():
        told = unwrap(line)
        at = told.timestamp or 0
        messages.append(Message(at, "event", "", "", None, told.event_type, None, told.message_id, line))
    land(site, [(message.at + SECOND // 2, message) for message in messages])
    compute(site, polled=False)
    rows = next((rows for (_, name), rows in claims(site).items() if name.startswith(instance)), [])

    def stamp(at: int | None) -> str | None:
        return None if at is None else forms.stamp(at)

    got = [(stamp(row["started_at"]), stamp(row["ended_at"]), row["state"], row["vcpus"]) for row in rows]
    wanted = REAL[instance]
    for (start, end, state, vcpus), expected in zip(got[: len(wanted)], wanted, strict=True):
        assert (start, end, state) == expected[:3]
        assert expected[3] is None or vcpus == expected[3]
    assert wanted or not got
