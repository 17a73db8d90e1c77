"""The group of commands of polling: each command's module is imported when it is called."""

from importlib import import_module

import click

from meterhouse.cli.commands import Entry
from meterhouse.cli.groups import RunsByDefault

_ENTRIES = {
    "run": Entry("poll_run", "run", "Poll what is due; with --follow until stopped. The default."),
    "status": Entry("poll_record", "status", "Show how each pollster of each source is doing."),
    "history": Entry("poll_record", "history", "List slots: who polled them, or why they were missed."),
    "members": Entry("poll_record", "members", "List the processes that poll."),
    "release": Entry("poll_record", "release", "Take tasks from the members that have claimed them."),
    "check": Entry("poll_check", "check", "Check polling.yaml and the pollsters of pollsters.d."),
    "try": Entry("poll_try", "try_pollster", "Poll a pollster once and print the samples; stores nothing."),
}


class _Poll(RunsByDefault):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_ENTRIES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = _ENTRIES.get(cmd_name)
        if entry is None:
            return None
        found: click.Command = getattr(import_module(f"meterhouse.cli.{entry.module}"), entry.attribute)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in _ENTRIES.items()])


@click.group(cls=_Poll)
def poll() -> None:
    """Poll services and hosts for samples: what is due, its record, and the pollsters."""
