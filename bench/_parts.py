"""What benchmarks that consist of parts share: their arguments, and the servers that they start."""

import argparse
import os
import subprocess
import sys
from collections.abc import Collection

from _peers import ROOT

STARTED = "METERHOUSE_TEST_SERVICES_DIR"


def parsed(about: str, parts: Collection[str], series: int, arguments: list[str]) -> argparse.Namespace:
    """The arguments of a benchmark; `only` is the list of the chosen parts.

    Args:
        about: what the benchmark does, in one line.
        parts: the names of its parts.
        series: how many series a day has by default.
        arguments: of the command line.
    """
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--only", default=",".join(parts), help=f"parts, separated by commas: {', '.join(parts)}")
    parser.add_argument("--series", type=int, default=series, help="series of the day (default %(default)s)")
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it runs")
    given = parser.parse_args(arguments)
    given.only = given.only.split(",")
    if unknown := set(given.only) - set(parts):
        parser.error(f"there is no part {min(unknown)}: choose from {', '.join(parts)}")
    return given


def again_with(servers: str, script: str, arguments: list[str]) -> None:
    """If no servers were started yet, run the script with those that can be had, and end with its exit status.

    Args:
        servers: names of `deploy/services`, separated by commas.
        script: the benchmark's file.
        arguments: its arguments.
    """
    if STARTED in os.environ:
        return
    services = [str(ROOT / "deploy" / "services"), "run", "--only", servers, "--optional", servers, "--"]
    sys.exit(subprocess.run([sys.executable, *services, sys.executable, script, *arguments]).returncode)
