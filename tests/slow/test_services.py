"""deploy/services: servers start, answer and keep their data, and no process is left after a stop."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import boto3
import httpx
import psycopg
import pytest
from botocore.config import Config
from brokers import amqp_process
from services import SERVICES, clean_environment, services

pytestmark = [pytest.mark.service, pytest.mark.slow]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that the postgres user can enter, unlike pytest's own; what runs in it is stopped afterwards."""
    path = Path(tempfile.mkdtemp(prefix="meterhouse-test-", dir="/tmp"))
    yield path
    if (path / "services.json").exists():
        services("stop", "--dir", str(path))
    shutil.rmtree(path)


def start(folder: Path, only: str) -> dict[str, str]:
    done = services("start", "--only", only, "--dir", str(folder))
    assert done.returncode == 0, done.stderr
    return dict(line.split("=", 1) for line in done.stdout.splitlines())


def recorded_pids(folder: Path) -> set[int]:
    record = json.loads((folder / "services.json").read_text())
    return {process["pid"] for service in record["services"].values() for process in service["processes"]}


def alive(pids: set[int]) -> set[int]:
    def lives(pid: int) -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
        except FileNotFoundError:
            return False

    return set(filter(lives, pids))


def naming(folder: Path) -> set[int]:
    """The processes that have the folder in their command line."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(folder) in entry.read_text(errors="replace"):
                found.add(int(entry.parent.name))
        except OSError:
            continue
    return found


def query(env: dict[str, str], text: str) -> list[tuple[object, ...]]:
    url = env["METERHOUSE_TEST_POSTGRES_URL"].replace("+psycopg", "")
    with psycopg.connect(url) as connection:
        cursor = connection.execute(text)
        return cursor.fetchall() if cursor.description else []


def test_postgres_keeps_its_data_over_a_stop_that_leaves_no_process(folder: Path) -> None:
    env = start(folder, "postgres")
    query(env, "create table kept as select 42 as answer")
    started = recorded_pids(folder)
    assert alive(started) == started

    assert services("stop", "--dir", str(folder)).returncode == 0
    assert not alive(started)
    assert not naming(folder)

    assert query(start(folder, "postgres"), "select answer from kept") == [(42,)]


def test_a_second_start_finds_what_the_first_left_running(folder: Path) -> None:
    first = start(folder, "postgres")
    pids = recorded_pids(folder)
    assert start(folder, "postgres") == first
    assert recorded_pids(folder) == pids


def test_s3_takes_an_object_refuses_to_overwrite_it_and_leaves_no_process(folder: Path) -> None:
    env = start(folder, "s3")
    client = boto3.client(
        "s3",
        endpoint_url=env["METERHOUSE_TEST_S3_ENDPOINT"],
        aws_access_key_id=env["METERHOUSE_TEST_S3_ACCESS_KEY"],
        aws_secret_access_key=env["METERHOUSE_TEST_S3_SECRET_KEY"],
        region_name="us-east-1",
        config=Config(s3={"addressing_style": "path"}),
    )
    try:
        client.create_bucket(Bucket="bucket")
        client.put_object(Bucket="bucket", Key="k", Body=b"first", IfNoneMatch="*")
        with pytest.raises(client.exceptions.ClientError, match="PreconditionFailed"):
            client.put_object(Bucket="bucket", Key="k", Body=b"second", IfNoneMatch="*")
        answer = client.get_object(Bucket="bucket", Key="k")["Body"]
        assert answer.read() == b"first"
        answer.close()
    finally:
        client.close()
    started = recorded_pids(folder)
    assert len(started) == 3  # monitor, store, gateway

    assert services("stop", "--dir", str(folder)).returncode == 0
    assert not alive(started)
    assert not naming(folder)


def test_rabbitmq_comes_back_on_its_port_after_a_kill_and_after_a_stop(folder: Path) -> None:
    env = start(folder, "amqp")
    assert "\nrabbitmq_identity_info{" in httpx.get(env["METERHOUSE_TEST_AMQP_METRICS_URL"]).text
    os.kill(amqp_process(folder), signal.SIGKILL)
    assert start(folder, "amqp") == env
    started = recorded_pids(folder)

    assert services("stop", "--dir", str(folder)).returncode == 0
    assert not alive(started)
    assert not naming(folder)

    with socket.create_server(("127.0.0.1", int(env["METERHOUSE_TEST_AMQP_URL"].rpartition(":")[2].partition("/")[0]))):
        assert start(folder, "amqp") != env  # another process has it now


def test_the_json_server_pages_fails_and_logs_as_it_is_asked(folder: Path) -> None:
    env = start(folder, "json")
    with httpx.Client(base_url=env["METERHOUSE_TEST_JSON_URL"]) as client:
        first = client.get("/lists/a/3?limit=2").json()
        assert [entry["id"] for entry in first["a"]] == ["a-0", "a-1"]
        second = client.get(first["next"]).json()
        assert ([entry["id"] for entry in second["a"]], second["next"]) == (["a-2"], None)
        assert [entry["value"] for entry in client.get("/lists/b/2?bare=1").json()] == [0, 1]
        assert client.get("/lists/b/2?status=503").status_code == 503
        client.put("/behaviour/b", json={"status": 500, "times": 1})
        assert [client.get("/lists/b/2").status_code for _ in range(2)] == [500, 200]
        with pytest.raises(httpx.RemoteProtocolError):
            client.get("/lists/c/2?cut=30")
        with pytest.raises(httpx.ReadTimeout):
            client.get("/lists/c/2?hang=1", timeout=0.2)
        logged = [(request["path"], request["status"]) for request in client.get("/requests?name=c").json()]
        assert logged == [("/lists/c/2?cut=30", 200), ("/lists/c/2?hang=1", None)]
        begun = time.monotonic()
        client.get("/lists/d/1?seconds=0.2")
        assert time.monotonic() - begun >= 0.2
    assert start(folder, "json") == env


def cached(folder: Path) -> int:
    """How many values Keystone's memcached has."""
    conf = (folder / "keystone" / "keystone.conf").read_text()
    port = int(conf.partition("memcache_servers = 127.0.0.1:")[2].split()[0])
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(b"stats\r\nquit\r\n")
        answer = b"".join(iter(lambda: connection.recv(65_536), b"")).decode()
    return int(answer.partition("STAT curr_items ")[2].split()[0])


def test_keystone_logs_its_users_in_and_keeps_them_over_a_stop(folder: Path) -> None:
    env = start(folder, "keystone")

    def roles(user: str, project: str) -> set[str]:
        domain = {"id": "default"}
        account = {"name": user, "domain": domain, "password": f"{user}pw"}
        scope = {"project": {"name": project, "domain": domain}}
        asked = {"auth": {"identity": {"methods": ["password"], "password": {"user": account}}, "scope": scope}}
        answer = httpx.post(f"{env['METERHOUSE_TEST_KEYSTONE_URL']}/auth/tokens", json=asked, timeout=60)
        assert answer.status_code == 201, answer.text
        token = answer.json()["token"]
        urls = {entry["type"]: entry["endpoints"][0]["url"] for entry in token["catalog"]}
        assert urls["identity"] == env["METERHOUSE_TEST_KEYSTONE_URL"]
        assert {"metering", "alarming", "metric"} <= urls.keys()
        return {role["name"] for role in token["roles"]}

    assert roles("rea", "alpha") == {"reader"}
    assert roles("mem", "alpha") == {"member", "reader"}
    assert "service" in roles("svc", "service")
    assert "admin" in roles("ann", "alpha")
    assert cached(folder) > 0
    started = recorded_pids(folder)

    assert services("stop", "--dir", str(folder)).returncode == 0
    assert not alive(started)
    assert not naming(folder)

    port = int(env["METERHOUSE_TEST_KEYSTONE_URL"].rpartition(":")[2].partition("/")[0])
    with socket.create_server(("127.0.0.1", port)):  # another process has it now
        env = start(folder, "keystone")
        assert roles("bob", "beta") == {"member", "reader"}


def test_a_server_that_fails_ends_those_that_start_beside_it_unless_it_is_optional(folder: Path) -> None:
    deep = folder / ("deep" * 20)  # too long for the sockets of the S3 server
    arguments = ("--only", "amqp,s3", "--dir", str(deep))
    done = services("start", *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert "too long" in done.stderr
    assert not naming(folder)

    done = services("run", *arguments, "--optional", "s3", "--", "env")
    assert done.returncode == 0, done.stderr
    assert "METERHOUSE_TEST_AMQP_URL=" in done.stdout
    assert "METERHOUSE_TEST_S3_ENDPOINT=" not in done.stdout
    assert not naming(folder)


def test_run_gives_the_command_its_servers_and_returns_its_exit_code(folder: Path) -> None:
    program = "import os, sys; print(os.environ['METERHOUSE_TEST_POSTGRES_URL']); sys.exit(7)"
    arguments = ("--only", "postgres", "--dir", str(folder), "--", sys.executable, "-c", program)
    done = services("run", *arguments)
    assert done.returncode == 7, done.stderr
    assert done.stdout.startswith("postgresql+psycopg://")
    assert not naming(folder)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_run_stops_the_servers_when_a_signal_ends_it(folder: Path, number: signal.Signals) -> None:
    sleep = ["--", sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"]
    command = [sys.executable, str(SERVICES), "run", "--only", "postgres", "--dir", str(folder), *sleep]
    with subprocess.Popen(
        command,
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as runner:
        assert runner.stdout
        assert runner.stdout.readline() == b"up\n"
        started = recorded_pids(folder)
        assert alive(started) == started
        runner.send_signal(number)
        assert runner.wait(30) == 128 + number
    assert not alive(started)
    assert not naming(folder)


def test_a_server_named_by_the_environment_is_used_and_none_started(folder: Path) -> None:
    url = {"METERHOUSE_TEST_POSTGRES_URL": start(folder, "postgres")["METERHOUSE_TEST_POSTGRES_URL"]}
    done = services("run", "--only", "postgres", "--", "env", **url)
    assert f"METERHOUSE_TEST_POSTGRES_URL={url['METERHOUSE_TEST_POSTGRES_URL']}\n" in done.stdout
    assert query(url, "select 1") == [(1,)]  # and not stopped


def test_a_server_that_cannot_be_provided_fails_in_one_line_unless_it_is_optional() -> None:
    nobody = {"METERHOUSE_TEST_POSTGRES_URL": "postgresql+psycopg://postgres@127.0.0.1:1/postgres"}
    begun = time.monotonic()
    done = services("run", "--only", "postgres", "--", "echo", "went on", **nobody)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "METERHOUSE_TEST_POSTGRES_URL" in done.stderr
    assert time.monotonic() - begun < 10

    done = services("run", "--only", "postgres", "--optional", "postgres", "--", "echo", "went on", **nobody)
    assert (done.returncode, done.stdout) == (0, "went on\n")
