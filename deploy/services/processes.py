"""The processes of a service: started, watched and ended."""

from __future__ import annotations

import contextlib
import os
import pwd
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from programs import SEARCH_PATH
from record import Folder, Process, Service
from report import ServiceError

PATIENCE_S = 180  # until a server answers; a busy virtual machine turns seconds into minutes
MARK = "METERHOUSE_SERVICE"  # in the environment of every process started here: finds those that nobody recorded


class Spawned(NamedTuple):
    """A server's process, and the log that its output goes to."""

    process: Process
    log: Path


def spawn(
    folder: Folder,
    name: str,
    program: str,
    command: Sequence[str],
    *,
    env: dict[str, str] | None = None,
    user: str | None = None,
    stop_signal: signal.Signals = signal.SIGTERM,
) -> Spawned:
    """Start a server of the service `name` in its own session, and record it. `program` names the log."""
    log = folder.home(name) / f"{program}.log"
    with log.open("ab") as output:
        child = subprocess.Popen(
            command,
            cwd="/",
            env={**_environment(folder, name), **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            **_as_user(user),
        )
    process = Process(child.pid, _process_table().get(child.pid, (0, -1))[1], int(stop_signal))
    folder.services.setdefault(name, Service()).processes.append(process)
    folder.save()
    return Spawned(process, log)


def run_step(folder: Folder, name: str, command: Sequence[str], *, user: str | None = None) -> None:
    """Run one command of a server's set-up; its output goes to `setup.log`.

    Raises:
        ServiceError: the command fails, or takes longer than `PATIENCE_S`.
    """
    log = folder.home(name) / "setup.log"
    with log.open("a") as output:
        print("$", shlex.join(command), file=output, flush=True)
        try:
            code = subprocess.run(
                command,
                cwd="/",
                env=_environment(folder, name),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=PATIENCE_S,
                check=False,
                **_as_user(user),
            ).returncode
        except subprocess.TimeoutExpired:
            code = None
    if code != 0:
        how = f"did not end within {PATIENCE_S} s" if code is None else f"failed with exit code {code}"
        raise ServiceError(f"{Path(command[0]).name} {how}: see {log}")


def wait_until(ready: Callable[[], bool], spawned: Spawned) -> None:
    """Wait until a server answers.

    Raises:
        ServiceError: the server ends, or does not answer within `PATIENCE_S`.
    """
    end = time.monotonic() + PATIENCE_S
    while not ready():
        if not alive(spawned.process):
            raise ServiceError(f"the server ended while it was starting: see {spawned.log}")
        if time.monotonic() > end:
            raise ServiceError(f"no answer within {PATIENCE_S} s: see {spawned.log}")
        time.sleep(0.1)


def alive(process: Process) -> bool:
    """Return whether this process still runs; a later process with the same id does not count."""
    return _process_table().get(process.pid, (0, -1))[1] == process.started


def end_processes(folder: Folder, names: Sequence[str]) -> None:
    """End every process of these services: first with each server's own signal, then with harder ones.

    Raises:
        ServiceError: some processes do not end.
    """
    for name in names:
        for process in folder.services[name].processes if name in folder.services else ():
            if alive(process):
                _send(process.pid, process.stop_signal)
    patience = {signal.SIGTERM: 20.0, signal.SIGKILL: 5.0, None: 5.0}
    for harder, seconds in patience.items():
        end = time.monotonic() + seconds
        while (left := [pid for name in names for pid in _living(folder, name)]) and time.monotonic() < end:
            time.sleep(0.05)
        if not left:
            break
        if harder is None:
            raise ServiceError(f"processes {left} do not end: look at them with ps, then end them by hand")
        for pid in left:
            _send(pid, harder)


def _environment(folder: Folder, name: str) -> dict[str, str]:
    """Return the environment of a service's processes, which inherit nothing from the caller."""
    return {
        "PATH": SEARCH_PATH,
        "HOME": str(folder.home(name)),
        "LC_ALL": "C.UTF-8",
        MARK: f"{folder.token}/{name}",
    }


def _as_user(user: str | None) -> dict[str, Any]:
    """Return the arguments that make subprocess run as another user, in none of root's groups."""
    return {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []} if user else {}


def _process_table() -> dict[int, tuple[int, int]]:
    """Return the parent and the start time (ticks) of each process by its id, without zombies."""
    table = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = entry.read_text().rpartition(")")[2].split()
            if fields[0] not in "ZX":
                table[int(entry.parent.name)] = (int(fields[1]), int(fields[19]))
    return table


def _living(folder: Folder, name: str) -> set[int]:
    """Return the ids of a service's processes: those recorded, those marked, and all their descendants."""
    table = _process_table()
    recorded = folder.services[name].processes if name in folder.services else []
    found = {process.pid for process in recorded if table.get(process.pid, (0, -1))[1] == process.started}
    mark = f"{MARK}={folder.token}/{name}".encode()
    for pid in table:
        with contextlib.suppress(OSError):
            if mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                found.add(pid)
    while children := {pid for pid, (parent, _) in table.items() if parent in found} - found:
        found |= children
    return found


def _send(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
