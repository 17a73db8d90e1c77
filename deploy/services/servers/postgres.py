"""PostgreSQL."""

from __future__ import annotations

import os
import pwd
import signal
import struct
from pathlib import Path
from urllib.parse import SplitResult

from ports import free_ports, reply
from processes import run_step, spawn
from programs import which
from record import Folder
from report import ServiceError
from server import Daemon, Starting

URL = "METERHOUSE_TEST_POSTGRES_URL"
PROTOCOL_VERSION = 196608  # 3.0
CANNOT_CONNECT_NOW = b"57P03"  # SQLSTATE while the server starts


class Postgres(Daemon):
    """A PostgreSQL server. Its data survive a stop, but not a power failure: it runs without fsync."""

    name = "postgres"
    variables = (URL,)
    packages = ("postgresql",)
    container_port = 5432

    def env(self, port: int) -> dict[str, str]:
        return {URL: f"postgresql+psycopg://postgres@127.0.0.1:{port}/postgres"}

    def responds(self, url: SplitResult) -> bool:
        hello = struct.pack("!i", PROTOCOL_VERSION) + b"user\0postgres\0database\0postgres\0\0"
        answer = reply(url.hostname, url.port or 5432, struct.pack("!i", len(hello) + 4) + hello)
        return answer[:1] in (b"R", b"E") and CANNOT_CONNECT_NOW not in answer

    def find(self) -> Path | None:
        """Return the program folder of the newest version; the packages keep it out of PATH."""
        folders = [*Path("/usr/lib/postgresql").glob("*/bin"), *Path("/usr").glob("pgsql-*/bin")]
        found = [path for path in folders if (path / "initdb").exists()]
        if found:
            return max(found, key=lambda path: int("".join(filter(str.isdigit, path.parent.name)) or 0))
        initdb = which("initdb")
        return Path(initdb).resolve().parent if initdb else None

    def start(self, folder: Folder, found: Path) -> Starting:
        home = folder.home(self.name)
        data = home / "data"
        user = None
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            user = "postgres"
            try:
                account = pwd.getpwnam(user)
            except KeyError as error:
                raise ServiceError(f"there is no user {user} to run it as: add one") from error
            for parent in home.parents:
                if not parent.stat().st_mode & 0o001:
                    raise ServiceError(f"user {user} cannot enter {parent}: choose a --dir outside it")
            data.mkdir(mode=0o700, exist_ok=True)
            os.chown(data, account.pw_uid, account.pw_gid)
        if not (data / "PG_VERSION").exists():
            layout = ["-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"]
            run_step(folder, self.name, [str(found / "initdb"), "-D", str(data), *layout], user=user)
        port = free_ports()
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(port),
            "unix_socket_directories": "",
            "max_connections": "100",
            "shared_buffers": "64MB",
            "fsync": "off",
            "synchronous_commit": "off",
            "full_page_writes": "off",
        }
        flags = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
        command = [str(found / "postgres"), "-D", str(data), *flags]
        fast_shutdown = signal.SIGINT
        spawned = spawn(folder, self.name, "postgres", command, user=user, stop_signal=fast_shutdown)
        return Starting(self.env(port), spawned)
