"""Each commit of a leased step carries the generation of its lease, and fails if a higher one is in the table."""

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest
from builders import at, count, drop, land_points, notification, point, polled, polling, process, roll_up, rows
from conftest import OpenSite
from deltalake import DeltaTable
from sqlalchemy import delete, update

from meterhouse import times
from meterhouse.archive.seal import archive
from meterhouse.errors import Conflict
from meterhouse.site import Site
from meterhouse.stores.lake_replace import replace_spans
from meterhouse.stores.lake_tables import QUARANTINE, SAMPLES
from meterhouse.stores.leases import Lease, LeaseLost, hold, take, this_process
from meterhouse.stores.warehouse_tables import leases

SPAN = [(at(), at(hours=1))]


def flagged(reason: int) -> pa.Table:
    row = {"event_day": at().date(), "timestamp": at(5), "reasons": reason, "reason_names": ["x"], "excluded": True}
    return pa.Table.from_pylist([row], schema=QUARANTINE)


def reasons(site: Site) -> list[int]:
    return [row["reasons"] for row in rows(site, "quarantine", "reasons")]


def taken(site: Site, name: str) -> Lease:
    """Take a lease as the process does that finds it expired."""
    with site.warehouse.begin() as connection:
        connection.execute(update(leases).where(leases.c.name == name).values(expires_at=times.EPOCH))
    lease = take(site.warehouse, name, this_process())
    assert isinstance(lease, Lease)
    return lease


def test_every_commit_of_a_leased_step_has_its_generation(site: Site, today: Any) -> None:
    for n in range(2):
        drop(site.settings.spool, f"{n}.jsonl", [polling(f"p{n}", [polled(-1.0, at(n))]), notification(f"e{n}")])
        process(site)
        archive(site, today)
    for table, name in (
        *(("samples", "convert"), ("events", "convert"), ("quarantine", "sample_quality"), ("rollups", "rollups")),
        *(("samples", "archive"), ("notifications", "archive")),
    ):
        with site.warehouse.read() as connection:
            generation = connection.execute(leases.select().where(leases.c.name == name)).one().generation
        recorded = site.lake.transaction(table, f"lease:{name}") or 0
        # Roll-ups take the lease of quality too, and may have nothing to judge.
        assert recorded == generation or (name == "sample_quality" and recorded == generation - 1)


@pytest.mark.parametrize("committed", [True, False])
def test_a_process_whose_lease_was_taken_over_replaces_nothing(site: Site, committed: bool) -> None:
    with hold(site.warehouse, "sample_quality") as paused:
        replace_spans(site.lake, "quarantine", flagged(1), "timestamp", SPAN, lease=paused)
        other = taken(site, "sample_quality")
        site.lake.fence(other, "quarantine")
        if committed:
            replace_spans(site.lake, "quarantine", flagged(2), "timestamp", SPAN, lease=other)
        with pytest.raises(LeaseLost):
            replace_spans(site.lake, "quarantine", flagged(3), "timestamp", SPAN, lease=paused)
    assert reasons(site) == ([2] if committed else [1])
    assert site.lake.actions("quarantine").num_rows == 1


@pytest.mark.parametrize("write", ["append", "swap"])
def test_between_the_check_and_the_commit_the_table_itself_detects_the_other(
    site: Site, open_site: OpenSite, monkeypatch: pytest.MonkeyPatch, write: str
) -> None:
    other = open_site(home=site.settings.home_path)
    site.lake.append("samples", pa.Table.from_pylist([point(1.0)], schema=SAMPLES))
    with hold(site.warehouse, "archive") as paused:
        created = DeltaTable.create_write_transaction

        def late(*arguments: Any, **more: Any) -> Any:
            monkeypatch.undo()
            other.lake.fence(taken(other, "archive"), "samples")
            return created(*arguments, **more)

        monkeypatch.setattr(DeltaTable, "create_write_transaction", late)
        new = pa.Table.from_pylist([point(2.0)], schema=SAMPLES)
        lake, gone = site.lake, site.lake.actions("samples")
        files = lake.write_files("samples", new) if write == "swap" else []
        writes: dict[str, Callable[[], object]] = {
            "append": lambda: lake.append("samples", new, lease=paused),
            "swap": lambda: lake.swap("samples", gone, files, {}, same_rows=False, lease=paused),
        }
        with pytest.raises(Conflict):
            writes[write]()
    assert [row["volume"] for row in rows(site, "samples", "volume")] == [1.0]


def test_two_replacements_of_the_same_hours_do_not_both_succeed(site: Site, open_site: OpenSite) -> None:
    other = open_site(home=site.settings.home_path)
    after = site.lake.swaps("quarantine")
    gone = site.lake.actions("quarantine")
    replace_spans(other.lake, "quarantine", flagged(2), "timestamp", SPAN)
    files = site.lake.write_files("quarantine", flagged(1))
    with pytest.raises(Conflict):
        site.lake.swap("quarantine", gone, files, {}, same_rows=False, after=after)
    replace_spans(site.lake, "quarantine", flagged(3), "timestamp", SPAN)
    assert reasons(site) == [3]


def test_a_late_commit_of_the_process_before_does_not_stop_the_new_holder(
    site: Site, open_site: OpenSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = open_site(home=site.settings.home_path)
    write_part = type(site.lake).write_part

    def beaten(lake: Any, *given: Any) -> Any:
        monkeypatch.undo()
        replace_spans(other.lake, "quarantine", flagged(1), "timestamp", SPAN)
        return write_part(lake, *given)

    monkeypatch.setattr(type(site.lake), "write_part", beaten)
    with hold(site.warehouse, "sample_quality") as lease:
        replace_spans(site.lake, "quarantine", flagged(2), "timestamp", SPAN, lease=lease)
    assert reasons(site) == [2]


def test_a_warehouse_that_is_new_or_restored_does_not_lock_the_lake(any_warehouse: Site) -> None:
    site = any_warehouse
    for n in range(2):
        land_points(site, [point(-1.0, at(n), meter="cpu_util")])
        roll_up(site)
    before = site.lake.transaction("rollups", "lease:rollups")
    assert before
    with site.warehouse.begin() as connection:
        connection.execute(delete(leases))
    for n in range(2, 3):
        land_points(site, [point(-1.0, at(n), meter="cpu_util")])
        roll_up(site)
    assert count(site, "quarantine") == 3
    assert (site.lake.transaction("rollups", "lease:rollups") or 0) > before
