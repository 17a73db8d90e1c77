"""Gnocchi itself, from PyPI, in a virtual environment of its own, with a database of its own and files."""

import json
import subprocess
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from _peers import interpreter
from _points import CADENCE, Fleet
from psycopg import connect

VERSION = "4.7.0"
INSIDE = Path(__file__).with_name("_gnocchi_inside.py")
DATABASE = "gnocchi_bench"


@dataclass(frozen=True)
class Figures:
    """What metricd aggregated, in how many seconds by the clock and of its processors; the bytes of the aggregates."""

    what: str
    points: int
    posted: float
    seconds: float
    cpu: float
    bytes: int


def measure(postgres_url: str, folder: Path, fleet: Fleet, first: datetime, minutes: int) -> list[Figures]:
    """The figures of a batch of so many minutes, then those of one new point on each series.

    Args:
        postgres_url: of a server on which a database may be created.
        folder: a new folder to make.
        fleet: the series.
        first: the first minute.
        minutes: how many of them.

    Raises:
        CalledProcessError: Gnocchi cannot be installed.
        RuntimeError: it does not finish.
    """
    python = interpreter("gnocchi", VERSION, "[file,postgresql]")
    folder.mkdir()
    volumes = folder / "volumes.npy"
    np.save(volumes, fleet.volumes(range(minutes + 1)))
    server = postgres_url.replace("+psycopg", "")
    job = {
        "url": f"{server.rpartition('/')[0]}/{DATABASE}",
        "folder": str(folder),
        "volumes": str(volumes),
        "start": int(first.timestamp()),
        "step": CADENCE,
    }
    with connect(server, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {DATABASE}")
        connection.execute(f"CREATE DATABASE {DATABASE}")
        try:
            command = [str(python), "-sE", "-W", "ignore", str(INSIDE), json.dumps(job)]
            done = subprocess.run(command, check=False, capture_output=True, text=True)
        finally:
            connection.execute(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")
    if done.returncode:
        raise RuntimeError(f"Gnocchi did not finish: {(done.stderr.strip() or 'no reason given').splitlines()[-1]}")
    return [Figures(**json.loads(line)) for line in done.stdout.splitlines()]
