"""Settings: read in one place. An error has the variable, its value and what it takes."""

from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from meterhouse.cli import cli
from meterhouse.errors import SettingsError
from meterhouse.settings import (
    SECRETS,
    Settings,
    as_environment,
    declarations,
    read_settings,
    settings,
    without_passwords,
)


def test_everything_is_in_the_home_folder_by_default(tmp_path: Path) -> None:
    given = read_settings(home=tmp_path)
    assert given.warehouse == f"sqlite:///{tmp_path}/warehouse.db"
    assert given.lake == f"{tmp_path}/lake"
    assert given.spool == tmp_path / "spool"


def test_a_relative_home_is_below_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert read_settings().home_path == tmp_path / ".meterhouse"


def test_urls_override_the_home_folder(tmp_path: Path) -> None:
    given = read_settings(
        warehouse_url="postgresql+psycopg://u@h/d", lake_url="s3://bucket/prefix/", stream_url=f"file://{tmp_path}/in"
    )
    assert given.warehouse == "postgresql+psycopg://u@h/d"
    assert given.lake == "s3://bucket/prefix"
    assert given.spool == tmp_path / "in"


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("WAREHOUSE_URL", "mysql://h/d", "must start with sqlite:/// or postgresql+psycopg://"),
        ("LAKE_URL", "http://h/d", "must be a folder or s3://bucket/prefix"),
        ("LAKE_URL", "s3:///prefix", "names no bucket"),
        ("STREAM_URL", "http://h", "must be file:///folder"),
        ("CONFIG_DIR", "/no/such/folder", "is not a folder"),
        ("MEMORY_LIMIT", "lots", "not of the form"),
        ("MEMORY_LIMIT", "0MB", "not of the form"),
        ("PARTITIONS_FROM", "2024-02-31", "day"),
        ("PARTITIONS_FROM", "soon", "not of the form"),
        ("STORE_RAW", "info\n", "`info`, `error` or `info,error`"),
        ("STREAM_POOL", "a\n", "not of the form"),
        ("COLLECT_BATCH", "0", "at least 1 and at most 1,000,000"),
        ("COLLECT_BATCH", "many", "a whole number"),
        ("COLLECT_SECONDS", "-1", "greater than 0"),
        ("CARRY_HOURS", "0", "at least 1"),
        ("LEASE_SECONDS", "1", "at least 5"),
        ("WEBHOOK_TIMEOUT_SECONDS", "0", "greater than 0"),
        ("WEBHOOK_ATTEMPTS", "0", "at least 1"),
        ("COMPUTE", "dask://h", "dask://host:port"),
        ("STORE_RAW", "warn", "`info`, `error` or `info,error`"),
        ("NOVA_VERSIONED", "perhaps", "true or false"),
    ],
)
def test_an_invalid_variable_is_named(monkeypatch: pytest.MonkeyPatch, variable: str, value: str, said: str) -> None:
    monkeypatch.setenv(f"METERHOUSE_{variable}", value)
    with pytest.raises(SettingsError) as caught:
        read_settings()
    assert f"METERHOUSE_{variable}={value!r}" in str(caught.value) or f"METERHOUSE_{variable}=" in str(caught.value)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


NUMBERS = {name: takes for name, takes in declarations().items() if takes.kind in (int, float)}


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", ["1e300", "-1e300", "inf", "nan", "9" * 30, "9" * 5000, "0x10", "-0.5", "1 2"])
def test_every_number_has_bounds(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"METERHOUSE_{name.upper()}", value)
    takes = NUMBERS[name]
    assert takes.le is not None
    assert (takes.ge, takes.gt) != (None, None)
    with pytest.raises(SettingsError, match=f"METERHOUSE_{name.upper()}=.*it takes a .*number at least|greater than"):
        read_settings()


@pytest.mark.parametrize("given", [{"s3_access_key": "a"}, {"s3_secret_key": "b"}])
def test_half_a_pair_of_keys_is_rejected(given: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="METERHOUSE_S3_ACCESS_KEY and METERHOUSE_S3_SECRET_KEY go together"):
        read_settings(**given)


def test_several_faults_are_reported_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METERHOUSE_COLLECT_BATCH", "0")
    monkeypatch.setenv("METERHOUSE_STREAM_URL", "x")
    with pytest.raises(SettingsError, match=r"METERHOUSE_STREAM_URL=.*METERHOUSE_COLLECT_BATCH="):
        read_settings()


def test_no_secret_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METERHOUSE_WAREHOUSE_URL", "postgres://meterhouse:hunter2@db/meterhouse")
    with pytest.raises(SettingsError) as caught:
        read_settings()
    assert "postgres://meterhouse:***@db/meterhouse" in str(caught.value)
    assert "hunter2" not in str(caught.value)
    monkeypatch.delenv("METERHOUSE_WAREHOUSE_URL")
    assert "hunter2" not in repr(read_settings(s3_access_key="a", s3_secret_key="hunter2"))


def test_settings_do_not_change() -> None:
    given = Settings()
    with pytest.raises(FrozenInstanceError):
        given.__setattr__("collect_batch", 1)


def test_the_telemetry_secret_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METERHOUSE_TELEMETRY_SECRET", "hunter2\udcff")
    with pytest.raises(SettingsError, match=r"METERHOUSE_TELEMETRY_SECRET=\*\*\*: is not UTF-8 text") as caught:
        read_settings()
    assert "hunter2" not in str(caught.value)
    monkeypatch.setenv("METERHOUSE_TELEMETRY_SECRET", "hunter2")
    given = read_settings()
    assert given.telemetry_secret == "hunter2"
    assert "hunter2" not in repr(given) + str(given)


def test_the_listing_masks_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METERHOUSE_TELEMETRY_SECRET", "hunter2")
    monkeypatch.setenv("METERHOUSE_S3_SECRET_KEY", "hunter2")
    monkeypatch.setenv("METERHOUSE_S3_ACCESS_KEY", "key")
    monkeypatch.setenv("METERHOUSE_WAREHOUSE_URL", "postgresql+psycopg://meterhouse:hunter2@db/meterhouse")
    settings.cache_clear()
    shown = CliRunner().invoke(cli, ["settings", "--json"])
    settings.cache_clear()
    assert shown.exit_code == 0
    assert "hunter2" not in shown.output
    assert {name.upper() for name in SECRETS} == {
        *("S3_SECRET_KEY", "TELEMETRY_SECRET"),
        *("KEYSTONE_PASSWORD", "KEYSTONE_CREDENTIAL_SECRET"),
        *("WEBHOOK_SECRET", "WEBHOOK_CREDENTIAL_SECRET", "ALARM_HEARTBEAT_URL"),
    }
    for name in ("TELEMETRY_SECRET", "S3_SECRET_KEY"):
        assert f'"METERHOUSE_{name}","value":"***"' in shown.output.replace(": ", ":").replace(", ", ",")


@pytest.mark.parametrize(
    ("variable", "text", "value"),
    [
        ("NOVA_VERSIONED", "off", False),
        ("ICEHOUSE_METERS", " Yes ", True),
        ("COLLECT_BATCH", " 7 ", 7),
        ("COLLECT_SECONDS", "1.5", 1.5),
        ("HOME", "here", Path("here")),
        ("COLLECT_BATCH", "1_000", 1000),
        ("COLLECT_BATCH", "+07", 7),
        ("COLLECT_SECONDS", ".5", 0.5),
        ("COLLECT_BATCH", "", 50_000),
    ],
)
def test_a_variable_is_read_as_people_write_it(
    monkeypatch: pytest.MonkeyPatch, variable: str, text: str, value: object
) -> None:
    monkeypatch.setenv(f"METERHOUSE_{variable}", text)
    assert getattr(read_settings(), variable.lower()) == value


def test_another_process_reads_the_same_settings_whatever_else_its_environment_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = read_settings(
        home=tmp_path, collect_batch=50_000, nova_versioned=False, s3_access_key="a", s3_secret_key="b"
    )
    monkeypatch.setenv("METERHOUSE_COLLECT_BATCH", "9")
    monkeypatch.setenv("METERHOUSE_CONFIG_DIR", str(tmp_path))
    for name, value in as_environment(given).items():
        monkeypatch.setenv(name, value)
    assert read_settings() == given


# -- secrets in files -----------------------------------------------------------------------------------------

HIDDEN = "hunter2-of-nobody"
VALUES = {
    "WAREHOUSE_URL": f"postgresql+psycopg://u:{HIDDEN}@db.invalid/d",
    "STREAM_URL": f"amqp://u:{HIDDEN}@mq.invalid:5672/",
    "S3_SECRET_KEY": HIDDEN,
    "TELEMETRY_SECRET": HIDDEN,
}


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
@pytest.mark.parametrize("name", VALUES)
def test_a_secret_can_be_given_as_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, ending: str
) -> None:
    monkeypatch.setenv("METERHOUSE_S3_ACCESS_KEY", "key")
    monkeypatch.setenv("METERHOUSE_S3_SECRET_KEY", "" if name == "S3_SECRET_KEY" else "x")
    (tmp_path / "secret").write_bytes(f"{VALUES[name]}{ending}".encode())
    monkeypatch.setenv(f"METERHOUSE_{name}_FILE", str(tmp_path / "secret"))
    given = read_settings()
    assert getattr(given, name.lower()) == VALUES[name]
    assert HIDDEN not in repr(given)
    for variable, value in as_environment(given).items():  # for a child that inherits this environment
        monkeypatch.setenv(variable, value)
    assert read_settings() == given
    settings.cache_clear()
    listed = CliRunner().invoke(cli, ["settings"]).output
    settings.cache_clear()
    assert HIDDEN not in listed
    assert "***" in listed


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (f"{HIDDEN}\nmore\n".encode(), "has more than one line"),
        (b"\xff" + HIDDEN.encode(), "is not UTF-8 text"),
        (HIDDEN.encode() * 5000, "has more than 65,536 bytes"),
        (None, "is not a file"),
    ],
)
def test_a_file_without_a_usable_secret_is_named_and_nothing_of_it_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None, said: str
) -> None:
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setenv("METERHOUSE_TELEMETRY_SECRET_FILE", str(path))
    with pytest.raises(SettingsError, match=f"METERHOUSE_TELEMETRY_SECRET_FILE={path}: {said}") as caught:
        read_settings()
    assert HIDDEN not in str(caught.value)


def test_a_secret_and_a_file_for_it_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secret").write_text(HIDDEN)
    monkeypatch.setenv("METERHOUSE_TELEMETRY_SECRET", HIDDEN)
    monkeypatch.setenv("METERHOUSE_TELEMETRY_SECRET_FILE", str(tmp_path / "secret"))
    with pytest.raises(SettingsError, match="METERHOUSE_TELEMETRY_SECRET is set too") as caught:
        read_settings()
    assert HIDDEN not in str(caught.value)


@pytest.mark.parametrize("name", VALUES)
def test_a_secret_is_in_no_error(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    bad = {"WAREHOUSE_URL": "mysql://u", "STREAM_URL": "http://u"}
    monkeypatch.setenv(f"METERHOUSE_{name}", f"{bad.get(name, HIDDEN)}:{HIDDEN}@h?password={HIDDEN}\udc80")
    with pytest.raises(SettingsError) as caught:
        read_settings()
    assert HIDDEN not in str(caught.value)


def test_a_password_with_any_character_is_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METERHOUSE_WAREHOUSE_URL", f"postgresql+psycopg://u:{HIDDEN}/:,#{HIDDEN}@h/d")
    settings.cache_clear()
    listed = CliRunner().invoke(cli, ["settings"]).output
    settings.cache_clear()
    assert "postgresql+psycopg://u:***@h/d" in listed
    assert HIDDEN not in listed


def test_a_password_among_the_parameters_of_a_url_is_masked() -> None:
    url = f"postgresql+psycopg://h/d?user=u&password={HIDDEN}&sslpassword={HIDDEN}&x=1"
    assert without_passwords(url) == "postgresql+psycopg://h/d?user=u&password=***&sslpassword=***&x=1"


@pytest.mark.parametrize("where", ["local", "dask://scheduler.example.org:8786", "dask://[::1]:8786"])
def test_points_are_computed_here_or_on_a_dask_cluster(where: str) -> None:
    assert read_settings(compute=where).compute == where


@pytest.mark.parametrize(
    "where", ["", "dask", "dask://", "dask://host", "dask://host:port", "dask://u@h:1", "tcp://h:1"]
)
def test_another_place_to_compute_is_refused(where: str) -> None:
    with pytest.raises(SettingsError, match=r"METERHOUSE_COMPUTE.*must be local or dask://host:port"):
        read_settings(compute=where)
