"""The command line: `meterhouse COMMAND`. A thin shell; each command imports what it needs when it is called.

Data goes to standard output, everything else to standard error. Exit status: 0 done, 1 failed, 2 usage error.
"""

import io
import os
import sys

import click

from meterhouse import __version__
from meterhouse.cli.commands import Commands
from meterhouse.errors import MeterhouseError, UsageError
from meterhouse.extras import not_installed
from meterhouse.pandas_free import keep_pandas_out


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="meterhouse")
def cli() -> None:
    """Cloud telemetry as a data pipeline: notifications in; roll-ups, archive, SQL reports and alarms out."""
    import logging

    from meterhouse.untrusted import printable

    class Printable(logging.Formatter):
        """Log lines can have names of files and texts of messages."""

        def formatMessage(self, record: logging.LogRecord) -> str:
            return printable(super().formatMessage(record))

    handler = logging.StreamHandler()
    handler.setFormatter(Printable("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])


def main() -> None:
    """Run the command line; an error that the user can fix is one line, never a traceback."""
    keep_pandas_out()
    try:
        status = cli.main(prog_name="meterhouse", standalone_mode=False)
        if isinstance(status, int):  # of a command that has done part of its work
            sys.exit(status)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.ClickException as error:
        from meterhouse.untrusted import printable

        shown = io.StringIO()
        error.show(shown)
        for text in shown.getvalue().splitlines():
            click.echo(printable(text), err=True)
        sys.exit(error.exit_code)
    except MeterhouseError as error:
        from meterhouse.untrusted import printable

        click.echo(f"meterhouse: {printable(str(error))}", err=True)
        sys.exit(2 if isinstance(error, UsageError) else 1)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if isinstance(error, ImportError) and (fault := not_installed(error)) is not None:
            click.echo(f"meterhouse: {fault}", err=True)
            sys.exit(1)
        if os.environ.get("METERHOUSE_DEBUG"):
            raise
        from meterhouse.untrusted import printable

        said = printable(next(iter(str(error).splitlines()), ""))
        click.echo(
            f"meterhouse: this should not have happened: {type(error).__name__}: {said}. "
            "Set METERHOUSE_DEBUG=1 to see where, and report it",
            err=True,
        )
        sys.exit(1)


__all__ = ["cli", "main"]
