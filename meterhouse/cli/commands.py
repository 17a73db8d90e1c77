"""The commands by section, each with the module that has it: a command's module is imported when it is called."""

from importlib import import_module
from typing import NamedTuple

import click


class Entry(NamedTuple):
    """Where a command is, and what it does in one line."""

    module: str
    attribute: str
    help: str


SECTIONS = {
    "Collect and compute": {
        "poll": Entry("poll", "poll", "Poll services and hosts for samples."),
        "collect": Entry("pipeline", "collect", "Drain the stream into the lake and convert it."),
        "load": Entry("pipeline", "load", "Load files of samples or notifications."),
        "convert": Entry("pipeline", "convert", "Convert notifications from standard input; stores nothing."),
        "rollup": Entry("pipeline", "rollup", "Judge and roll up the hours that have new points."),
        "backfill": Entry("pipeline", "backfill", "Recompute an asset over a span of the past."),
        "stale": Entry("pipeline", "stale_command", "List what definitions of the past have made."),
        "compact": Entry("pipeline", "compact_command", "Merge the small files of arrival hours."),
        "archive": Entry("pipeline", "archive", "Seal an arrival day."),
    },
    "Query": {
        "statistics": Entry("queries", "statistics", "Statistics of a meter, by period and group."),
        "samples": Entry("queries", "samples", "Samples of a meter, with the quality rules that each breaks."),
        "events": Entry("queries", "events", "Events with their traits."),
        "resources": Entry("resources", "resources", "Resources with their metadata and meters."),
        "meters": Entry("queries", "meters", "Meters that have samples."),
        "report": Entry("reports", "report", "Run or list the SQL reports."),
        "sql": Entry("queries", "sql_command", "Run SQL on the lake or the warehouse."),
    },
    "Bill": {
        "bill": Entry("bills", "bill", "Bills of a month, and closed months."),
        "periods": Entry("usage", "periods", "What existed when, with the evidence of each boundary."),
        "usage": Entry("usage", "usage", "How much of resources was used, by group and time."),
        "reconcile": Entry("usage", "reconcile", "Compare what events, audits and polls say of a day."),
    },
    "Alarms": {
        "alarms": Entry("alarms", "alarms", "Definitions, states and notifications of alarms."),
    },
    "Serve": {
        "api": Entry("api", "api", "Serve the HTTP API."),
        "daemon": Entry("daemon", "daemon", "Run Dagster's daemon, on one of several machines at a time."),
    },
    "Operate": {
        "doctor": Entry("site", "doctor", "Check every part and report what to fix."),
        "verify": Entry("verify", "verify", "Verify a site that is in use, from its stream to its API."),
        "correct": Entry("corrections", "correct", "Delete, replace or accept points, with a reason."),
        "erase": Entry("erasure", "erase", "Erase the personal data of a user."),
        "dead-letters": Entry("dead_letters", "dead_letters", "Messages and rows that could not be used."),
        "definitions": Entry("definitions", "definitions", "Check meter and event definitions."),
        "policies": Entry("policies", "policies", "Archive policies: which roll-ups are made of which meters."),
        "derived": Entry("derived", "derived", "Meters that are computed from others."),
        "names": Entry("names", "names", "What projects, users and flavors are called."),
        "prices": Entry("prices", "prices", "Prices, by which bills are made."),
        "settings": Entry("site", "show_settings", "List all settings with their values."),
        "upkeep": Entry("pipeline", "upkeep_command", "Delete what is older than it is kept for."),
        "migrate": Entry("site", "migrate", "Upgrade the warehouse's schema."),
        "demo": Entry("site", "demo", "Run the whole pipeline on a simulated cloud."),
    },
}
_ENTRIES = {name: entry for entries in SECTIONS.values() for name, entry in entries.items()}


class Commands(click.Group):
    """The group of all commands: it imports the one that is called, and none to list them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_ENTRIES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = _ENTRIES.get(cmd_name)
        if entry is None:
            return None
        found: click.Command = getattr(import_module(f"meterhouse.cli.{entry.module}"), entry.attribute)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for section, entries in SECTIONS.items():
            with formatter.section(section):
                formatter.write_dl([(name, entry.help) for name, entry in entries.items()])
