"""Commands of notifications: deliver, deliveries, resend, webhook-secret."""

import click

from meterhouse.cli.options import limit, prints
from meterhouse.cli.output import Printer
from meterhouse.cli.progress import progress


@click.command()
@prints("delivered", "failed", "dead", "pending", "seconds")
def deliver(printer: Printer) -> None:
    """Send the notifications that are due."""
    from dataclasses import asdict

    from meterhouse.alarms.delivery.deliver import deliver as send
    from meterhouse.site import Site

    with progress("delivering notifications"):
        done = send(Site.open())
    printer.figures("delivered", asdict(done))


@click.command("deliveries")
@click.option("--state", help="Only those that are pending, delivered or dead.")
@click.option("--alarm", help="Only those of this alarm: its name or id.")
@click.option("--event", "event_id", help="Only those about this transition.")
@limit
@prints(
    *("delivery_id", "sequence", "alarm_id", "alarm_name", "project_id", "event_id", "url", "state", "attempts"),
    *("created_at", "next_attempt_at", "delivered_at", "last_error", "tried"),
    shown=("delivery_id", "alarm_name", "url", "state", "attempts", "created_at", "last_error"),
    whole=("delivery_id",),
)
def list_deliveries(state: str | None, alarm: str | None, event_id: str | None, limit: int, printer: Printer) -> None:
    """List what was sent and what waits, newest first.

    `tried` has every attempt: when, for how long, to which address, and how it was answered.
    """
    from meterhouse.alarms.delivery import ledger
    from meterhouse.errors import UnknownKeyword
    from meterhouse.site import Site

    if state is not None and state not in ledger.STATES:
        raise UnknownKeyword("state", state, list(ledger.STATES))
    printer.rows(ledger.listed(Site.open(), state=state, alarm=alarm, event_id=event_id, limit=limit))


@click.command()
@click.argument("delivery_ids", nargs=-1)
@click.option("--dead", is_flag=True, help="All that are dead.")
@prints("again")
def resend(delivery_ids: tuple[str, ...], dead: bool, printer: Printer) -> None:
    """Let the deliveries DELIVERY_IDS be sent again, with the idempotency keys that they had.

    The next delivery sends them. Each has as many attempts as a new one.
    """
    from meterhouse.alarms.delivery import ledger
    from meterhouse.site import Site

    printer.figures("to be sent", {"again": ledger.resend(Site.open(), delivery_ids, dead=dead)})


@click.command("webhook-secret")
@click.argument("project_id")
@prints("secret")
def webhook_secret(project_id: str, printer: Printer) -> None:
    """Print the secret by which webhooks of alarms from the outside of the project PROJECT_ID are signed.

    It is made from METERHOUSE_WEBHOOK_SECRET. Give it to the project.
    """
    from meterhouse.alarms.delivery import signature
    from meterhouse.errors import UsageError
    from meterhouse.settings import settings

    secret = settings().webhook_secret
    if not secret:
        raise UsageError("webhooks are not signed", hint="Set METERHOUSE_WEBHOOK_SECRET")
    printer.figures("signed with", {"secret": signature.of_project(secret, project_id)})
