"""The command that polls."""

import click

from meterhouse.cli.options import prints
from meterhouse.cli.output import Printer
from meterhouse.cli.signals import ended_by_signal


@click.command()
@click.option("--follow", is_flag=True, help="Continue until stopped; log what happens.")
@prints("tasks", "resources", "samples", "failed", "missed")
def run(follow: bool, printer: Printer) -> None:
    """Poll what is due now, once. With --follow, be a member: poll until stopped, together with the other members.

    Any number of members on any hosts share the work. One that gets SIGTERM finishes or releases its tasks at once.
    """
    import logging

    from meterhouse.configuration import open_checked
    from meterhouse.polling.member.loop import Loop

    logging.getLogger("meterhouse.polling").setLevel(logging.INFO)
    site = open_checked()
    with ended_by_signal() as stop:
        done = Loop(site, stop).run(follow=follow)
        printer.figures("polled", vars(done))
