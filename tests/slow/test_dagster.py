"""The code location: what loads, what sensors decide, and the whole flow in process."""

import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from builders import at, drop, land_points, notification, point, polled, polling, roll_up
from sqlalchemy import delete, update

from meterhouse import settings as settings_module
from meterhouse import times
from meterhouse.alarms.keeping import silences
from meterhouse.alarms.keeping.apply import apply as apply_alarms
from meterhouse.archive.seal import archive
from meterhouse.catalog import snapshot
from meterhouse.demo.cloud import SimulatedCloud
from meterhouse.demo.receiver import WebhookReceiver
from meterhouse.doctor import findings_of
from meterhouse.queries import report_exports
from meterhouse.recompute import PERIODS
from meterhouse.sample_quality.step import judge_hours
from meterhouse.settings import read_settings
from meterhouse.site import Site
from meterhouse.stores import warehouse_tables
from meterhouse.usage.periods import compute

with warnings.catch_warnings(), pytest.MonkeyPatch.context() as environment:
    warnings.simplefilter("ignore")  # BackfillPolicy is beta in this version of Dagster, and says so at each use
    environment.setenv("METERHOUSE_PARTITIONS_FROM", "2024-01-01")
    settings_module.settings.cache_clear()
    import dagster as dg

    import definitions
    from assets import partitions, resources
    from assets.runs import DIRTY
    from sensors import dirty_hours, other_runs, periods, stream, webhooks
    from sensors import polling as polling_sensor
    from sensors.active_runs import STEP
settings_module.settings.cache_clear()

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::dagster.BetaWarning")]

ROOT = Path(__file__).parents[2]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """The site that assets and sensors open by themselves."""
    monkeypatch.setenv("METERHOUSE_HOME", str(tmp_path))
    monkeypatch.setenv("METERHOUSE_CONFIG_DIR", str(tmp_path))
    settings_module.settings.cache_clear()
    resources.open_site.cache_clear()
    yield resources.open_site()
    resources.open_site().warehouse.engine.dispose()
    settings_module.settings.cache_clear()
    resources.open_site.cache_clear()


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def run(instance: dg.DagsterInstance, job: str, **how: Any) -> dict[str, dict[str, Any]]:
    """Execute a job in process; return the metadata of its materializations and checks by name.

    A materialization of an event day has the name `ASSET DAY`.
    """
    result = definitions.defs.resolve_job_def(job).execute_in_process(instance=instance, **how)
    found: dict[str, dict[str, Any]] = {}
    for event in result.all_events:
        if event.is_step_materialization:
            made = event.step_materialization_data.materialization
            asset = made.asset_key.to_user_string()
            name = f"{asset} {made.partition}" if asset in ("sample_quality", "rollups", PERIODS) else asset
            found[name] = {name: value.value for name, value in made.metadata.items()}
        if event.event_type_value == "ASSET_CHECK_EVALUATION":
            check = event.event_specific_data
            found[check.check_name] = {"passed": check.passed, **{k: v.value for k, v in check.metadata.items()}}
    return found


def of_sensor(day: Any) -> dict[str, Any]:
    """How the dirty-hours sensor starts a run."""
    return {"partition_key": str(day), "tags": {DIRTY: "true"}}


def test_the_code_location_validates_from_any_directory(tmp_path: Path) -> None:
    program = Path(sys.executable).parent / "dagster"
    environment = {**os.environ, "DAGSTER_HOME": str(tmp_path), "METERHOUSE_HOME": str(tmp_path / "home")}
    command = [str(program), "definitions", "validate", "-w", str(ROOT / "workspace.yaml")]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "home").exists()


def test_a_broken_definition_file_keeps_the_code_location_from_loading(tmp_path: Path) -> None:
    (tmp_path / "quality.yaml").write_text(
        "rules:\n  - name: odd\n    bit: 99\n    check: finite\n    severity: critical\n"
    )
    environment = {**os.environ, "METERHOUSE_HOME": str(tmp_path / "home"), "METERHOUSE_CONFIG_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", "import definitions"], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode != 0
    assert f"{tmp_path}/quality.yaml:2: rule 'odd': bit is 99" in done.stderr


def test_loading_the_code_location_imports_nothing_heavy() -> None:
    probe = (
        "import sys, definitions; print([m for m in ('great_expectations', 'pandas', 'airflow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", probe], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_every_asset_has_a_group_an_owner_a_kind_and_a_one_sentence_description() -> None:
    for spec in definitions.defs.resolve_all_asset_specs():
        assert spec.group_name != "default", spec.key
        assert spec.owners, spec.key
        assert spec.kinds, spec.key
        assert spec.description, spec.key
        assert spec.description.strip().count("\n") == 0, spec.key


def test_a_day_of_a_cloud_goes_through_every_asset(here: Site, instance: dg.DagsterInstance, today: date) -> None:
    cloud = SimulatedCloud(seed=11, instances=12)
    until = times.now().replace(microsecond=0)
    cloud.write_history(here.settings.spool, until, hours=3)
    planted = cloud.ledger

    collected = run(instance, "collect")
    assert collected["notifications"]["messages"] == planted.messages
    assert collected["notifications"]["dagster/row_count"] == planted.notifications
    assert collected["notifications"]["redelivered"] == planted.redelivered
    assert collected["notifications"]["dead_letters"] == planted.dead_letters
    assert collected["events"]["dagster/row_count"] == planted.events
    assert collected["samples"]["dagster/row_count"] >= planted.samples

    hours = [hour for hour in snapshot(here).hours if hour <= until]
    judged = run(instance, "recompute", **of_sensor(max(hours).date()))
    of_quality = [made for name, made in judged.items() if name.startswith("sample_quality ")]
    of_rollups = [made for name, made in judged.items() if name.startswith("rollups ")]
    # One point of the cloud's may be ahead of its time, in a day that Dagster does not show yet.
    points = of_quality[0]["points_of_run"]
    assert points == collected["samples"]["dagster/row_count"] >= sum(made["points"] for made in of_quality)
    assert of_quality[0]["excluded_of_run"] == of_rollups[0]["excluded_of_run"] == planted.excluded
    assert of_rollups[0]["hours_of_run"] == of_quality[0]["hours_of_run"] >= len(hours)
    assert len(of_rollups) == len(of_quality) == len({hour.date() for hour in hours})
    assert all("data:image/svg+xml" in made["hours_of_day"] for made in of_rollups)
    assert not snapshot(here).hours

    assert judged["few_points_are_flagged"]["points"] == points
    assert judged["few_points_are_flagged"]["passed"]

    checks = run(instance, "quality_checks")
    assert checks["good_points_keep_the_rules"]["passed"]
    assert checks["good_points_keep_the_rules"]["points"] == checks["good_points"]["points"] > 0

    archived = run(instance, "archive_day", partition_key=str(today))
    assert "samples" in archived["archive"]["manifest"]
    day = until - timedelta(hours=1)
    report = run(instance, "report_day", partition_key=str(day.date()))
    assert report["usage_by_project_and_day"]["dagster/row_count"] == 5
    assert "vcpu_hours" in report["usage_by_project_and_day"]["rows"]

    named = run(instance, "names")["resource_names"]
    assert named["messages"] == planted.notifications
    assert named["faults"] == "none"

    again = run(instance, "collect")
    assert again["notifications"]["messages"] == again["samples"]["dagster/row_count"] == 0
    assert run(instance, "archive_day", partition_key=str(today))["archive"]["sealed_now"] == 0


def test_rollups_say_what_each_derived_meter_is_made_of(
    here: Site, instance: dg.DagsterInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = "derived_meters:\n- {name: twice, kind: convert, from: [m], expression: volume or 2 * volume}\n"
    (tmp_path / "derived.yaml").write_text(content)
    monkeypatch.setattr("meterhouse.definitions.derived_meters.SHIPPED", tmp_path / "derived.yaml")
    drop(here.settings.spool, "a.jsonl", [polling("b1", [polled(1.0, at(5), meter="m")])])
    run(instance, "collect")
    made = run(instance, "recompute", **of_sensor(at().date()))[f"rollups {at().date()}"]
    assert made["derived_meters"].splitlines()[2:] == ["| `twice` | `convert` | `volume or 2 * volume of m` |"]


def test_a_backfill_of_days_recomputes_them_although_nothing_new_came(here: Site, instance: dg.DagsterInstance) -> None:
    drop(here.settings.spool, "a.jsonl", [polling("b1", [polled(1.0, at(5)), polled(3.0, at(6)), polled(5.0, at(65))])])
    run(instance, "collect")
    run(instance, "recompute", **of_sensor(at().date()))
    days = {"start": at(days=-1), "end": at(days=1)}
    tags = {f"dagster/asset_partition_range_{name}": str(moment.date()) for name, moment in days.items()}
    done = run(instance, "recompute", tags=tags)
    assert [name for name in done if name.startswith("rollups ")] == [
        f"rollups {at(days=n).date()}" for n in (-1, 0, 1)
    ]
    for asset in ("sample_quality", "rollups"):
        made = done[f"{asset} {at().date()}"]
        assert (made["hours"], made["points"], made["points_of_run"], made["excluded"]) == (2, 3, 3, 0)
        assert done[f"{asset} {at(days=1).date()}"]["points"] == 0
    assert not snapshot(here).hours


def test_a_range_of_arrival_days_is_converted_again_by_one_run_and_a_check_says_what_is_stale(
    here: Site, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    def check(asset: str) -> Any:
        done = definitions.defs.resolve_job_def("quality_checks").execute_in_process(instance=instance)
        of_asset = (each for each in done.get_asset_check_evaluations() if each.check_name == "definitions_are_applied")
        return next(each for each in of_asset if each.asset_key.to_user_string() == asset)

    meters = tmp_path / "meters.yaml"
    meters.write_text(
        "metric:\n- {name: disk, event_type: compute.instance.exists, type: gauge, unit: GB, volume: $.payload.disk, "
        "resource_id: $.payload.instance_id}\n"
    )
    payloads = [{"disk": 1.0, "instance_id": f"i{n}"} for n in range(3)]
    messages = [notification(f"m{n}", payload=payload) for n, payload in enumerate(payloads)]
    drop(here.settings.spool, "a.jsonl", messages)
    run(instance, "collect")
    run(instance, "recompute", **of_sensor(at().date()))
    assert check("samples").passed
    meters.write_text(meters.read_text().replace("name: disk", "name: root"))
    found = check("samples")
    assert not found.passed
    assert "1 hours are stale: meter disk removed, meter root added; run" in found.description
    assert "meters.yaml" in found.metadata["stale"].value
    assert check("events").passed

    days = {"start": times.now() - times.DAY, "end": times.now()}
    tags = {f"dagster/asset_partition_range_{name}": str(moment.date()) for name, moment in days.items()}
    done = definitions.defs.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=instance, tags=tags, asset_selection=[dg.AssetKey("redefined_samples")]
    )
    made = [
        event.step_materialization_data.materialization for event in done.all_events if event.is_step_materialization
    ]
    assert [each.partition for each in made] == [str(moment.date()) for moment in days.values()]
    assert {name: each.value for name, each in made[0].metadata.items()}["changed_hours_of_run"] == 1
    assert check("samples").passed
    assert snapshot(here).hours.keys() == {at()}


def test_a_run_that_was_killed_continues_where_it_was(
    here: Site, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    land_points(here, [point(1.0, at(days=-n)) for n in range(4)])
    run(instance, "recompute", **of_sensor(at().date()))
    monkeypatch.setattr("meterhouse.sample_quality.groups.DAYS_AT_ONCE", 1)
    tags = {
        "dagster/asset_partition_range_start": str(at(days=-3).date()),
        "dagster/asset_partition_range_end": str(at().date()),
    }
    with monkeypatch.context() as killed:
        killed.setattr("assets.event_days.roll_up", lambda site, hours, **how: roll_up(site, {at(days=-3)}) and 1 / 0)
        job = definitions.defs.resolve_job_def("recompute")
        assert not job.execute_in_process(instance=instance, tags=tags, raise_on_error=False).success
    assert len(snapshot(here).hours) == 3
    done = run(instance, "recompute", tags=tags)
    assert sum(each["hours"] for name, each in done.items() if name.startswith("rollups ")) == 3
    assert sum(each["hours"] for name, each in run(instance, "recompute", tags=tags).items() if "rollups " in name) == 4


def test_a_queued_run_of_hourly_partitions_recomputes_no_other_day(here: Site, instance: dg.DagsterInstance) -> None:
    hours = {"start": "2026-11-10-11:00", "end": "2026-11-10-13:00"}
    tags = {f"dagster/asset_partition_range_{name}": key for name, key in hours.items()}
    job = definitions.defs.resolve_job_def("recompute")
    done = job.execute_in_process(instance=instance, tags=tags, raise_on_error=False)
    (failed,) = [event for event in done.all_events if event.is_step_failure]
    assert "partitions are days now" in str(failed.event_specific_data.user_failure_data.description)
    drop(here.settings.spool, "a.jsonl", [polling("b1", [polled(1.0, at())])])
    run(instance, "collect")
    done = job.execute_in_process(instance=instance, tags={DIRTY: "true", **tags})  # the sensor's works all the same
    made = [
        event.step_materialization_data.materialization.partition
        for event in done.all_events
        if event.is_step_materialization
    ]
    assert made.count("2026-11-10") == 2
    assert not snapshot(here).hours


def test_the_stream_sensor_starts_a_run_only_if_there_is_work_and_none_is_running(
    here: Site, instance: dg.DagsterInstance
) -> None:
    def tick() -> Any:
        context = dg.build_sensor_context(instance=instance, resources={"site": resources.SiteResource()})
        return stream.stream_sensor(context)

    assert isinstance(tick(), dg.SkipReason)
    drop(here.settings.spool, "a.jsonl", [notification("m1")])
    assert isinstance(tick(), dg.RunRequest)
    running = instance.create_run_for_job(
        definitions.defs.resolve_job_def("collect"), status=dg.DagsterRunStatus.STARTED
    )
    assert "already running" in str(tick().skip_message)
    instance.delete_run(running.run_id)
    run(instance, "collect")
    assert "quiet" in str(tick().skip_message)


@pytest.mark.service
def test_what_is_due_is_polled_by_a_run_that_the_sensor_starts(
    here: Site, instance: dg.DagsterInstance, tmp_path: Path, json_url: str
) -> None:
    def tick() -> Any:
        context = dg.build_sensor_context(instance=instance, resources={"site": resources.SiteResource()})
        return polling_sensor.poll_sensor(context)

    assert "nothing is due" in str(tick().skip_message)
    pollster = {"name": "room.temperature", "sample_type": "gauge", "unit": "C", "value_attribute": "value"}
    pollster |= {"endpoint_type": "rooms", "url_path": "3", "response_entries_key": "rooms"}
    source = {"name": "building", "interval": 86_400, "meters": ["room.temperature"]}
    source |= {"resources": [f"{json_url}/lists/rooms"]}
    (tmp_path / "pollsters.d").mkdir()
    (tmp_path / "pollsters.d" / "rooms.yaml").write_text(yaml.safe_dump([pollster]))
    (tmp_path / "polling.yaml").write_text(yaml.safe_dump({"sources": [source]}))
    (request,) = tick()
    assert (request.tags[STEP], request.tags["meterhouse/due"]) == ("poll", "1")
    started = {"status": dg.DagsterRunStatus.STARTED, "tags": {STEP: "poll"}}
    running = instance.create_run_for_job(definitions.defs.resolve_job_def("poll"), **started)
    assert "already running" in str(tick().skip_message)
    instance.delete_run(running.run_id)
    found = run(instance, "poll")
    assert found["polled_samples"]["dagster/row_count"] == found["polled_samples"]["resources"] == 3
    assert found["polling_keeps_up"]["passed"]
    assert "nothing is due" in str(tick().skip_message)
    assert run(instance, "collect")["samples"]["dagster/row_count"] == 3
    with here.warehouse.begin() as connection:
        past = {"done_slot_at": times.now() - timedelta(days=5), "changed_at": times.now() - timedelta(days=9)}
        connection.execute(update(warehouse_tables.poll_schedules).values(past))
    assert not run(instance, "alarms")["polling_keeps_up"]["passed"]


def test_late_points_of_any_day_are_recomputed_by_one_run_with_one_event_for_each_day(
    here: Site, instance: dg.DagsterInstance
) -> None:
    def tick() -> Any:
        context = dg.build_sensor_context(instance=instance, resources={"site": resources.SiteResource()})
        return dirty_hours.dirty_hours_sensor(context)

    assert "no event hour" in str(tick().skip_message)
    ages = [0, 1, 7, 40, 300, 600]
    wrong_clocks = [polled(9.0, at(days=-5000)), polled(9.0, at(days=5000))]
    batch = [*(polled(1.0, at(days=-age)) for age in ages), *wrong_clocks]
    drop(here.settings.spool, "a.jsonl", [polling("b1", batch)])
    run(instance, "collect")
    request = tick()
    assert request.partition_key == str(at().date())
    with here.warehouse.lease("rollups"):
        assert "is recomputing" in str(tick().skip_message)
    done = run(instance, "recompute", **of_sensor(request.partition_key))
    made = {name.split()[1]: figures for name, figures in done.items() if name.startswith("rollups ")}
    assert set(made) == {str(at(days=-age).date()) for age in ages}
    assert {(each["hours"], each["points"]) for each in made.values()} == {(1, 1)}
    assert not snapshot(here).hours
    assert "no event hour" in str(tick().skip_message)


def test_a_backfill_in_progress_delays_no_late_point(here: Site, instance: dg.DagsterInstance) -> None:
    def tick() -> Any:
        context = dg.build_sensor_context(instance=instance, resources={"site": resources.SiteResource()})
        return dirty_hours.dirty_hours_sensor(context)

    job = definitions.defs.resolve_job_def("recompute")
    land_points(here, [point(1.0, at(days=-30), recorded_at=at())])
    for state in (
        dg.DagsterRunStatus.STARTED,
        dg.DagsterRunStatus.NOT_STARTED,
    ):  # each day of a backfill is a run of the job
        instance.create_run_for_job(job, status=state, tags={"dagster/backfill": "b"})
    request = tick()
    assert request.partition_key == str(at(days=-30).date())
    instance.create_run_for_job(job, status=dg.DagsterRunStatus.NOT_STARTED, tags=request.tags)
    assert "already running" in str(tick().skip_message)


def test_late_points_are_looked_for_every_few_seconds_and_their_runs_always_find_a_place() -> None:
    for sensor in (stream.stream_sensor, dirty_hours.dirty_hours_sensor):
        assert sensor.minimum_interval_seconds is not None
        assert sensor.minimum_interval_seconds < 5
        assert sensor.default_status == dg.DefaultSensorStatus.RUNNING
    queue = yaml.safe_load((ROOT / "dagster.yaml").read_text())["run_coordinator"]["config"]
    assert queue["dequeue_interval_seconds"] == 1
    limits = {each["key"]: each["limit"] for each in queue["tag_concurrency_limits"]}
    slow = (
        limits["dagster/backfill"] + limits["meterhouse/background"] + 2 * limits["meterhouse/step"]
    )  # compact, periods
    assert queue["max_concurrent_runs"] >= slow + settings_module.Settings.collect_runs + 1
    for job in ("collect", "recompute"):
        assert int(definitions.defs.resolve_job_def(job).tags["dagster/priority"]) > 0
    for job in ("archive_day", "report_day", "names", "quality_checks", "upkeep"):
        assert "meterhouse/background" in definitions.defs.resolve_job_def(job).tags


def test_what_was_done_outside_dagster_is_reported_once(here: Site, instance: dg.DagsterInstance) -> None:
    def tick(cursor: str | None) -> Any:
        context = dg.build_sensor_context(
            instance=instance, resources={"site": resources.SiteResource()}, cursor=cursor
        )
        return other_runs.other_runs_sensor(context)

    drop(here.settings.spool, "a.jsonl", [polling("b1", [polled(1.0, at(5)), polled(3.0, at(days=-3))])])
    run(instance, "collect")
    run(instance, "recompute", **of_sensor(at().date()))
    within = tick(None)
    assert within.asset_events == []
    command = Site.open(here.settings)
    land_points(command, [point(2.0, at(9)), point(2.0, at(10)), point(float("nan"), at(days=-3, hours=1))])
    judge_hours(command)
    roll_up(command)
    archive(command, at().date())
    report_exports.export(command, "usage_by_project_and_day", at().date())
    reported = tick(within.cursor)
    made = {(event.asset_key.to_user_string(), event.partition): event.metadata for event in reported.asset_events}
    today, before = str(at().date()), str(at(days=-3).date())
    days = {(asset, day) for asset in ("sample_quality", "rollups") for day in (today, before)}
    assert days <= set(made)
    assert made["rollups", today]["points"].value == 3  # the hour's
    assert made["rollups", before]["excluded"].value == made["rollups", today]["excluded_of_run"].value == 1
    assert made["catalog", None]["dagster/row_count"].value == 3
    assert made["archive", today]["dagster/row_count"].value > 0
    assert ("usage_by_project_and_day", today) in made
    assert tick(reported.cursor).asset_events == []


def created(when: datetime) -> dict[str, Any]:
    """The notification of a new instance of 4 vCPUs."""
    payload = {
        "instance_id": "i1",
        "tenant_id": "p1",
        "user_id": "u1",
        "instance_type": "m1.large",
        "state": "active",
        "vcpus": 4,
        "memory_mb": 8192,
        "disk_gb": 80,
        "launched_at": when.isoformat(),
    }
    return notification("m-1", "compute.instance.create.end", timestamp=str(when), payload=payload)


def test_the_periods_sensor_starts_a_run_after_new_evidence_and_not_soon_again(
    here: Site, instance: dg.DagsterInstance
) -> None:
    def tick() -> Any:
        context = dg.build_sensor_context(instance=instance, resources={"site": resources.SiteResource()})
        return periods.periods_sensor(context)

    assert "nothing came" in str(tick().skip_message)
    drop(here.settings.spool, "a.jsonl", [created(at())])
    run(instance, "collect")
    request = tick()
    assert request.partition_key == str(times.now().date())
    with here.warehouse.lease("periods"):
        assert "is computing the periods" in str(tick().skip_message)
    done = run(instance, "periods", partition_key=request.partition_key, tags=request.tags)
    made = done[f"resource_periods {at().date()}"]
    assert (made["changed_of_run"], made["resources_of_run"], made["unconfirmed"]) == (1, 1, 1)
    assert f"resource_periods {request.partition_key}" in done
    assert done["periods_keep_up"]["passed"]
    assert done["resources_are_confirmed"]["passed"]
    drop(here.settings.spool, "b.jsonl", [{**created(at(5)), "message_id": "m-2"}])
    run(instance, "collect")
    assert "may start in" in str(tick().skip_message)


def test_a_backfill_of_periods_computes_the_months_of_its_days(here: Site, instance: dg.DagsterInstance) -> None:
    drop(here.settings.spool, "a.jsonl", [created(at())])
    run(instance, "collect")
    run(instance, "periods", partition_key=str(at().date()), tags={DIRTY: "true"})
    with here.warehouse.begin() as connection:
        connection.execute(delete(warehouse_tables.resource_periods))
    done = run(instance, "periods", partition_key=str(at(days=3).date()))
    made = done[f"resource_periods {at(days=3).date()}"]
    assert (made["changed_of_run"], made["periods_of_run"]) == (1, 1)


def test_a_compared_day_says_how_far_its_witnesses_agree(here: Site, instance: dg.DagsterInstance) -> None:
    drop(here.settings.spool, "a.jsonl", [created(at())])
    run(instance, "collect")
    run(instance, "periods", partition_key=str(at().date()), tags={DIRTY: "true"})
    done = run(instance, "reconcile_day", partition_key=str(at().date()))
    assert (done["reconciliation"]["hours"], done["witnesses_agree"]["passed"]) == (12, True)
    assert done["witnesses_agree"]["share_agreed"] == 1.0


def test_periods_that_a_command_computed_are_reported_by_day(here: Site, instance: dg.DagsterInstance) -> None:
    drop(here.settings.spool, "a.jsonl", [created(at())])
    run(instance, "collect")
    compute(Site.open(here.settings))
    context = dg.build_sensor_context(instance=instance, resources={"site": resources.SiteResource()})
    reported = other_runs.other_runs_sensor(context).asset_events
    made = {event.partition: event.metadata for event in reported if event.asset_key.to_user_string() == PERIODS}
    assert set(made) == {str(at().date())}
    assert made[str(at().date())]["changed_of_run"].value == 1


def test_the_webhook_sensor_delivers_what_is_due(here: Site, instance: dg.DagsterInstance) -> None:
    def tick() -> Any:
        context = dg.build_sensor_context(instance=instance, resources={"site": resources.SiteResource()})
        return webhooks.webhook_sensor(context)

    assert "nothing is due" in str(tick().skip_message)
    with WebhookReceiver() as receiver:
        rule = "{meter_name: cpu_util, threshold: 10.0, comparison_operator: gt, period: 600}"
        (here.settings.home_path / "alarms.yaml").write_text(
            f"alarms:\n  - name: high\n    threshold_rule: {rule}\n    alarm_actions: ['{receiver.url}']\n"
        )
        now = times.now().replace(microsecond=0)
        drop(here.settings.spool, "a.jsonl", [polling("b1", [polled(50.0, now - timedelta(seconds=30))])])
        run(instance, "collect")
        evaluated = definitions.defs.resolve_job_def("alarms").execute_in_process(instance=instance)
        (made,) = evaluated.asset_materializations_for_node("alarm_evaluations")
        result = tick()
        assert [call.body["current"] for call in receiver.calls] == ["alarm"]
        event, check = result.asset_events
        assert event.metadata["delivered"].value == 1
        assert event.tags[webhooks.OF_ALARMS] == made.tags[webhooks.DATA_VERSION_TAG] != "0"
        assert (check.check_name, check.passed) == ("notifications_are_delivered", True)
        assert "nothing is due" in str(tick().skip_message)


def test_a_check_of_each_severity_tells_which_alarms_fire(here: Site, instance: dg.DagsterInstance) -> None:
    def checks(*names: str) -> dict[str, Any]:
        job = dg.define_asset_job(
            "fires",
            selection=dg.AssetSelection.checks(
                *(dg.AssetCheckKey(dg.AssetKey("alarm_evaluations"), name) for name in names)
            ),
        )
        resolved = dg.Definitions(
            assets=definitions.defs.assets,
            asset_checks=definitions.defs.asset_checks,
            jobs=[job],
            resources=definitions.defs.resources,
        ).resolve_job_def("fires")
        result = resolved.execute_in_process(instance=instance)
        return {check.check_name: check for check in result.get_asset_check_evaluations()}

    rule = "{meter_name: cpu_util, threshold: 10.0, comparison_operator: gt, period: 600}"
    (here.settings.home_path / "alarms.yaml").write_text(
        "alarms:\n"
        f"  - {{name: hot, severity: critical, threshold_rule: {rule}}}\n"
        f"  - {{name: warm-a, severity: moderate, threshold_rule: {rule}}}\n"
        f"  - {{name: warm-b, severity: moderate, threshold_rule: {rule}}}\n"
        f"  - {{name: off, severity: low, enabled: false, threshold_rule: {rule}}}\n"
    )
    now = times.now().replace(microsecond=0)
    drop(here.settings.spool, "a.jsonl", [polling("b1", [polled(50.0, now - timedelta(seconds=30))])])
    run(instance, "collect")
    silences.add(here, silences.Silence("*-b", now - times.HOUR, now + times.HOUR, "ann", "maintenance"))
    result = definitions.defs.resolve_job_def("alarms").execute_in_process(instance=instance)
    found = {check.check_name: check for check in result.get_asset_check_evaluations()}
    critical, moderate, low = (found[f"no_{each}_alarm_fires"] for each in ("critical", "moderate", "low"))
    assert (critical.passed, moderate.passed, low.passed) == (False, False, True)
    assert (critical.severity, moderate.severity) == (dg.AssetCheckSeverity.ERROR, dg.AssetCheckSeverity.WARN)
    assert (moderate.metadata["firing"].value, moderate.metadata["silenced"].value) == (1, 1)
    table = critical.metadata["alarms"].value
    assert "hot" in table
    assert "Transition to alarm due to 1 samples outside threshold" in table
    (made,) = result.asset_materializations_for_node("alarm_evaluations")
    assert all(name in made.metadata["last_transitions"].value for name in ("hot", "warm-a", "warm-b"))
    assert set(checks("no_low_alarm_fires")) == {"no_low_alarm_fires"}


def test_a_collecting_run_delivers_what_its_events_fire(here: Site, instance: dg.DagsterInstance) -> None:
    with WebhookReceiver() as receiver:
        (here.settings.home_path / "alarms.yaml").write_text(
            "alarms:\n  - name: ended\n    type: event\n    event_rule: {event_type: compute.*}\n"
            f"    alarm_actions: ['{receiver.url}']\n"
        )
        apply_alarms(here)
        drop(here.settings.spool, "a.jsonl", [notification("m1", "compute.instance.delete.end")])
        run(instance, "collect")
        assert [call.body["reason_data"]["event"]["message_id"] for call in receiver.calls] == ["m1"]


def test_the_doctors_findings_are_asset_checks_in_the_same_words(here: Site, instance: dg.DagsterInstance) -> None:
    land_points(here, [point(1.0)])
    with here.warehouse.begin() as connection:
        connection.execute(update(warehouse_tables.dirty_hours).values(marked_at=times.now() - 3 * times.HOUR))
    result = definitions.defs.resolve_job_def("alarms").execute_in_process(instance=instance)
    found = {check.check_name: check for check in result.get_asset_check_evaluations()}
    assert not found["rollups_keep_up"].passed
    assert found["rollups_keep_up"].description == str(findings_of(here, "dirty hours")[0])
    assert found["conversion_keeps_up"].passed
    assert found["notifications_are_delivered"].passed


def test_partitions_begin_with_the_first_day_that_has_points(site: Site, tmp_path: Path) -> None:
    present = times.now()
    today, far = str(present.date()), present - timedelta(days=20_000)
    assert partitions.first_day(read_settings(home=tmp_path / "none"), present) == today
    assert not (tmp_path / "none").exists()
    assert partitions.first_day(site.settings, present) == today
    land_points(site, [point(1.0, present + timedelta(days=9)), point(1.0, far)])  # clocks that were wrong
    assert partitions.first_day(site.settings, present) == today
    for age in (9, 800):
        land_points(site, [point(1.0, present - timedelta(days=age))])
        assert partitions.first_day(site.settings, present) == str((present - timedelta(days=age)).date())
    given = read_settings(home=site.settings.home_path, partitions_from="2025-03-01")
    assert partitions.first_day(given, present) == "2025-03-01"
    gone = read_settings(home=tmp_path / "none", warehouse_url="postgresql+psycopg://u:p@127.0.0.1:1/none")
    assert partitions.first_day(gone, present) == today
