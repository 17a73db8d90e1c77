"""Keystone, OpenStack's identity service."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import secrets
import signal
import sqlite3
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

from ports import kept_ports, reply
from processes import run_step, spawn, wait_until
from programs import which
from record import Folder
from report import ServiceError, say
from server import Daemon, Starting

URL = "METERHOUSE_TEST_KEYSTONE_URL"
USERNAME = "METERHOUSE_TEST_KEYSTONE_USERNAME"
PASSWORD = "METERHOUSE_TEST_KEYSTONE_PASSWORD"

# Of the administrator, in the project `admin` and the domain `Default`. It guards test data, and is no secret.
ACCOUNT = {USERNAME: "admin", PASSWORD: "adminpw"}

PROJECTS = ("service", "alpha", "beta")
USERS = {
    "meterhouse": ("service", "admin"),
    "svc": ("service", "service"),
    "ann": ("alpha", "admin"),
    "mem": ("alpha", "member"),
    "rea": ("alpha", "reader"),
    "bob": ("beta", "member"),
}
"""User → project and role. The password is the name and `pw`."""

ENDPOINTS = {
    "metering": ("ceilometer", "http://127.0.0.1:8777"),
    "alarming": ("aodh", "http://127.0.0.1:8042"),
    "metric": ("gnocchi", "http://127.0.0.1:8041"),
}
"""Type of service → name and URL in the catalogue. Nothing listens there until a test does."""

REQUIREMENTS = Path(__file__).resolve().parents[1] / "keystone.txt"
INSTALL_SECONDS = 900
CONF = """\
[DEFAULT]
log_file = {home}/keystone.log
[database]
connection = sqlite:///{home}/keystone.db
[fernet_tokens]
key_repository = {home}/fernet
[fernet_receipts]
key_repository = {home}/fernet
[credential]
key_repository = {home}/credential
[identity]
# bcrypt's minimum: a login takes 0.1 s
password_hash_rounds = 4
[cache]
# In memory, so with one worker only. Without a cache, a validation takes a second.
enabled = true
backend = oslo_cache.dict
"""
SETUP = """\
import sys
from keystone.cmd import cli
conf, password, url = sys.argv[1:]
urls = [word for kind in ("admin", "internal", "public") for word in (f"--bootstrap-{kind}-url", url)]
account = ["--bootstrap-password", password, "--bootstrap-region-id", "RegionOne"]
for command in (["db_sync"], ["bootstrap", *account, *urls]):
    cli.main(["keystone-manage", "--config-file", conf, *command])
    cli.CONF.reset()
    cli.CONF.unregister_opt(cli.command_opt)
"""
# Keystone parses the arguments of whatever program imports it.
APPLICATION = """\
import sys
sys.argv = ["keystone"]
from keystone.wsgi.api import application
"""


class Keystone(Daemon):
    """A Keystone from PyPI, with its own environment, on the folder's SQLite database."""

    name = "keystone"
    variables = (URL, USERNAME, PASSWORD)
    packages = ()
    container_port = None

    def env(self, port: int) -> dict[str, str]:
        return {URL: f"http://127.0.0.1:{port}/v3", **ACCOUNT}

    def responds(self, url: SplitResult) -> bool:
        if url.scheme == "https":
            try:
                with urllib.request.urlopen(url.geturl(), timeout=5) as answer:
                    return bool(answer.status == 200)
            except OSError:
                return False
        question = f"GET {url.path or '/'} HTTP/1.0\r\nHost: {url.netloc}\r\n\r\n".encode()
        return reply(url.hostname, url.port or 80, question)[9:12] == b"200"

    def find(self) -> Path:
        """Return the interpreter to make the environment with."""
        return Path(sys.executable)

    def start(self, folder: Folder, found: Path) -> Starting:
        """Start Keystone; the first time, install it and make its database."""
        home = folder.home(self.name)
        python = _installed(folder, found)
        port = kept_ports(home / "port", 1)
        env = self.env(port)
        database, conf, made = home / "keystone.db", home / "keystone.conf", home / "made"
        conf.write_text(CONF.format(home=home))
        (home / "application.py").write_text(APPLICATION)
        for keys in ("fernet", "credential"):
            _make_keys(home / keys)
        if not made.exists():
            database.unlink(missing_ok=True)
            setup = home / "setup.py"
            setup.write_text(SETUP)
            run_step(folder, self.name, [str(python), str(setup), str(conf), ACCOUNT[PASSWORD], env[URL]])
        _set_address(database, env[URL])
        command = [str(python), "-m", "gunicorn", "--chdir", str(home), "--bind", f"127.0.0.1:{port}"]
        command += ["--worker-class", "gthread", "--threads", "4", "--keep-alive", "75", "--timeout", "120"]
        command += ["--no-control-socket", "application:application"]
        config = {"OS_KEYSTONE_CONFIG_FILES": str(conf), "OS_KEYSTONE_CONFIG_DIR": str(home)}
        at_once = signal.SIGQUIT
        spawned = spawn(folder, self.name, "gunicorn", command, env=config, stop_signal=at_once)
        if not made.exists():
            wait_until(lambda: self.answers(env), spawned)
            _fill(env[URL])
            made.touch()
        return Starting(env, spawned)


def _installed(folder: Folder, interpreter: Path) -> Path:
    """Return the interpreter of Keystone's environment, in the user's cache; make the environment if it is missing.

    Raises:
        ServiceError: it cannot be made.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "meterhouse"
    pins = REQUIREMENTS.read_bytes()
    place = cache / f"keystone-{sys.version_info.major}.{sys.version_info.minor}"
    python, stamp = place / "bin" / "python", place / "installed.txt"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if stamp.exists() and stamp.read_bytes() == pins and python.exists():
            return python
        say("keystone: installing it from PyPI (only once; takes a minute or less)")
        uv = os.environ.get("UV") or which("uv")
        if uv:
            _install(folder, uv, "venv", "--clear", "--python", str(interpreter), str(place))
            _install(folder, uv, "pip", "install", "--python", str(python), "--requirements", str(REQUIREMENTS))
        else:
            _install(folder, str(interpreter), "-m", "venv", "--clear", str(place))
            _install(folder, str(python), "-m", "pip", "install", "--requirement", str(REQUIREMENTS))
        stamp.write_bytes(pins)
    return python


def _install(folder: Folder, *command: str) -> None:
    log = folder.home(Keystone.name) / "install.log"
    with log.open("ab") as output:
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, timeout=INSTALL_SECONDS, check=False
            )
            failed = done.returncode != 0
        except (OSError, subprocess.TimeoutExpired):
            failed = True
    if failed:
        raise ServiceError(f"it cannot be installed from PyPI (see {log}): look at the connection")


def _make_keys(folder: Path) -> None:
    """Make the keys that `keystone-manage fernet_setup` would make: a staged and a primary one."""
    folder.mkdir(mode=0o700, exist_ok=True)
    for name in ("0", "1"):
        key = folder / name
        if not key.exists():
            key.touch(mode=0o600)
            key.write_bytes(base64.urlsafe_b64encode(secrets.token_bytes(32)))


def _set_address(database: Path, url: str) -> None:
    """Write Keystone's own URL into its catalogue: another process may have its port of the last time."""
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        identity = "SELECT id FROM service WHERE type = 'identity'"
        connection.execute(f"UPDATE endpoint SET url = ? WHERE service_id IN ({identity})", (url,))


def _fill(url: str) -> None:
    """Make the projects, users, roles and endpoints that tests use.

    Raises:
        ServiceError: Keystone refuses a request.
    """
    domain = {"id": "default"}
    account = {"name": ACCOUNT[USERNAME], "domain": domain, "password": ACCOUNT[PASSWORD]}
    identity = {"methods": ["password"], "password": {"user": account}}
    scope = {"project": {"name": "admin", "domain": domain}}
    _, headers = _call("POST", f"{url}/auth/tokens", "", {"auth": {"identity": identity, "scope": scope}})
    token = headers["X-Subject-Token"]

    def made(kind: str, **fields: Any) -> str:
        plural = {"service": "services", "endpoint": "endpoints"}.get(kind, f"{kind}s")
        return str(_call("POST", f"{url}/{plural}", token, {kind: fields})[0][kind]["id"])

    roles = {role["name"]: role["id"] for role in _call("GET", f"{url}/roles", token)[0]["roles"]}
    projects = {name: made("project", name=name, domain_id="default") for name in PROJECTS}
    for name, (project, role) in USERS.items():
        user = made("user", name=name, password=f"{name}pw", domain_id="default")
        _call("PUT", f"{url}/projects/{projects[project]}/users/{user}/roles/{roles[role]}", token)
    for kind, (name, address) in ENDPOINTS.items():
        service = made("service", type=kind, name=name)
        for interface in ("admin", "internal", "public"):
            made("endpoint", service_id=service, interface=interface, region_id="RegionOne", url=address)


def _call(method: str, url: str, token: str, body: Any = None) -> tuple[Any, Any]:
    """Make a request; return the JSON of the answer (None if it has no body), and its headers."""
    if urlsplit(url).scheme not in ("http", "https"):
        raise ServiceError(f"{url} is not a URL of HTTP")
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json", **({"X-Auth-Token": token} if token else {})}
    request = urllib.request.Request(url, data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            content = answer.read()
            return (json.loads(content) if content else None), answer.headers
    except urllib.error.URLError as error:
        raise ServiceError(f"it refuses {method} {urlsplit(url).path}: {error}") from error
