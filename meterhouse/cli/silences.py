"""Commands of silences and maintenance windows: silence, silences, unsilence."""

import getpass
from datetime import datetime
from typing import Any

import click

from meterhouse.cli.options import TIMES, Instant, prints
from meterhouse.cli.output import Printer

_COLUMNS = ("silence_id", "name_glob", "project_id", "severity", "begins_at", "ends_at", "author", "reason")


@click.command("silence")
@click.argument("glob")
@click.option("--from", "begins", type=Instant(), help=f"Begin; default now: {TIMES}, or a later time.")
@click.option("--to", "ends", required=True, type=Instant(), help="End.")
@click.option("--reason", required=True, help="Why.")
@click.option("--author", help="Who; default your login name.")
@click.option("--project", "project_id", help="Only alarms of this project.")
@click.option("--severity", help="Only alarms of this severity: low, moderate or critical.")
@prints(*_COLUMNS)
def silence(
    glob: str, begins: datetime | None, ends: datetime, author: str | None, printer: Printer, **given: Any
) -> None:
    """Silence the alarms whose names match GLOB, in which * and ? stand for any text and any character.

    A silenced alarm is evaluated, and its transitions are in its history. Its notifications are not sent, nor later.
    """
    from dataclasses import asdict

    from meterhouse import times
    from meterhouse.alarms.keeping import silences
    from meterhouse.site import Site

    wanted = silences.Silence(glob, begins or times.now(), ends, author or getpass.getuser(), **given)
    printer.figures("silenced", _row(asdict(silences.add(Site.open(), wanted))))


@click.command("silences")
@click.option("--past", is_flag=True, help="Those that have ended, too.")
@prints(*_COLUMNS)
def list_silences(past: bool, printer: Printer) -> None:
    """List the silences that hold or will hold."""
    from dataclasses import asdict

    from meterhouse.alarms.keeping.silences import silences
    from meterhouse.site import Site

    printer.rows([_row(asdict(each)) for each in silences(Site.open(), past=past)])


@click.command("unsilence")
@click.argument("silence_id")
@prints(*_COLUMNS)
def unsilence(silence_id: str, printer: Printer) -> None:
    """End the silence SILENCE_ID now."""
    from dataclasses import asdict

    from meterhouse.alarms.keeping import silences
    from meterhouse.site import Site

    printer.figures("ended", _row(asdict(silences.end(Site.open(), silence_id))))


def _row(found: dict[str, Any]) -> dict[str, Any]:
    return {name: found[name] for name in _COLUMNS}
