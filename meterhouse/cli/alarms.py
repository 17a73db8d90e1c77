"""Commands of alarms: apply, list, evaluate, history, deliver."""

import json

import click

from meterhouse.cli import output
from meterhouse.cli.options import as_json, limit


@click.group()
def alarms() -> None:
    """Alarms: their definitions, states and notifications."""


@alarms.command()
@as_json
def apply(as_json: bool) -> None:
    """Bring the warehouse's alarms in line with alarms.yaml."""
    from meterhouse.alarms.apply import apply as bring_in_line
    from meterhouse.site import Site

    output.figures("applied", bring_in_line(Site.open()), as_json)


@alarms.command("list")
@as_json
def list_alarms(as_json: bool) -> None:
    """All alarms with their states."""
    from sqlalchemy import select

    from meterhouse.site import Site
    from meterhouse.stores.warehouse_tables import alarms as table

    with Site.open().warehouse.read() as connection:
        found = [dict(row._mapping) for row in connection.execute(select(table).order_by(table.c.name))]
    wanted = ("name", "state", "severity", "enabled", "state_timestamp", "state_reason")
    if as_json:
        output.rows([{**row, "definition": json.loads(row["definition"])} for row in found], as_json)
    else:
        output.rows([{name: row[name] for name in wanted} for row in found], as_json)


@alarms.command()
@as_json
def evaluate(as_json: bool) -> None:
    """Evaluate all alarms once; notifications go to the outbox."""
    from meterhouse.alarms.evaluate import evaluate as run
    from meterhouse.site import Site

    done = run(Site.open())
    found = {
        "alarms": done.alarms,
        "states": dict(done.states),
        "transitions": [{"alarm": n, "previous": p, "current": c} for n, p, c in done.transitions],
        "notifications": done.notifications,
        "seconds": round(done.seconds, 3),
    }
    output.figures("evaluated", found, as_json)


@alarms.command()
@click.argument("name")
@limit
@as_json
def history(name: str, limit: int, as_json: bool) -> None:
    """What became of the alarm NAME, newest first."""
    from sqlalchemy import select

    from meterhouse.errors import UnknownName
    from meterhouse.site import Site
    from meterhouse.stores.warehouse_tables import alarm_history
    from meterhouse.stores.warehouse_tables import alarms as table

    with Site.open().warehouse.read() as connection:
        known = {row.name: row.alarm_id for row in connection.execute(select(table.c.name, table.c.alarm_id))}
        if name not in known:
            raise UnknownName("alarm", name, list(known))
        query = (
            select(alarm_history.c.timestamp, alarm_history.c.type, alarm_history.c.detail)
            .where(alarm_history.c.alarm_id == known[name])
            .order_by(alarm_history.c.timestamp.desc())
            .limit(limit)
        )
        found = [dict(row._mapping) for row in connection.execute(query)]
    output.rows(found, as_json)


@alarms.command()
@as_json
def deliver(as_json: bool) -> None:
    """Send the notifications that are due."""
    from dataclasses import asdict

    from meterhouse.alarms.deliver import deliver as send
    from meterhouse.site import Site

    output.figures("delivered", asdict(send(Site.open())), as_json)


COMMANDS: list[click.Command] = [alarms]
