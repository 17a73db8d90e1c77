"""URLs of brokers and settings of the stream: what is accepted, what is rejected, and that no password shows."""

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from meterhouse import cli
from meterhouse import settings as settings_module
from meterhouse.broker_urls import HEARTBEAT_SECONDS, Broker, Host, brokers
from meterhouse.doctor import examine
from meterhouse.errors import SettingsError
from meterhouse.settings import declarations, listed, read_settings, without_passwords

SECRET = "s3cr3t"


def one(url: str) -> Broker:
    (found,) = brokers(url)
    return found


@pytest.mark.parametrize(
    ("url", "host", "tls"),
    [
        ("amqp://h", Host("h", 5672, "guest", "guest"), False),
        ("amqp://h:1234", Host("h", 1234, "guest", "guest"), False),
        ("amqp://u:p@h/", Host("h", 5672, "u", "p"), False),
        ("amqp://u@h", Host("h", 5672, "u", ""), False),
        ("amqps://u:p@h", Host("h", 5671, "u", "p"), True),
        ("rabbit://u:p@h", Host("h", 5672, "u", "p"), False),
        ("rabbits://u:p@h", Host("h", 5671, "u", "p"), True),
        ("rabbit://u:p@h/v?ssl=1", Host("h", 5671, "u", "p"), True),
        ("rabbit://u:p@h/v?ssl=0", Host("h", 5672, "u", "p"), False),
        ("amqp://u%40x:p%2F%3A%40%2C%3F%23%25@h", Host("h", 5672, "u@x", "p/:@,?#%"), False),
        ("amqp://u:%C3%BC@h", Host("h", 5672, "u", "ü"), False),
        ("amqp://u:a:b@h", Host("h", 5672, "u", "a:b"), False),
        ("amqp://u:p@[::1]:5673", Host("::1", 5673, "u", "p"), False),
        ("amqp://[fe80::1]", Host("fe80::1", 5672, "guest", "guest"), False),
        ("amqp://10.0.0.1", Host("10.0.0.1", 5672, "guest", "guest"), False),
    ],
)
def test_a_host_and_its_account(url: str, host: Host, tls: bool) -> None:
    found = one(url)
    assert found.hosts == (host,)
    assert found.tls is tls


@pytest.mark.parametrize(
    ("path", "vhost"),
    [
        ("", "/"),
        ("/", "/"),
        ("//", "/"),
        ("/%2F", "/"),
        ("/%2f", "/"),
        ("/telemetry", "telemetry"),
        ("/a/b", "a/b"),
        ("/%2Fa", "/a"),
        ("//a", "/a"),
        ("/%2525", "%25"),
        ("/a%20b", "a b"),
        ("/v?heartbeat=3", "v"),
        ("?heartbeat=3", "/"),
    ],
)
def test_the_virtual_host(path: str, vhost: str) -> None:
    assert one(f"amqp://u:p@h{path}").vhost == vhost


def test_the_hosts_of_a_cluster_as_oslo_messaging_writes_them() -> None:
    found = one("rabbit://nova:one@a:5672,nova:two@b:5673,[::1]:1/v")
    assert found.hosts == (
        Host("a", 5672, "nova", "one"),
        Host("b", 5673, "nova", "two"),
        Host("::1", 1, "nova", "two"),
    )
    assert found.name == "a:5672,b:5673,[::1]:1/v"
    assert found.place("notifications.info") == "a:5672,b:5673,[::1]:1/v notifications.info"


def test_several_brokers_are_separated_by_spaces() -> None:
    found = brokers(" amqp://a/x  amqps://b\tamqp://a/y\n")
    assert [broker.name for broker in found] == ["a:5672/x", "b:5671/", "a:5672/y"]


def test_the_heartbeat_is_set_in_the_url() -> None:
    assert one("amqp://h").heartbeat == HEARTBEAT_SECONDS
    assert one("amqp://h/v?heartbeat=2").heartbeat == 2
    assert one("rabbit://h/?ssl=1&heartbeat=1.5").heartbeat == 1.5


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://h", "must be file:///folder, amqp://user:password@host:port/vhost or amqps://…"),
        ("h:5672", "must be file:///folder"),
        ("amqp:/h", "must be file:///folder"),
        ("AMQP://h", "must be file:///folder"),
        ("amqp://", "has no host: write amqp://user:password@host:port/vhost"),
        (f"amqp://u:{SECRET}@", "has no host"),
        (f"amqp://u:{SECRET}@:5672/v", "has no host"),
        (f"amqp://u:{SECRET}@a,,b", "has no host"),
        (f"amqp://u:{SECRET}@h:many", "has a port that is not a number up to 65535"),
        (f"amqp://u:{SECRET}@h:65536", "has a port that is not a number up to 65535"),
        (f"amqp://u:{SECRET}@[::1", "has a port that is not a number"),
        ("amqp://h/?heartbeat=soon", "has a heartbeat that is not a number of seconds"),
        ("amqp://h/?heartbeat=0", "has a heartbeat that is not between 1 and 3600 seconds"),
        ("amqp://h/?heartbeat=nan", "has a heartbeat that is not between 1 and 3600 seconds"),
        (f"amqp://u:{SECRET}@h/v amqp://x:{SECRET}@h/v", "a broker is named twice"),
        (f"amqp://u:{SECRET} {SECRET}@h/v", "has a port that is not a number"),
        (f"amqp://u:12/{SECRET}@h/v", "has an account with a character to escape: write / as %2F, ? as %3F"),
        (f"amqp://u:12?{SECRET}@h/v", "has an account with a character to escape"),
        (f"amqp://u:12#{SECRET}@h/v", "has an account with a character to escape"),
    ],
)
def test_a_url_that_cannot_be_used_says_why_and_shows_no_password(url: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^[a-z]") as fault:
        brokers(url)
    assert str(fault.value).startswith(said)
    with pytest.raises(SettingsError) as shown:
        read_settings(home=tmp_path, stream_url=url)
    assert said in str(shown.value)
    assert "METERHOUSE_STREAM_URL" in str(shown.value)
    assert SECRET not in str(shown.value)


def test_no_password_shows_in_the_names_and_texts_of_brokers() -> None:
    found = one(f"rabbit://u:{SECRET}@a,v:{SECRET}@b/x")
    assert SECRET not in repr(found)
    assert SECRET not in found.name
    assert SECRET not in str(found.hosts[1])


@pytest.mark.parametrize(
    "url",
    [
        f"amqp://u:{SECRET}@h/v",
        f"rabbit://u:{SECRET}@a:5672,v:{SECRET}@b:5672/v",
        f"amqp://u:{SECRET}@h/v amqps://w:{SECRET}@g",
        f"amqp://u:{SECRET}%2F@h",
        f"amqp://u:a:{SECRET}@h",
        f"amqp://u:{SECRET},{SECRET}@h",
    ],
)
def test_passwords_are_left_out_of_texts(url: str) -> None:
    assert SECRET not in without_passwords(f"METERHOUSE_STREAM_URL='{url}': is odd")
    assert SECRET not in without_passwords(url)


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Set variables as a shell does."""
    monkeypatch.setenv("METERHOUSE_HOME", str(tmp_path))
    settings_module.settings.cache_clear()
    yield lambda name, value: monkeypatch.setenv(f"METERHOUSE_{name}", value)
    settings_module.settings.cache_clear()


@pytest.mark.parametrize(
    "url",
    [
        f"rabbit://u:{SECRET}@127.0.0.1:1,v:{SECRET}@127.0.0.1:2/v",
        f"amqp://u:{SECRET}@127.0.0.1:1 amqp://u:{SECRET}@127.0.0.1:2",
        f"amqp://u:12/{SECRET}@127.0.0.1:1/v",
    ],
)
def test_no_password_shows_at_the_terminal(environment: Any, url: str) -> None:
    environment("STREAM_URL", url)
    for command in (["settings"], ["doctor"], ["collect"]):
        done = CliRunner().invoke(cli.cli, command)
        text = done.output + str(done.exception or "")
        assert text.strip()
        assert SECRET not in text, command
    assert SECRET not in str(examine())


def test_settings_have_the_url_and_do_not_show_it(tmp_path: Path) -> None:
    given = read_settings(home=tmp_path, stream_url=f"amqp://u:{SECRET}@h/v")
    assert given.stream_url == f"amqp://u:{SECRET}@h/v"
    assert not given.is_spool
    assert SECRET not in repr(given)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"stream_queues": "a,b,a"}, "a name is given twice"),
        ({"stream_queues": "amq.topic"}, "begins with amq., which RabbitMQ reserves"),
        ({"stream_exchanges": "q" * 256}, "a name is longer than 255 bytes"),
        ({"stream_queues": " , "}, "METERHOUSE_STREAM_QUEUES=' , ': names nothing"),
        ({"stream_exchanges": ","}, "METERHOUSE_STREAM_EXCHANGES=',': names nothing"),
        ({"stream_pool": "a b"}, "METERHOUSE_STREAM_POOL='a b': it is not of the form that it takes"),
        ({"stream_queue_type": "lazy"}, "METERHOUSE_STREAM_QUEUE_TYPE='lazy'"),
        ({"stream_prefetch": 1}, "METERHOUSE_STREAM_PREFETCH=1"),
        ({"stream_prefetch": 65_536}, "METERHOUSE_STREAM_PREFETCH=65536"),
        ({"stream_ca_file": "/nowhere/ca.pem"}, "METERHOUSE_STREAM_CA_FILE='/nowhere/ca.pem': is not a file"),
        ({"stream_late_seconds": 0}, "METERHOUSE_STREAM_LATE_SECONDS=0"),
        ({"collect_wait_seconds": 0}, "METERHOUSE_COLLECT_WAIT_SECONDS=0"),
        ({"collect_bytes": 1}, "METERHOUSE_COLLECT_BYTES=1"),
    ],
)
def test_an_invalid_setting_is_rejected_by_name(given: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as fault:
        read_settings(home=tmp_path, stream_url="amqp://h", **given)
    assert said in str(fault.value)


@pytest.mark.parametrize("lone", ["stream_cert_file", "stream_key_file"])
def test_certificate_and_key_go_together(lone: str, tmp_path: Path) -> None:
    file = tmp_path / "file.pem"
    file.touch()
    with pytest.raises(SettingsError, match=r"STREAM_CERT_FILE and METERHOUSE_STREAM_KEY_FILE go together"):
        read_settings(home=tmp_path, **{lone: file})


def test_names_may_have_spaces_around_them(tmp_path: Path) -> None:
    given = read_settings(home=tmp_path, stream_url="amqp://h", stream_queues=" a.info, b.error ,", stream_exchanges="")
    assert listed(given.stream_queues) == ["a.info", "b.error"]
    assert listed(given.stream_exchanges) == []


def test_the_spool_is_the_stream_if_no_broker_is_named(tmp_path: Path) -> None:
    assert read_settings(home=tmp_path).is_spool
    given = read_settings(home=tmp_path, stream_url="file:///var/lib/my%20spool")
    assert given.is_spool
    assert given.spool == Path("/var/lib/my spool")


def test_every_setting_of_the_stream_is_described() -> None:
    for name, declared in declarations().items():
        if name.startswith(("stream_", "collect_")):
            assert declared.description, name


def test_an_at_sign_in_an_account_is_rejected_unless_it_is_escaped() -> None:
    with pytest.raises(ValueError, match="has an account with an @: write it as %40"):
        brokers("amqp://u:p@ss@h/")
    assert brokers("amqp://u:p%40ss@h/")[0].hosts[0].password == "p@ss"
