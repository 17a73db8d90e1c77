"""Commands of alarms: apply, list, show, evaluate, history; the others are in files of their own."""

import sys
from typing import Any

import click

from meterhouse.cli.alarm_past import explain, replay
from meterhouse.cli.deliveries import deliver, list_deliveries, resend, webhook_secret
from meterhouse.cli.options import limit, prints
from meterhouse.cli.output import Printer, note
from meterhouse.cli.outside_alarms import change, create, delete, quota, state
from meterhouse.cli.progress import progress
from meterhouse.cli.silences import list_silences, silence, unsilence

_COLUMNS = (
    *("alarm_id", "name", "origin", "project_id", "user_id", "type", "enabled", "severity", "definition", "state"),
    *("state_reason", "state_timestamp", "timestamp", "evaluate_timestamp"),
)


@click.group()
def alarms() -> None:
    """Alarms: their definitions, states and notifications."""


@alarms.command()
@click.option("--dry-run", is_flag=True, help="Change nothing; print what differs.")
@prints("created", "changed", "deleted", "differs")
def apply(dry_run: bool, printer: Printer) -> None:
    """Bring the warehouse's alarms in line with alarms.yaml and alarms.d/.

    Alarms that no file declares are left alone.
    """
    from meterhouse.alarms.keeping.apply import apply as bring_in_line
    from meterhouse.site import Site
    from meterhouse.untrusted import printable

    done = bring_in_line(Site.open(), dry_run=dry_run)
    figures: dict[str, Any] = {"created": done.created, "changed": done.changed, "deleted": done.deleted}
    if dry_run:
        figures["differs"] = [{"what": what, "alarm": name, "fields": fields} for what, name, fields in done.drift]
    printer.figures("would be applied" if dry_run else "applied", figures)
    for warning in done.warnings:
        note(f"warning: {printable(warning)}")
    _report([str(fault) for fault in done.faults])


@alarms.command("list")
@prints(*_COLUMNS, shown=("name", "state", "severity", "enabled", "state_timestamp", "state_reason"))
def list_alarms(printer: Printer) -> None:
    """List all alarms with their states."""
    from meterhouse.alarms.keeping.callers import OPERATOR
    from meterhouse.alarms.keeping.states import alarm_list
    from meterhouse.site import Site

    printer.rows(alarm_list(Site.open(), OPERATOR))


@alarms.command()
@click.argument("name")
@prints(
    *_COLUMNS,
    "transitions",
    shown=("state", "state_timestamp", "state_reason", "enabled", "evaluate_timestamp", "definition", "transitions"),
)
def show(name: str, printer: Printer) -> None:
    """Show the alarm NAME, which may be its id: its state, since when and why, its definition, its last transitions."""
    from meterhouse.alarms.keeping.callers import OPERATOR
    from meterhouse.alarms.keeping.states import alarm
    from meterhouse.site import Site

    printer.figures(name, alarm(Site.open(), name, OPERATOR))


@alarms.command()
@prints("alarms", "states", "transitions", "notifications", "seconds")
def evaluate(printer: Printer) -> None:
    """Evaluate all alarms once; notifications go to the outbox."""
    from meterhouse.alarms.evaluation.cycle import evaluate_all
    from meterhouse.site import Site

    with progress("evaluating alarms"):
        done = evaluate_all(Site.open())
    found = {
        "alarms": done.alarms,
        "states": dict(done.states),
        "transitions": [{"alarm": n, "previous": p, "current": c} for n, p, c in done.transitions],
        "notifications": done.notifications,
        "seconds": round(done.seconds, 3),
    }
    printer.figures("evaluated", found)
    _report(done.faults)


def _report(faults: list[str]) -> None:
    """Print what is wrong with alarms, one line each; if there is anything, the command has failed."""
    from meterhouse.untrusted import printable

    for fault in faults:
        click.echo(f"meterhouse: {printable(fault)}", err=True)
    if faults:
        sys.exit(1)


@alarms.command()
@click.argument("name")
@limit
@prints(
    *("event_id", "alarm_id", "type", "detail", "timestamp", "user_id", "project_id", "on_behalf_of", "severity"),
    shown=("timestamp", "type", "detail", "event_id"),
)
def history(name: str, limit: int, printer: Printer) -> None:
    """List what happened to the alarm NAME, which may be its id, newest first."""
    from meterhouse.alarms.keeping.callers import OPERATOR
    from meterhouse.alarms.keeping.states import history as find
    from meterhouse.site import Site

    printer.rows(find(Site.open(), name, limit, OPERATOR))


for _command in (
    *(create, change, delete, state, quota, silence, list_silences, unsilence, explain, replay),
    *(deliver, list_deliveries, resend, webhook_secret),
):
    alarms.add_command(_command)
