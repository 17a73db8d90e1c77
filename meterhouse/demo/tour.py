"""The demo: takes a day of a simulated cloud through the whole pipeline, with Dagster's real sensors."""

import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path

import click
from sqlalchemy import func, select, text

from meterhouse import times
from meterhouse.archive.seal import manifest
from meterhouse.billing import closing, figures
from meterhouse.catalog import commits_behind, snapshot
from meterhouse.conversion.step import unconverted
from meterhouse.demo.account import Line, account
from meterhouse.demo.api_process import ApiProcess
from meterhouse.demo.children import free_port
from meterhouse.demo.cloud import SimulatedCloud
from meterhouse.demo.dagster_process import DagsterProcesses
from meterhouse.demo.racks import POLLSTER, SOURCES, Racks
from meterhouse.demo.receiver import WebhookReceiver
from meterhouse.errors import MeterhouseError
from meterhouse.private_files import make_folder
from meterhouse.queries import reports
from meterhouse.settings import read_settings, settings
from meterhouse.site import Site
from meterhouse.stores.warehouse_tables import deliveries, poll_tasks, reconciliation_daily, resource_periods
from meterhouse.usage.keeping_up import behind

MARKER = ".meterhouse-demo"
LIVE_SECONDS = 10
"""Seconds between live polls."""

HISTORY_CADENCE_SECONDS = 120
"""Seconds between the polls of the day before."""

PATIENCE_SECONDS = 900.0
"""Maximum wait for one step of the tour: on a slow machine, the tour takes longer than the usual three minutes."""

ALARMS = """alarms:
  - name: web-01-overloaded
    description: The processor of web-01 is over 90 %.
    severity: critical
    threshold_rule:
      meter_name: cpu_util
      query: [{{field: resource_id, op: eq, value: {instance}}}]
      statistic: avg
      comparison_operator: gt
      threshold: 90.0
      period: 30
      evaluation_periods: 1
    alarm_actions: [{url}]
    ok_actions: [{url}]
"""

PRICES = """currency: EUR
time_zone: UTC
prices:
  - {name: vCPU, where: {resource_type: instance}, measure: vcpus, per: hour, price: 0.01}
  - {name: memory, where: {resource_type: instance}, measure: memory_mib, unit: GiB, per: hour, price: 0.005}
  - {name: disk, where: {resource_type: volume}, measure: size_gib, per: hour, price: 0.0001}
"""

_CHECK = """
query Check($asset: String!, $name: String!) {
  assetCheckExecutions(assetKey: {path: [$asset]}, checkName: $name, limit: 5) { evaluation { success } }
}
"""


@dataclass
class Tour:
    """One tour: the site, the cloud, Dagster, the HTTP API, the webhook receiver, and the racks that are polled."""

    site: Site
    cloud: SimulatedCloud
    dagster: DagsterProcesses
    api: ApiProcess
    receiver: WebhookReceiver
    racks: Racks
    overloaded: bool = True
    next_poll: datetime = field(default_factory=times.now)
    last_poll: datetime = field(default_factory=times.now)

    def wait_for(self, what: str, ready: Callable[[], bool], *, live: bool = True) -> None:
        """Wait until a condition holds; the simulated cloud continues meanwhile.

        Raises:
            MeterhouseError: it does not hold within PATIENCE_SECONDS, or Dagster ended.
        """
        report_progress(what)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not ready():
            if time.monotonic() > deadline:
                raise MeterhouseError(f"timed out: {what}", where=str(self.dagster.logs))
            self.dagster.check_alive()
            if live:
                self.poll_when_due()
            time.sleep(0.5)

    def poll_when_due(self) -> None:
        """Write a live polling cycle if it is due."""
        moment = times.now().replace(microsecond=0)
        if moment >= self.next_poll and moment > self.last_poll:
            self.cloud.live_poll(self.site.settings.spool, moment, self.overloaded)
            self.last_poll = moment
            self.next_poll = moment + timedelta(seconds=LIVE_SECONDS)

    def states_received(self) -> list[str]:
        """The states that the accepted webhooks announced, in order."""
        return [call.body["current"] for call in self.receiver.calls]

    def settled(self) -> bool:
        """Whether everything that was written has passed through the whole pipeline."""
        return (
            not self.site.stream.backlog()
            and unconverted(self.site) + commits_behind(self.site) == 0
            and not snapshot(self.site).hours
        )

    def outbox_empty(self) -> bool:
        """Whether no notification waits for delivery."""
        waiting = select(func.count()).select_from(deliveries).where(deliveries.c.state == "pending")
        with self.site.warehouse.read() as connection:
            return connection.execute(waiting).scalar() == 0

    def wait_for_runs(self, what: str, wanted: list[str]) -> None:
        """Wait until these runs have succeeded.

        Raises:
            MeterhouseError: one of them failed.
        """

        def ended() -> bool:
            statuses = self.dagster.run_statuses()
            failed = [run for run in wanted if statuses.get(run) in ("FAILURE", "CANCELED")]
            if failed:
                raise MeterhouseError(f"a run failed: {self.dagster.url}/runs/{failed[0]}")
            return all(statuses.get(run) == "SUCCESS" for run in wanted)

        self.wait_for(what, ended, live=False)


def report_progress(text: str) -> None:
    """Print the progress of the tour to standard error."""
    click.echo(f"{times.now():%H:%M:%S}  {text}", err=True)


def tour(*, exit_after: bool, port: int, seed: int) -> int:
    """Run the tour; return 0 only if the pipeline found everything as planted.

    Raises:
        MeterhouseError: a part did not start, or a wait timed out.
    """
    clock = time.monotonic()
    port = port_to_use(port)
    home = fresh_home(settings().home_path / "demo")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("METERHOUSE_")}
    environment |= {"METERHOUSE_HOME": str(home), "METERHOUSE_CONFIG_DIR": str(home / "config")}
    environment["METERHOUSE_PARTITIONS_FROM"] = str((times.now() - times.DAY).date())
    environment["METERHOUSE_WEBHOOK_ALLOW"] = "127.0.0.0/8"  # alarms of the API may call this machine too
    cloud = SimulatedCloud(seed)
    with WebhookReceiver(fail_first=1) as receiver, Racks() as racks:
        (home / "config" / "pollsters.d").mkdir(parents=True)
        (home / "config" / "polling.yaml").write_text(SOURCES.format(url=racks.url))
        (home / "config" / "pollsters.d" / "racks.yaml").write_text(POLLSTER)
        (home / "config" / "alarms.yaml").write_text(ALARMS.format(instance=cloud.hot_instance_id, url=receiver.url))
        (home / "config" / "prices.yaml").write_text(PRICES)
        for name in [name for name in os.environ if name.startswith("METERHOUSE_")]:
            del os.environ[name]
        site = Site.open(read_settings(home=home, config_dir=home / "config"))
        until = times.now().replace(microsecond=0)
        report_progress("the simulated cloud writes a day of notifications and polled samples")
        cloud.write_history(site.settings.spool, until, cadence_s=HISTORY_CADENCE_SECONDS)
        report_progress(f"{cloud.ledger.messages:,} messages written; Dagster starts")
        dagster = DagsterProcesses(home / "dagster", port, environment, home / "logs")
        api = ApiProcess(environment, home / "logs")
        with dagster, api:
            dagster.wait_until_loaded()
            report_progress(f"Dagster's UI is at {dagster.url}")
            trip = Tour(site, cloud, dagster, api, receiver, racks, last_poll=until)
            lines, as_planted = _run(trip, until)
            for line in lines:
                click.echo(line)
            click.echo(
                f"\nTime taken: {time.monotonic() - clock:.0f} s. Data: {home}. API: {api.url} UI: {dagster.url}"
            )
            click.echo("Everything was found as planted." if as_planted else "NOT everything was found as planted.")
            if not exit_after:
                report_progress("the cloud continues; press Ctrl-C to end the demo")
                try:
                    while True:
                        trip.poll_when_due()
                        dagster.check_alive()
                        time.sleep(1)
                except KeyboardInterrupt:
                    report_progress("stopping")
    return 0 if as_planted else 1


def _run(trip: Tour, until: datetime) -> tuple[list[str], bool]:
    """Run the steps of the tour; return the lines of the result, and whether everything was found as planted."""
    trip.wait_for(
        "the sensors collect, convert, judge and roll up the day",
        lambda: _rolled_up(trip.site, until - 2 * times.HOUR),
    )
    trip.cloud.write_late(trip.site.settings.spool, until)
    checks_run = trip.dagster.launch("quality_checks")
    trip.wait_for("the racks are polled", lambda: _slots_done(trip.site) > 0)
    trip.wait_for("the overload of web-01 reaches the webhook", lambda: "alarm" in trip.states_received())
    trip.overloaded = False
    trip.wait_for("web-01 recovers, and the webhook reports it", lambda: trip.states_received()[-1:] == ["ok"])
    trip.wait_for("the rest passes through, including late points", trip.settled, live=False)
    trip.wait_for("what existed when is computed", lambda: not behind(trip.site).commits, live=False)
    trip.wait_for("the outbox is delivered", trip.outbox_empty, live=False)
    arrival_days = sorted({date.fromisoformat(day) for day in _arrival_days(trip.site)})
    event_days = sorted({(until - timedelta(hours=23)).date(), until.date()})
    launched = [trip.dagster.launch("archive_day", str(day)) for day in arrival_days]
    launched += [trip.dagster.launch(job, str(day)) for job in ("report_day", "reconcile_day") for day in event_days]
    trip.wait_for_runs("archive, report, reconciliation and checks run", [checks_run, *launched])
    found = account(trip.site, trip.cloud.ledger, trip.states_received(), trip.racks.polls)
    checks = _checks(trip, arrival_days, event_days)
    return _shown(trip, found, checks, event_days), all(line.is_equal for line in [*found, *checks])


def _rolled_up(site: Site, hour: datetime) -> bool:
    from meterhouse.stores.warehouse_tables import dirty_hours

    with site.warehouse.read() as connection:
        row = connection.execute(
            select(dirty_hours.c.rolled_at).where(dirty_hours.c.hour == times.hour_of(hour))
        ).first()
    return row is not None and row[0] is not None


def _slots_done(site: Site) -> int:
    """The number of slots that are recorded as polled."""
    with site.warehouse.read() as connection:
        return int(connection.execute(select(func.count()).where(poll_tasks.c.state == "done")).scalar_one())


def _arrival_days(site: Site) -> set[str]:
    hours = site.lake.actions("notifications")["partition.arrival_hour"].to_pylist()
    return {hour.partition("T")[0] for hour in hours}


def _checks(trip: Tour, arrival_days: list[date], event_days: list[date]) -> list[Line]:
    """The results that have to be correct besides the planted faults."""
    sealed = {entry["table_name"]: 0 for entry in manifest(trip.site)}
    for entry in manifest(trip.site):
        sealed[entry["table_name"]] += entry["rows"]
    exports = [f"exports/usage_by_project_and_day/{day}.parquet" for day in event_days]
    written = sum(trip.site.lake.filesystem.exists(f"{trip.site.lake.url}/{path}") for path in exports)
    failures = sum(status == "FAILURE" for status in trip.dagster.run_statuses().values())
    checks = [
        trip.dagster.query(_CHECK, {"asset": asset, "name": name})["assetCheckExecutions"]
        for asset, name in (
            ("good_points", "good_points_keep_the_rules"),
            ("sample_quality", "few_points_are_flagged"),
        )
    ]
    # The schedule may have started the checks again: the newest result counts, not the newest execution.
    results = [next((each["evaluation"] for each in found if each["evaluation"]), None) for found in checks]
    passed = sum(bool(result and result["success"]) for result in results)
    existed = select(func.count(resource_periods.c.resource_id.distinct()))
    with trip.site.warehouse.read() as connection:
        instances = connection.execute(existed.where(resource_periods.c.resource_type == "instance")).scalar_one()
    landed = trip.cloud.ledger.notifications + trip.racks.polls
    return [
        Line("instances that existed", len(trip.cloud.inventory.instances), instances),
        Line("instances that the API lists", len(trip.cloud.inventory.instances), _listed_by_api(trip)),
        Line("notifications in the archive", landed, sealed.get("notifications", 0)),
        Line("usage reports exported", len(exports), written),
        Line("checks of quality passed", len(checks), passed),
        Line("Dagster runs that failed", 0, failures),
    ]


def _listed_by_api(trip: Tour) -> int:
    """The number of resources that have the meter `cpu`, by the HTTP API."""
    found = trip.api.ask("/v2/meters/cpu/statistics?groupby=resource_id&aggregate.func=count")
    return len({row["groupby"]["resource_id"] for row in found})


def _shown(trip: Tour, found: list[Line], checks: list[Line], event_days: list[date]) -> list[str]:
    lines = ["", f"{'':36}{'planted':>10}{'found':>10}"]
    for line in found:
        lines.append(f"{line.what:36}{line.planted:>10,}{line.found:>10,}  {'equal' if line.is_equal else 'NOT EQUAL'}")
    lines += ["", f"{'':36}{'expected':>10}{'found':>10}"]
    for line in checks:
        lines.append(f"{line.what:36}{line.planted:>10,}{line.found:>10,}  {'equal' if line.is_equal else 'NOT EQUAL'}")
    lines += ["", f"Webhooks received ({len(trip.receiver.refused)} refused at first, and retried):"]
    for call in trip.receiver.calls:
        body = call.body
        lines.append(f"  {call.received_at:%H:%M:%S}  {body['previous']} -> {body['current']}: {body['reason']}")
    lines += ["", "What each project used:"]
    names = {project.id: project.name for project in trip.cloud.inventory.projects}
    columns = (
        "day",
        "project",
        "instances",
        "vcpu_hours",
        "memory_gib_hours",
        "cpu_hours",
        "network_in_gib",
        "excluded",
    )
    lines.append("  " + "".join(f"{name:>18}" for name in columns))
    for day in event_days:
        start = times.day_start(day)
        for row in reports.run(trip.site, "usage_by_project_and_day", start, start + times.DAY):
            row |= {"project": names.get(row["project_id"], row["project_id"]), "excluded": row["excluded_points"]}
            cells = (f"{row[name]:,.1f}" if isinstance(row[name], float) else str(row[name]) for name in columns)
            lines.append("  " + "".join(f"{cell:>18}" for cell in cells))
    return [*lines, *_usage(trip, event_days, names)]


def _usage(trip: Tour, event_days: list[date], names: Mapping[str, str]) -> list[str]:
    """What existed, how far its witnesses agree, and the bill of each month and project."""
    of_type = select(resource_periods.c.resource_type, func.count(resource_periods.c.resource_id.distinct()))
    with trip.site.warehouse.read() as connection:
        existed = connection.execute(of_type.group_by(resource_periods.c.resource_type).order_by(text("1"))).all()
        number = connection.execute(select(func.count()).select_from(resource_periods)).scalar_one()
        agreed, compared = connection.execute(
            select(func.sum(reconciliation_daily.c.agreed_hours), func.sum(reconciliation_daily.c.compared_hours))
        ).one()
    types = ", ".join(f"{count} of type {kind}" for kind, count in existed)
    lines = ["", f"What existed when: {number} periods of resources: {types}"]
    lines.append(f"Events, audits and polls agree on {agreed:,} of {compared:,} hours.")
    lines += ["", "What each project owes so far:"]
    for month in sorted({f"{day:%Y-%m}" for day in event_days}):
        for total in closing.make(trip.site, month).totals("project_id"):
            project = names.get(total.of, total.of)
            lines.append(f"  {month}{project:>18}{figures.money(total.gross):>18} {total.currency}")
    return lines


def fresh_home(folder: Path) -> Path:
    """An empty home folder for the tour. The folder of an earlier tour is emptied.

    Raises:
        MeterhouseError: the folder has content that is not from a tour.
    """
    if folder.exists() and any(folder.iterdir()):
        if not (folder / MARKER).exists():
            raise MeterhouseError(
                "is not empty, and not from a demo", where=str(folder), hint="Set METERHOUSE_HOME to another folder"
            )
        shutil.rmtree(folder)
    make_folder(folder)
    (folder / MARKER).touch()
    return folder


def port_to_use(port: int) -> int:
    """The port, or a free one for 0.

    Raises:
        MeterhouseError: the port is in use.
    """
    import socket

    if port == 0:
        return free_port()
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            raise MeterhouseError(
                f"port {port} is in use", hint="Choose another with --port, or any free one with --port 0"
            ) from None
    return port
