"""Packages that only some sites need, by the extra of Meterhouse that installs them."""

from importlib.util import find_spec

from meterhouse.errors import MeterhouseError

EXTRAS = {
    "airflow": "airflow",
    "amqp": "amqp",
    "dagster": "dagster",
    "dagster_postgres": "dagster-postgres",
    "distributed": "dask",
    "ezsnmp": "snmp",
    "fastapi": "api",
    "great_expectations": "quality",
    "httpx": "webhooks",
    "kombu": "amqp",
    "libvirt": "libvirt",
    "pandas": "quality",
    "psycopg": "postgres",
    "prometheus_client": "api",
    "s3fs": "s3",
    "uvicorn": "api",
}
"""Module → extra; `[project.optional-dependencies]` in pyproject.toml declares them."""


class NotInstalled(MeterhouseError):
    """A package that this command needs is missing."""

    def __init__(self, module: str) -> None:
        extra = EXTRAS[module]
        super().__init__(
            f"the Python package {module} is not installed", hint=f"Run: pip install 'meterhouse[{extra}]'"
        )


def require(module: str) -> None:
    """Find out now, and not in the middle of the work, whether a package is installed.

    Raises:
        NotInstalled: it is not.
    """
    if find_spec(module) is None:
        raise NotInstalled(module)


def not_installed(error: ImportError) -> NotInstalled | None:
    """The fault that an import error stands for, if an extra installs what is missing."""
    module = (error.name or "").partition(".")[0]
    return NotInstalled(module) if module in EXTRAS else None
