"""Find or start the servers that tests and development use.

Each of PostgreSQL, an S3 server, RabbitMQ, Keystone, Heat, exporters, an SNMP agent and a browser comes from the first
source that has it:

1. the environment, which names a server in `METERHOUSE_TEST_*` variables;
2. Docker Compose, with `deploy/compose.yaml`, if a Docker engine is running (for PostgreSQL, S3 and RabbitMQ);
3. the programs of this machine, on free loopback ports. On Debian, as root, apt-get installs those that are missing.
   Keystone and Heat are installed from PyPI, into the user's cache.

Heat is started only where `--only` names it; it brings the RabbitMQ and the Keystone that it runs on.

`start` prints the variables as KEY=VALUE lines, `stop` stops what `start` started, and `run` does both around
a command. A folder, `--dir`, keeps the record of what runs. Python 3.11 is enough: only its standard library is used.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from pypi import installed
from record import RECORD, Folder
from report import ServiceError, say
from run import run
from server import Server
from servers import SERVERS
from signals import raise_on_signals
from start import start
from stop import finish

REQUIREMENTS = Path(__file__).resolve().parent
PROGRAMS = ("aodhclient", "ceilometerclient")
"""Clients of OpenStack, which tests run: each is installed with the packages that its list here pins."""


def servers(text: str) -> list[Server]:
    """Return the servers that a list like `postgres,s3` names."""
    names = [name for name in text.split(",") if name]
    if unknown := [name for name in names if name not in SERVERS]:
        raise argparse.ArgumentTypeError(f"no service {unknown[0]}: choose from {', '.join(SERVERS)}")
    names += [needed for name in names for needed in SERVERS[name].needs]
    return [server for name, server in SERVERS.items() if name in names]


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    top = argparse.ArgumentParser(prog="services", description=(__doc__ or "").split("\n")[0])
    actions = top.add_subparsers(dest="action", required=True)
    texts = {
        "start": "start services and print their variables",
        "stop": "stop the services that start started",
        "run": "run a command with services, then stop them",
        "install": "install a program from PyPI, and print its interpreter",
    }
    for action, text in texts.items():
        one = actions.add_parser(action, help=text, description=text)
        if action == "install":
            one.add_argument("program", choices=PROGRAMS, help="what to install")
        one.add_argument("--dir", type=Path, required=action == "stop", help="folder for data, logs and the record")
        if action in ("start", "run"):
            every, comma = [server for server in SERVERS.values() if not server.on_request], "NAME,..."
            one.add_argument("--only", type=servers, default=every, metavar=comma, help="these services only")
            one.add_argument("--optional", type=servers, default=[], metavar=comma, help="continue if these fail")
        if action == "run":
            one.add_argument("command", nargs="+", metavar="-- command", help="the command to run")
    return top


def main() -> int:
    """Run the command line and return the exit code."""
    given = parser().parse_args()
    raise_on_signals()
    folder: Folder | None = None
    try:
        if given.action == "stop":
            if not (given.dir / RECORD).exists():
                raise ServiceError(f"no record of services in {given.dir}: use the --dir of start")
            folder = Folder(given.dir)
            finish(folder, list(folder.services))
            return 0
        folder = Folder(given.dir)
        if given.action == "install":
            print(installed(folder, given.program, REQUIREMENTS / f"{given.program}.txt"))
            if folder.temporary:
                shutil.rmtree(folder.path, ignore_errors=True)
            return 0
        if given.action == "run":
            return run(folder, given.only, given.optional, given.command)
        env, _ = start(folder, given.only, given.optional)
        for key, value in env.items():
            print(f"{key}={value}")
    except ServiceError as error:
        say(f"error: {error}")
        if folder and folder.temporary and str(folder.path) not in str(error):  # the error names no log in it
            shutil.rmtree(folder.path, ignore_errors=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
