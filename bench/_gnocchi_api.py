"""Gnocchi's HTTP API, from PyPI, in a virtual environment of its own, on points that its metricd has aggregated."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
from _gnocchi import VERSION
from _load import Call
from _peers import interpreter
from _points import CADENCE, Fleet
from psycopg import connect

INSIDE = Path(__file__).with_name("_gnocchi_api_inside.py")
DATABASE = "gnocchi_api_bench"
ADMIN = {"Authorization": "basic YWRtaW46"}
"""Gnocchi's `basic` mode: the user `admin`, without a password."""


@contextmanager
def served(
    postgres_url: str, folder: Path, fleet: Fleet, first: datetime, minutes: int, meter: str
) -> Iterator[tuple[str, int]]:
    """Serve Gnocchi's API while the block runs: the host and the port.

    Args:
        postgres_url: of a server on which a database may be created.
        folder: a new folder to make.
        fleet: the series; those of the meter are taken.
        first: the first minute.
        minutes: how many of them.
        meter: the meter.

    Raises:
        CalledProcessError: Gnocchi cannot be installed.
        RuntimeError: it does not start.
    """
    python = interpreter("gnocchi", VERSION, "[file,postgresql]")
    folder.mkdir()
    chosen = [n for n, each in enumerate(fleet.dimensions["meter"]) if each == meter]
    np.save(folder / "volumes.npy", fleet.volumes(range(minutes))[chosen])
    owners = [[fleet.dimensions[name][n] for name in ("resource_id", "project_id", "user_id")] for n in chosen]
    server = postgres_url.replace("+psycopg", "")
    job = {
        "url": f"{server.rpartition('/')[0]}/{DATABASE}",
        "folder": str(folder),
        "volumes": str(folder / "volumes.npy"),
        "owners": owners,
        "meter": meter,
        "start": int(first.timestamp()),
        "step": CADENCE,
    }
    (folder / "job.json").write_text(json.dumps(job))
    with connect(server, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {DATABASE}")
        connection.execute(f"CREATE DATABASE {DATABASE}")
        command = [str(python), "-sE", "-W", "ignore", str(INSIDE), str(folder / "job.json")]
        try:
            with (folder / "api.log").open("wb") as log:
                api = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
            try:
                assert api.stdout is not None
                line = api.stdout.readline()
                if not line:
                    said = (folder / "api.log").read_text().strip().splitlines() or ["no reason given"]
                    raise RuntimeError(f"Gnocchi's API did not start: {said[-1]}")
                yield "127.0.0.1", int(line)
            finally:
                api.terminate()
                api.wait()
        finally:
            connection.execute(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")


def by_project(meter: str, start: datetime, end: datetime) -> Call:
    """Hourly means by project."""
    asked = {"groupby": "project_id", "granularity": 3600, "start": start.isoformat(), "stop": end.isoformat()}
    operations = ["aggregate", "mean", ["metric", meter, "mean"]]
    body = {"operations": operations, "resource_type": "generic", "search": {"!=": {"project_id": "nobody"}}}
    return Call(f"/v1/aggregates?{urlencode(asked)}", "POST", body, ADMIN)


def of_resource(meter: str, resource: str, start: datetime, end: datetime) -> Call:
    """The hourly means of a resource."""
    asked = {"aggregation": "mean", "granularity": 3600, "start": start.isoformat(), "stop": end.isoformat()}
    return Call(f"/v1/resource/generic/{resource}/metric/{meter}/measures?{urlencode(asked)}", headers=ADMIN)
