"""Machines for tests: each has its own host name and processes, which end with it. They share network and disks."""

import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from shlex import join
from typing import Self


class Machine:
    """A context manager that runs a command on a machine of its own (Linux namespaces).

    Args:
        name: the host name.
        command: what runs there.
        environment: the environment of its processes.
        log: the file that gets their output.
    """

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self.name, self._command, self._environment, self.log = name, command, environment, log

    def __enter__(self) -> Self:
        rights = [] if os.geteuid() == 0 else ["--map-root-user"]
        script = f"hostname {self.name}; {join(self._command)}; sleep infinity"  # the machine outlives the command
        spaces = ["--uts", "--pid", "--fork", "--mount-proc", "--kill-child=KILL"]
        with self.log.open("ab") as output:
            self._started = subprocess.Popen(
                ["unshare", *rights, *spaces, "sh", "-c", script],
                env=dict(self._environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        return self

    def __exit__(self, *exception: object) -> None:
        self.die()

    def die(self) -> None:
        """End it, as a power cut does."""
        self._started.kill()
        self._started.wait()

    def processes(self, program: str) -> list[int]:
        """The ids, outside of the machine, of its processes whose command lines have a word that ends so."""
        return [pid for pid in descendants(self._started.pid) if any(word.endswith(program) for word in words(pid))]

    def signal(self, number: int, *programs: str) -> list[int]:
        """Send a signal to all processes of some programs; return their ids."""
        found = [pid for program in programs for pid in self.processes(program)]
        for pid in found:
            os.kill(pid, number)
        return found


def words(pid: int) -> list[str]:
    """The command line of a process; empty if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except OSError:
        return []


def descendants(pid: int) -> Iterator[int]:
    """The processes below a process."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return
    for task in tasks:
        try:
            children = (task / "children").read_text().split()
        except OSError:
            continue
        for child in map(int, children):
            yield child
            yield from descendants(child)
