"""Commands of usage: periods, usage."""

from datetime import date, datetime, timedelta

import click

from meterhouse.cli.options import Day, limit, prints, span
from meterhouse.cli.output import Printer, note
from meterhouse.cli.progress import progress

_PERIODS = (
    *("resource_type", "resource_id", "started_at", "ended_at", "project_id", "user_id", "name", "flavor", "state"),
    *("host", "zone", "image", "vcpus", "memory_mib", "root_gib", "ephemeral_gib", "size_gib", "measures", "source"),
    *("start_witness", "start_evidence", "start_reason", "start_earliest", "start_latest"),
    *("end_witness", "end_evidence", "end_reason", "end_earliest", "end_latest"),
    *("confirmed_until", "confirmed_by", "unconfirmed"),
)
_SHOWN = (
    *("resource_id", "started_at", "ended_at", "project_id", "flavor", "state", "start_witness", "end_witness"),
    "confirmed_by",
)


@click.command()
@click.argument("resource_id", required=False, metavar="[RESOURCE]")
@span()
@click.option("--type", "types", multiple=True, help="Only this type of resource. Repeatable.")
@click.option("--project", "projects", multiple=True, help="Only this project. Repeatable.")
@click.option("--unconfirmed", is_flag=True, help="Only resources that are known by events alone and have not ended.")
@limit
@prints(*_PERIODS, shown=_SHOWN)
def periods(
    resource_id: str | None,
    start: datetime | None,
    end: datetime | None,
    types: tuple[str, ...],
    projects: tuple[str, ...],
    unconfirmed: bool,
    limit: int,
    printer: Printer,
) -> None:
    """List what existed when: the periods of RESOURCE, or of all, that overlap a span.

    Each boundary has its witness (an event, an audit, a poll, or silence), the id of the message behind it, the reason
    if no event told it, and the earliest and latest time that the witnesses allow.
    """
    from meterhouse.site import Site
    from meterhouse.usage.listing import listed

    site = Site.open()
    printer.rows(
        listed(
            site,
            resource_id=resource_id,
            start=start,
            end=end,
            types=types,
            projects=projects,
            unconfirmed=unconfirmed,
            limit=limit,
        )
    )


@click.command()
@span()
@click.option("--month", help="A calendar month of the time zone, YYYY-MM, in place of --from and --to.")
@click.option(
    "--by", multiple=True, metavar="GROUP", help="Group by this; repeatable. Default: project_id, resource_type."
)
@click.option("--bucket", type=click.Choice(["hour", "day", "month"]), help="A row for each hour, day or month.")
@click.option("--time-zone", default="UTC", show_default=True, help="The time zone of days and months.")
@click.option("--hours-begun", is_flag=True, help="Count each hour that a resource has begun as a whole one.")
@click.option("--project", "projects", multiple=True, help="Only this project. Repeatable.")
@prints()
def usage(
    start: datetime | None,
    end: datetime | None,
    month: str | None,
    by: tuple[str, ...],
    bucket: str | None,
    time_zone: str,
    hours_begun: bool,
    projects: tuple[str, ...],
    printer: Printer,
) -> None:
    """Show how much was used, from the periods of resources: exact seconds, and hours of each size.

    A GROUP is project_id, resource_type, resource_id, flavor, zone, state, host, image, name, user_id, or metadata.KEY
    for a key of the resource's metadata at the time. Without a span, of this month.
    """
    from typing import cast

    from meterhouse import times
    from meterhouse.site import Site
    from meterhouse.usage.amounts import usage as used
    from meterhouse.usage.buckets import Bucket, month_span, zone_named

    zone = zone_named(time_zone)
    if month and (start or end):
        raise click.UsageError("give --month, or --from and --to, not both")
    if start is None:
        start, until = month_span(month or f"{times.now().astimezone(zone):%Y-%m}", zone)
        end = end or until
    site = Site.open()
    with progress("adding up"):
        made = used(
            site,
            start,
            end or times.now(),
            by=by or ("project_id", "resource_type"),
            bucket=cast(Bucket | None, bucket),
            zone=zone,
            hours_begun=hours_begun,
            projects=projects or None,
        )
    if (end or times.now()) > times.now():
        note(f"holds up to {times.text(times.now())}: the span is not over")
    columns = made.to_pydict()
    if "bucket_start" in columns:
        columns["bucket_start"] = [each.astimezone(zone).isoformat() for each in columns["bucket_start"]]
    printer.rows([dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)], list(columns))


@click.command()
@click.option("--day", type=Day(), help="The day: YYYY-MM-DD, today or yesterday; default yesterday.")
@prints(
    *("day", "resource_type", "resource_id", "project_id", "hours", "event_hours", "audit_hours", "poll_hours"),
    *("compared_hours", "agreed_hours", "finding"),
    prose=("finding",),
)
def reconcile(day: date | None, printer: Printer) -> None:
    """Compare what events, audits and polls say of each resource on a day (UTC), hour by hour.

    Lists the resources on which they do not agree, with the hours. The result is kept in the warehouse's tables
    `reconciliation` and `reconciliation_daily`.
    """
    from meterhouse import times
    from meterhouse.site import Site
    from meterhouse.usage.reconciliation import reconcile as compare

    day = day or (times.now() - timedelta(days=1)).date()
    with progress(f"comparing {day}"):
        done = compare(Site.open(), day)
    note(f"{done.resources} resources, {done.hours} hours, {100 * done.share:.2f} % of which agree")
    printer.rows(done.differing.to_pylist())
