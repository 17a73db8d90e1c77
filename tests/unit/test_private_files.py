"""Files with secrets and data are their owner's alone, whatever the umask is."""

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from builders import drop, notification
from sqlalchemy import text

from meterhouse import doctor
from meterhouse.collection.collect import collect
from meterhouse.errors import MeterhouseError
from meterhouse.private_files import make_folder
from meterhouse.settings import read_settings, settings
from meterhouse.site import Site


@pytest.fixture(params=[0o000, 0o022, 0o777], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


@pytest.mark.usefixtures("umask")
def test_a_new_site_is_its_owners_alone(tmp_path: Path) -> None:
    before = os.umask(0o022)
    os.umask(before)
    home = tmp_path / "above" / "home"
    site = Site.open(read_settings(home=home))
    with site.warehouse.begin() as connection:
        connection.execute(text("INSERT INTO stream_queues (place) VALUES ('q')"))
        assert {path.name: mode(path) for path in home.glob("warehouse.db*")} == {
            "warehouse.db": 0o600,
            "warehouse.db-wal": 0o600,
            "warehouse.db-shm": 0o600,
        }
    site.warehouse.engine.dispose()
    site.stream.backlog()
    if before != 0o777:  # delta-rs could not write into its own folders
        site.lake.table("samples")
        assert mode(home / "lake") == 0o700
    assert [mode(path) for path in (home.parent, home, home / "spool")] == [0o700] * 3


def test_folders_that_exist_keep_their_mode(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o2770)
    make_folder(shared / "new")
    assert (mode(shared), mode(shared / "new")) == (0o770, 0o700)
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        make_folder(tmp_path / "file")


def test_a_warehouse_that_cannot_be_made_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(MeterhouseError, match=r"file/w\.db: the warehouse cannot be used.*METERHOUSE_WAREHOUSE_URL"):
        Site.open(read_settings(home=tmp_path / "home", warehouse_url=f"sqlite:///{tmp_path}/file/w.db"))


def test_an_upgrade_closes_the_warehouse_of_an_earlier_release(tmp_path: Path, migrated: Path) -> None:
    database = tmp_path / "warehouse.db"
    database.write_bytes(migrated.read_bytes())
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE alembic_version SET version_num = version_num")
    database.chmod(0o644)
    site = Site.open(read_settings(home=tmp_path))
    assert mode(database) == 0o644  # whoever opens it for others on purpose can
    site.warehouse.migrate()
    assert mode(database) == 0o600


def test_the_doctor_warns_of_what_every_user_can_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, migrated: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    database = home / "warehouse.db"
    database.write_bytes(migrated.read_bytes())
    secret = tmp_path / "secret"
    secret.write_text("secret\n")
    monkeypatch.setenv("METERHOUSE_HOME", str(home))
    monkeypatch.setenv("METERHOUSE_TELEMETRY_SECRET_FILE", str(secret))

    def found() -> list[str]:
        settings.cache_clear()
        states = {row["finding"]: row["state"] for row in doctor.examine() if row["part"] in ("settings", "access")}
        settings.cache_clear()
        return [finding for finding, state in states.items() if state != "ok"]

    monkeypatch.setattr(doctor, "CHECKS", [check for check in doctor.CHECKS if check.part in ("warehouse", "access")])
    for path, each in ((home, 0o755), (database, 0o644), (secret, 0o644)):
        path.chmod(each)
    assert [finding.partition(";")[0] for finding in found()] == [
        f"every user of this machine can read {path}" for path in (home, secret, database)
    ]
    secret.chmod(0o600)
    home.chmod(0o750)  # nobody else gets to the database
    assert found() == []


def test_collection_works_in_folders_that_are_private(tmp_path: Path) -> None:
    site = Site.open(read_settings(home=tmp_path / "home"))
    site.stream.backlog()
    drop(site.settings.spool, "a.jsonl", [notification("m1")])
    assert collect(site).landed == 1
