"""The warehouse's tables, as SQLAlchemy Core metadata. All times are UTC."""

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Dialect,
    Float,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    false,
    text,
)
from sqlalchemy.schema import SchemaItem
from sqlalchemy.types import TypeEngine

from meterhouse.times import EPOCH
from meterhouse.verification import VERIFY


class UtcTime(TypeDecorator[datetime]):
    """An aware UTC datetime: `timestamptz` in PostgreSQL, ISO text in SQLite."""

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(DateTime(timezone=dialect.name == "postgresql"))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        value = value.astimezone(UTC)
        return value if dialect.name == "postgresql" else value.replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Micros(UtcTime):
    """An aware UTC datetime: `timestamptz` in PostgreSQL, microseconds since 1970-01-01 in SQLite.

    Text takes SQLite twice as long to write. Views show it as `UtcTime` has it.
    """

    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(BigInteger() if dialect.name == "sqlite" else DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        if value is None or dialect.name != "sqlite":
            return value
        return (value - EPOCH) // timedelta(microseconds=1)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        if value is None or dialect.name != "sqlite":
            return super().process_result_value(value, dialect)
        return EPOCH + timedelta(microseconds=value)


metadata = MetaData()

_OF_VERIFY = f"source = '{VERIFY}'"

series = Table(
    "series",
    metadata,
    Column("series_id", BigInteger, primary_key=True, autoincrement=False),
    Column("source", Text, nullable=False),
    Column("meter", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("unit", Text),
    Column("resource_id", Text),
    Column("project_id", Text),
    Column("user_id", Text),
    Column("first_seen", UtcTime),
    Column("last_seen", UtcTime),
    Column("first_point_at", UtcTime, nullable=False),
    Column("last_point_at", UtcTime, nullable=False),
    Column("cadence_s", Float(53)),
    Index("series_by_meter", "meter", "unit", "type"),
    Index("series_by_meter_and_resource", "meter", "resource_id"),
    Index("series_by_resource", "resource_id"),
    Index("series_by_project", "project_id", "resource_id"),
    Index("series_of_verify", "meter", sqlite_where=text(_OF_VERIFY), postgresql_where=text(_OF_VERIFY)),
)

resources = Table(
    "resources",
    metadata,
    Column("source", Text, primary_key=True),
    Column("resource_id", Text, primary_key=True),
    Column("project_id", Text),
    Column("user_id", Text),
    Column("first_sample_at", UtcTime),
    Column("last_sample_at", UtcTime),
    Column("metadata_id", BigInteger),
    Index("resources_by_id", "resource_id", "source"),
    Index("resources_by_project", "project_id", "resource_id", "source"),
)

resource_metadata = Table(
    "resource_metadata",
    metadata,
    Column("metadata_id", BigInteger, primary_key=True, autoincrement=False),
    Column("metadata", Text, nullable=False),
)

metadata_changes = Table(
    "metadata_changes",
    metadata,
    Column("series_id", BigInteger, primary_key=True, autoincrement=False),
    Column("valid_from", UtcTime, primary_key=True),
    Column("metadata_id", BigInteger, nullable=False),
    Index("metadata_changes_by_time", "valid_from"),
    Index("metadata_changes_by_metadata", "metadata_id"),
    comment="When the resource metadata of a series changed, by its good points; resource_history is made of it.",
)

derived_meters = Table(
    "derived_meters",
    metadata,
    Column("meter", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("made_of", Text, nullable=False),
    Column("computed_at", UtcTime, nullable=False),
    comment="What each derived meter is made of, by the definition that last computed points of it.",
)

received_meters = Table(
    "received_meters",
    metadata,
    Column("day", Date, primary_key=True),
    Column("meter", Text, primary_key=True),
    Column("resource_id", Text, primary_key=True),
    comment="Days on which samples of a derived meter were received for a resource: nothing is derived there.",
)

followed = Table(
    "followed",
    metadata,
    Column("follower", Text, primary_key=True),
    Column("version", BigInteger, nullable=False),
    Column("mark", BigInteger),
    Column("committed_at", UtcTime),
    comment="Up to which version of a lake table the warehouse has taken it in.",
)

definition_paths = Table(
    "definition_paths",
    metadata,
    Column("event_type", Text, primary_key=True),
    Column("reader", Text, primary_key=True),
    Column("path", Text, primary_key=True),
    Column("messages", BigInteger, nullable=False),
    Column("found", BigInteger, nullable=False),
    Column("missed", BigInteger, nullable=False),
    Column("last_seen_at", UtcTime, nullable=False),
    Column("last_found_at", UtcTime),
    comment="In how many messages of a type a path of the definitions found a value, and in how many since none.",
)

dirty_hours = Table(
    "dirty_hours",
    metadata,
    Column("hour", UtcTime, primary_key=True),
    Column("marks", BigInteger, nullable=False),
    Column("judged_marks", BigInteger, nullable=False, server_default="0"),
    Column("rolled_marks", BigInteger, nullable=False, server_default="0"),
    Column("marked_at", UtcTime, nullable=False),
    Column("judged_at", UtcTime),
    Column("rolled_at", UtcTime),
    Column("rolled_version", BigInteger),
    Column("late", BigInteger, nullable=False, server_default="0"),
    Column("why", Text),
    Column("policies", Text),
    Column("rules", Text),
    Column("good_points", BigInteger),
    Column("excluded_points", BigInteger),
    Index("dirty_hours_by_policies", "policies", "hour"),
    Index("dirty_hours_by_rules", "rules", "hour"),
    comment="Every event hour that has points; dirty while it has more marks than were judged or rolled up.",
)

meanings = Table(
    "meanings",
    metadata,
    Column("fingerprint", Text, primary_key=True),
    Column("meaning", Text, nullable=False),
    Column("files", Text),
    Column("since", UtcTime),
    comment="What definitions, quality rules and archive policies meant, by fingerprint.",
)

conversions = Table(
    "conversions",
    metadata,
    Column("table_name", Text, primary_key=True),
    Column("fingerprint", Text, primary_key=True),
    Column("arrival_hour", Text, primary_key=True),
    Column("version", BigInteger, nullable=False),
    comment="By which definitions the rows of an arrival hour of samples and events were made.",
)

backfills = Table(
    "backfills",
    metadata,
    Column("asset", Text, primary_key=True),
    Column("start_at", UtcTime, primary_key=True),
    Column("end_at", UtcTime, nullable=False),
    Column("meaning", Text, nullable=False),
    Column("reached", UtcTime),
    Column("worked_at", UtcTime, nullable=False),
    comment="Backfills that have not ended: the same command continues them.",
)

lateness = Table(
    "lateness",
    metadata,
    Column("hour", UtcTime, primary_key=True),
    Column("meter", Text, primary_key=True),
    Column("octave", Integer, primary_key=True),
    Column("points", BigInteger, nullable=False),
    Column("late", BigInteger, nullable=False),
    Column("seconds", Float(53), nullable=False),
    Column("max_seconds", Float(53), nullable=False),
    Column("counted_at", UtcTime, nullable=False),
    comment="How long after their own time points came, by event hour and meter: those of an octave came after at most "
    "2 to the power of `octave` seconds, and after more than half of that.",
)

quality_daily = Table(
    "quality_daily",
    metadata,
    Column("day", Date, primary_key=True),
    Column("hour", UtcTime, primary_key=True),
    Column("meter", Text, primary_key=True),
    Column("rule", Text, primary_key=True),
    Column("severity", Text, nullable=False),
    Column("flagged", BigInteger, nullable=False),
)


def _rollup_rows(name: str, *more: SchemaItem) -> Table:
    return Table(
        name,
        metadata,
        Column("bucket", UtcTime, primary_key=True),
        Column("series_id", BigInteger, primary_key=True, autoincrement=False),
        *_aggregates(Micros),
        *more,
        sqlite_with_rowid=False,
        postgresql_partition_by="RANGE (bucket)",
        comment="Written when the warehouse follows the lake; to be read through the view.",
    )


def _aggregates(time: type[UtcTime] | type["Micros"]) -> list[Column[Any]]:
    return [
        Column("count", BigInteger, nullable=False),
        Column("sum", Float(53)),
        Column("min", Float(53)),
        Column("max", Float(53)),
        Column("sum_squares", Float(53)),
        Column("first", Float(53)),
        Column("first_at", time),
        Column("last", Float(53)),
        Column("last_at", time),
        Column("increase", Float(53)),
        Column("resets", BigInteger),
        Column("p50", Float(53)),
        Column("p95", Float(53)),
        Column("p99", Float(53)),
        Column("excluded", BigInteger, nullable=False),
    ]


hourly = _rollup_rows("rollup_1h_rows")
daily = _rollup_rows(
    "rollup_1d_rows",
    Column("metadata_id", BigInteger),
    Index("rollup_1d_rows_by_series", "series_id", "bucket"),
    Index(
        "rollup_1d_rows_by_counter",
        *("series_id", "bucket", "increase"),
        sqlite_where=text("increase IS NOT NULL"),
        postgresql_where=text("increase IS NOT NULL"),
    ),
    Index(
        "rollup_1d_rows_by_excluded",
        *("bucket", "series_id", "excluded"),
        sqlite_where=text("excluded > 0"),
        postgresql_where=text("excluded > 0"),
    ),
)

alarms = Table(
    "alarms",
    metadata,
    Column("alarm_id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("origin", Text, nullable=False),
    Column("project_id", Text, nullable=False),
    Column("user_id", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("severity", Text, nullable=False),
    Column("definition", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("state_reason", Text, nullable=False),
    Column("state_timestamp", UtcTime, nullable=False),
    Column("timestamp", UtcTime, nullable=False),
    Column("evaluate_timestamp", UtcTime),
    Column("held_since", UtcTime),
    Column("description", Text, nullable=False, server_default=text("''")),
    Column("repeat_actions", Boolean, nullable=False, server_default=false()),
    Index(
        "alarms_by_name",
        "name",
        unique=True,
        sqlite_where=text("origin = 'file'"),
        postgresql_where=text("origin = 'file'"),
    ),
    Index("alarms_by_owner", "project_id", "user_id"),
    Index("alarms_by_user", "user_id"),
    Index("alarms_named", "name", "alarm_id"),
    Index("alarms_named_by_project", "project_id", "name", "alarm_id"),
    Index("alarms_in_time", "timestamp", "alarm_id"),
    Index("alarms_in_time_by_project", "project_id", "timestamp", "alarm_id"),
)

alarm_files = Table(
    "alarm_files",
    metadata,
    Column("digest", Text, primary_key=True),
    Column("faults", Text, nullable=False),
)

alarm_quotas = Table(
    "alarm_quotas",
    metadata,
    Column("project_id", Text, primary_key=True),
    Column("maximum", BigInteger, nullable=False),
)

alarm_silences = Table(
    "alarm_silences",
    metadata,
    Column("silence_id", Text, primary_key=True),
    Column("name_glob", Text, nullable=False),
    Column("project_id", Text),
    Column("severity", Text),
    Column("begins_at", UtcTime, nullable=False),
    Column("ends_at", UtcTime, nullable=False),
    Column("author", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("created_at", UtcTime, nullable=False),
)

alarm_cycles = Table(
    "alarm_cycles",
    metadata,
    Column("cycle_id", Integer, primary_key=True, autoincrement=False),
    Column("evaluated_at", UtcTime, nullable=False),
    Column("alarms", BigInteger, nullable=False),
    Column("history", BigInteger, nullable=False),
    Column("watched", Text, nullable=False),
    comment="One row: the last cycle in which the enabled alarms were evaluated.",
)

alarm_history = Table(
    "alarm_history",
    metadata,
    Column("event_id", Text, primary_key=True),
    Column("alarm_id", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("timestamp", UtcTime, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("user_id", Text),
    Column("project_id", Text),
    Column("on_behalf_of", Text),
    Column("severity", Text),
    Index("alarm_history_by_alarm", "alarm_id", "sequence"),
    Index("alarm_history_by_project", "on_behalf_of", "sequence"),
    Index("alarm_history_in_order", "sequence", unique=True),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("delivery_id", Text, primary_key=True),
    Column("alarm_id", Text, nullable=False),
    Column("event_id", Text, nullable=False),
    Column("url", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_attempt_at", UtcTime, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("delivered_at", UtcTime),
    Column("last_error", Text),
    Column("sequence", BigInteger, nullable=False),
    Column("alarm_name", Text, nullable=False, server_default=text("''")),
    Column("origin", Text, nullable=False, server_default="file"),
    Column("project_id", Text, nullable=False, server_default=text("''")),
    Column("receiver", Text, nullable=False, server_default=text("''")),
    Column("attempts_before", Integer, nullable=False, server_default="0"),
    Column("alone", Boolean),
    Column("queued_at", UtcTime),
    Index("deliveries_due", "state", "alarm_id", "url", "sequence"),
    Index("deliveries_in_order", "sequence", unique=True),
    UniqueConstraint("event_id", "url", name="deliveries_once"),
)

delivery_attempts = Table(
    "delivery_attempts",
    metadata,
    Column("delivery_id", Text, primary_key=True),
    Column("attempt", Integer, primary_key=True, autoincrement=False),
    Column("started_at", UtcTime, nullable=False),
    Column("seconds", Float(53), nullable=False),
    Column("address", Text),
    Column("status", Integer),
    Column("error", Text),
    Column("answer", Text),
    Column("digest_id", Text),
)

webhook_credentials = Table(
    "webhook_credentials",
    metadata,
    Column("alarm_id", Text, primary_key=True),
    Column("url", Text, primary_key=True),
    Column("userinfo", Text, nullable=False),
    Column("kept_at", UtcTime, nullable=False),
)

archive_manifest = Table(
    "archive_manifest",
    metadata,
    Column("day", Date, primary_key=True),
    Column("table_name", Text, primary_key=True),
    Column("rows", BigInteger, nullable=False),
    Column("duplicates", BigInteger, nullable=False),
    Column("volume_sum", Float(53)),
    Column("digest", Text, nullable=False),
    Column("files_before", Integer, nullable=False),
    Column("bytes_before", BigInteger, nullable=False),
    Column("files", Text, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("day_over", Boolean, nullable=False),
    Column("sealed_at", UtcTime, nullable=False),
)

corrections = Table(
    "corrections",
    metadata,
    Column("correction_id", BigInteger, primary_key=True, autoincrement=False),
    Column("action", Text, nullable=False),
    Column("meter", Text, nullable=False),
    Column("start_at", UtcTime, nullable=False),
    Column("end_at", UtcTime, nullable=False),
    Column("condition", Text, nullable=False),
    Column("volume", Float(53)),
    Column("factor", Float(53)),
    Column("reason", Text, nullable=False),
    Column("author", Text, nullable=False),
    Column("recorded_at", UtcTime, nullable=False),
    Column("points", BigInteger, nullable=False),
    Column("revoked_at", UtcTime),
    Column("revoked_by", Text),
    Column("revoked_reason", Text),
    comment="Points that people deleted, replaced or accepted; a revoked correction has no effect.",
)

erasures = Table(
    "erasures",
    metadata,
    Column("erasure_id", BigInteger, primary_key=True, autoincrement=False),
    Column("pseudonym", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("salt", Text, nullable=False),
    Column("shape", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("author", Text, nullable=False),
    Column("recorded_at", UtcTime, nullable=False),
    Column("began_at", UtcTime),
    Column("ended_at", UtcTime),
    Column("versions", Text),
    Column("rows", Text, nullable=False),
    comment="Users whose personal data was erased; their ids are known by a salted hash only.",
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("project_id", Text, primary_key=True),
    Column("idempotency_key", Text, primary_key=True),
    Column("digest", Text, nullable=False),
    Column("first_at", UtcTime, nullable=False),
    comment="The Idempotency-Key of posted samples, by the project that posted them: what came with it, and when.",
)

resource_periods = Table(
    "resource_periods",
    metadata,
    Column("resource_type", Text, primary_key=True),
    Column("resource_id", Text, primary_key=True),
    Column("started_at", UtcTime, primary_key=True),
    Column("ended_at", UtcTime),
    Column("source", Text, nullable=False),
    *(Column(name, Text) for name in ("project_id", "user_id", "name", "flavor", "state", "host", "zone", "image")),
    *(Column(name, Float(53)) for name in ("vcpus", "memory_mib", "root_gib", "ephemeral_gib", "size_gib")),
    Column("measures", Text),
    Column("start_witness", Text, nullable=False),
    Column("start_evidence", Text),
    Column("start_reason", Text),
    Column("start_earliest", UtcTime, nullable=False),
    Column("start_latest", UtcTime, nullable=False),
    Column("end_witness", Text),
    Column("end_evidence", Text),
    Column("end_reason", Text),
    Column("end_earliest", UtcTime),
    Column("end_latest", UtcTime),
    Column("confirmed_until", UtcTime, nullable=False),
    Column("confirmed_by", Text, nullable=False),
    Column("unconfirmed", Boolean, nullable=False),
    Column("digest", BigInteger, nullable=False, server_default="0"),
    Index("resource_periods_by_end", "ended_at", "started_at"),
    Index("resource_periods_by_project", "project_id", "started_at"),
    Index("resource_periods_by_resource", "resource_id", "started_at"),
    comment="What existed when: one row for each stretch of time in which a resource was the same.",
)

reconciliation = Table(
    "reconciliation",
    metadata,
    Column("day", Date, primary_key=True),
    Column("resource_type", Text, primary_key=True),
    Column("resource_id", Text, primary_key=True),
    Column("project_id", Text),
    Column("hours", Float(53), nullable=False),
    Column("event_hours", BigInteger),
    Column("audit_hours", BigInteger),
    Column("poll_hours", BigInteger),
    Column("compared_hours", BigInteger, nullable=False),
    Column("agreed_hours", BigInteger, nullable=False),
    Column("finding", Text, nullable=False),
    comment="Resources of a day on which events, audits and polls do not agree.",
)

reconciliation_daily = Table(
    "reconciliation_daily",
    metadata,
    Column("day", Date, primary_key=True),
    Column("resource_type", Text, primary_key=True),
    Column("resources", BigInteger, nullable=False),
    Column("hours", Float(53), nullable=False),
    Column("compared_hours", BigInteger, nullable=False),
    Column("agreed_hours", BigInteger, nullable=False),
    Column("differing_resources", BigInteger, nullable=False),
    comment="By day and type of resource: in how many hours events, audits and polls agree.",
)

period_months = Table(
    "period_months",
    metadata,
    Column("month", UtcTime, primary_key=True),
    Column("fingerprint", Text, nullable=False),
    Index("period_months_by_fingerprint", "fingerprint"),
    comment="By which resources.yaml and units.yaml the periods of each month were made: a fingerprint in `meanings`.",
)

resource_names = Table(
    "resource_names",
    metadata,
    Column("kind", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("valid_from", UtcTime, primary_key=True),
    Column("witness", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("domain_name", Text),
    Column("seen_until", UtcTime, nullable=False),
    comment="What projects, users and flavors were called by time, and by which witness.",
)

closed_bills = Table(
    "closed_bills",
    metadata,
    Column("month", Text, primary_key=True),
    Column("time_zone", Text, nullable=False),
    Column("closed_at", UtcTime, nullable=False),
    Column("closed_by", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("totals", Text, nullable=False),
    comment="Closed months: an index of the lake's folder bills/, which has what each bill is made of.",
)

report_exports = Table(
    "report_exports",
    metadata,
    Column("report", Text, primary_key=True),
    Column("partition", Text, primary_key=True),
    Column("start_at", UtcTime, nullable=False),
    Column("end_at", UtcTime, nullable=False),
    Column("made_at", UtcTime, nullable=False),
    Column("holds_until", UtcTime, nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("made_of", Text, nullable=False),
    Column("stale", Text),
    comment="Exports of reports, the state of what each was made of, and why it is stale if that was seen.",
)

poll_schedules = Table(
    "poll_schedules",
    metadata,
    Column("source", Text, primary_key=True),
    Column("pollster", Text, primary_key=True),
    Column("host", Text, primary_key=True),
    Column("namespaces", Text, nullable=False),
    Column("interval_seconds", Integer, nullable=False),
    Column("shards", Integer, nullable=False),
    Column("history_seconds", Integer, nullable=False, server_default="0"),
    Column("definition", Text, nullable=False),
    Column("active", Boolean, nullable=False),
    Column("next_slot_at", UtcTime, nullable=False),
    Column("done_slot_at", UtcTime),
    Column("changed_at", UtcTime, nullable=False),
    Column("changed_by", Text, nullable=False),
    Index("poll_schedules_due", "active", "next_slot_at"),
    comment="Which pollster of which source is polled how often, and up to which slot its tasks are made.",
)

poll_tasks = Table(
    "poll_tasks",
    metadata,
    Column("task_id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("source", Text, nullable=False),
    Column("pollster", Text, nullable=False),
    Column("host", Text, nullable=False),
    Column("slot_at", UtcTime, nullable=False),
    Column("shard", Text, nullable=False),
    Column("slots", Integer, nullable=False, server_default="1"),
    Column("part", Text),
    Column("end_at", UtcTime, nullable=False),
    Column("until", UtcTime, nullable=False),
    Column("late", Boolean, nullable=False, server_default=false()),
    Column("state", Text, nullable=False),
    Column("due_at", UtcTime, nullable=False),
    Column("owner", Text),
    Column("lease_until", UtcTime),
    Column("generation", BigInteger, nullable=False, server_default="0"),
    Column("uncertain", Boolean, nullable=False, server_default=false()),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("last_result", Text),
    Column("error", Text),
    Column("resources", Integer),
    Column("samples", Integer),
    Column("seconds", Float(53)),
    Column("message_id", Text, nullable=False),
    Column("ended_at", UtcTime),
    UniqueConstraint("source", "pollster", "host", "slot_at", "shard", name="poll_tasks_once"),
    Index(
        "poll_tasks_open",
        "late",
        "due_at",
        postgresql_where=text("state = 'open'"),
        sqlite_where=text("state = 'open'"),
    ),
    Index("poll_tasks_ending", "until", postgresql_where=text("state = 'open'"), sqlite_where=text("state = 'open'")),
    Index(
        "poll_tasks_claimed",
        "lease_until",
        postgresql_where=text("state = 'claimed'"),
        sqlite_where=text("state = 'claimed'"),
    ),
    Index("poll_tasks_by_slot", "slot_at"),
    Index(
        "poll_tasks_missed",
        "slot_at",
        postgresql_where=text("state = 'missed'"),
        sqlite_where=text("state = 'missed'"),
    ),
    comment="What was, is or will be polled: a task is a source, a pollster, a shard of resources, and a slot.",
)

poll_members = Table(
    "poll_members",
    metadata,
    Column("member", Text, primary_key=True),
    Column("host", Text, nullable=False),
    Column("namespaces", Text, nullable=False),
    Column("joined_at", UtcTime, nullable=False),
    Column("seen_at", UtcTime, nullable=False),
    Column("lease_seconds", Float(53), nullable=False),
    Column("left_at", UtcTime),
    Column("clock_ahead_seconds", Float(53), nullable=False),
    Column("definitions", Text, nullable=False),
    comment="The processes that poll, and when each was last seen.",
)

leases = Table(
    "leases",
    metadata,
    Column("name", Text, primary_key=True),
    Column("holder", Text, nullable=False),
    Column("expires_at", UtcTime, nullable=False),
    Column("generation", BigInteger, nullable=False, server_default="0"),
    Column("seconds", Float(53), nullable=False, server_default="60"),
)

stream_queues = Table(
    "stream_queues",
    metadata,
    Column("place", Text, primary_key=True),
    Column("looked_at", UtcTime),
    Column("messages", BigInteger),
    Column("empty_at", UtcTime),
    Column("newest_at", UtcTime),
    Column("oldest_at", UtcTime),
    comment="What was last seen of each queue that notifications are collected from.",
)

runs = Table(
    "runs",
    metadata,
    Column("run_id", Text, primary_key=True),
    Column("step", Text, nullable=False),
    Column("started_at", UtcTime, nullable=False),
    Column("ended_at", UtcTime, nullable=False),
    Column("figures", Text, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("dagster_run", Text),
    Index("runs_by_step", "step", "sequence"),
    Index("runs_in_order", "sequence"),
)

views = MetaData()
"""What is only read: the views of the warehouse, made by migrations."""


def _rollup(name: str) -> Table:
    return Table(
        name,
        views,
        Column("series_id", BigInteger, primary_key=True, autoincrement=False),
        Column("bucket", UtcTime, primary_key=True),
        *_aggregates(UtcTime),
    )


rollup_1h = _rollup("rollup_1h")
rollup_1d = _rollup("rollup_1d")

resource_history = Table(
    "resource_history",
    views,
    Column("source", Text, primary_key=True),
    Column("resource_id", Text, primary_key=True),
    Column("valid_from", UtcTime, primary_key=True),
    Column("valid_to", UtcTime),
    Column("project_id", Text),
    Column("user_id", Text),
    Column("metadata_id", BigInteger, nullable=False),
    comment="What each resource was by time, by the good points of all its series.",
)

counted_periods = Table(
    "counted_periods",
    views,
    *(Column(each.name, each.type, primary_key=each.primary_key) for each in list(resource_periods.c)[:4]),
    Column("counted_until", UtcTime),
    *(Column(each.name, each.type, nullable=each.nullable) for each in list(resource_periods.c)[4:-1]),
    comment="Until when each period counts in bills and reports. `counted_until` is `ended_at`, and null while the "
    "resource goes on. If samples alone have told of it, it is the end of the hour of the last one. What the "
    "functional suite sends is left out.",
)

name_history = Table(
    "name_history",
    views,
    Column("kind", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("valid_from", UtcTime, primary_key=True),
    Column("valid_to", UtcTime),
    Column("name", Text, nullable=False),
    Column("domain_name", Text),
    Column("witness", Text, nullable=False),
    comment="What projects, users and flavors were called by time, by the most trusted witness.",
)

names_now = Table(
    "names_now",
    views,
    Column("kind", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("domain_name", Text),
    Column("witness", Text, nullable=False),
    comment="What projects, users and flavors are called now.",
)

resource_metadata_keys = Table(
    "resource_metadata_keys",
    views,
    Column("metadata_id", BigInteger, primary_key=True, autoincrement=False),
    Column("key", Text, primary_key=True),
    Column("value", Text),
    comment="The metadata of resources, one row a key.",
)

resource_metadata_history = Table(
    "resource_metadata_history",
    views,
    Column("source", Text, primary_key=True),
    Column("resource_id", Text, primary_key=True),
    Column("valid_from", UtcTime, primary_key=True),
    Column("valid_to", UtcTime),
    Column("key", Text, primary_key=True),
    Column("value", Text),
    comment="The metadata of each resource by time, one row a key.",
)

open_hours = Table(
    "open_hours",
    views,
    Column("hour", UtcTime, primary_key=True),
    comment="Event hours that the warehouse does not show as they are: dirty, or rolled up and not followed yet.",
)

warehouse_holds = Table(
    "warehouse_holds",
    views,
    Column("holds_until", UtcTime),
    Column("came_until", UtcTime),
    comment="Up to which moment reports hold: one row.",
)
