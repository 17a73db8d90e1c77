"""Fixtures for the real servers, which `make test` starts (see deploy/services)."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, LiteralString, TypedDict
from urllib.parse import urlsplit

import httpx
import psycopg
import pytest
from psycopg import sql

from meterhouse.settings import read_settings
from meterhouse.site import Site

__all__ = [
    "Bucket",
    "Keystone",
    "amqp_metrics_url",
    "amqp_url",
    "browser_path",
    "english_postgres",
    "json_url",
    "keystone",
    "libvirt_packages",
    "moto_s3",
    "node_url",
    "postgres_url",
    "postgres_warehouse",
    "postgres_warehouses",
    "s3",
    "snmp_url",
    "started_keystone",
]

SERVICES = Path(__file__).parents[1] / "deploy" / "services"


class Bucket(TypedDict):
    """A bucket for one test, with the settings to reach it."""

    endpoint: str
    access_key: str
    secret_key: str
    region: str
    bucket: str


@dataclass(frozen=True)
class Keystone:
    """A Keystone, with a token of its administrator.

    What tests make has random names, since they all use the same server. `deploy/services/servers/keystone.py` has the
    projects, users and endpoints of a Keystone that it starts.
    """

    url: str
    username: str
    password: str
    client: httpx.Client

    @property
    def settings(self) -> dict[str, str]:
        """The settings of a site that reads names as the administrator."""
        return {
            "keystone_url": self.url,
            "keystone_username": self.username,
            "keystone_password": self.password,
            "keystone_project": "admin",
        }

    def make(self, kind: str, **fields: Any) -> str:
        """Make a `project`, `user` or `domain`; return its id."""
        answer = self.client.post(f"{self.url}/{kind}s", json={kind: fields})
        answer.raise_for_status()
        return str(answer.json()[kind]["id"])

    def change(self, kind: str, number: str, **fields: Any) -> None:
        """Change fields of one."""
        self.client.patch(f"{self.url}/{kind}s/{number}", json={kind: fields}).raise_for_status()

    def delete(self, kind: str, number: str) -> None:
        """Delete one."""
        self.client.delete(f"{self.url}/{kind}s/{number}").raise_for_status()


def clean_environment(**extra: str) -> dict[str, str]:
    """The environment without the servers that it names."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("METERHOUSE_TEST_")}
    return {**kept, **extra}


def services(*arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
    """Run deploy/services to its end; `extra` goes to its environment."""
    command = [sys.executable, str(SERVICES), *arguments]
    return subprocess.run(
        command, env=clean_environment(**extra), capture_output=True, text=True, timeout=300, check=False
    )


def configured(variable: str) -> str:
    """The variables of a server. A test fails without its server, because nobody would notice a skip."""
    value = os.environ.get(variable)
    if not value:
        pytest.fail(f"{variable} is not set: run `make test`, which starts the servers", pytrace=False)
    return value


@pytest.fixture
def postgres_url() -> Iterator[str]:
    """A fresh database, which is dropped afterwards even if clients are still connected."""
    with _database("template0") as url:
        yield url


@pytest.fixture(scope="session")
def _migrated_postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The name of a database with the newest schema, to copy from."""
    with _database("template0") as url:
        Site.open(read_settings(home=tmp_path_factory.mktemp("migrated"), warehouse_url=url)).warehouse.engine.dispose()
        yield urlsplit(url).path.removeprefix("/")


@pytest.fixture
def postgres_warehouse(_migrated_postgres: str) -> Iterator[str]:
    """A fresh database with the newest schema; much faster than to migrate one."""
    with _database(_migrated_postgres) as url:
        yield url


@pytest.fixture(scope="module")
def postgres_warehouses(_migrated_postgres: str) -> Iterator[Callable[[], str]]:
    """Creates fresh databases with the newest schema, which are dropped after the module's tests."""
    with contextlib.ExitStack() as made:
        yield lambda: made.enter_context(_database(_migrated_postgres))


@pytest.fixture
def english_postgres() -> Iterator[str]:
    """A fresh database that orders texts as English does: `a` before `B`, `é` after `e`."""
    with _database("template0", "locale_provider icu icu_locale 'en-US'") as url:
        yield url


@contextlib.contextmanager
def _database(template: str, how: LiteralString = "") -> Iterator[str]:
    url = configured("METERHOUSE_TEST_POSTGRES_URL")
    server = url.replace("postgresql+psycopg://", "postgresql://", 1)
    name = f"test_{secrets.token_hex(6)}"
    address, mark, options = url.partition("?")
    with psycopg.connect(server, autocommit=True) as connection:
        create = sql.SQL("create database {} template {} " + how)
        connection.execute(create.format(sql.Identifier(name), sql.Identifier(template)))
    yield f"{address.rpartition('/')[0]}/{name}{mark}{options}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


@pytest.fixture
def s3() -> Iterator[Bucket]:
    """A fresh bucket on the real S3 server, which is removed afterwards."""
    yield from fresh_bucket(
        endpoint=configured("METERHOUSE_TEST_S3_ENDPOINT"),
        access_key=configured("METERHOUSE_TEST_S3_ACCESS_KEY"),
        secret_key=configured("METERHOUSE_TEST_S3_SECRET_KEY"),
    )


@pytest.fixture
def moto_s3(_moto: str) -> Iterator[Bucket]:
    """A fresh bucket on moto's server: it needs no service, and supports conditional PUT."""
    yield from fresh_bucket(endpoint=_moto, access_key="moto", secret_key="moto-secret")


@pytest.fixture(scope="session")
def _moto() -> Iterator[str]:
    """The endpoint of moto's server, which starts once for all tests.

    It runs in another process, for delta-rs holds Python's lock while it waits for an answer.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            deadline = time.monotonic() + 120
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), timeout=1).close()
                    break
                except OSError:
                    if time.monotonic() > deadline or server.poll() is not None:
                        pytest.fail("moto's server does not start")
                    time.sleep(0.1)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


@pytest.fixture
def amqp_url() -> str:
    """The URL of a RabbitMQ that all tests share: each test uses its own names there."""
    return configured("METERHOUSE_TEST_AMQP_URL")


@pytest.fixture
def amqp_metrics_url() -> str:
    """The URL of the exporter of that RabbitMQ: Prometheus text."""
    return configured("METERHOUSE_TEST_AMQP_METRICS_URL")


@contextlib.contextmanager
def _found_or_started(name: str, *variables: str) -> Iterator[dict[str, str]]:
    """The variables of a server: the configured one, or one that runs for the while."""
    if os.environ.get(variables[0]):
        yield {variable: configured(variable) for variable in variables}
        return
    folder = tempfile.mkdtemp(prefix=f"meterhouse-{name}-", dir="/tmp")
    done = services("start", "--only", name, "--dir", folder)
    try:
        if done.returncode:
            pytest.fail(f"no {name}: {done.stderr}", pytrace=False)
        yield dict(line.split("=", 1) for line in done.stdout.splitlines())
    finally:
        services("stop", "--dir", folder)
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def json_url() -> Iterator[str]:
    """The URL of a server of JSON lists that all tests share (see `deploy/services/json_lists.py`).

    Each test uses its own names there.
    """
    with _found_or_started("json", "METERHOUSE_TEST_JSON_URL") as env:
        yield env["METERHOUSE_TEST_JSON_URL"]


@pytest.fixture(scope="session")
def node_url() -> Iterator[str]:
    """The URL of a node exporter's metrics: Prometheus text."""
    with _found_or_started("node", "METERHOUSE_TEST_NODE_URL") as env:
        yield env["METERHOUSE_TEST_NODE_URL"]


@pytest.fixture(scope="session")
def snmp_url() -> Iterator[str]:
    """The URL of an SNMP agent, with its community."""
    with _found_or_started("snmp", "METERHOUSE_TEST_SNMP_URL") as env:
        yield env["METERHOUSE_TEST_SNMP_URL"]


@pytest.fixture(scope="session")
def libvirt_packages() -> Iterator[Path]:
    """The folder with libvirt's Python package, from which tests can import it."""
    with _found_or_started("libvirt", "METERHOUSE_TEST_LIBVIRT_PACKAGES") as env:
        folder = Path(env["METERHOUSE_TEST_LIBVIRT_PACKAGES"])
        sys.path.append(str(folder))
        yield folder
        sys.path.remove(str(folder))


@pytest.fixture(scope="session")
def started_keystone() -> Iterator[dict[str, str]]:
    """The variables of a Keystone: the configured one, or one that the first test that needs it starts."""
    with _found_or_started("keystone", *(f"METERHOUSE_TEST_KEYSTONE_{part}" for part in _KEYSTONE)) as env:
        yield env


@pytest.fixture(scope="session")
def keystone(started_keystone: dict[str, str]) -> Iterator[Keystone]:
    """A Keystone that all tests of this process share."""
    url, username, password = (started_keystone[f"METERHOUSE_TEST_KEYSTONE_{part}"] for part in _KEYSTONE)
    domain = {"id": "default"}
    account = {"user": {"name": username, "domain": domain, "password": password}}
    scope = {"project": {"name": "admin", "domain": domain}}
    asked = {"auth": {"identity": {"methods": ["password"], "password": account}, "scope": scope}}
    with httpx.Client(timeout=60) as client:
        answer = client.post(f"{url}/auth/tokens", json=asked)
        answer.raise_for_status()
        client.headers["X-Auth-Token"] = answer.headers["X-Subject-Token"]
        yield Keystone(url, username, password, client)


_KEYSTONE = ("URL", "USERNAME", "PASSWORD")


@pytest.fixture
def browser_path() -> str:
    """The path of a Chromium (or Chrome)."""
    return configured("METERHOUSE_TEST_BROWSER")


def fresh_bucket(*, endpoint: str, access_key: str, secret_key: str) -> Iterator[Bucket]:
    import boto3
    from botocore.config import Config

    region = os.environ.get("METERHOUSE_TEST_S3_REGION", "us-east-1")
    name = f"test-{secrets.token_hex(6)}"
    resource = boto3.resource(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        region_name=region,
        config=Config(s3={"addressing_style": "path"}),
    )
    bucket = resource.Bucket(name)
    where = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
    try:
        bucket.create(**where)
        yield Bucket(endpoint=endpoint, access_key=access_key, secret_key=secret_key, region=region, bucket=name)
        bucket.objects.delete()
        bucket.delete()
    finally:
        resource.meta.client.close()
