"""DAGSTER_HOME: the folder of Dagster's settings, checked before its daemon starts."""

import os
from pathlib import Path
from typing import Any

import yaml
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from meterhouse.errors import MeterhouseError
from meterhouse.extras import require


def check_home(warehouse: str) -> None:
    """Make sure that Dagster can be started.

    Args:
        warehouse: the URL of the warehouse.

    Raises:
        MeterhouseError: DAGSTER_HOME is not set, has no `dagster.yaml`, or names a storage in a way that cannot work.
    """
    named = os.environ.get("DAGSTER_HOME", "")
    if not named:
        raise MeterhouseError(
            "DAGSTER_HOME is not set", hint="Set it to a folder, and copy the checkout's dagster.yaml into it"
        )
    file = Path(named) / "dagster.yaml"
    try:
        content = yaml.safe_load(file.read_text())
    except OSError as error:
        raise MeterhouseError(
            f"Dagster's settings cannot be read: {error.strerror}",
            where=str(file),
            hint="Copy the checkout's dagster.yaml there",
        ) from error
    except yaml.YAMLError as error:
        raise MeterhouseError(f"this is not YAML: {error}", where=str(file)) from error
    if not isinstance(content, dict) or not isinstance(storage := content.get("storage"), dict):
        return
    if isinstance(postgres := storage.get("postgres"), dict):
        require("dagster_postgres")
        _check_url(file, postgres.get("postgres_url"), make_url(warehouse))


def _check_url(file: Path, value: Any, warehouse: URL) -> None:
    """Check the URL of Dagster's storage.

    `postgresql://` means the driver psycopg 3 to SQLAlchemy 2.1, and dagster-postgres needs psycopg 2.
    """
    url, where = value, str(file)
    if isinstance(value, dict) and isinstance(variable := value.get("env"), str):
        url, where = os.environ.get(variable, ""), variable
        if not url:
            raise MeterhouseError(f"{variable} is not set, and {file} refers to it", where=str(file))
    if not isinstance(url, str):
        return
    try:
        storage = make_url(url)
    except ArgumentError:
        storage = None
    if storage is None or storage.drivername != "postgresql+psycopg2":
        raise MeterhouseError(
            "the URL of Dagster's storage has to start with postgresql+psycopg2://",
            where=where,
            hint="dagster-postgres needs this driver",
        )
    if _database(storage) == _database(warehouse):
        raise MeterhouseError(
            "Dagster's storage and the warehouse are the same database, and both have a table `runs`",
            where=where,
            hint="Create another database for Dagster",
        )


def _database(url: URL) -> tuple[str | None, int | None, str | None]:
    return url.host, url.port, url.database
