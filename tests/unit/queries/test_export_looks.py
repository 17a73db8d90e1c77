"""When exports are looked at and asked for: cheaply, each as often as it can help."""

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from builders import NOON, at
from period_rows import put_period
from sqlalchemy import delete, update

from meterhouse import times
from meterhouse.queries import export_looks, export_states, report_exports
from meterhouse.queries.export_looks import Memory
from meterhouse.site import Site
from meterhouse.stores.lake import Lake
from meterhouse.stores.warehouse_tables import reconciliation_daily, resource_periods
from meterhouse.stores.warehouse_tables import report_exports as exports
from meterhouse.usage.reconciliation import reconcile

USAGE = "usage_by_project_and_day"
DAY = NOON.date()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[datetime], None]:
    def set_to(moment: datetime) -> None:
        monkeypatch.setattr(times, "now", lambda: moment)

    return set_to


def ran(site: Site, *days: str, step: str = "periods") -> None:
    site.warehouse.record_run(step, times.now(), {"days": list(days)})


def asked(site: Site, memory: Memory, query: str = "q") -> list[str]:
    found = export_looks.wanted(site, memory, lambda _: True, {USAGE: query, "top_consumers": query})
    return [each.partition for each in found]


def looked_at(site: Site, memory: Memory, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The exports of which a look made the state, and an empty list if there was none."""
    seen: list[str] = []
    states = export_states._states

    def spied(connection, wanted):
        seen.extend(str(start.date()) for _, (start, _) in wanted)
        return states(connection, wanted)

    with monkeypatch.context() as patched:
        patched.setattr(export_states, "_states", spied)
        export_looks.look(site, memory)
    return seen


def test_a_look_reads_only_exports_that_a_change_reaches_and_all_once_a_night(
    site: Site, monkeypatch: pytest.MonkeyPatch, clock: Callable[[datetime], None]
) -> None:
    put_period(site, "i1", vcpus=1.0)
    clock(at(days=10))
    ran(site)
    days = [(NOON + n * times.DAY).date() for n in range(5)]
    for day in days:
        report_exports.export(site, USAGE, day)
    memory = Memory()
    assert looked_at(site, memory, monkeypatch) == [*map(str, days)]
    assert looked_at(site, memory, monkeypatch) == []
    ran(site, str(days[3]))
    assert looked_at(site, memory, monkeypatch) == [str(day) for day in days[3:]]
    ran(site, step="erase")
    assert looked_at(site, memory, monkeypatch) == [*map(str, days)]
    clock(at(days=11))
    assert looked_at(site, memory, monkeypatch) == [*map(str, days)]
    assert looked_at(site, Memory.read(memory.write()), monkeypatch) == []


def test_after_a_look_comes_a_rest_of_many_times_its_length(site: Site, clock: Callable[[datetime], None]) -> None:
    clock(at(days=2))
    memory = Memory()
    assert export_looks.look(site, memory)
    memory.seconds = 60.0
    ran(site, str(DAY))
    clock(at(days=2, minutes=19))
    assert not export_looks.look(site, memory)
    clock(at(days=2, minutes=21))
    assert export_looks.look(site, memory)


def test_what_cannot_be_made_is_tried_more_and_more_seldom_and_not_for_ever(
    site: Site, clock: Callable[[datetime], None]
) -> None:
    put_period(site, "i1", vcpus=1.0)
    report_exports.export(site, USAGE, DAY)
    put_period(site, "i2", vcpus=1.0)
    memory, tried = Memory(), []
    export_looks.look(site, memory)
    start = times.now()
    for minute in range(0, 10_000, 2):
        clock(start + minute * timedelta(minutes=1))
        if asked(site, memory):
            tried.append(minute)
    assert tried == [0, 2, 6, 14, 30, 62, 126, 254, 510, 1022]
    assert asked(site, memory, "another") == [str(DAY)]


def test_a_month_that_is_not_over_is_made_again_once_an_hour(site: Site, clock: Callable[[datetime], None]) -> None:
    put_period(site, "i1", vcpus=1.0)
    memory, made = Memory(), []
    for minute in range(0, 180, 10):
        clock(at(minute))
        if minute == 0 or asked(site, memory):
            made.append(minute)
            report_exports.export(site, "top_consumers", DAY)
        put_period(site, f"more{minute}", vcpus=1.0)
        ran(site, str(DAY))
        memory.seconds = 0.0
        export_looks.look(site, memory)
    assert made == [0, 70, 140]


def test_a_day_that_has_come_to_its_end_is_looked_at_without_any_change(
    site: Site, clock: Callable[[datetime], None]
) -> None:
    put_period(site, "i1", vcpus=1.0)
    clock(at(60))
    report_exports.export(site, USAGE, DAY)
    memory = Memory()
    export_looks.look(site, memory)
    assert asked(site, memory) == []
    clock(at(hours=13))
    export_looks.look(site, memory)
    assert asked(site, memory) == [str(DAY)]


def test_a_day_that_is_reconciled_later_makes_reports_of_it_stale(any_warehouse: Site) -> None:
    put_period(any_warehouse, "i1", vcpus=1.0)
    report_exports.export(any_warehouse, "data_quality_of_a_bill", DAY)
    report_exports.export(any_warehouse, USAGE, DAY)
    row = {"day": DAY, "resource_type": "instance", "resources": 1, "hours": 24.0, "differing_resources": 0}
    with any_warehouse.warehouse.begin() as connection:
        connection.execute(reconciliation_daily.insert().values(compared_hours=24, agreed_hours=24, **row))
    assert [each.why for each in export_states.stale_exports(any_warehouse)] == ["days were reconciled"]
    with any_warehouse.warehouse.begin() as connection:
        connection.execute(delete(reconciliation_daily))
    assert export_states.stale_exports(any_warehouse) == []


def test_a_comparison_of_a_day_lets_the_exports_be_looked_at_that_read_it(
    site: Site, clock: Callable[[datetime], None]
) -> None:
    clock(at(days=40))
    memory = Memory()
    put_period(site, "i1", at(), at(days=2), vcpus=1.0, confirmed_by="events,polls")
    report_exports.export(site, "data_quality_of_a_bill", DAY)
    export_looks.look(site, memory)
    clock(at(days=40, hours=1))
    reconcile(site, DAY)
    assert export_looks.look(site, memory)
    assert [each.why for each, _ in export_states.noted(site)] == ["days were reconciled"]


def test_an_export_that_is_made_while_another_is_noted_keeps_its_own_json(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_period(site, "i1", vcpus=1.0)
    report_exports.export(site, USAGE, DAY)
    put_period(site, "i2", vcpus=1.0)
    kind = type(site.lake)
    texts: list[bytes] = []

    def made_meanwhile(lake: Lake, path: str, content: bytes) -> str:
        if not texts and b"stale" in content:
            texts.append(content)
            report_exports.export(site, USAGE, DAY)
        elif path.endswith(".json"):
            texts.append(content)
        return original(lake, path, content)

    original = kind.put
    monkeypatch.setattr(kind, "put", made_meanwhile)
    export_states.note_stale(site)
    assert b"stale" not in texts[-1]
    with site.warehouse.begin() as connection:
        assert connection.execute(update(exports).where(exports.c.stale.is_not(None)).values(rows=0)).rowcount == 0


def test_the_digest_of_a_span_does_not_depend_on_the_other_spans(site: Site) -> None:
    for n, (start, end) in enumerate([(-9, None), (-9, 1), (-9, 2.5), (1, 1.5), (1.2, 2), (1.5, None), (0, 9)]):
        put_period(site, f"i{n}", at(days=start), None if end is None else at(days=end), vcpus=float(n))
    spans = sorted((at(days=n), at(days=n + length)) for n in range(-3, 4) for length in (1, 2))
    columns = frozenset({"vcpus"})
    with site.warehouse.read() as connection:
        together = export_states._periods(connection, spans, resource_periods, columns)
        alone = {span: export_states._periods(connection, [span], resource_periods, columns)[span] for span in spans}
    assert together == alone
    assert together[at(days=1), at(days=2)].split()[0] == "6"


def test_what_comes_after_a_look_at_an_empty_site_is_not_missed(site: Site) -> None:
    memory = Memory()
    export_looks.look(site, memory)
    assert memory.sequence == 0
    site.warehouse.record_run("rollups", times.now(), {"days": ["2026-11-10"]})
    assert export_looks._changed(site, memory.sequence)[1]
