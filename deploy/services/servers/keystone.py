"""Keystone, OpenStack's identity service."""

from __future__ import annotations

import base64
import contextlib
import os
import secrets
import signal
import sqlite3
import sys
import urllib.request
from pathlib import Path
from urllib.parse import SplitResult

from identity import DEFAULT_DOMAIN, Identity
from ports import free_ports, kept_ports, reply
from processes import run_step, spawn, wait_until
from programs import which
from pypi import installed
from record import Folder
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

MEMCACHED = "memcached"

REQUIREMENTS = Path(__file__).resolve().parents[1] / "keystone.txt"
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
# Without a cache, a validation takes a second.
enabled = true
{cache}
"""
IN_MEMCACHED = """\
backend = dogpile.cache.pymemcache
memcache_servers = 127.0.0.1:{port}"""
# In the process: with one worker only.
IN_MEMORY = "backend = oslo_cache.dict"
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
    """A Keystone from PyPI, with its own environment, on the folder's SQLite database, and memcached if it is there."""

    name = "keystone"
    variables = (URL, USERNAME, PASSWORD)
    packages = ()
    uses = (MEMCACHED,)
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
        python = installed(folder, self.name, REQUIREMENTS)
        port = kept_ports(home / "port", 1)
        env = self.env(port)
        database, conf, made = home / "keystone.db", home / "keystone.conf", home / "made"
        conf.write_text(CONF.format(home=home, cache=_start_cache(folder, self.name)))
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
        # One request at a time: of two that write, one would find SQLite locked.
        command += ["--worker-class", "gthread", "--threads", "1", "--keep-alive", "75", "--timeout", "120"]
        command += ["--no-control-socket", "application:application"]
        config = {"OS_KEYSTONE_CONFIG_FILES": str(conf), "OS_KEYSTONE_CONFIG_DIR": str(home)}
        at_once = signal.SIGQUIT
        spawned = spawn(folder, self.name, "gunicorn", command, env=config, stop_signal=at_once)
        if not made.exists():
            wait_until(lambda: self.answers(env), spawned)
            _fill(env[URL])
            made.touch()
        return Starting(env, spawned)


def _start_cache(folder: Folder, name: str) -> str:
    """Start memcached, and return how Keystone reaches it; if it is not installed, what serves instead."""
    program = which(MEMCACHED)
    if program is None:
        return IN_MEMORY
    port = free_ports()
    command = [program, "--listen=127.0.0.1", f"--port={port}", "--memory-limit=32"]
    if os.geteuid() == 0:
        command.append("--user=nobody")  # it refuses to run as root
    spawned = spawn(folder, name, MEMCACHED, command)
    wait_until(lambda: reply("127.0.0.1", port, b"version\r\n").startswith(b"VERSION"), spawned)
    return IN_MEMCACHED.format(port=port)


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
    identity = Identity(url, ACCOUNT[USERNAME], ACCOUNT[PASSWORD])
    projects = {name: identity.made("project", name, domain_id=DEFAULT_DOMAIN) for name in PROJECTS}
    for name, (project, role) in USERS.items():
        user = identity.made("user", name, password=f"{name}pw", domain_id=DEFAULT_DOMAIN)
        identity.give(identity.made("role", role), user, project=projects[project])
    for kind, (name, address) in ENDPOINTS.items():
        identity.list_service(kind, name, address)
