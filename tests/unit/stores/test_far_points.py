"""Rows whose time is far from their arrival are in files of their own, so that nobody reads them who does not ask."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from builders import at, land_points, point, roll_up, rows
from conftest import OpenSite
from hypothesis import given
from hypothesis import strategies as st

from meterhouse import times
from meterhouse.alarms.evaluation.evaluate import evaluate
from meterhouse.archive.seal import archive
from meterhouse.catalog import snapshot
from meterhouse.queries.events import events
from meterhouse.queries.resources import resource_list
from meterhouse.queries.samples import samples
from meterhouse.queries.statistics import statistics
from meterhouse.scopes import ALL_EVENTS, EVERYTHING
from meterhouse.site import Site
from meterhouse.stores import lake_cuts
from meterhouse.stores.duck import Connection
from meterhouse.stores.lake import Lake
from meterhouse.stores.lake_tables import EVENTS

FAR = datetime(2099, 6, 1, tzinfo=UTC)
OLD = datetime(1970, 2, 1, tzinfo=UTC)


def fill(site: Site, hours: int = 6) -> list[dict[str, Any]]:
    """Points of a few hours. With those of each hour came points of other years, and one of three hours later."""
    made = []
    for n in range(hours):
        here = [point(float(n), at(hours=n)), point(float(n), at(30, hours=n))]
        far = [point(1.0, when + n * times.HOUR, recorded_at=at(hours=n)) for when in (FAR, OLD)]
        near_future = point(1.0, at(hours=n + 3), recorded_at=at(hours=n), resource="a little ahead")
        land_points(site, [*here, *far, near_future])
        made += [*here, *far, near_future]
    return made


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files of samples and events that were given to DuckDB."""
    read: list[str] = []
    view = Lake.view

    def counting(lake: Lake, connection: Connection, name: str, files: list[str], *more: Any) -> None:
        if name in ("samples", "events"):
            read.extend(files)
        view(lake, connection, name, files, *more)

    parquet = Lake.parquet

    def counting_opened(lake: Lake, name: str, path: str, **more: Any) -> Any:
        read.append(path)
        return parquet(lake, name, path, **more)

    monkeypatch.setattr(Lake, "view", counting)
    monkeypatch.setattr(Lake, "parquet", counting_opened)
    return read


@pytest.mark.parametrize("sealed", [False, True])
def test_who_asks_for_a_few_hours_reads_no_file_of_far_points(site: Site, reads: list[str], sealed: bool) -> None:
    fill(site)
    roll_up(site)
    if sealed:
        archive(site, at().date())

    def files(ask: Any) -> int:
        reads.clear()
        ask()
        return len(set(reads))

    # The file of the hour, and the point that came three hours before its time.
    span = {"start": at(hours=5), "end": at(hours=6)}
    assert files(lambda: statistics(site, EVERYTHING, "m", **span)) <= 2  # or one of roll-ups
    assert files(lambda: samples(site, EVERYTHING, "m", **span)) == 2
    assert files(lambda: samples(site, EVERYTHING, "m", start=FAR, end=FAR + times.HOUR)) == 1
    assert files(lambda: samples(site, EVERYTHING, "m", start=OLD, end=OLD + times.HOUR)) == 1
    land_points(site, [point(1.0, at(5, hours=6))])
    assert files(lambda: roll_up(site)) == 6 + 6 + 1  # all of the day, and none else
    land_points(site, [point(1.0, FAR, recorded_at=at(hours=7))])
    assert files(lambda: roll_up(site)) == 6 + 1  # of the far day


def test_an_evaluation_reads_no_file_of_far_points(open_site: OpenSite, tmp_path: Path, reads: list[str]) -> None:
    rule = "{meter_name: m, threshold: 1.0, comparison_operator: gt, period: 600, evaluation_periods: 1}"
    (tmp_path / "alarms.yaml").write_text(f"alarms: [{{name: a, threshold_rule: {rule}}}]")
    site = open_site(config_dir=str(tmp_path))
    fill(site)
    reads.clear()
    assert evaluate(site, at(35, hours=5)).alarms == 1
    assert len(set(reads)) == 1


def test_sealing_divides_mixed_files_of_earlier_releases_and_loses_none(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as earlier:
        earlier.setattr(lake_cuts, "cuts", lambda *_: [])
        fill(site, 3)
        archive(site, at().date())
    before = rows(site, "samples")
    assert site.lake.actions("samples").num_rows == 3
    span = ("timestamp", [(at(days=30), at(days=31))])
    assert len(site.lake.files("samples", overlapping=span)) == 3
    (sealed,) = archive(site, at().date()).sealed
    assert (sealed.rows, sealed.duplicates, len(sealed.files)) == (15, 0, 3 * 4)
    assert rows(site, "samples") == before
    assert site.lake.files("samples", overlapping=span) == []
    assert archive(site, at().date()).sealed == []


def test_far_events_are_apart_too(site: Site, reads: list[str]) -> None:
    for n in range(3):
        made = [
            {"arrival_hour": times.arrival_hour(at()), "message_id": f"{n}-{k}", "event_type": "e", "generated": when}
            for k, when in enumerate((at(n), FAR, OLD, None, datetime(1960, 1, 1, 0, 0, 0, 5, UTC)))
        ]
        site.lake.append("events", pa.Table.from_pylist(made, schema=EVENTS))
    before = rows(site, "events")
    for files in (3, 1):
        reads.clear()
        assert len(events(site, ALL_EVENTS, start=at(), end=at(5))) == 3
        assert len(set(reads)) == files
        archive(site, at().date())
        assert rows(site, "events") == before


def test_a_resource_is_not_what_a_sample_of_a_wrong_clock_says_even_before_its_points_are_judged(site: Site) -> None:
    ahead = point(1.0, FAR, recorded_at=at(), project="other")
    land_points(site, [ahead, point(1.0, at(-5), project="shop")])
    (found,) = resource_list(site, EVERYTHING)
    assert found["project_id"] == "shop"


def test_an_hour_of_a_wrong_clock_is_recomputed_once(site: Site) -> None:
    land_points(site, [point(1.0, when, recorded_at=at(), type="cumulative") for when in (FAR, OLD)])
    assert roll_up(site).hours == [OLD, FAR]
    land_points(site, [point(2.0, at(), type="cumulative")])
    assert roll_up(site).hours == [at()]
    assert not snapshot(site).hours


ARRIVAL = times.arrival_hour(at())
PRESENT = times.micros(at()) // 3_600_000_000


@given(st.lists(st.integers(-(10**6), 3 * 10**6) | st.integers(PRESENT - 50, PRESENT + 50), max_size=300))
def test_far_hours_are_divided_at_the_widest_gaps_into_a_bounded_number_of_files(hours: list[int]) -> None:
    starts = lake_cuts.cuts(ARRIVAL, np.array(hours, np.int64))
    assert len(starts) <= lake_cuts.MAX_CUTS + 2
    assert starts == sorted(set(starts))
    near = range(PRESENT - lake_cuts.BEFORE, PRESENT + lake_cuts.AFTER + 1)
    groups: dict[int, set[int]] = {}
    for hour in hours:
        groups.setdefault(int(np.searchsorted(starts, hour, side="right")), set()).add(hour)
    for members in groups.values():
        assert len({hour in near for hour in members}) == 1
    far = sorted(set(hours) - set(near))
    if len(far) <= lake_cuts.MAX_CUTS:
        assert all(max(members) - min(members) < len(members) for members in groups.values() if not members & set(near))


def test_usual_rows_stay_in_one_file(site: Site) -> None:
    land_points(site, [point(1.0, at(minutes), recorded_at=at()) for minutes in (-23 * 60, -5, 0, 59, 90)])
    assert site.lake.actions("samples").num_rows == 1
