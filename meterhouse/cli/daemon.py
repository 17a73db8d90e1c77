"""The command `daemon`."""

from pathlib import Path

import click


@click.command()
@click.option(
    "-w",
    "--workspace",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Dagster's workspace file; default: that of the checkout.",
)
def daemon(workspace: Path | None) -> None:
    """Run Dagster's daemon, until it is stopped; of several machines that do, on one at a time.

    The others stand by. If the machine or the process that leads dies, one of them takes over. They need one warehouse,
    and Dagster's storage in PostgreSQL.
    """
    import sys

    from meterhouse.cli.output import note
    from meterhouse.cli.signals import ended_by_signal
    from meterhouse.daemon.home import check_home
    from meterhouse.daemon.lead import lead
    from meterhouse.daemon.leader import warehouse_of
    from meterhouse.extras import require
    from meterhouse.settings import settings
    from meterhouse.shipped import code_location

    require("dagster")
    workspace = workspace or code_location() / "workspace.yaml"
    warehouse = warehouse_of(settings())
    check_home(warehouse.url)
    warehouse.check_schema()
    program = [str(Path(sys.executable).with_name("dagster-daemon")), "run", "-w", str(workspace.absolute())]
    with ended_by_signal() as asked_to_end:
        lead(warehouse, program, asked_to_end, note)
