"""Real metric series (NAB, Bitbrains), loaded as they are, have the daily statistics that pandas computes."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from builders import count, roll_up, warehouse_rows
from conftest import OpenSite

from meterhouse.catalog import catalog
from meterhouse.collection.load import load
from meterhouse.queries.statistics import statistics
from meterhouse.scopes import EVERYTHING

START = datetime(2013, 1, 1, tzinfo=UTC)

pytestmark = pytest.mark.slow


def test_daily_statistics_of_real_series_equal_those_of_pandas(open_site: OpenSite, shared: Path) -> None:
    site = open_site()
    files = sorted((shared / "series").glob("*.csv.gz"))
    assert files
    done = load(site, files)
    assert done.collected.dead_letters == 0
    catalog(site)
    roll_up(site)
    rows = points = distinct = 0
    by_day: dict[str, dict[tuple[str, Any], Any]] = {}
    for path in files:
        name = path.name.removesuffix(".csv.gz")
        given = pd.read_csv(path)
        given["timestamp"] = pd.to_datetime(given["timestamp"], utc=True)
        given["meter"] = given.get("metric", name)
        rows += len(given)
        # A point is (series, time, value): equal rows are one. Of several points with one time, the last counts.
        given = given.drop_duplicates(["meter", "timestamp", "value"])
        points += len(given)
        given = given.drop_duplicates(["meter", "timestamp"], keep="last")
        distinct += len(given)
        for meter, of_meter in given.groupby("meter"):
            days = of_meter.groupby(of_meter["timestamp"].dt.floor("D"))["value"]
            wanted = {day: (len(v), v.min(), v.max(), pytest.approx(v.mean(), rel=1e-12)) for day, v in days}
            if meter not in by_day:
                by_day[meter] = {
                    (row["groupby"]["resource_id"], row["period_start"]): (
                        *(row[each] for each in ("count", "min", "max", "avg")),
                    )
                    for row in statistics(site, EVERYTHING, meter, period=86400, start=START, groupby=["resource_id"])
                }
            assert {day: values for (of, day), values in by_day[meter].items() if of == name} == wanted
            in_warehouse = warehouse_rows(
                site,
                "SELECT r.bucket, r.count, r.min, r.max, r.sum / r.count FROM rollup_1d AS r JOIN series AS s "
                f"ON s.series_id = r.series_id WHERE s.meter = '{meter}' AND s.resource_id = '{name}'",
            )
            assert {pd.Timestamp(row[0], tz="UTC"): row[1:] for row in in_warehouse} == wanted
    assert done.samples == count(site, "samples") == points
    assert done.known == rows - points
    assert count(site, "quarantine", "list_contains(reason_names, 'duplicate')") == points - distinct
