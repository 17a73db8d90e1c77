"""The folder of a set of services, with the record (`services.json`) of what runs."""

from __future__ import annotations

import contextlib
import fcntl
import json
import secrets
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

RECORD = "services.json"


@dataclass
class Process:
    """A process that this program started.

    Process ids are reused: `started`, in clock ticks since boot, tells two processes with the same id apart.
    """

    pid: int
    started: int
    stop_signal: int


@dataclass
class Service:
    """A running service: its variables, and what to stop."""

    env: dict[str, str] = field(default_factory=dict)  # empty until the server answers
    processes: list[Process] = field(default_factory=list)
    project: str | None = None  # of Docker Compose


class Folder:
    """The folder that holds the data, the logs and the record of a set of services.

    Without a path it is a new temporary folder.
    """

    def __init__(self, path: Path | None) -> None:
        self.temporary = path is None
        self.path = path.resolve() if path else Path(tempfile.mkdtemp(prefix="meterhouse-", dir="/tmp"))
        self.token = secrets.token_hex(6)
        self.services: dict[str, Service] = {}
        self.available: dict[str, dict[str, str]] = {}  # server → variables, of those found or ready so far
        self._record = self.path / RECORD
        if self._record.exists():
            saved = json.loads(self._record.read_text())
            self.temporary, self.token = saved["temporary"], saved["token"]
            for name, service in saved["services"].items():
                processes = [Process(**process) for process in service.pop("processes")]
                self.services[name] = Service(**service, processes=processes)
        elif not self.temporary:
            self.path.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(PermissionError):
            self.path.chmod(0o755)  # PostgreSQL runs as another user, who has to reach its data

    def save(self) -> None:
        """Write the record in one step, so that no reader sees half of it."""
        services = {name: asdict(service) for name, service in self.services.items()}
        text = json.dumps({"temporary": self.temporary, "token": self.token, "services": services}, indent=1)
        fresh = self._record.with_suffix(".new")
        fresh.write_text(text)
        fresh.replace(self._record)

    def home(self, name: str) -> Path:
        """Return the subfolder of one service; create it if it does not exist."""
        path = self.path / name
        path.mkdir(exist_ok=True)
        return path

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder's lock; a second `start` or `stop` waits for it."""
        with (self.path / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
