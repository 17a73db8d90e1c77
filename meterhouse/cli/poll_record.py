"""Commands of the record of polling: status, history, members, release."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import click

from meterhouse.cli.options import limit, prints, span
from meterhouse.cli.output import Printer


def _chosen(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--member", help="Only tasks of this member: its name or a part of it, such as its host."),
        click.option("--host", help="Only pollsters that tell of this host."),
        click.option("--pollster", help="Only this pollster."),
        click.option("--source", help="Only this source."),
    ):
        command = option(command)
    return command


@click.command()
@click.option("--ended", is_flag=True, help="Also those that are in the files of no member any more.")
@prints(
    *("source", "pollster", "host", "state", "behind", "interval", "shards", "polled_slot", "open", "claimed"),
    *("missed", "last_error", "next_slot", "namespaces", "definition", "changed_at", "changed_by"),
    shown=(
        *("source", "pollster", "host", "state", "behind", "interval", "polled_slot", "open", "claimed"),
        *("missed", "last_error"),
    ),
)
def status(ended: bool, printer: Printer) -> None:
    """Show how each pollster of each source is doing, those first that are furthest behind.

    `behind` is the number of whole intervals since the last slot that was completely polled; from 2 on the state is
    `late`. `open` and `claimed` count tasks, `missed` the slots of the last day.
    """
    from meterhouse.polling.record import reading
    from meterhouse.site import Site

    printer.rows(reading.status(Site.open().warehouse, ended=ended))


@click.command()
@_chosen
@click.option("--state", help="Only those that are open, claimed, done or missed.")
@span()
@limit
@prints(
    *("task_id", "source", "pollster", "host", "slot_at", "end_at", "slots", "shard", "part", "state", "member"),
    *("due_at", "until", "attempts", "generation", "lease_until", "uncertain", "last_result"),
    *("resources", "samples", "seconds", "ended_at", "message_id", "error"),
    shown=(
        *("slot_at", "source", "pollster", "shard", "slots", "state", "member", "attempts", "samples", "seconds"),
        "error",
    ),
)
def history(
    source: str | None,
    pollster: str | None,
    host: str | None,
    member: str | None,
    state: str | None,
    start: datetime | None,
    end: datetime | None,
    limit: int,
    printer: Printer,
) -> None:
    """List tasks and what came of them, newest slots first: who polled them, when, and why not.

    --from and --to select by the start of the slot. A row with `slots` above 1 is for as many missed slots from
    `slot_at` to `end_at`. Shard `*` is a whole slot that had no tasks.
    """
    from meterhouse.errors import UnknownKeyword
    from meterhouse.polling.record import reading
    from meterhouse.site import Site

    if state is not None and state not in reading.STATES:
        raise UnknownKeyword("state", state, list(reading.STATES))
    asked = reading.Asked(source, pollster, host, state, member, start, end)
    printer.rows(reading.history(Site.open().warehouse, asked, limit))


@click.command()
@click.option("--gone", is_flag=True, help="Also those that went more than a day ago.")
@prints(
    *("member", "state", "host", "namespaces", "claimed", "joined_at", "seen_at", "left_at", "lease_seconds"),
    *("clock_ahead_seconds", "definitions"),
    shown=("member", "state", "namespaces", "claimed", "joined_at", "seen_at", "clock_ahead_seconds", "definitions"),
    whole=("member",),
)
def members(gone: bool, printer: Printer) -> None:
    """List the members: the processes that poll.

    The state is `alive`, `left` (it ended cleanly), `dead` (a process of this host that has ended), or `silent` (it has
    not renewed its lease). If members that are alive differ in `definitions`, they have read different files.
    """
    from meterhouse.polling.record import reading
    from meterhouse.site import Site

    printer.rows(reading.who(Site.open().warehouse, gone=gone))


@click.command()
@click.argument("task_ids", nargs=-1, type=int)
@_chosen
@click.option("--all", "all_of_them", is_flag=True, help="All tasks.")
@prints("released", "due")
def release(
    task_ids: tuple[int, ...],
    source: str | None,
    pollster: str | None,
    host: str | None,
    member: str | None,
    all_of_them: bool,
    printer: Printer,
) -> None:
    """Take tasks from the members that have claimed them, and retry those that wait for a retry.

    Select them by TASK_IDS (`meterhouse poll history`) or by options. Other members poll them at once. A member that
    polls such a task right now loses it, and its samples are not counted twice.
    """
    from meterhouse.polling.record import by_hand, reading
    from meterhouse.site import Site

    narrowed = bool(task_ids) or any(given is not None for given in (source, pollster, host, member))
    if narrowed == all_of_them:
        raise click.UsageError("give TASK_IDS, --source, --pollster, --host or --member; or --all, and none of these")
    asked = reading.Asked(source, pollster, host, None, member)
    printer.figures("released", by_hand.release(Site.open().warehouse, asked, task_ids))
