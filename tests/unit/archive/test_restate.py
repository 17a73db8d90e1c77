"""Statistics of files of earlier releases: written without harm to what goes on meanwhile."""

from pathlib import Path
from typing import Any

import pytest
from builders import at, count, land_points, point

from meterhouse.archive import restate as module
from meterhouse.archive.restate import restate
from meterhouse.archive.seal import archive
from meterhouse.site import Site
from meterhouse.stores.lake import SEAL
from meterhouse.stores.lake_files import DataFile


def older(site: Site) -> None:
    """Three files of one hour with the statistics that an earlier release gave them."""
    lake = site.lake
    for minute in range(3):
        land_points(site, [point(1.0, at(minute))])
    files = [
        DataFile(
            file["path"],
            file["size_bytes"],
            {"arrival_hour": file["partition.arrival_hour"]},
            '{"numRecords": 1, "minValues": {"series_id": -1}, "maxValues": {"series_id": 1}, "nullCount": {}}',
        )
        for file in lake.actions("samples").to_pylist()
    ]
    lake.swap("samples", lake.actions("samples").slice(0, 0), files, {SEAL: "older"}, same_rows=True)


def test_a_file_that_is_replaced_meanwhile_does_not_come_back(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    older(site)
    of_file = module.of_file

    def slow(*arguments: Any) -> str:
        monkeypatch.setattr(module, "of_file", of_file)
        assert len(archive(site, at().date()).sealed) == 1
        return of_file(*arguments)

    monkeypatch.setattr(module, "of_file", slow)
    done = restate(site, 60)
    assert (done.files, done.left) == (0, 3)
    assert (site.lake.actions("samples").num_rows, count(site, "samples")) == (1, 3)
    assert restate(site, 60).files == 0  # the sealed file has statistics


def test_a_file_that_cannot_be_read_keeps_no_other_from_its_statistics(site: Site) -> None:
    older(site)
    path = Path(site.lake.uri("samples"), site.lake.actions("samples")["path"][0].as_py())
    path.write_bytes(path.read_bytes()[:100])
    done = restate(site, 60)
    assert (done.files, done.left, len(done.unreadable)) == (2, 0, 1)
    assert str(path) in done.unreadable[0]


def test_a_run_is_bounded_in_time_and_the_next_continues(site: Site) -> None:
    older(site)
    assert (restate(site, 0).left, restate(site, 0).files) == (3, 0)
    assert restate(site, 60).files == 3
