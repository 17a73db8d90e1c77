"""Samples say where they came from, because only those from notifications can be converted again."""

from collections import Counter
from pathlib import Path

import pyarrow as pa
from builders import at, count, drop, point, polled, polling, roll_up, rows
from deltalake import DeltaTable, write_deltalake

from meterhouse import times
from meterhouse.archive.seal import archive
from meterhouse.catalog import catalog
from meterhouse.collection import stream_meters
from meterhouse.collection.intake import intake
from meterhouse.collection.load import load
from meterhouse.site import Site
from meterhouse.stores.lake_tables import SAMPLES


def origins(site: Site) -> Counter[str | None]:
    return Counter(row["origin"] for row in rows(site, "samples", "origin"))


def test_each_way_into_the_lake_leaves_its_name(site: Site, tmp_path: Path) -> None:
    path = tmp_path / "room.csv"
    path.write_text("timestamp,volume\n2026-11-10T12:00:00Z,1\n2026-11-10T12:01:00Z,2\n")
    load(site, [path])
    drop(site.settings.spool, "polled.jsonl", [polling("b", [polled(n, at(n), message_id=f"s{n}") for n in range(3)])])
    intake(site)
    with site.warehouse.lease("alarm_evaluations") as lease:
        measured = stream_meters.record(site, ["meterhouse.stream.messages"], lease)
    assert measured
    assert origins(site) == {"loaded": 2, "notification": 3, "measured": measured}


def test_samples_of_an_earlier_release_have_no_origin_and_count_like_the_others(site: Site) -> None:
    schema = SAMPLES.remove(SAMPLES.get_field_index("origin"))
    folder = Path(site.lake.uri("samples"))
    folder.mkdir(parents=True)
    table = DeltaTable.create(str(folder), schema, partition_by=["arrival_hour"])
    old = [point(n, at(n)) for n in range(3)]
    write_deltalake(table, pa.Table.from_pylist(old, schema=schema), mode="append")
    assert origins(site) == {None: 3}
    catalog(site)
    assert roll_up(site).points == 3
    new = [{**point(n, at(n)), "origin": "loaded"} for n in range(3, 5)]
    site.lake.append("samples", pa.Table.from_pylist(new, schema=SAMPLES))
    catalog(site)
    assert roll_up(site).points == 5
    assert origins(site) == {None: 3, "loaded": 2}
    archive(site, times.parse(f"{old[0]['arrival_hour']}:00").date())
    assert count(site, "samples") == 5
    assert origins(site) == {None: 3, "loaded": 2}
