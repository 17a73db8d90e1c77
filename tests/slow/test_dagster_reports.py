"""Reports in Dagster: each is an asset with partitions and lineage, and a stale export is made again by itself."""

import json
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from period_rows import put_period

from meterhouse import settings as settings_module
from meterhouse.queries import report_exports, report_files
from meterhouse.queries.report_files import Report
from meterhouse.site import Site

with warnings.catch_warnings(), pytest.MonkeyPatch.context() as environment:
    warnings.simplefilter("ignore")  # BackfillPolicy is beta in this version of Dagster, and says so at each use
    environment.setenv("METERHOUSE_PARTITIONS_FROM", "2024-01-01")
    settings_module.settings.cache_clear()
    import dagster as dg

    import definitions
    from assets import reports, resources
    from sensors import schedules
    from sensors.other_runs import other_runs
    from sensors.stale_exports import stale_exports_sensor
settings_module.settings.cache_clear()

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::dagster.BetaWarning")]

USAGE = "usage_by_project_and_day"
DAY = datetime(2026, 10, 20, tzinfo=UTC)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """The site that assets and sensors open by themselves, with an instance."""
    monkeypatch.setenv("METERHOUSE_HOME", str(tmp_path))
    monkeypatch.setenv("METERHOUSE_CONFIG_DIR", str(tmp_path))
    (tmp_path / "reports").mkdir()
    settings_module.settings.cache_clear()
    resources.open_site.cache_clear()
    put_period(resources.open_site(), "i1", DAY, flavor="m1", vcpus=2.0)
    yield resources.open_site()
    resources.open_site().warehouse.engine.dispose()
    settings_module.settings.cache_clear()
    resources.open_site.cache_clear()


def looked(instance: dg.DagsterInstance) -> list[dg.RunRequest]:
    context = dg.build_sensor_context(instance, resources={"site": resources.SiteResource()})
    found = stale_exports_sensor(context)
    assert isinstance(found, dg.SensorResult)
    return list(found.run_requests or ())


def test_a_report_of_the_site_is_an_asset_with_partitions_export_and_lineage(here: Site, tmp_path: Path) -> None:
    file = tmp_path / "reports" / "own.sql"
    file.write_text(
        "-- What is there?\n-- partition: month\n-- By flavor.\n"
        "SELECT p.flavor, s.unit, n.name FROM resource_periods AS p\n"
        "LEFT JOIN series AS s ON s.resource_id = p.resource_id LEFT JOIN rollup_1d AS r ON r.series_id = s.series_id\n"
        "LEFT JOIN names_now AS n ON n.id = p.project_id WHERE p.started_at < :end"
    )
    own = reports.asset_of(report_files.listed(tmp_path)["own"])
    parents = {key.to_user_string() for key in own.dependency_keys}
    assert parents == {"resource_periods", "catalog", "rollups", "resource_names"}
    assert own.descriptions_by_key[own.key] == "What is there? By flavor."
    with dg.DagsterInstance.ephemeral() as instance:
        done = dg.materialize(
            [own], partition_key="2026-10", instance=instance, resources={"site": resources.SiteResource()}
        )
        (event,) = done.asset_materializations_for_node("own")
    assert event.metadata["dagster/row_count"].value == 1
    assert "m1" in str(event.metadata["rows"].value)
    assert (Path(here.settings.lake) / "exports/own/2026-10.parquet").is_file()


def test_a_report_that_the_database_does_not_take_fails_with_its_file(here: Site, tmp_path: Path) -> None:
    file = tmp_path / "reports" / "own.sql"
    file.write_text("-- Q?\nSELECT no_such FROM resource_periods")
    own = reports.asset_of(report_files.listed(tmp_path)["own"])
    with dg.DagsterInstance.ephemeral() as instance, pytest.raises(dg.Failure, match=f"{file}: no such column"):
        dg.materialize(
            [own], partition_key="2026-10-20", instance=instance, resources={"site": resources.SiteResource()}
        )


def test_the_description_of_a_broken_report_has_the_reason() -> None:
    own = reports.asset_of(Report("own", "-- Q?\nDROP TABLE x", "reports/own.sql", (2, "a report only reads")))
    assert own.descriptions_by_key[own.key] == "Q? It cannot be run: a report only reads"


def test_names_of_other_assets_are_taken() -> None:
    keys = {key.to_user_string() for key in definitions.defs.resolve_asset_graph().get_all_asset_keys()}
    assert keys - set(report_files.ours()) <= report_files.TAKEN
    assert set(report_files.ours()) <= keys


def test_the_jobs_of_a_night_and_of_a_month_export_every_report(here: Site) -> None:
    by = {"report_day": "2026-10-20", "report_month": "2026-10"}
    with dg.DagsterInstance.ephemeral() as instance:
        for job, key in by.items():
            assert (
                definitions.defs.resolve_job_def(job).execute_in_process(partition_key=key, instance=instance).success
            )
    exports = Path(here.settings.lake) / "exports"
    assert (exports / USAGE / "2026-10-20.csv").is_file()
    assert (exports / "usage_by_project_and_flavor" / "2026-10.csv").is_file()
    assert not (exports / "lateness").exists()  # it has no rows
    moment = datetime(2026, 11, 1, 1, 35, tzinfo=UTC)
    request = schedules.report_of_month(dg.build_schedule_context(scheduled_execution_time=moment))
    assert isinstance(request, dg.RunRequest)
    assert request.partition_key == "2026-10"


def test_a_stale_export_is_made_again_and_shown_meanwhile(here: Site) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        report_exports.export(here, USAGE, DAY.date())
        report_exports.export(here, "top_consumers", DAY.date())
        assert looked(instance) == []
        put_period(here, "i2", DAY, vcpus=1.0)
        requests = looked(instance)
        asked = [(request.job_name, request.partition_key) for request in requests]
        assert asked == [("report_day", "2026-10-20"), ("report_month", "2026-10")]
        about = Path(here.settings.lake) / "exports" / USAGE / "2026-10-20.json"
        assert json.loads(about.read_bytes())["stale"] == "periods of resources were recomputed"
        checks = definitions.defs.resolve_job_def("quality_checks")
        assert any(key.name == "exports_are_current" for key in checks.asset_layer.asset_graph.asset_check_keys)
        for request in requests:
            assert request.job_name
            job = definitions.defs.resolve_job_def(request.job_name)
            job.execute_in_process(
                partition_key=request.partition_key,
                instance=instance,
                asset_selection=list(request.asset_selection or ()),
            )
        assert "stale" not in json.loads(about.read_bytes())
        assert looked(instance) == []


def test_exports_by_commands_are_shown_in_dagster(here: Site) -> None:
    report_exports.export(here, USAGE, DAY.date())
    report_exports.export(here, "top_consumers", DAY.date())
    events, _ = other_runs(here, 0)
    assert [(event.asset_key.to_user_string(), event.partition) for event in events] == [
        (USAGE, "2026-10-20"),
        ("top_consumers", "2026-10"),
    ]
