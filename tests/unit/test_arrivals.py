"""Samples that came are summed up in runs, which say of series, resources, hours and lateness what the samples say."""

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest
from builders import at, point
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meterhouse import arrivals, sql_files
from meterhouse.site import Site
from meterhouse.stores.lake_tables import SAMPLES

LATENESS = 600

PLAIN = {
    "catalog_series": """
        SELECT series_id, any_value(source), any_value(meter), any_value(type), any_value(unit),
            any_value(resource_id), any_value(project_id), any_value(user_id), min(timestamp), max(timestamp)
        FROM fresh GROUP BY series_id ORDER BY ALL""",
    "catalog_hours": f"""
        SELECT date_trunc('hour', timestamp) AS hour, count(*),
            count(*) FILTER (recorded_at > timestamp + to_seconds({LATENESS}))
        FROM fresh GROUP BY hour ORDER BY ALL""",
    "catalog_lateness": f"""
        SELECT date_trunc('hour', timestamp) AS hour, meter,
            (CASE WHEN late_s > 1 THEN ceil(log2(late_s)) ELSE 0 END)::INTEGER AS octave, count(*),
            count(*) FILTER (late_s > {LATENESS}), sum(late_s), max(late_s)
        FROM (SELECT *, greatest(epoch_us(recorded_at) - epoch_us(timestamp), 0) / 1e6 AS late_s FROM fresh)
        WHERE timestamp <= recorded_at + INTERVAL 1 HOUR GROUP BY ALL ORDER BY ALL""",
    "catalog_resources": """
        SELECT source, resource_id, arg_max(project_id, known_at), arg_max(user_id, known_at),
            arg_max(metadata_id, known_at)
        FROM (SELECT *, CASE WHEN timestamp <= recorded_at + INTERVAL 1 HOUR THEN timestamp
            ELSE TIMESTAMPTZ '1970-01-01 00:00:00+00' END AS known_at FROM fresh)
        WHERE resource_id IS NOT NULL GROUP BY ALL ORDER BY ALL""",
}

ROWS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b"]),
        st.sampled_from(["r", "s", None]),
        st.sampled_from(["p", "q", None]),
        st.sampled_from([0, 1, 2, 58, 59, 60, 61, 62, 119, 120, 600, 601, -600, -60, -59, -1]),
        st.sampled_from([0, 1, 2, 3, 10, 11, 61, 100]),
    ),
    min_size=1,
    max_size=25,
    unique_by=lambda row: row[3],  # of two at one time, either may count
)


def read(site: Site, view: Callable[[Any], None], queries: dict[str, str]) -> dict[str, list[tuple[Any, ...]]]:
    with site.lake.connect() as duck:
        view(duck)
        return {name: sorted(duck.execute(query).fetchall(), key=repr) for name, query in queries.items()}


@pytest.mark.parametrize("batch", [3, arrivals.BATCH_ROWS])
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=ROWS, files=st.integers(1, 3))
def test_runs_say_of_the_catalog_what_the_samples_say(
    site: Site, monkeypatch: pytest.MonkeyPatch, batch: int, rows: list[tuple[Any, ...]], files: int
) -> None:
    monkeypatch.setattr(arrivals, "BATCH_ROWS", batch)
    made = [
        {**point(1.0, at(minute), meter=meter, resource=resource, project=project),
         "recorded_at": at(minute + waited), "metadata_id": None if waited % 2 else minute * 1000 + waited}
        for meter, resource, project, minute, waited in rows
    ]  # fmt: skip
    before = site.lake.version("samples")
    for number in range(files):
        if some := made[number::files]:
            site.lake.append("samples", pa.Table.from_pylist(some, SAMPLES))
    fresh = site.lake.appended_files("samples", before, max_rows=1000)
    assert fresh is not None
    paths = [file["path"] for file in fresh.files]
    runs = arrivals.runs(site.lake, paths, LATENESS)
    uris = [f"{site.lake.uri('samples')}/{path}" for path in paths]
    expected = read(site, lambda duck: site.lake.view(duck, "samples", uris, view="fresh"), PLAIN)
    found = read(
        site, lambda duck: duck.register("runs", runs), {name: sql_files.read(f"lake/{name}.sql") for name in PLAIN}
    )
    for name, rows_of_it in expected.items():
        assert found[name] == rows_of_it, name
