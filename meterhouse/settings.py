"""Settings: every `METERHOUSE_*` variable, read and checked in this one place."""

import os
import re
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field, fields
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, get_type_hints
from urllib.parse import unquote, urlsplit

from msgspec import Meta

from meterhouse.errors import SettingsError
from meterhouse.setting_types import Declared, converted, declared

if TYPE_CHECKING:
    from ipaddress import IPv4Network, IPv6Network

PREFIX: Final = "METERHOUSE_"
SECRETS: Final = frozenset(
    {
        *("s3_secret_key", "telemetry_secret", "keystone_password", "keystone_credential_secret"),
        *("webhook_secret", "webhook_credential_secret", "alarm_heartbeat_url"),
    }
)
"""Settings whose values are never shown."""

FILED: Final = (
    *("warehouse_url", "stream_url", "s3_secret_key", "telemetry_secret"),
    *("keystone_password", "keystone_credential_secret"),
    *("webhook_secret", "webhook_credential_secret", "alarm_heartbeat_url"),
)
"""Settings that can hold a secret, so that a file may have their value: `METERHOUSE_…_FILE` names it."""

SECRET_FILE_BYTES: Final = 64 << 10
"""Maximum size of such a file."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Where the data lives and how the steps behave. Paths may be relative to the working directory."""

    home: Annotated[
        Path,
        Meta(
            description="Folder for everything that the embedded mode keeps: `lake/`, `warehouse.db`, `spool/`, the "
            "demo's `demo/`, and `spill/`, where queries and loads write what does not fit into memory."
        ),
    ] = Path(".meterhouse")
    warehouse_url: Annotated[
        str,
        Meta(
            description="SQLAlchemy URL of the warehouse: `sqlite:///…` or `postgresql+psycopg://…`. "
            "Default: SQLite in the home folder."
        ),
    ] = field(default="", repr=False)
    lake_url: Annotated[
        str,
        Meta(
            description="Folder or `s3://bucket/prefix` of the lake: tables, exports, manifests. "
            "Default: `lake/` in the home folder."
        ),
    ] = ""
    s3_endpoint: Annotated[
        str, Meta(description="URL of the S3 server, such as `https://objects.example.org`. Empty: AWS.")
    ] = ""
    s3_access_key: Annotated[str, Meta(description="Access key of the S3 server.")] = ""
    s3_secret_key: Annotated[str, Meta(description="Secret key of the S3 server.")] = field(default="", repr=False)
    s3_region: Annotated[str, Meta(description="Region of the S3 server.")] = "us-east-1"
    stream_url: Annotated[
        str,
        Meta(
            description="Where notifications come from. A folder of JSON-lines files: `file:///folder`. RabbitMQ: "
            "`amqp://user:password@host:5672/vhost`, with TLS `amqps://`, or `rabbit://` as oslo.messaging writes it. "
            "Separate the hosts of one cluster by commas and several brokers by spaces. "
            "Default: `spool/` in the home folder."
        ),
    ] = field(default="", repr=False)
    stream_queues: Annotated[
        str,
        Meta(
            description="Queues to consume from each broker, separated by commas. With METERHOUSE_STREAM_EXCHANGES: "
            "the routing keys (topic and priority) by which Meterhouse binds its own queues."
        ),
    ] = "notifications.info,notifications.error,notifications.sample"
    stream_exchanges: Annotated[
        str,
        Meta(
            description="Exchanges of the services, separated by commas, such as `nova,cinder,neutron`. Meterhouse "
            "binds its own queues to them, so that another consumer of the services' queues still gets every message. "
            "Empty: METERHOUSE_STREAM_QUEUES are consumed as they are."
        ),
    ] = ""
    stream_pool: Annotated[
        str,
        Meta(
            pattern=r"^[A-Za-z0-9_.-]{1,100}\Z",
            description="First part of the names of Meterhouse's own queues: `meterhouse.notifications.info`.",
        ),
    ] = "meterhouse"
    stream_queue_type: Annotated[
        Literal["classic", "quorum", "stream"],
        Meta(
            description="Type of Meterhouse's own queues, which are durable. `stream`: all queues are streams, which "
            "are read by offset and keep their messages."
        ),
    ] = "quorum"
    stream_prefetch: Annotated[
        int,
        Meta(
            ge=4,
            le=65_535,
            description="Maximum number of unacknowledged messages of a queue. A quarter of them is landed together.",
        ),
    ] = 20_000
    stream_ca_file: Annotated[
        Path | None,
        Meta(description="Certificates to verify brokers with, for TLS. Default: the system's certificates."),
    ] = None
    stream_cert_file: Annotated[
        Path | None, Meta(description="Client certificate to present to brokers, for TLS, if they ask for one.")
    ] = None
    stream_key_file: Annotated[Path | None, Meta(description="Private key of METERHOUSE_STREAM_CERT_FILE.")] = None
    stream_late_seconds: Annotated[
        int,
        Meta(
            ge=1,
            le=366 * 86_400,
            description="Maximum time in seconds that a message may wait. If one waits longer, the check "
            "`collection_keeps_up` fails.",
        ),
    ] = 300
    config_dir: Annotated[
        Path | None,
        Meta(
            description="Folder with your own `meters.d/`, `event_definitions.yaml`, `quality.yaml`, "
            "`archive_policies.yaml`, `alarms.yaml` and `names.csv`. "
            "The shipped files replace those that it lacks."
        ),
    ] = None
    sample_source: Annotated[
        str, Meta(min_length=1, max_length=255, description="The `source` of samples made from notifications.")
    ] = "openstack"
    bill_issuer: Annotated[
        str,
        Meta(min_length=1, max_length=255, description="Who issues bills: the name of the cloud or of its operator."),
    ] = "OpenStack"
    bill_region: Annotated[
        str, Meta(max_length=255, description="The cloud's region, for bills as FOCUS; empty: it has none.")
    ] = ""
    telemetry_secret: Annotated[
        str,
        Meta(
            description="Secret with which the polling agents sign samples: their `[publisher] telemetry_secret`. If "
            "set, a polled sample without a valid signature becomes a dead letter. Empty: signatures are not checked."
        ),
    ] = field(default="", repr=False)
    keystone_url: Annotated[
        str,
        Meta(
            description="URL of Keystone's API version 3, such as `https://keystone.example.org:5000/v3`, from which "
            "the names of projects, users and domains are read, and which validates the tokens of the HTTP API's "
            "users. Empty: names come from messages and files alone."
        ),
    ] = field(default="", repr=False)
    keystone_username: Annotated[
        str,
        Meta(
            description="User that reads names and validates tokens. It needs the role `reader` on the system, or "
            "`admin`."
        ),
    ] = ""
    keystone_user_domain: Annotated[str, Meta(description="Name of that user's domain.")] = "Default"
    keystone_password: Annotated[str, Meta(description="Password of that user.")] = field(default="", repr=False)
    keystone_project: Annotated[
        str,
        Meta(description="Project in which the user logs in. Empty: it logs in to the system as a whole."),
    ] = ""
    keystone_project_domain: Annotated[str, Meta(description="Name of that project's domain.")] = "Default"
    keystone_credential_id: Annotated[
        str, Meta(description="Application credential to log in with, instead of user and password.")
    ] = ""
    keystone_credential_secret: Annotated[str, Meta(description="Secret of that credential.")] = field(
        default="", repr=False
    )
    keystone_ca_file: Annotated[
        Path | None,
        Meta(description="Certificates to verify Keystone with. Default: those that come with Python's HTTP client."),
    ] = None
    store_raw: Annotated[
        str,
        Meta(
            pattern=r"^((info|error)(,(info|error))?)?\Z",
            description="Priorities of the notifications to keep whole with their events: `info`, `error` or "
            "`info,error`. Empty: none.",
        ),
    ] = ""
    drop_unmatched_notifications: Annotated[
        bool,
        Meta(
            description="Make no event from a notification that no event definition matches. "
            "Otherwise it becomes an event with the default traits."
        ),
    ] = False
    nova_versioned: Annotated[
        bool,
        Meta(
            description="Read Nova's versioned notifications like the legacy ones. Turn this off if Nova sends both "
            "forms and you collect both: otherwise everything counts twice."
        ),
    ] = True
    icehouse_names: Annotated[
        bool,
        Meta(
            description="Read `_context_x` in definitions, the spelling until Ocata, as `ctxt.x`. Today's Ceilometer "
            "finds nothing by the old spelling: turn this off to get exactly what it makes."
        ),
    ] = True
    icehouse_meters: Annotated[
        bool,
        Meta(
            description="Also make the meters that Ceilometer had from Icehouse to Mitaka and has dropped since: that "
            "an instance, a network, an image or a volume exists, and counts of what happens to it."
        ),
    ] = False
    compute: Annotated[
        str,
        Meta(
            description="Where points are judged and rolled up. `local`: in the process of the step. "
            "`dask://host:port`: on the workers of the Dask cluster with this scheduler, if there are many points."
        ),
    ] = "local"
    memory_limit: Annotated[
        str,
        Meta(pattern=r"^[1-9]\d*(MB|GB|MiB|GiB)\Z", description="Memory that DuckDB may use before it spills to disk."),
    ] = "1500MB"
    partitions_from: Annotated[
        str,
        Meta(
            pattern=r"^(\d{4}-\d{2}-\d{2})?\Z",
            description="First day that Dagster shows as a partition; empty: the first day of the last ten years that "
            "has points. Older data is processed all the same.",
        ),
    ] = ""
    collect_batch: Annotated[
        int, Meta(ge=1, le=1_000_000, description="Maximum number of messages landed in one commit.")
    ] = 50_000
    collect_bytes: Annotated[
        int,
        Meta(
            ge=1 << 16,
            le=1 << 33,
            description="Number of bytes at which a batch is landed, however few messages it has.",
        ),
    ] = 32 << 20
    message_bytes: Annotated[
        int,
        Meta(
            ge=1 << 16,
            le=1 << 30,
            description="Maximum number of bytes of a message, and of a line or row of a file. A longer one becomes a "
            "dead letter with its first 64 KiB and its length.",
        ),
    ] = 32 << 20
    collect_wait_seconds: Annotated[
        float,
        Meta(gt=0, le=60, description="Maximum time in seconds that a message waits for others to be landed with."),
    ] = 2.0
    collect_seconds: Annotated[
        float,
        Meta(
            gt=0,
            le=366 * 86_400,
            description="Maximum time in seconds for which one run of the sensor drains the stream.",
        ),
    ] = 300.0
    collect_quiet_seconds: Annotated[
        float, Meta(ge=0, le=86_400, description="A run of the sensor ends after this many seconds without a message.")
    ] = 5.0
    collect_runs: Annotated[
        int, Meta(ge=1, le=64, description="Number of collecting runs that the sensor keeps running side by side.")
    ] = 1
    redelivery_hours: Annotated[
        int,
        Meta(
            ge=1,
            le=24 * 366,
            description="Number of hours in which a message_id is landed only once, however often it arrives.",
        ),
    ] = 48
    lateness_seconds: Annotated[
        int,
        Meta(
            ge=0,
            le=366 * 86_400,
            description="A point of an hour that was already rolled up counts as late if it arrives more than this "
            "many seconds after its own time.",
        ),
    ] = 600
    carry_hours: Annotated[
        int,
        Meta(
            ge=1,
            le=24 * 366,
            description="Number of hours to look back for the previous point of a counter, so that its increase is "
            "not lost at the edge of a bucket.",
        ),
    ] = 48
    lease_seconds: Annotated[
        int,
        Meta(
            ge=5, le=86_400, description="Seconds after which another process can take over a step whose process died."
        ),
    ] = 60
    daemon_lease_seconds: Annotated[
        int,
        Meta(
            ge=2,
            le=3_600,
            description="Seconds after which another machine can take over from a `meterhouse daemon` that died.",
        ),
    ] = 5
    vacuum_hours: Annotated[
        int,
        Meta(
            ge=0,
            le=24 * 3_660,
            description="Number of hours for which replaced files of the lake stay, for running readers.",
        ),
    ] = 24
    log_hours: Annotated[
        int,
        Meta(
            ge=1,
            le=24 * 3_660,
            description="Number of hours for which the commits of the lake's tables stay in their logs. A step that is "
            "further behind looks at the files instead.",
        ),
    ] = 72
    keep_runs_days: Annotated[
        int,
        Meta(
            ge=1,
            le=36_600,
            description="Number of days for which the figures of each step's runs are kept, and how late points came.",
        ),
    ] = 90
    keep_alarm_history_days: Annotated[
        int,
        Meta(ge=1, le=36_600, description="Number of days for which alarm history and past webhooks are kept."),
    ] = 366
    keep_dead_letters_days: Annotated[
        int,
        Meta(
            ge=1,
            le=36_600,
            description="Number of days for which dead letters are kept, and `.corrupt` files of the spool.",
        ),
    ] = 180
    keep_exports_days: Annotated[
        int,
        Meta(
            ge=1,
            le=36_600,
            description="Number of days for which exported reports are kept, by the day that they are of.",
        ),
    ] = 1100
    keep_dagster_days: Annotated[
        int,
        Meta(
            ge=1,
            le=36_600,
            description="Number of days for which Dagster keeps the runs that ended, with events and logs.",
        ),
    ] = 30
    alarm_quorum: Annotated[
        Literal["kilo", "icehouse"],
        Meta(
            description="How many periods of a window must have points: `kilo` for all evaluation periods, as "
            "Ceilometer from that release on and Aodh; `icehouse` for one, as Ceilometer 2014.1."
        ),
    ] = "kilo"
    alarm_project_quota: Annotated[
        int, Meta(ge=-1, le=10_000_000, description="Maximum number of alarms of a project from outside; -1: any.")
    ] = -1
    alarm_user_quota: Annotated[
        int, Meta(ge=-1, le=10_000_000, description="Maximum number of alarms of a user from outside; -1: any.")
    ] = -1
    webhook_timeout_seconds: Annotated[
        float, Meta(gt=0, le=45, description="Time limit of one whole webhook call in seconds.")
    ] = 5.0
    webhook_attempts: Annotated[
        int, Meta(ge=1, le=1000, description="Maximum number of calls before a webhook is kept as dead.")
    ] = 100
    webhook_give_up_seconds: Annotated[
        int,
        Meta(
            ge=1,
            le=31_536_000,
            description="For how many seconds a webhook is tried again before it is kept as dead. It is called at "
            "least once.",
        ),
    ] = 21_600
    webhook_secret: Annotated[
        str,
        Meta(
            description="Secret by which webhooks are signed, so that a receiver can tell them from others: text, or "
            "`whsec_` and Base64. Empty: they are not signed."
        ),
    ] = field(default="", repr=False)
    webhook_allow: Annotated[
        str,
        Meta(
            description="Networks that webhooks of alarms from the outside may reach although they are loopback, "
            "link-local, private or reserved ones, such as `10.1.0.0/16,fd00:1::/64`."
        ),
    ] = ""
    webhook_tls_verify: Annotated[
        bool, Meta(description="Whether the certificates of `https://` receivers are verified.")
    ] = True
    webhook_ca_file: Annotated[
        Path | None,
        Meta(
            description="Certificates to verify receivers with. Default: those of `SSL_CERT_FILE`, or those that come "
            "with Python's HTTP client."
        ),
    ] = None
    webhook_cert_file: Annotated[
        Path | None,
        Meta(description="Client certificate that is shown to receivers of alarms of `alarms.yaml` (PEM)."),
    ] = None
    webhook_key_file: Annotated[Path | None, Meta(description="Key of that certificate (PEM).")] = None
    webhook_credential_id: Annotated[
        str,
        Meta(
            description="Application credential of Keystone whose token `trust+http(s)://` URLs of `alarms.yaml` "
            "are called with, if they name no trust."
        ),
    ] = ""
    webhook_credential_secret: Annotated[str, Meta(description="Secret of that credential.")] = field(
        default="", repr=False
    )
    webhook_digest: Annotated[
        int,
        Meta(
            ge=0,
            le=5_000,
            description="How many notifications must wait for one URL so that one call tells them together. 0: each "
            "has its own call.",
        ),
    ] = 0
    api_host: Annotated[str, Meta(min_length=1, description="Address that the HTTP API listens on.")] = "127.0.0.1"
    api_port: Annotated[int, Meta(ge=0, le=65_535, description="Port that the HTTP API listens on; 0: any free.")] = (
        8777
    )
    poll_lease_seconds: Annotated[
        float,
        Meta(
            ge=1,
            le=3_600,
            description="Seconds after which another member can take over what a member that died was polling.",
        ),
    ] = 10
    poll_namespaces: Annotated[
        str,
        Meta(
            pattern=r"^[a-z]+(,[a-z]+)*\Z",
            description="Which pollsters this host polls, separated by commas. `central`: those of services, which any "
            "member can poll. `compute`, `ipmi`: those of the host itself.",
        ),
    ] = "central"
    poll_concurrency: Annotated[
        int, Meta(ge=1, le=1_000, description="Maximum number of tasks that a member polls at the same time.")
    ] = 32
    poll_runs: Annotated[
        int,
        Meta(
            ge=0,
            le=64,
            description="Maximum number of Dagster's runs that poll at the same time. They poll what no member polls. "
            "0: none, only members poll.",
        ),
    ] = 1
    poll_to: Annotated[
        Literal["lake", "stream"],
        Meta(
            description="Where polled samples go. `lake`: they are landed by the member. `stream`: they are published "
            "to METERHOUSE_STREAM_URL, from which they are collected."
        ),
    ] = "lake"
    poll_commands: Annotated[
        bool,
        Meta(
            description="Whether pollsters may execute commands of the host (`host_command`) and import Python modules "
            "for authentication (`module`)."
        ),
    ] = False
    poll_record_days: Annotated[
        int, Meta(ge=1, le=3_660, description="Number of days for which the record of polled and missed slots is kept.")
    ] = 7
    api_auth: Annotated[
        Literal["none", "keystone"],
        Meta(
            description="Who may use the HTTP API. `none`: everybody who reaches it; the headers X-User-Id, "
            "X-Project-Id and X-Roles say who asks, and without them it is an administrator. `keystone`: whoever "
            "has a token of Keystone."
        ),
    ] = "none"
    api_seconds: Annotated[
        float,
        Meta(gt=0, le=3_600, description="How many seconds the HTTP API may take for an answer."),
    ] = 60.0
    api_token_seconds: Annotated[
        int,
        Meta(
            ge=0,
            le=3_600,
            description="For how many seconds a valid token is not validated again. A token that is revoked is refused "
            "within this time. 0: each request asks Keystone.",
        ),
    ] = 30
    api_insecure: Annotated[
        bool,
        Meta(description="Serve the HTTP API without authentication on addresses that other machines reach too."),
    ] = False
    api_max_limit: Annotated[
        int,
        Meta(ge=1, le=100_000, description="Maximum `limit` of a request to the HTTP API: more is refused."),
    ] = 10_000
    api_cert_file: Annotated[
        Path | None,
        Meta(
            description="Certificate, with those between it and its authority, by which the HTTP API speaks TLS (PEM)."
        ),
    ] = None
    api_key_file: Annotated[Path | None, Meta(description="Private key of that certificate (PEM).")] = None
    api_proxies: Annotated[
        str,
        Meta(
            description="Networks of the proxies before the HTTP API, such as `127.0.0.1,10.1.0.0/24`. Their "
            "X-Forwarded-Proto, -Host, -Prefix and -For are believed, nobody else's. Empty: nobody's."
        ),
    ] = ""
    api_prefix: Annotated[
        str,
        Meta(
            description="Path below which a proxy serves the HTTP API, such as `/metering`, whether the proxy removes "
            "it or not. Links have it. Empty: none."
        ),
    ] = ""
    api_requests_per_minute: Annotated[
        int,
        Meta(
            ge=0,
            le=60_000_000,
            description="Maximum number of requests of a project in a minute, in each process of the HTTP API. 0: any.",
        ),
    ] = 0
    api_body_bytes: Annotated[
        int,
        Meta(ge=1 << 10, le=1 << 30, description="Maximum number of bytes of a request's body."),
    ] = 8 << 20
    api_access_log: Annotated[
        bool,
        Meta(description="Write a line of JSON to standard output for each request that the HTTP API has answered."),
    ] = False
    api_metrics_from: Annotated[
        str,
        Meta(description="Networks from which `/metrics` of the HTTP API may be read. Empty: none."),
    ] = "127.0.0.0/8,::1"
    alarm_heartbeat_url: Annotated[
        str,
        Meta(
            description="URL that is called after each evaluation of the alarms. If the calls stop, the evaluation has "
            "stopped. Empty: none."
        ),
    ] = field(default="", repr=False)

    @property
    def home_path(self) -> Path:
        """The home folder, absolute."""
        return self.home.expanduser().absolute()

    @property
    def warehouse(self) -> str:
        """The warehouse's URL, with the default filled in."""
        return self.warehouse_url or f"sqlite:///{self.home_path / 'warehouse.db'}"

    @property
    def lake(self) -> str:
        """The lake's folder (absolute) or `s3://` URL, with the default filled in."""
        url = self.lake_url or str(self.home_path / "lake")
        return url if url.startswith("s3://") else str(Path(url).expanduser().absolute())

    @property
    def is_spool(self) -> bool:
        """Whether notifications come from a folder rather than from brokers."""
        return not self.stream_url or self.stream_url.startswith("file:///")

    @property
    def spool(self) -> Path:
        """The spool folder; the default one if notifications come from brokers."""
        if self.stream_url and self.is_spool:
            return Path(unquote(urlsplit(self.stream_url).path))
        return self.home_path / "spool"


# -- reading --------------------------------------------------------------------------------------------------


def read_settings(**overrides: Any) -> Settings:
    """Read the settings from the environment; keywords override it.

    Raises:
        SettingsError: a variable cannot be used; the text names each one and says what it takes.
    """
    given, faults = _from_environment(os.environ, without=overrides)
    given |= overrides
    values: dict[str, Any] = {}
    for name, annotation in _annotations().items():
        if name not in given:
            continue
        try:
            value = converted(given[name], annotation)
            values[name] = _CHECKS[name](value) if name in _CHECKS and value is not None else value
        except ValueError as error:
            hidden = name in SECRETS or name == "stream_url"  # which part of a bad URL is the password nobody knows
            shown = "***" if hidden else without_password(name, repr(_shown(given[name])))
            faults.append(f"{variable(name)}={shown}: {error}")
    if not faults:
        made = Settings(**values)
        faults = _conflicts(made)
    if faults:
        raise SettingsError("; ".join(faults), hint="Fix or unset the variable")
    return made


@lru_cache(maxsize=1)
def settings() -> Settings:
    """The process's settings, read once."""
    return read_settings()


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return PREFIX + name.upper()


def without_password(name: str, value: str) -> str:
    """A setting's value as it may be shown, if it is not one of SECRETS."""
    if name == "warehouse_url":  # one URL, whose password may have any character but @
        value = re.sub(r"(://[^:/@\s]*):.*@", r"\1:***@", value, flags=re.DOTALL)
    return without_passwords(value)


def file_variable(name: str) -> str:
    """The environment variable that names the file with the value of a setting of FILED."""
    return f"{variable(name)}_FILE"


def secret_files() -> list[Path]:
    """The files that values are read from."""
    return [Path(os.environ[name]) for name in map(file_variable, FILED) if os.environ.get(name)]


@cache
def declarations() -> dict[str, Declared]:
    """What each setting takes and means, by its name."""
    return {name: declared(annotation) for name, annotation in _annotations().items()}


def as_environment(given: Settings) -> dict[str, str]:
    """The variables with which another process reads the same settings, whatever else its environment holds."""

    def text(value: Any) -> str:
        return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)

    values = {variable(each.name): text(getattr(given, each.name)) for each in fields(given)}
    return values | dict.fromkeys(map(file_variable, FILED), "")


def listed(text: str) -> list[str]:
    """The names in a list separated by commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def networks(text: str) -> "tuple[IPv4Network | IPv6Network, ...]":
    """The networks in a list separated by commas, such as `10.1.0.0/16,fd00:1::/64,192.0.2.7`.

    Raises:
        ValueError: one of them is not a network; the text says which.
    """
    from ipaddress import ip_network

    found = []
    for each in listed(text):
        try:
            found.append(ip_network(each))
        except ValueError:
            raise ValueError(f"'{each}' is not a network such as 10.1.0.0/16, fd00:1::/64 or 192.0.2.7") from None
    return tuple(found)


def without_passwords(text: str) -> str:
    """The text without the passwords of the URLs in it, whether before the host or as a parameter."""
    text = re.sub(r"((?://|,)[^:/@,\s]*):[^/@\s]*?@", r"\1:***@", text)
    return re.sub(r"([?&]\w*(?:password|passwd|secret|token)\w*=)[^&\s'\"]*", r"\1***", text, flags=re.IGNORECASE)


@cache
def _annotations() -> dict[str, Any]:
    hints = get_type_hints(Settings, include_extras=True)
    return {each.name: hints[each.name] for each in fields(Settings)}


def _from_environment(environment: Mapping[str, str], without: Container[str]) -> tuple[dict[str, Any], list[str]]:
    """The settings that are set, by name, and what is wrong with files; an empty variable is not set."""
    upper = {name.upper(): value for name, value in environment.items() if value}
    given: dict[str, Any] = {name: upper[variable(name)] for name in _annotations() if variable(name) in upper}
    faults = []
    for name in FILED:
        path = upper.get(file_variable(name))
        if path is None or name in without:
            continue
        try:
            if name in given:
                raise ValueError(f"{variable(name)} is set too. Set only one of them")
            given[name] = _secret(Path(path))
        except (OSError, ValueError) as error:
            reason = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
            faults.append(f"{file_variable(name)}={path}: {reason}")
    return given, faults


def _secret(path: Path) -> str:
    """The content of a file, without the line break at its end.

    Raises:
        OSError, ValueError: it cannot be used; the text has nothing of the content.
    """
    if not path.is_file():
        raise ValueError("is not a file")
    with path.open("rb") as handle:
        content = handle.read(SECRET_FILE_BYTES + 1)
    if len(content) > SECRET_FILE_BYTES:
        raise ValueError(f"has more than {SECRET_FILE_BYTES:,} bytes")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8 text") from None
    text = text.removesuffix("\n").removesuffix("\r")
    if not text:
        raise ValueError("is empty")
    if "\n" in text or "\0" in text:
        raise ValueError("has more than one line")
    return text


def _shown(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


# -- checks ---------------------------------------------------------------------------------------------------
# Each takes a value of the declared type and returns it, or a cleaner form; a ValueError says what is wrong.


def _warehouse_url(url: str) -> str:
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


def _text(secret: str) -> str:
    try:
        secret.encode()
    except UnicodeEncodeError:
        raise ValueError("is not UTF-8 text") from None
    return secret


def _not_a_file(folder: Path) -> Path:
    if folder.exists() and not folder.is_dir():
        raise ValueError("is a file, not a folder")
    return folder


def _http_url(url: str) -> str:
    if not url.startswith(("http://", "https://")) or not urlsplit(url).netloc:
        raise ValueError("must be http://host:port or https://host:port")
    return url


def _keystone_url(url: str) -> str:
    parts = urlsplit(_http_url(url))
    if parts.query or parts.fragment or "@" in parts.netloc:
        raise ValueError("must be http://host:port/v3 or https://host:port/v3, without user and password")
    path = parts.path.rstrip("/")
    return f"{parts.scheme}://{parts.netloc}{path if path.endswith('/v3') else f'{path}/v3'}"


def _signing_secret(secret: str) -> str:
    if secret.startswith("whsec_"):
        import base64

        try:
            base64.b64decode(secret.removeprefix("whsec_"), validate=True)
        except ValueError:
            raise ValueError("has no Base64 after whsec_") from None
    if secret and len(secret) < 16:
        raise ValueError("is too short: give 16 characters or more")
    return _text(secret)


def _networks(text: str) -> str:
    networks(text)
    return text


def _prefix(path: str) -> str:
    path = path.rstrip("/")
    if not re.fullmatch(r"(/[A-Za-z0-9_.~-]+)+", path):
        raise ValueError("must be a path such as /metering")
    return path


def _compute(where: str) -> str:
    if where == "local":
        return where
    parts = urlsplit(where)
    try:
        known = parts.scheme == "dask" and parts.hostname and parts.port
    except ValueError:  # the port is not a number
        known = False
    if not known or where != f"dask://{parts.netloc}" or parts.username is not None:
        raise ValueError("must be local or dask://host:port")
    return where


def _enough_memory(limit: str) -> str:
    if limit.endswith(("MB", "MiB")) and int(limit.rstrip("MiB")) < 256:
        raise ValueError("is too little to work with: give 256MB or more")
    return limit


def _lake_url(url: str) -> str:
    if "://" in url and not url.startswith("s3://"):
        raise ValueError("must be a folder or s3://bucket/prefix")
    if url.startswith("s3://") and not urlsplit(url).netloc:
        raise ValueError("names no bucket: write s3://bucket/prefix")
    return url.rstrip("/") if len(url) > 1 else url


def _stream_url(url: str) -> str:
    if not url.startswith("file:///"):
        from meterhouse.broker_urls import brokers

        brokers(url)
    return url


def _names(text: str) -> str:
    names = listed(text)
    if text.strip() and not names:
        raise ValueError("names nothing")
    if any(len(name.encode()) > 255 or name.startswith("amq.") for name in names):
        raise ValueError("a name is longer than 255 bytes, or begins with amq., which RabbitMQ reserves")
    if len(set(names)) != len(names):
        raise ValueError("a name is given twice")
    return ",".join(names)


def _a_file(path: Path) -> Path:
    if not path.is_file():
        raise ValueError("is not a file")
    return path


def _a_folder(folder: Path) -> Path:
    if not folder.is_dir():
        raise ValueError(f"is not a folder: {folder}")
    return folder


def _a_day(day: str) -> str:
    from datetime import date

    date.fromisoformat(day)
    return day


def _if_set(check: Callable[[str], str]) -> Callable[[str], str]:
    return lambda value: check(value) if value else value


_CHECKS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "home": _not_a_file,
    "warehouse_url": _if_set(_warehouse_url),
    "lake_url": _lake_url,
    "s3_endpoint": _if_set(_http_url),
    "stream_url": _if_set(_stream_url),
    "stream_queues": _names,
    "stream_exchanges": _names,
    "stream_ca_file": _a_file,
    "stream_cert_file": _a_file,
    "stream_key_file": _a_file,
    "config_dir": _a_folder,
    "telemetry_secret": _text,
    "keystone_url": _if_set(_keystone_url),
    "keystone_password": _text,
    "keystone_credential_secret": _text,
    "keystone_ca_file": _a_file,
    "webhook_secret": _signing_secret,
    "webhook_allow": _networks,
    "webhook_ca_file": _a_file,
    "webhook_cert_file": _a_file,
    "webhook_key_file": _a_file,
    "webhook_credential_secret": _text,
    "alarm_heartbeat_url": _if_set(_http_url),
    "api_cert_file": _a_file,
    "api_key_file": _a_file,
    "api_proxies": _networks,
    "api_prefix": _if_set(_prefix),
    "api_metrics_from": _networks,
    "compute": _compute,
    "memory_limit": _enough_memory,
    "partitions_from": _if_set(_a_day),
}


def _conflicts(given: Settings) -> list[str]:
    """What is wrong with settings that are right one by one."""
    faults = []
    for one, other in (
        ("s3_access_key", "s3_secret_key"),
        ("stream_cert_file", "stream_key_file"),
        ("keystone_username", "keystone_password"),
        ("keystone_credential_id", "keystone_credential_secret"),
        ("webhook_cert_file", "webhook_key_file"),
        ("webhook_credential_id", "webhook_credential_secret"),
        ("api_cert_file", "api_key_file"),
    ):
        if bool(getattr(given, one)) != bool(getattr(given, other)):
            faults.append(f"{variable(one)} and {variable(other)} go together: set both or none")
    by_password, by_credential = given.keystone_username, given.keystone_credential_id
    if by_password and by_credential:
        user, credential = variable("keystone_username"), variable("keystone_credential_id")
        faults.append(f"{user} and {credential} are two ways to log in: set one of them")
    elif bool(given.keystone_url) != bool(by_password or by_credential):
        account = f"{variable('keystone_username')} or {variable('keystone_credential_id')}"
        faults.append(f"{variable('keystone_url')} goes together with {account}")
    if given.api_auth == "keystone" and not given.keystone_url:
        faults.append(f"{variable('api_auth')}=keystone needs {variable('keystone_url')}")
    if given.webhook_credential_id and not given.keystone_url:
        faults.append(f"{variable('webhook_credential_id')} needs {variable('keystone_url')}")
    if not given.is_spool and not given.stream_queues:
        faults.append(f"{variable('stream_queues')}: names no queue")
    if odd := sorted(set("[]%") & set(given.lake)):
        name = variable("lake_url" if given.lake_url else "home")
        faults.append(f"{name}: the lake's path {given.lake} has {' '.join(odd)}, which Delta does not support")
    return faults
