"""Evidence is read once from what was landed, whatever the lake's log still has, and audits in a row are one row."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

from builders import at, count, rows
from conftest import OpenSite
from usage_messages import audit, created, deleted, land

from meterhouse.site import Site
from meterhouse.usage.listing import listed
from meterhouse.usage.periods import compute


def of_day(number: int) -> dict[str, object]:
    """The audit of the day that ends at noon of the 1st of November plus `number`."""
    end = at(days=number - 9)
    period = {"audit_period_beginning": str(end - timedelta(days=1))[:19], "audit_period_ending": str(end)[:19]}
    return audit("i1", end, launched_at="2026-11-01T12:00:00", **period)


def test_audits_in_a_row_that_say_the_same_become_one_row(site: Site) -> None:
    land(site, created("i1", at(days=-9)))
    for day in range(1, 10):
        land(site, of_day(day))
        compute(site)
    assert count(site, "evidence") < 5
    (run,) = rows(site, "evidence", "sum(reports) AS n, min(from_at) AS first, max(to_at) AS last", "effect = 'audit'")
    assert run["n"] == 9
    assert run["last"] - run["first"] == timedelta(days=9)


def test_audits_that_are_read_again_count_once(site: Site) -> None:
    land(site, created("i1", at(days=-9)), *(of_day(day) for day in range(1, 10)))
    compute(site)
    before = _periods(site)
    for path in sorted(site.lake.live("evidence")):
        found = site.lake.rows_of("evidence", path, {"event_day": date(2026, 11, 1)})
        site.lake.append("evidence", found)
    compute(site, months=[date(2026, 11, 1)])
    assert _periods(site) == before


def test_a_message_that_cannot_be_read_stops_no_other(site: Site) -> None:
    broken = created("i2") | {"payload": "none"}
    strange = created("i3") | {"payload": {"instance_id": ["a"], "launched_at": {"x": 1}, "vcpus": "many"}}
    land(site, broken, strange, created("i1"))
    compute(site)
    assert {"i1"} <= {row["resource_id"] for row in rows(site, "evidence", "resource_id")}


def test_a_month_without_anything_new_is_not_computed_again(site: Site) -> None:
    land(site, created("i1"), deleted("i1", at(5)))
    assert compute(site).months == 1
    done = compute(site)
    assert (done.months, done.changed) == (0, 0)


def test_a_wrong_type_of_resource_is_named_and_stops_no_other(site: Site) -> None:
    folder = site.settings.home_path / "config"
    folder.mkdir()
    (folder / "resources.yaml").write_text(
        "resources:\n- type: Wrong\n  id: $.payload.x\n- type: instance\n  id: $.payload.instance_id\n"
        "  events: ['compute.instance.*']\n  begins: [compute.instance.create.end]\n"
    )
    mine = Site(replace(site.settings, config_dir=folder), site.warehouse)
    land(mine, created("i1"))
    done = compute(mine)
    assert done.periods == 1
    (fault,) = done.faults
    assert "resources.yaml:2: the type 'Wrong' is not lower-case letters, digits and _" in fault


def _periods(site: Site) -> list[tuple[object, ...]]:
    return [tuple(row.values()) for row in listed(site)]


def test_a_resource_that_is_seen_again_after_a_long_silence_went_on(open_site: OpenSite) -> None:
    def day(instance: str, month: int, number: int) -> dict[str, object]:
        end = datetime(2026, month, number, tzinfo=UTC)
        period = {"audit_period_beginning": str(end - timedelta(days=1))[:19], "audit_period_ending": str(end)[:19]}
        return audit(instance, end, launched_at="2026-05-01T00:00:00", **period)

    may = datetime(2026, 5, 1, tzinfo=UTC)
    messages = [created("i1", may), created("i2", may), *(day("i1", 5, number) for number in range(2, 21))]
    messages += [day("i2", month, number) for month in (5, 6, 7, 8, 9) for number in range(2, 29)]
    late = deleted("i1", at(), launched_at="2026-05-01T00:00:00")
    whole, pieces = open_site(), open_site()
    land(whole, *messages, late)
    compute(whole)
    land(pieces, *messages)
    compute(pieces)
    silent = next(row for row in listed(pieces) if row["resource_id"] == "i1")
    assert silent["end_witness"] == "silence"
    land(pieces, late)
    compute(pieces)
    assert _periods(pieces) == _periods(whole)
    (row,) = (row for row in listed(pieces) if row["resource_id"] == "i1")
    assert (row["started_at"], row["ended_at"], row["end_witness"]) == (may, at(), "event")
