"""Evidence of whole months is read again from landed notifications, and what is older than resources.yaml is known."""

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from builders import at, notification, rows, warehouse_rows
from conftest import OpenSite
from usage_messages import audit, created, deleted, land

from meterhouse import times
from meterhouse.definitions.resources import SHIPPED
from meterhouse.recompute import backfill, backfill_stale
from meterhouse.site import Site
from meterhouse.stale import stale
from meterhouse.stores.lake import REPLACE
from meterhouse.stores.lake_tables import EVIDENCE
from meterhouse.usage.keeping_up import behind
from meterhouse.usage.periods import compute

NOVEMBER, DECEMBER = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)


def evidence(site: Site) -> list[dict[str, Any]]:
    columns = ", ".join(name for name in EVIDENCE.names if name != "event_day")
    return rows(site, "evidence", columns)


def existed(site: Site) -> list[Any]:
    return warehouse_rows(site, "SELECT * FROM resource_periods ORDER BY 1, 2, 3")


def forget(site: Site, month: date) -> None:
    """Delete the evidence of a month."""
    gone = site.lake.matching("evidence", partitions={"event_day": [month]})
    site.lake.swap("evidence", gone, [], {REPLACE: "a test"}, same_rows=False)


def fill(site: Site) -> None:
    """Two months, with times of every kind: late, ahead of their arrival, none at all, and just before midnight."""
    land(site, created("i1", at(days=-30)), created("i2", at()), audit("i1"), audit("i2"))
    land(site, deleted("i2", at(days=2)), created("late", at(days=-12, hours=11, minutes=59.9)))
    ahead = created("ahead", at()) | {"timestamp": "2031-01-01 00:00:00"}
    none = created("none", at()) | {"timestamp": None}
    unsent = audit("i1", at(days=3)) | {"timestamp": None}
    land(site, ahead, none, unsent, notification("other", "identity.user.created"))
    compute(site)


def test_a_backfill_reads_exactly_the_same_evidence_again(site: Site) -> None:
    fill(site)
    before, periods = evidence(site), existed(site)
    done = backfill(site, "resource_periods", at(days=-40), times.now() + times.HOUR)
    assert (done["evidence"], done["kept"], done["changed"]) == (len(before), 0, 0)
    assert evidence(site) == before
    assert existed(site) == periods
    assert behind(site).commits == 0


def test_a_backfill_brings_evidence_back_that_is_gone(site: Site) -> None:
    fill(site)
    before, periods = evidence(site), existed(site)
    forget(site, NOVEMBER.date())
    compute(site, months=[NOVEMBER.date()])
    assert existed(site) != periods
    backfill(site, "resource_periods", at(), at(1))
    assert evidence(site) == before
    assert existed(site) == periods


def test_a_backfill_of_a_month_leaves_the_evidence_of_others(site: Site) -> None:
    fill(site)
    october = rows(site, "evidence", "message_id", "event_day < '2026-11-01'")
    files = site.lake.matching("evidence", partitions={"event_day": [date(2026, 10, 1)]})["path"].to_pylist()
    assert october
    backfill(site, "resource_periods", NOVEMBER, DECEMBER)
    assert site.lake.matching("evidence", partitions={"event_day": [date(2026, 10, 1)]})["path"].to_pylist() == files


def test_what_lands_after_a_backfill_is_read_once(site: Site) -> None:
    fill(site)
    land(site, created("i3", at(days=4)))
    backfill(site, "resource_periods", NOVEMBER, DECEMBER)
    compute(site)
    assert len(rows(site, "evidence", "message_id", "message_id = 'create-i3'")) == 1


def test_evidence_whose_notifications_are_no_longer_landed_stays(site: Site) -> None:
    fill(site)
    before, periods = evidence(site), existed(site)
    site.lake.swap("notifications", site.lake.actions("notifications"), [], {REPLACE: "a test"}, same_rows=False)
    land(site, deleted("i1", at(days=5)))
    done = backfill(site, "resource_periods", at(days=-40), times.now() + times.HOUR)
    assert done["kept"] == len(before)
    assert len(evidence(site)) == len(before) + 1
    ended = warehouse_rows(site, "SELECT resource_id FROM resource_periods WHERE end_evidence = 'delete-i1'")
    assert ended == [("i1",)]
    assert len(existed(site)) == len(periods)


def test_a_backfill_that_was_killed_is_continued(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(site)
    before, periods = evidence(site), existed(site)
    months: list[date] = []
    import meterhouse.usage.rereading as rereading

    real = rereading._month

    def killed(*args: Any) -> None:
        if months:
            raise KeyboardInterrupt
        months.append(args[4])
        real(*args)

    span = at(days=-40), at(days=1)
    with monkeypatch.context() as patched:
        patched.setattr(rereading, "_month", killed)
        with pytest.raises(KeyboardInterrupt):
            backfill(site, "resource_periods", *span)
    assert months == [date(2026, 11, 1)]  # the newest first
    months.clear()
    with monkeypatch.context() as patched:
        patched.setattr(rereading, "_month", lambda *args: (months.append(args[4]), real(*args)))
        backfill(site, "resource_periods", *span)
    assert months == [date(2026, 10, 1)]
    assert (evidence(site), existed(site)) == (before, periods)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "config").mkdir()
    return tmp_path / "config"


def test_months_are_stale_when_resources_yaml_means_something_else(open_site: OpenSite, config: Path) -> None:
    site = open_site(config_dir=config)
    fill(site)
    assert stale(site, "resource_periods") == []
    shipped = SHIPPED.read_text()
    (config / "resources.yaml").write_text(f"# a comment\n{shipped}")
    assert stale(site, "resource_periods") == []
    (config / "resources.yaml").write_text(
        shipped.replace("flavor: $.payload.instance_type\n", "flavor: $.payload.instance_flavor_id\n", 1)
    )
    (found,) = stale(site, "resource_periods")
    assert (found.start, found.hours) == (datetime(2026, 10, 1, tzinfo=UTC), (found.end - found.start) // times.HOUR)
    assert found.changed == ("resource instance changed",)
    assert found.files == ("resources.yaml",)
    land(site, created("i9", at(days=6)))
    compute(site)
    assert stale(site, "resource_periods") == [found]  # what was there before is still of the old file
    done = backfill_stale(site, "resource_periods")
    assert done["resource_periods"]["evidence"] == len(evidence(site))
    assert stale(site, "resource_periods") == []
    assert {row[0] for row in warehouse_rows(site, "SELECT DISTINCT flavor FROM resource_periods")} == {"4"}


def test_a_file_with_a_fault_makes_nothing_stale(open_site: OpenSite, config: Path) -> None:
    site = open_site(config_dir=config)
    fill(site)
    (config / "resources.yaml").write_text(SHIPPED.read_text() + "\n  - type: 'no type'\n")
    assert stale(site, "resource_periods") == []


def test_the_month_of_a_killed_run_is_of_the_definitions_that_read_it(
    open_site: OpenSite, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = open_site(config_dir=config)
    land(site, created("i1"))

    def killed(*args: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("meterhouse.usage.periods._replace", killed)
        with pytest.raises(KeyboardInterrupt):
            compute(site)
    changed = SHIPPED.read_text().replace("vcpus: $.payload.vcpus", "vcpus: $.payload.cpus", 1)
    (config / "resources.yaml").write_text(changed)
    compute(site)
    (found,) = stale(site, "resource_periods")
    assert found.hours == (found.end - NOVEMBER) // times.HOUR
