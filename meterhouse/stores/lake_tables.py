"""The lake's tables: names, columns and partitions, as Arrow schemas.

All times are microseconds in UTC. An `arrival_hour` is the text `YYYY-MM-DDTHH` of the UTC hour in which a message
was landed; an `event_day` is the UTC date of the points' own time.
"""

from typing import Any

import pyarrow as pa

TIME = pa.timestamp("us", tz="UTC")

NOTIFICATIONS = pa.schema(
    [
        ("arrival_hour", pa.string()),
        ("message_id", pa.string()),
        ("event_type", pa.string()),
        ("publisher_id", pa.string()),
        ("priority", pa.string()),  # lower case
        ("timestamp", TIME),  # null where the message's own is missing or malformed
        ("received_at", TIME),
        ("source", pa.string()),  # the stream or file it came by
        ("body", pa.string()),  # the unwrapped message, JSON text
    ]
)

SAMPLES = pa.schema(
    [
        ("arrival_hour", pa.string()),
        ("series_id", pa.int64()),
        ("timestamp", TIME),
        ("volume", pa.float64()),
        ("sample_id", pa.int64()),
        ("recorded_at", TIME),  # when its notification was received
        ("source", pa.string()),
        ("meter", pa.string()),
        ("type", pa.string()),  # gauge, delta or cumulative
        ("unit", pa.string()),
        ("resource_id", pa.string()),
        ("project_id", pa.string()),
        ("user_id", pa.string()),
        ("metadata_id", pa.int64()),
        ("origin", pa.string()),  # CONVERTED, POSTED, LOADED or MEASURED; null in files of old releases
    ]
)

CONVERTED, POSTED, LOADED, MEASURED, COMPUTED = "notification", "posted", "loaded", "measured", "derived"
"""Where a sample came from: a notification that was landed; one that the API made of posted samples; a file of samples;
a measurement of the stream itself; or it was computed from others, and is in the table `derived`.
"""

FROM_NOTIFICATIONS = (CONVERTED, POSTED)
"""The origins of samples that can be converted again. No other origin comes between them in the order of texts."""

TRAIT = pa.struct([("name", pa.string()), ("dtype", pa.string()), ("value", pa.string())])

EVENTS = pa.schema(
    [
        ("arrival_hour", pa.string()),
        ("message_id", pa.string()),
        ("event_type", pa.string()),
        ("generated", TIME),
        ("traits", pa.list_(TRAIT)),  # dtype: text, integer, float or datetime
        ("raw", pa.string()),  # JSON text, null unless METERHOUSE_STORE_RAW asks for it
    ]
)

ROLLUPS = pa.schema(
    [
        ("granularity_s", pa.int32()),
        ("event_day", pa.date32()),
        ("series_id", pa.int64()),
        ("bucket", TIME),
        ("count", pa.int64()),
        ("sum", pa.float64()),
        ("min", pa.float64()),
        ("max", pa.float64()),
        ("sum_squares", pa.float64()),
        ("first", pa.float64()),
        ("first_at", TIME),
        ("last", pa.float64()),
        ("last_at", TIME),
        ("increase", pa.float64()),  # cumulative series only
        ("resets", pa.int64()),
        ("p50", pa.float64()),
        ("p95", pa.float64()),
        ("p99", pa.float64()),
        ("excluded", pa.int64()),
        ("metadata_id", pa.int64()),  # of the newest good point that has one; rows of an hour or a day only
        ("percentiles", pa.map_(pa.string(), pa.float64())),  # others that its archive policy asks for: `p90`, `p99.9`
        ("cadence_s", pa.float64()),  # median step of the good points, in seconds; rows of an hour or a day only
    ]
)

QUARANTINE = pa.schema(
    [
        ("event_day", pa.date32()),
        *[field for field in SAMPLES if field.name not in ("arrival_hour", "metadata_id", "origin")],
        ("reasons", pa.int32()),  # bits, see quality/rules.yaml
        ("reason_names", pa.list_(pa.string())),
        ("excluded", pa.bool_()),
    ]
)

DERIVED = pa.schema([("event_day", pa.date32()), *[field for field in SAMPLES if field.name != "arrival_hour"]])
"""Points of derived meters (see docs/derived-meters.md), as samples; `origin` is COMPUTED."""

EVIDENCE = pa.schema(
    [
        ("event_day", pa.date32()),  # partition; the first day of the month of `said_at`
        ("resource_type", pa.string()),  # as in resources.yaml
        ("resource_id", pa.string()),
        ("effect", pa.string()),  # what it says of the resource: begins, ends, is, was, seen, audit
        ("said_at", TIME),  # when it was said; of audits in a row, the last one
        ("from_at", TIME),  # start of the audit period, or of those in a row that say the same
        ("to_at", TIME),  # end of the audit period, or of the last one
        ("reports", pa.int64()),  # notifications in this row: audits in a row that say the same are one
        ("began_at", TIME),  # since when it existed, by the notification
        ("created_at", TIME),  # when it was requested, by the notification
        ("ended_at", TIME),  # until when it existed, by the notification
        ("message_id", pa.string()),  # the notification's; of several, the first one's
        ("last_message_id", pa.string()),
        ("event_type", pa.string()),
        ("reporter", pa.string()),  # the notification's publisher_id
        ("source", pa.string()),
        *[
            (name, pa.string())
            for name in ("project_id", "user_id", "name", "flavor", "state", "host", "zone", "image")
        ],
        *[(name, pa.float64()) for name in ("vcpus", "memory_mib", "root_gib", "ephemeral_gib", "size_gib")],
        ("measures", pa.string()),  # JSON of other sizes
    ]
)
"""What notifications say of billable resources, by the month of event time: what `resource_periods` is made of."""

RESOURCE_STATES = pa.schema(
    [
        ("event_day", pa.date32()),  # partition; the first day of a month
        ("resource_type", pa.string()),
        ("resource_id", pa.string()),
        ("state", pa.string()),  # JSON: what is known of the resource at the start of the month
    ]
)
"""Where the periods of a month start from, so that a month is computed without those before."""

DEAD_LETTERS = pa.schema(
    [
        ("arrival_hour", pa.string()),
        ("letter_id", pa.int64()),
        ("received_at", TIME),
        ("queue", pa.string()),
        ("reason", pa.string()),  # one line
        ("body", pa.binary()),
        ("headers", pa.string()),  # the message's AMQP properties and headers, JSON text; null where it had none
    ]
)

TABLES: dict[str, tuple[pa.Schema, list[str]]] = {
    "notifications": (NOTIFICATIONS, ["arrival_hour"]),
    "samples": (SAMPLES, ["arrival_hour"]),
    "events": (EVENTS, ["arrival_hour"]),
    "rollups": (ROLLUPS, ["granularity_s", "event_day"]),
    "quarantine": (QUARANTINE, ["event_day"]),
    "derived": (DERIVED, ["event_day"]),
    "dead_letters": (DEAD_LETTERS, ["arrival_hour"]),
    "evidence": (EVIDENCE, ["event_day"]),
    "resource_states": (RESOURCE_STATES, ["event_day"]),
}

GROWN = {
    "samples": ("origin",),
    "dead_letters": ("headers",),
    "rollups": ("metadata_id", "percentiles", "cadence_s"),
}
"""Table → the columns that it got after its first release. Older files lack these.

With a nested column comes a flat one: files have the one if they have the other.
"""


LANDING_TABLES = frozenset({"notifications", "dead_letters"})
"""Tables that messages are landed in: an acknowledged message is in one of them."""

DICTIONARIES: dict[str, list[str]] = {
    "notifications": ["event_type", "publisher_id", "priority", "received_at", "source"],
    "samples": [
        *["series_id", "recorded_at", "source", "meter", "type", "unit"],
        *["resource_id", "project_id", "user_id", "metadata_id", "origin"],
    ],
    "events": ["event_type", "traits.list.element.name", "traits.list.element.dtype", "traits.list.element.value"],
    "rollups": ["series_id", "bucket", "count", "resets", "excluded", "metadata_id"],
    "quarantine": ["source", "meter", "type", "unit", "resource_id", "project_id", "user_id"],
    "derived": [
        *["series_id", "source", "meter", "type", "unit", "resource_id", "project_id", "user_id", "metadata_id"],
        "origin",
    ],
    "dead_letters": ["received_at", "queue", "reason"],
    "evidence": [
        *["resource_type", "effect", "event_type", "reporter", "source"],
        *["project_id", "user_id", "flavor", "state", "host", "zone", "image", "measures"],
        *["vcpus", "memory_mib", "root_gib", "ephemeral_gib", "size_gib", "from_at", "to_at", "said_at"],
    ],
    "resource_states": ["resource_type"],
}
"""By table: columns whose values repeat within a file, and are dictionary-encoded."""

ENCODINGS: dict[str, dict[str, str]] = {
    "rollups": {
        **{field.name: "BYTE_STREAM_SPLIT" for field in ROLLUPS if pa.types.is_floating(field.type)},
        **dict.fromkeys(("first_at", "last_at"), "DELTA_BINARY_PACKED"),
    }
}
"""By table: Parquet's encoding of columns that have no dictionary. By measurement, rows take the fewest bytes so."""


def columns_of_files(name: str) -> pa.Schema:
    """The columns of a table's data files: all but those of its partitions."""
    schema, partitions = TABLES[name]
    return pa.schema([field for field in schema if field.name not in partitions])


def taken(table: pa.Table, column: str, rows: Any) -> pa.Array:
    """The values of a column at these rows (NumPy integers)."""
    return table.column(column).combine_chunks().take(pa.array(rows))
