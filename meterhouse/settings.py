"""Settings: every `METERHOUSE_*` variable, read and checked in this one place."""

import re
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import unquote, urlsplit

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from meterhouse.errors import SettingsError

SECRETS = frozenset({"s3_secret_key", "telemetry_secret"})
"""Settings whose values are never shown."""


class Settings(BaseSettings):
    """Where the data lives and how the steps behave. Paths may be relative to the working directory."""

    model_config = SettingsConfigDict(env_prefix="METERHOUSE_", env_ignore_empty=True, extra="ignore", frozen=True)

    home: Path = Field(
        default=Path(".meterhouse"),
        description="Folder of what the embedded mode keeps: `lake/`, `warehouse.db` and `spool/`; the demo's `demo/`; "
        "and of `spill/`, where DuckDB puts what does not fit into memory.",
    )
    warehouse_url: str = Field(
        default="",
        description="SQLAlchemy URL of the warehouse: `sqlite:///…` or `postgresql+psycopg://…`. "
        "Default: SQLite in the home folder.",
    )
    lake_url: str = Field(
        default="",
        description="Folder or `s3://bucket/prefix` of the lake: tables, exports, manifests. "
        "Default: `lake/` in the home folder.",
    )
    s3_endpoint: str = Field(
        default="", description="URL of the S3 server, e.g. `https://objects.example.org`. Empty: AWS."
    )
    s3_access_key: str = Field(default="", description="Access key of the S3 server.")
    s3_secret_key: str = Field(default="", description="Secret key of the S3 server.", repr=False)
    s3_region: str = Field(default="us-east-1", description="Region of the S3 server.")
    stream_url: str = Field(
        default="",
        description="Where notifications come from: `file:///folder` of JSON-lines files, or RabbitMQ: "
        "`amqp://user:password@host:5672/vhost`, with TLS `amqps://`; `rabbit://` as oslo.messaging writes it. The "
        "hosts of one cluster are separated by commas, several brokers by spaces. "
        "Default: `spool/` in the home folder.",
        repr=False,
    )
    stream_queues: str = Field(
        default="notifications.info,notifications.error,notifications.sample",
        description="Queues to consume, by commas, of each broker. With METERHOUSE_STREAM_EXCHANGES: the routing keys "
        "(topic and priority) to bind queues of Meterhouse's own to.",
    )
    stream_exchanges: str = Field(
        default="",
        description="Exchanges of the services, by commas, such as `nova,cinder,neutron`: queues of Meterhouse's own "
        "are bound to them, so that another consumer of the services' queues keeps getting each message too. "
        "Empty: METERHOUSE_STREAM_QUEUES are consumed as they are.",
    )
    stream_pool: str = Field(
        default="meterhouse",
        pattern=r"^[A-Za-z0-9_.-]{1,100}$",
        description="What the names of the own queues begin with: `meterhouse.notifications.info`.",
    )
    stream_queue_type: Literal["classic", "quorum", "stream"] = Field(
        default="quorum",
        description="Type of the own queues, which are durable. `stream`: the queues, own or not, are streams, read by "
        "offset; what they hold is not used up.",
    )
    stream_prefetch: int = Field(
        default=20_000,
        ge=4,
        le=65_535,
        description="Most messages of a queue that are taken and not acknowledged. A quarter of them is landed "
        "together.",
    )
    stream_ca_file: Path | None = Field(
        default=None, description="Certificates that brokers are verified by with TLS. Default: the system's."
    )
    stream_cert_file: Path | None = Field(default=None, description="Certificate shown to brokers with TLS, if any.")
    stream_key_file: Path | None = Field(default=None, description="Private key of METERHOUSE_STREAM_CERT_FILE.")
    stream_late_seconds: int = Field(
        default=300,
        ge=1,
        description="Collection is behind when a message waits for longer, in seconds: the check "
        "`collection_keeps_up` fails.",
    )
    config_dir: Path | None = Field(
        default=None,
        description="Folder with your own `meters.d/`, `event_definitions.yaml`, `quality.yaml` and `alarms.yaml`; "
        "what it lacks comes from the shipped files.",
    )
    sample_source: str = Field(
        default="openstack",
        min_length=1,
        max_length=255,
        description="The `source` of samples made from notifications.",
    )
    telemetry_secret: str = Field(
        default="",
        description="Secret that the polling agents sign samples with, their `[publisher] telemetry_secret`. Where it "
        "is set, a polled sample that is not signed with it becomes a dead letter. Empty: no signature is looked at.",
        repr=False,
    )
    store_raw: str = Field(
        default="",
        pattern=r"^((info|error)(,(info|error))?)?$",
        description="Priorities, by commas, whose notifications are kept whole with their events: `info`, `error` or "
        "`info,error`. Empty: none.",
    )
    drop_unmatched_notifications: bool = Field(
        default=False,
        description="Make no event of a notification that no event definition matches. "
        "Otherwise it becomes one with the default traits.",
    )
    nova_versioned: bool = Field(
        default=True,
        description="Read Nova's versioned notifications as their legacy twins. Turn it off where Nova sends both "
        "forms and both are collected: each happening would count twice.",
    )
    icehouse_names: bool = Field(
        default=True,
        description="Read `_context_x` in definitions as `ctxt.x`, as it was spelled until Ocata. "
        "Today's Ceilometer finds nothing by it: turn it off to give exactly what that gives.",
    )
    icehouse_meters: bool = Field(
        default=False,
        description="Make the meters that Ceilometer had from Icehouse to Mitaka and has dropped since, as well: that "
        "an instance, a network, an image or a volume exists, and counts of what happens to it.",
    )
    compute: Literal["local"] = Field(default="local", description="Where DuckDB runs.")
    memory_limit: str = Field(
        default="1500MB",
        pattern=r"^[1-9]\d*(MB|GB|MiB|GiB)$",
        description="Memory that DuckDB may take before it spills to disk.",
    )
    partitions_from: str = Field(
        default="2024-01-01",
        pattern=r"^\d{4}-\d{2}-\d{2}$",
        description="First day that Dagster shows as a partition. Older data is processed all the same.",
    )
    collect_batch: int = Field(default=50_000, ge=1, le=1_000_000, description="Most messages landed in one commit.")
    collect_bytes: int = Field(
        default=32 << 20, ge=1 << 16, description="Bytes of messages at which a batch is landed, be they ever so few."
    )
    collect_wait_seconds: float = Field(
        default=2.0,
        gt=0,
        le=60,
        description="Longest time, in seconds, that a message waits for others before they are landed together.",
    )
    collect_seconds: float = Field(
        default=300.0, gt=0, description="Longest time, in seconds, that a run of the sensor drains the stream."
    )
    collect_quiet_seconds: float = Field(
        default=5.0, ge=0, description="A run of the sensor ends when nothing has come for so many seconds."
    )
    collect_runs: int = Field(
        default=1, ge=1, le=64, description="Collecting runs that the sensor keeps at work side by side."
    )
    redelivery_hours: int = Field(
        default=48, ge=1, le=24 * 366, description="Hours of arrivals over which a message_id is landed once."
    )
    lateness_seconds: int = Field(
        default=600,
        ge=0,
        description="A point of an hour already rolled up counts as late when it arrives more than so many seconds "
        "after its own time.",
    )
    carry_hours: int = Field(
        default=48,
        ge=1,
        le=24 * 366,
        description="Hours to look back for the previous point of a counter, so that its increase is not lost "
        "at a bucket's edge.",
    )
    lease_seconds: int = Field(
        default=60,
        ge=5,
        description="A step whose process went away can be taken over after so many seconds.",
    )
    vacuum_hours: int = Field(
        default=24, ge=0, description="Hours that replaced files of the lake stay, for readers still at work."
    )
    webhook_timeout_seconds: float = Field(
        default=5.0, gt=0, le=60, description="Time allowed to one webhook call, in seconds."
    )
    webhook_attempts: int = Field(
        default=10, ge=1, le=1000, description="Calls made before a webhook is given up and kept as dead."
    )

    @field_validator("warehouse_url")
    @classmethod
    def _warehouse_scheme(cls, url: str) -> str:
        if not url:
            return url
        if not url.startswith(("sqlite:///", "postgresql+psycopg://")):
            raise ValueError("must start with sqlite:/// or postgresql+psycopg://")
        from sqlalchemy.engine import make_url
        from sqlalchemy.exc import ArgumentError

        try:
            parts = make_url(url)
        except (ArgumentError, ValueError):
            raise ValueError("is no URL of the form postgresql+psycopg://user:password@host:port/database") from None
        if url.startswith("sqlite") and (not parts.database or parts.database == ":memory:" or parts.query):
            raise ValueError("must name a file, and nothing else: sqlite:////folder/warehouse.db")
        return url

    @field_validator("telemetry_secret")
    @classmethod
    def _secret_is_text(cls, secret: str) -> str:
        try:
            secret.encode()
        except UnicodeEncodeError:
            raise ValueError("is not UTF-8 text") from None
        return secret

    @field_validator("home")
    @classmethod
    def _home_is_no_file(cls, folder: Path) -> Path:
        if folder.exists() and not folder.is_dir():
            raise ValueError("is a file, not a folder")
        return folder

    @field_validator("s3_endpoint")
    @classmethod
    def _endpoint_scheme(cls, url: str) -> str:
        if url and (not url.startswith(("http://", "https://")) or not urlsplit(url).netloc):
            raise ValueError("must be http://host:port or https://host:port")
        return url

    @field_validator("memory_limit")
    @classmethod
    def _memory_suffices(cls, limit: str) -> str:
        if limit.startswith(tuple("123456789")) and limit.endswith(("MB", "MiB")) and int(limit.rstrip("MiB")) < 256:
            raise ValueError("is too little to work with: give 256MB or more")
        return limit

    @field_validator("lake_url")
    @classmethod
    def _lake_scheme(cls, url: str) -> str:
        if "://" in url and not url.startswith("s3://"):
            raise ValueError("must be a folder or s3://bucket/prefix")
        if url.startswith("s3://") and not urlsplit(url).netloc:
            raise ValueError("names no bucket: write s3://bucket/prefix")
        return url.rstrip("/") if len(url) > 1 else url

    @field_validator("stream_url")
    @classmethod
    def _stream_scheme(cls, url: str) -> str:
        if url and not url.startswith("file:///"):
            from meterhouse.broker_urls import brokers

            brokers(url)
        return url

    @field_validator("stream_queues", "stream_exchanges")
    @classmethod
    def _names(cls, text: str) -> str:
        names = listed(text)
        if text.strip() and not names:
            raise ValueError("names nothing")
        if any(len(name.encode()) > 255 or name.startswith("amq.") for name in names):
            raise ValueError("a name is longer than 255 bytes, or begins with amq., which is RabbitMQ's own")
        if len(set(names)) != len(names):
            raise ValueError("a name is given twice")
        return ",".join(names)

    @field_validator("stream_ca_file", "stream_cert_file", "stream_key_file")
    @classmethod
    def _is_a_file(cls, path: Path | None) -> Path | None:
        if path is not None and not path.is_file():
            raise ValueError("is not a file")
        return path

    @field_validator("config_dir")
    @classmethod
    def _config_dir_exists(cls, folder: Path | None) -> Path | None:
        if folder is not None and not folder.is_dir():
            raise ValueError(f"is not a folder: {folder}")
        return folder

    @field_validator("partitions_from")
    @classmethod
    def _is_a_day(cls, day: str) -> str:
        from datetime import date

        date.fromisoformat(day)
        return day

    @model_validator(mode="after")
    def _s3_needs_keys(self) -> Self:
        if bool(self.s3_access_key) != bool(self.s3_secret_key):
            raise ValueError("METERHOUSE_S3_ACCESS_KEY and METERHOUSE_S3_SECRET_KEY go together: set both or none")
        return self

    @model_validator(mode="after")
    def _stream_is_whole(self) -> Self:
        if bool(self.stream_cert_file) != bool(self.stream_key_file):
            raise ValueError("METERHOUSE_STREAM_CERT_FILE and METERHOUSE_STREAM_KEY_FILE go together: set both or none")
        if not self.is_spool and not self.stream_queues:
            raise ValueError("METERHOUSE_STREAM_QUEUES: names no queue")
        return self

    @model_validator(mode="after")
    def _lake_path_is_plain(self) -> Self:
        odd = sorted(set("[]%") & set(self.lake))
        if odd:
            name = "METERHOUSE_LAKE_URL" if self.lake_url else "METERHOUSE_HOME"
            raise ValueError(f"{name}: the lake's path {self.lake} holds {' '.join(odd)}, which Delta cannot take")
        return self

    @property
    def home_path(self) -> Path:
        """The home folder, absolute."""
        return self.home.expanduser().absolute()

    @property
    def warehouse(self) -> str:
        """The warehouse's URL, the default filled in."""
        return self.warehouse_url or f"sqlite:///{self.home_path / 'warehouse.db'}"

    @property
    def lake(self) -> str:
        """The lake's folder (absolute) or `s3://` URL, the default filled in."""
        url = self.lake_url or str(self.home_path / "lake")
        return url if url.startswith("s3://") else str(Path(url).expanduser().absolute())

    @property
    def is_spool(self) -> bool:
        """Whether notifications come from a folder, and not from brokers."""
        return not self.stream_url or self.stream_url.startswith("file:///")

    @property
    def spool(self) -> Path:
        """The spool folder; the default one where notifications come from brokers."""
        if self.stream_url and self.is_spool:
            return Path(unquote(urlsplit(self.stream_url).path))
        return self.home_path / "spool"


def listed(text: str) -> list[str]:
    """The names in a list by commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def without_passwords(text: str) -> str:
    """The text with the passwords of the URLs in it left out."""
    return re.sub(r"((?://|,)[^:/@,\s]*):[^/@\s]*?@", r"\1:***@", text)


def read_settings(**overrides: Any) -> Settings:
    """Read the settings from the environment.

    Raises:
        SettingsError: a variable cannot be used; the text names each one and says what it takes.
    """
    try:
        return Settings(**overrides)
    except ValidationError as error:
        faults = []
        for fault in error.errors():
            name = "METERHOUSE_" + "_".join(str(part) for part in fault["loc"]).upper() if fault["loc"] else ""
            said = fault["msg"].removeprefix("Value error, ")
            if fault["type"] == "bool_parsing":
                said = "it takes true or false"
            elif fault["type"] == "string_pattern_mismatch":
                field = Settings.model_fields[str(fault["loc"][0])]
                said = f"it is not of the form that it takes. {field.description or ''}".rstrip(".")
            secret = bool(fault["loc"]) and fault["loc"][0] in SECRETS | {"stream_url"}  # of a bad URL none knows what
            given = "***" if secret else without_passwords(repr(fault.get("input")))
            faults.append(f"{name}={given}: {said}" if name else said)
        raise SettingsError("; ".join(faults), hint="Mend or unset the variable") from None


@lru_cache(maxsize=1)
def settings() -> Settings:
    """The process's settings, read once."""
    return read_settings()
