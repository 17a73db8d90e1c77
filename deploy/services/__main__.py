#!/usr/bin/env python3
"""Finds or starts the real servers that tests and development use.

For each of PostgreSQL, an S3 server, RabbitMQ and a browser, the first of these that is there is taken:

1. what the environment names (``METERHOUSE_TEST_*``, see ``VARIABLES``);
2. ``compose.yaml`` beside this file, where a Docker engine answers (not for the browser);
3. the system's own programs, installed with apt-get where that is possible, run on free loopback ports.

``start`` prints the variables as KEY=VALUE lines, ``stop`` ends what ``start`` began, and ``run`` wraps
both around a command. What runs is recorded in the folder given by ``--dir``. Only the standard library
is used, so that any Python 3.11 can run this file.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import http.client
import json
import os
import pwd
import random
import secrets
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn
from urllib.parse import urlsplit

POSTGRES_URL = "METERHOUSE_TEST_POSTGRES_URL"
S3_ENDPOINT = "METERHOUSE_TEST_S3_ENDPOINT"
S3_ACCESS_KEY = "METERHOUSE_TEST_S3_ACCESS_KEY"
S3_SECRET_KEY = "METERHOUSE_TEST_S3_SECRET_KEY"
AMQP_URL = "METERHOUSE_TEST_AMQP_URL"
BROWSER = "METERHOUSE_TEST_BROWSER"
SERVICES_DIR = "METERHOUSE_TEST_SERVICES_DIR"

VARIABLES = {
    "postgres": (POSTGRES_URL,),
    "s3": (S3_ENDPOINT, S3_ACCESS_KEY, S3_SECRET_KEY),
    "amqp": (AMQP_URL,),
    "browser": (BROWSER,),
}
PACKAGES = {
    "postgres": ("postgresql",),
    "s3": ("ceph-mon", "ceph-osd", "radosgw", "ceph-common"),
    "amqp": ("rabbitmq-server",),
    "browser": ("chromium",),
}
CONTAINER_PORTS = {"postgres": 5432, "s3": 9000, "amqp": 5672}
COMPOSE_FILE = Path(__file__).resolve().parents[1] / "compose.yaml"

# The same in compose.yaml. Test data behind a loopback port: nothing here is secret.
ACCESS_KEY = "meterhouse"
SECRET_KEY = "meterhouse-secret"

SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PATIENCE_S = 180  # for a server to answer; on a busy virtual machine seconds become minutes
MARK = "METERHOUSE_SERVICE"  # set in the environment of every process started here, to find strays by
POLICY = Path("/usr/sbin/policy-rc.d")


class ServiceError(Exception):
    """A server cannot be had; the text says what, where and what to do, in one line."""


def say(text: str) -> None:
    """Report progress on standard error; standard output carries only the variables."""
    print(f"services: {text}", file=sys.stderr, flush=True)


# --- the record of what runs -------------------------------------------------------------------------


@dataclass
class Process:
    """A process started here. `started` (clock ticks since boot) tells it from a later one of its pid."""

    pid: int
    started: int
    stop_signal: int


@dataclass
class Service:
    """What one service gives to its users and what has to be ended for it."""

    env: dict[str, str] = field(default_factory=dict)
    processes: list[Process] = field(default_factory=list)
    project: str | None = None  # of Docker Compose


class Folder:
    """The folder that holds the data, the logs and the record (`services.json`) of a set of services."""

    def __init__(self, path: Path | None) -> None:
        self.temporary = path is None
        self.path = path.resolve() if path else Path(tempfile.mkdtemp(prefix="meterhouse-", dir="/tmp"))
        self.token = secrets.token_hex(6)
        self.services: dict[str, Service] = {}
        self._record = self.path / "services.json"
        if self._record.exists():
            saved = json.loads(self._record.read_text())
            self.temporary, self.token = saved["temporary"], saved["token"]
            for name, service in saved["services"].items():
                processes = [Process(**process) for process in service.pop("processes")]
                self.services[name] = Service(**service, processes=processes)
        elif not self.temporary:
            self.path.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(PermissionError):
            self.path.chmod(0o755)  # the postgres user has to pass through

    def save(self) -> None:
        """Write the record whole, so that a reader never sees half of it."""
        services = {name: asdict(service) for name, service in self.services.items()}
        text = json.dumps({"temporary": self.temporary, "token": self.token, "services": services}, indent=1)
        fresh = self._record.with_suffix(".new")
        fresh.write_text(text)
        fresh.replace(self._record)

    def of(self, name: str) -> Path:
        """Return the sub-folder of one service, made if it is not there."""
        path = self.path / name
        path.mkdir(exist_ok=True)
        return path

    def environment(self, name: str) -> dict[str, str]:
        """Return the environment of a service's processes: nothing of the caller's gets in."""
        return {
            "PATH": SEARCH_PATH,
            "HOME": str(self.of(name)),
            "LC_ALL": "C.UTF-8",
            MARK: f"{self.token}/{name}",
        }

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep a second `start` or `stop` on this folder waiting."""
        with (self.path / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


# --- processes ---------------------------------------------------------------------------------------


def process_table() -> dict[int, tuple[int, int]]:
    """Return parent and start time (ticks) by pid of all that lives; a zombie does not."""
    table = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = entry.read_text().rpartition(")")[2].split()
            if fields[0] not in "ZX":
                table[int(entry.parent.name)] = (int(fields[1]), int(fields[19]))
    return table


def alive(process: Process) -> bool:
    """Tell whether this very process, and no later one of its pid, lives."""
    return process_table().get(process.pid, (0, -1))[1] == process.started


def living(folder: Folder, name: str) -> dict[int, int]:
    """Return pid and start time of all that lives of a service: recorded, marked, or descended from these."""
    table = process_table()
    recorded = folder.services[name].processes if name in folder.services else []
    found = {process.pid for process in recorded if table.get(process.pid, (0, -1))[1] == process.started}
    mark = f"{MARK}={folder.token}/{name}".encode()
    for pid in table:
        with contextlib.suppress(OSError):
            if mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                found.add(pid)
    while children := {pid for pid, (parent, _) in table.items() if parent in found} - found:
        found |= children
    return {pid: table[pid][1] for pid in found}


def spawn(
    folder: Folder,
    name: str,
    program: str,
    command: Sequence[str],
    *,
    env: dict[str, str] | None = None,
    user: str | None = None,
    stop_signal: signal.Signals = signal.SIGTERM,
) -> tuple[Process, Path]:
    """Start a server in its own session, record it, and return it with its log file."""
    log = folder.of(name) / f"{program}.log"
    with log.open("ab") as output:
        child = subprocess.Popen(
            command,
            cwd="/",
            env={**folder.environment(name), **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            **as_user(user),
        )
    process = Process(child.pid, process_table().get(child.pid, (0, -1))[1], int(stop_signal))
    CHILDREN.append(child)
    folder.services.setdefault(name, Service()).processes.append(process)
    folder.save()
    return process, log


CHILDREN: list[subprocess.Popen[bytes]] = []  # kept so that the interpreter does not warn of them


def as_user(user: str | None) -> dict[str, Any]:
    """Return the arguments that make subprocess run as another user, with none of root's groups."""
    return {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []} if user else {}


def step(folder: Folder, name: str, command: Sequence[str], *, user: str | None = None) -> None:
    """Run one command of a server's set-up to its end; its output goes to the set-up log."""
    log = folder.of(name) / "setup.log"
    with log.open("a") as output:
        print("$", shlex.join(command), file=output, flush=True)
        try:
            code = subprocess.run(
                command,
                cwd="/",
                env=folder.environment(name),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=PATIENCE_S,
                check=False,
                **as_user(user),
            ).returncode
        except subprocess.TimeoutExpired:
            code = None
    if code != 0:
        how = f"did not end within {PATIENCE_S} s" if code is None else f"failed with exit code {code}"
        raise ServiceError(f"{name}: {Path(command[0]).name} {how}: see {log}, or {instead(name)}")


def wait_until(name: str, ready: Callable[[], bool], server: Process, log: Path) -> None:
    """Wait until a server answers; fail when it ends or the time is up."""
    end = time.monotonic() + PATIENCE_S
    while not ready():
        if not alive(server):
            raise ServiceError(f"{name}: the server ended while starting: see {log}, or {instead(name)}")
        if time.monotonic() > end:
            raise ServiceError(f"{name}: no answer within {PATIENCE_S} s: see {log}, or {instead(name)}")
        time.sleep(0.1)


def stop(folder: Folder, names: Sequence[str]) -> None:
    """End all that was started for these services, and see that it is gone."""
    for name in names:
        for process in folder.services[name].processes if name in folder.services else ():
            if alive(process):
                send(process.pid, process.stop_signal)
    patience = {signal.SIGTERM: 20.0, signal.SIGKILL: 5.0, None: 5.0}
    for harder, seconds in patience.items():
        end = time.monotonic() + seconds
        while (left := [pid for name in names for pid in living(folder, name)]) and time.monotonic() < end:
            time.sleep(0.05)
        if not left:
            break
        if harder is None:
            raise ServiceError(f"processes {left} do not end: look at them with ps, then end them by hand")
        for pid in left:
            send(pid, harder)
    projects = {name: service.project for name, service in folder.services.items() if service.project}
    if going := [name for name in projects if name in names]:
        whole = len(going) == len(projects)
        words = ["down", "--volumes"] if whole else ["rm", "--stop", "--force", "--volumes", *going]
        compose(projects[going[0]], *words, timeout=120)
    for name in names:
        folder.services.pop(name, None)
    folder.save()


def send(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


# --- ports and answers -------------------------------------------------------------------------------


def free_ports(count: int = 1) -> int:
    """Return the first of `count` free consecutive loopback ports, below those that clients are given."""
    for _ in range(200):
        first = random.randrange(20000, 32000)
        with contextlib.ExitStack() as held, contextlib.suppress(OSError):
            for port in range(first, first + count):
                held.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return first
    raise ServiceError("no free port between 20000 and 32000 on 127.0.0.1: end some servers")


def kept_ports(record: Path, count: int) -> int:
    """Return the first of `count` consecutive loopback ports: those in the record, unless one is taken."""
    first = int(record.read_text()) if record.exists() else 0
    if not (first and all(not listening(port) for port in range(first, first + count))):
        first = free_ports(count)
        record.write_text(f"{first}\n")
    return first


def listening(port: int) -> bool:
    """Tell whether somebody listens there; connections that were closed lately do not count."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def reply(host: str, port: int, question: bytes) -> bytes:
    """Return the first bytes that a server sends back, none if it does not answer."""
    try:
        with socket.create_connection((host, port), timeout=3) as connection:
            connection.sendall(question)
            return connection.recv(200)
    except OSError:
        return b""


def answers(name: str, env: dict[str, str]) -> bool:
    """Tell whether the service behind these variables is ready for work."""
    value = env[VARIABLES[name][0]]
    if name == "browser":
        return runs(value)
    url = urlsplit(value)
    if not url.hostname:
        return True  # a socket folder or a service name: only the driver can tell
    if name == "postgres":
        hello = struct.pack("!i", 196608) + b"user\0postgres\0database\0postgres\0\0"
        answer = reply(url.hostname, url.port or 5432, struct.pack("!i", len(hello) + 4) + hello)
        return answer[:1] in (b"R", b"E") and b"57P03" not in answer  # 57P03: starting up
    if name == "amqp":
        return reply(url.hostname, url.port or 5672, b"AMQP\0\0\x09\x01")[:1] == b"\x01"
    secure = url.scheme == "https"
    client = (http.client.HTTPSConnection if secure else http.client.HTTPConnection)(url.netloc, timeout=5)
    try:
        client.request("GET", "/")
        return client.getresponse().status < 500
    except (OSError, http.client.HTTPException):
        return False
    finally:
        client.close()


def instead(name: str) -> str:
    """Say how to do without what failed."""
    kind = "a browser" if name == "browser" else "a running server"
    return f"set {VARIABLES[name][0]} to {kind} of your own"


# --- from the environment ----------------------------------------------------------------------------


def configured(name: str) -> Service | None:
    """Return the service that the environment names, if it names one and it answers."""
    first, *others = VARIABLES[name]
    if not os.environ.get(first):
        return None
    if missing := [variable for variable in others if not os.environ.get(variable)]:
        raise ServiceError(f"{name}: {first} is set but {', '.join(missing)} not: set all, or none")
    env = {variable: os.environ[variable] for variable in VARIABLES[name]}
    if not answers(name, env):
        raise ServiceError(f"{name}: what {first} names does not answer: start it, or unset {first}")
    say(f"{name}: as {first} says")
    return Service(env)


# --- from Docker Compose -----------------------------------------------------------------------------


def compose(project: str, *arguments: str, timeout: float) -> str:
    """Run Docker Compose on our file and return what it prints."""
    command = ["docker", "compose", "--project-name", project, "--file", str(COMPOSE_FILE), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired as error:
        raise ServiceError(f"`{shlex.join(command)}` did not end within {timeout:.0f} s") from error
    if done.returncode:
        last = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]
        raise ServiceError(f"`{shlex.join(command)}` failed: {last}")
    return done.stdout


def docker_answers() -> bool:
    """Tell whether there is a Docker engine to talk to, with Compose."""
    if not shutil.which("docker"):
        return False
    return all(quiet(["docker", *words]) for words in (["info"], ["compose", "version"]))


def quiet(command: Sequence[str]) -> bool:
    """Run a command that only asks; tell whether it could and said yes."""
    nothing = subprocess.DEVNULL
    try:
        done = subprocess.run(command, stdin=nothing, stdout=nothing, stderr=nothing, timeout=20, check=False)
        return done.returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def contained(folder: Folder, names: Sequence[str]) -> None:
    """Start these services as containers, and record each that answers."""
    project = f"meterhouse-{folder.token}"
    for name in names:
        folder.services[name] = Service(project=project)
    folder.save()
    say(f"{', '.join(names)}: starting with Docker Compose")
    compose(project, "up", "--detach", *names, timeout=900)
    for name in names:
        address = compose(project, "port", name, str(CONTAINER_PORTS[name]), timeout=30).strip()
        env = variables(name, int(address.rpartition(":")[2]))
        end = time.monotonic() + PATIENCE_S
        while not answers(name, env):
            if time.monotonic() > end:
                raise ServiceError(f"{name}: its container did not answer within {PATIENCE_S} s")
            time.sleep(0.2)
        folder.services[name].env = env
    folder.save()


def variables(name: str, port: int) -> dict[str, str]:
    """Return the variables of a service that listens on this loopback port."""
    if name == "postgres":
        return {POSTGRES_URL: f"postgresql+psycopg://postgres@127.0.0.1:{port}/postgres"}
    if name == "amqp":
        return {AMQP_URL: f"amqp://guest:guest@127.0.0.1:{port}/%2F"}
    return {S3_ENDPOINT: f"http://127.0.0.1:{port}", S3_ACCESS_KEY: ACCESS_KEY, S3_SECRET_KEY: SECRET_KEY}


# --- from the system's packages ----------------------------------------------------------------------


def which(program: str) -> str | None:
    return shutil.which(program, path=f"{SEARCH_PATH}:{os.environ.get('PATH', '')}")


def postgres_programs() -> Path | None:
    """Return the folder of the newest PostgreSQL server; the packages keep it out of PATH."""
    folders = [*Path("/usr/lib/postgresql").glob("*/bin"), *Path("/usr").glob("pgsql-*/bin")]
    found = [path for path in folders if (path / "initdb").exists()]
    if found:
        return max(found, key=lambda path: int("".join(filter(str.isdigit, path.parent.name)) or 0))
    initdb = which("initdb")
    return Path(initdb).resolve().parent if initdb else None


def rabbitmq_programs() -> Path | None:
    """Return the folder of RabbitMQ's own scripts; those in PATH are wrappers that change the user."""
    folders = [Path("/usr/lib/rabbitmq/bin"), *sorted(Path("/usr/lib/rabbitmq/lib").glob("*/sbin"))]
    return next((path for path in folders if (path / "rabbitmq-server").exists() and which("epmd")), None)


def ceph_classes() -> Path | None:
    """Return the folder of Ceph's object classes, if all of its programs are here."""
    programs = ("ceph", "ceph-authtool", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin")
    folders = [*Path("/usr/lib").glob("*/rados-classes"), Path("/usr/lib64/rados-classes")]
    return next((path for path in folders if path.is_dir() and all(map(which, programs))), None)


def browser_program() -> str | None:
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return next((path for path in map(which, names) if path and runs(path)), None)


def runs(program: str) -> bool:
    return quiet([program, "--version"])


INSTALLED: dict[str, Callable[[], object | None]] = {
    "postgres": postgres_programs,
    "s3": ceph_classes,
    "amqp": rabbitmq_programs,
    "browser": browser_program,
}


def install(folder: Folder, names: Sequence[str]) -> None:
    """Install what is missing for these services with apt-get, where we may; `local` says what still is."""
    missing = [name for name in names if not INSTALLED[name]()]
    if not missing or os.geteuid() != 0 or not shutil.which("apt-get"):
        return
    begun = time.monotonic()
    say(f"{', '.join(missing)}: installing the system's packages (once; a minute or two)")
    with no_daemons():
        if not apt(folder, "install", *(package for name in missing for package in PACKAGES[name])):
            apt(folder, "update")
            for name in missing:  # one by one, so that a package nobody has does not stop the others
                apt(folder, "install", *PACKAGES[name])
    say(f"installed in {time.monotonic() - begun:.0f} s")


def apt(folder: Folder, action: str, *packages: str) -> bool:
    """Run apt-get, which is never broken off: a half-configured package would stay."""
    options = ["-o", "DPkg::Lock::Timeout=300", "-o", "Acquire::Retries=3", "--no-install-recommends"]
    command = ["apt-get", "-q", "-y", *options, action, *packages]
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    with (folder.path / "apt.log").open("a") as log:
        print("$", shlex.join(command), file=log, flush=True)
        nothing = subprocess.DEVNULL
        child = subprocess.Popen(command, env=env, stdin=nothing, stdout=log, stderr=log, start_new_session=True)
        try:
            return child.wait() == 0
        except SystemExit:
            say("waiting for apt-get to end")
            child.wait()
            raise


@contextlib.contextmanager
def no_daemons() -> Iterator[None]:
    """Keep packages from starting their own servers while they are installed."""
    try:
        with POLICY.open("x") as policy:
            policy.write("#!/bin/sh\n# made by Meterhouse's deploy/services, for one apt-get\nexit 101\n")
    except FileExistsError:
        yield
        return
    try:
        POLICY.chmod(0o755)
        yield
    finally:
        POLICY.unlink(missing_ok=True)


@dataclass
class Starting:
    """A server that was started and has yet to answer: what it will give, and its log."""

    name: str
    env: dict[str, str]
    server: Process
    log: Path


def local(folder: Folder, name: str) -> Starting | None:
    """Start a service from the programs of this machine; None where there is nothing to wait for."""
    if not INSTALLED[name]():
        packages, log = " ".join(PACKAGES[name]), folder.path / "apt.log"
        why = f"could not be installed (see {log})" if log.exists() else "is not installed"
        raise ServiceError(f"{name} {why}: install {packages} as root, start Docker, or {instead(name)}")
    if name != "browser" and not sys.platform.startswith("linux"):
        raise ServiceError(f"{name}: its programs are run on Linux only: start Docker, or {instead(name)}")
    starting = STARTERS[name](folder)
    folder.save()
    return starting


def await_answer(folder: Folder, starting: Starting, begun: float) -> None:
    """Wait until a server that was started answers, and record what it gives."""
    name, env = starting.name, starting.env
    wait_until(name, lambda: answers(name, env), starting.server, starting.log)
    folder.services[name].env = env
    folder.save()
    say(f"{name}: ready within {time.monotonic() - begun:.1f} s")


def start_postgres(folder: Folder) -> Starting:
    """Start PostgreSQL on the folder's data, which outlive a stop; no fsync, so not a power cut."""
    name, programs = "postgres", postgres_programs()
    assert programs
    user = None
    home = folder.of(name)
    data = home / "data"
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        user = "postgres"
        try:
            account = pwd.getpwnam(user)
        except KeyError as error:
            raise ServiceError(f"{name}: there is no user {user} to run it as: add one") from error
        for parent in home.parents:
            if not parent.stat().st_mode & 0o001:
                raise ServiceError(f"{name}: user {user} cannot pass {parent}: give a --dir outside it")
        data.mkdir(mode=0o700, exist_ok=True)
        os.chown(data, account.pw_uid, account.pw_gid)
    if not (data / "PG_VERSION").exists():
        layout = ["-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"]
        step(folder, name, [str(programs / "initdb"), "-D", str(data), *layout], user=user)
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
    command = [str(programs / "postgres"), "-D", str(data), *flags]
    server, log = spawn(folder, name, name, command, user=user, stop_signal=signal.SIGINT)
    return Starting(name, variables(name, port), server, log)


CEPH_CONF = """\
[global]
fsid = {fsid}
keyring = {home}/keyring
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
auth allow insecure global id reclaim = false
mon host = v2:127.0.0.1:{mon_port}/0
public addr = 127.0.0.1
public network = 127.0.0.0/8
cluster network = 127.0.0.0/8
ms bind ipv4 = true
ms bind msgr1 = false
ms bind port min = {osd_port}
ms bind port max = {osd_port_last}
run dir = {home}
admin socket = {home}/$name.asok
pid file = {home}/$name.pid
log file = {home}/$name.log
debug ms = 0
debug mon = 0
debug osd = 0
debug rgw = 0
# one monitor, one store, one copy
mon allow pool size one = true
mon warn on pool no redundancy = false
mon data avail warn = 1
mon data avail crit = 1
mon max pg per osd = 1000
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pgp num = 8
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0

[mon.a]
mon data = {home}/mon

[osd.0]
osd data = {home}/osd
osd objectstore = memstore
memstore device bytes = 4294967296
osd memory target = 939524096
osd class dir = {classes}
osd class load list = *
osd class default list = *

[client.rgw]
rgw data = {home}/rgw
rgw frontends = beast endpoint=127.0.0.1:{port}
rgw thread pool size = 64
rgw enable usage log = false
"""
CEPH_CAPS = {
    "mon.": {"mon": "allow *"},
    "client.admin": {"mon": "allow *", "osd": "allow *", "mgr": "allow *"},
    "osd.0": {"mon": "allow profile osd", "osd": "allow *"},
    "client.rgw": {"mon": "allow rw", "osd": "allow rwx"},
}


def start_s3(folder: Folder) -> Starting:
    """Start Ceph's S3 gateway over a monitor and one store in memory: each start is an empty cluster.

    With `auth ... = none` the gateway hangs for ever, hence the keys.
    """
    name = "s3"
    shutil.rmtree(folder.of(name))
    home = folder.of(name)
    if len(str(home)) > 85:
        raise ServiceError(f"{name}: {home} is too long for the sockets in it: give a shorter --dir")
    for part in ("mon", "osd", "rgw"):
        (home / part).mkdir()
    fsid, osd_id = str(uuid.uuid4()), str(uuid.uuid4())
    port, mon_port, osd_port = free_ports(), free_ports(), free_ports(16)
    places = {"home": home, "classes": ceph_classes(), "fsid": fsid, "port": port, "mon_port": mon_port}
    conf, keyring = home / "ceph.conf", home / "keyring"
    conf.write_text(CEPH_CONF.format(**places, osd_port=osd_port, osd_port_last=osd_port + 15))

    def ceph(program: str, *arguments: str) -> list[str]:
        return [which(program) or program, "-c", str(conf), *arguments]

    keyring.touch(mode=0o600)
    for who, caps in CEPH_CAPS.items():
        words = [word for part, cap in caps.items() for word in ("--cap", part, cap)]
        step(folder, name, ["ceph-authtool", str(keyring), "--gen-key", "-n", who, *words])
    monmap, address = str(home / "monmap"), ("--addv", "a", f"[v2:127.0.0.1:{mon_port}]")
    step(folder, name, ["monmaptool", "--create", "--fsid", fsid, *address, monmap])
    step(folder, name, ceph("ceph-mon", "-i", "a", "--mkfs", "--monmap", monmap, "--keyring", str(keyring)))
    kill = signal.SIGKILL  # there is nothing to save, and a gateway without its store takes long to end
    spawn(folder, name, "mon", ceph("ceph-mon", "-i", "a", "-f"), stop_signal=kill)
    step(folder, name, ceph("ceph", "--connect-timeout", "60", "osd", "new", osd_id, "0"))
    step(folder, name, ceph("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd_id))
    spawn(folder, name, "osd", ceph("ceph-osd", "-i", "0", "-f"), stop_signal=kill)
    gateway = ("--name", "client.rgw", "--keyring", str(keyring))
    user = ("--uid", "meterhouse", "--display-name", "meterhouse")
    keys = ("--access-key", ACCESS_KEY, "--secret-key", SECRET_KEY)
    step(folder, name, ceph("radosgw-admin", *gateway, "user", "create", *user, *keys))
    server, log = spawn(folder, name, "rgw", ceph("radosgw", *gateway, "-f"), stop_signal=kill)
    return Starting(name, variables(name, port), server, log)


def start_amqp(folder: Folder) -> Starting:
    """Start RabbitMQ on the folder's data, with an epmd of its own: the one it starts would outlive it.

    After a stop or a crash it comes back on the ports that it had, since clients that wait for it know those.
    """
    name, programs, epmd = "amqp", rabbitmq_programs(), which("epmd")
    assert programs
    assert epmd
    home = folder.of(name)
    for part in ("mnesia", "log"):
        (home / part).mkdir(exist_ok=True)
    port = kept_ports(home / "port", 11)
    epmd_port, node_port, tool_port = port + 1, port + 2, port + 3
    (home / "enabled_plugins").write_text("[].\n")
    (home / "rabbitmq.conf").write_text(
        f"listeners.tcp.1 = 127.0.0.1:{port}\n"
        "disk_free_limit.absolute = 50MB\n"
        "vm_memory_high_watermark.absolute = 1GB\n"
        "log.console = false\n"
        "log.file.level = info\n"
    )
    # Every second, not every minute, it is seen that an acknowledgement is overdue (consumer_timeout).
    (home / "advanced.config").write_text("[{rabbit, [{channel_tick_interval, 1000}]}].\n")
    quiet_schedulers = "+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none"
    env = {
        "PATH": f"{programs}:{SEARCH_PATH}",
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "ERL_EPMD_PORT": str(epmd_port),
        "RABBITMQ_NODENAME": f"meterhouse-{folder.token}@localhost",
        "RABBITMQ_DIST_PORT": str(node_port),
        "RABBITMQ_CTL_DIST_PORT_MIN": str(tool_port),
        "RABBITMQ_CTL_DIST_PORT_MAX": str(tool_port + 7),
        "RABBITMQ_MNESIA_BASE": str(home / "mnesia"),
        "RABBITMQ_LOG_BASE": str(home / "log"),
        "RABBITMQ_LOGS": str(home / "log" / "rabbit.log"),
        "RABBITMQ_PID_FILE": str(home / "rabbit.pid"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "enabled_plugins"),
        "RABBITMQ_CONFIG_FILE": str(home / "rabbitmq"),
        "RABBITMQ_ADVANCED_CONFIG_FILE": str(home / "advanced.config"),
        "RABBITMQ_CONF_ENV_FILE": str(home / "none.conf"),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
            f"{quiet_schedulers} -start_epmd false -kernel inet_dist_use_interface {{127,0,0,1}}"
        ),
    }
    mapper, log = spawn(folder, name, "epmd", [epmd, "-address", "127.0.0.1", "-port", str(epmd_port)])
    wait_until(name, lambda: bool(reply("127.0.0.1", epmd_port, b"\0\x01n")), mapper, log)
    server, log = spawn(folder, name, "rabbitmq", [str(programs / "rabbitmq-server")], env=env)
    return Starting(name, variables(name, port), server, log)


def find_browser(folder: Folder) -> None:
    """Record the browser; each test starts its own."""
    folder.services["browser"] = Service({BROWSER: browser_program() or ""})


STARTERS: dict[str, Callable[[Folder], Starting | None]] = {
    "amqp": start_amqp,  # takes longest to answer, and the set-up of the others goes on meanwhile
    "postgres": start_postgres,
    "s3": start_s3,
    "browser": find_browser,
}


# --- commands ----------------------------------------------------------------------------------------


def start(folder: Folder, names: Sequence[str], optional: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Have these services running; return their variables and the names of those started by this call.

    When one cannot be had and is not optional, what this call started is ended again.
    """
    found: dict[str, Service] = {}
    begun: list[str] = []
    with folder.locked():
        try:
            for name in names:
                with tolerated(name, optional):
                    if service := configured(name) or running(folder, name):
                        found[name] = service
            wanted = [name for name in names if name not in found]
            in_containers = [name for name in wanted if name in CONTAINER_PORTS]
            if in_containers and docker_answers():
                begun += in_containers
                try:
                    contained(folder, in_containers)
                except ServiceError as error:
                    say(f"{error}: using the system's packages instead")
                    stop(folder, in_containers)
                else:
                    wanted = [name for name in wanted if name not in in_containers]
            install(folder, wanted)
            started: list[Starting] = []
            clock = time.monotonic()
            for name in sorted(wanted, key=list(STARTERS).index):
                begun.append(name)
                with tolerated(name, optional), ended_on_failure(folder, name):
                    if starting := local(folder, name):
                        started.append(starting)
            for starting in started:
                with tolerated(starting.name, optional), ended_on_failure(folder, starting.name):
                    await_answer(folder, starting, clock)
        except BaseException:
            stop(folder, begun)
            raise
    found |= {name: folder.services[name] for name in begun if name in folder.services}
    return {key: value for service in found.values() for key, value in service.env.items()}, begun


def running(folder: Folder, name: str) -> Service | None:
    """Return the service that an earlier `start` left running; end what is left of a broken one."""
    service = folder.services.get(name)
    if service and all(map(alive, service.processes)) and service.env and answers(name, service.env):
        say(f"{name}: already running")
        return service
    if service:
        stop(folder, [name])
    return None


@contextlib.contextmanager
def tolerated(name: str, optional: Sequence[str]) -> Iterator[None]:
    """Report the failure of an optional service and go on without it."""
    try:
        yield
    except ServiceError as error:
        if name not in optional:
            raise
        say(f"{error} (going on without it: it is optional)")


@contextlib.contextmanager
def ended_on_failure(folder: Folder, name: str) -> Iterator[None]:
    """End what was started for a service when it fails."""
    try:
        yield
    except ServiceError:
        stop(folder, [name])
        raise


def finish(folder: Folder, names: Sequence[str]) -> None:
    """Stop these services, undisturbed by signals; remove the folder if it is ours and nothing runs."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    with folder.locked():
        stop(folder, names)
    if folder.temporary and not folder.services:
        shutil.rmtree(folder.path, ignore_errors=True)


def run(folder: Folder, names: Sequence[str], optional: Sequence[str], command: Sequence[str]) -> int:
    """Run a command with these services and return its exit code, as a shell tells it."""
    env, begun = start(folder, names, optional)
    try:
        child = subprocess.Popen(command, env={**os.environ, **env, SERVICES_DIR: str(folder.path)})
        try:
            code = child.wait()
        except Signalled as caught:
            if not (caught.number == signal.SIGINT and in_foreground()):
                child.send_signal(caught.number)
            for number in SIGNALS:
                signal.signal(number, signal.SIG_IGN)
            try:
                child.wait(60)
            except subprocess.TimeoutExpired:
                child.kill()
            raise
    except FileNotFoundError as error:
        raise ServiceError(f"cannot run {command[0]}: {error.strerror}") from error
    finally:
        finish(folder, begun)
    return code if code >= 0 else 128 - code


def in_foreground() -> bool:
    """Tell whether a terminal sends Ctrl-C to our children too."""
    try:
        with Path("/dev/tty").open() as terminal:
            return os.tcgetpgrp(terminal.fileno()) == os.getpgrp()
    except OSError:
        return False


SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Signalled(SystemExit):
    """A signal asks us to end; what was started is ended first."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.number = number


def on_signal(number: int, frame: FrameType | None) -> NoReturn:
    raise Signalled(number)


def service_names(text: str) -> list[str]:
    names = [name for name in text.split(",") if name]
    if unknown := [name for name in names if name not in VARIABLES]:
        raise argparse.ArgumentTypeError(f"no service {unknown[0]}: choose from {', '.join(VARIABLES)}")
    return names


def parser() -> argparse.ArgumentParser:
    """Return the command line's grammar."""
    top = argparse.ArgumentParser(prog="services", description=(__doc__ or "").split("\n")[0])
    actions = top.add_subparsers(dest="action", required=True)
    texts = {
        "start": "start services and print their variables",
        "stop": "end what start began",
        "run": "run a command with services",
    }
    for action, text in texts.items():
        one = actions.add_parser(action, help=text, description=text)
        one.add_argument("--dir", type=Path, required=action == "stop", help="of data, logs and the record")
        if action != "stop":
            one.add_argument("--only", type=service_names, default=list(VARIABLES), help="these, by commas")
            one.add_argument("--optional", type=service_names, default=[], help="go on without these")
        if action == "run":
            one.add_argument("command", nargs="+", metavar="-- command", help="what to run")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    given = parser().parse_args(arguments)
    for number in SIGNALS:
        signal.signal(number, on_signal)
    folder: Folder | None = None
    try:
        if given.action == "stop":
            if not (given.dir / "services.json").exists():
                raise ServiceError(f"there is no record of services in {given.dir}: give start's --dir")
            folder = Folder(given.dir)
            finish(folder, list(folder.services))
            return 0
        folder = Folder(given.dir)
        if given.action == "run":
            return run(folder, given.only, given.optional, given.command)
        env, _ = start(folder, given.only, given.optional)
        for key, value in {**env, SERVICES_DIR: str(folder.path)}.items():
            print(f"{key}={value}")
    except ServiceError as error:
        say(f"error: {error}")
        if folder and folder.temporary and str(folder.path) not in str(error):  # no log in it to look at
            shutil.rmtree(folder.path, ignore_errors=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
