"""The conversion step: landed notifications become samples and events, each exactly once.

Each commit to `samples` and `events` records up to which version of `notifications` it has converted. So after a kill
at any point, the next conversion resumes where the lake says. Polled samples without a valid signature go to the dead
letters before these commits. A resumed conversion finds them there.
"""

import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

import pyarrow as pa

from meterhouse import history, times
from meterhouse.conversion import drift, used
from meterhouse.dead_letters import Letter, store_letters
from meterhouse.definitions.meanings import Meaning
from meterhouse.errors import Replaced
from meterhouse.history import Position
from meterhouse.site import Site
from meterhouse.stores.bulk import upsert
from meterhouse.stores.lake import Lake
from meterhouse.stores.leases import Lease
from meterhouse.stores.warehouse_tables import resource_metadata

if TYPE_CHECKING:
    from meterhouse.conversion.convert import Converted, Converter
    from meterhouse.definitions.loading import Definitions

APP = "notifications"
"""The application transaction by which `samples` and `events` record the version that they have converted."""

MARK, AT = "notifications mark", "notifications at"
"""Those by which they record the mark of that version's commit, and its time (ms): see `history.Position`."""

TABLES = ("samples", "events")

ERRORS_SHOWN = 20
"""Maximum number of errors of a run that are kept with their reasons. The others are only counted."""


@dataclass
class Conversion:
    """What a conversion run did.

    Attributes:
        first_errors: the first errors, as message_id, kind and reason.
        unsigned: polled samples that went to the dead letters because they are not signed with
            METERHOUSE_TELEMETRY_SECRET.
        meters_left_out: invalid meters, which `meterhouse definitions check` lists.
    """

    notifications: int = 0
    samples: int = 0
    events: int = 0
    errors: int = 0
    unsigned: int = 0
    meters_left_out: int = 0
    seconds: float = 0.0
    error_kinds: Counter[str] = field(default_factory=Counter)
    first_errors: list[str] = field(default_factory=list)

    def add(self, other: "Conversion") -> None:
        """Add the counts of another run."""
        self.notifications += other.notifications
        self.samples += other.samples
        self.events += other.events
        self.errors += other.errors
        self.unsigned += other.unsigned
        self.meters_left_out = other.meters_left_out
        self.seconds += other.seconds
        self.error_kinds.update(other.error_kinds)
        self.first_errors += other.first_errors[: ERRORS_SHOWN - len(self.first_errors)]


@dataclass(frozen=True)
class Work:
    """What a run converts by: the definitions at its start, compiled, and what they mean for each table."""

    definitions: "Definitions"
    converter: "Converter"
    meanings: Mapping[str, Meaning]

    @classmethod
    def of(cls, site: Site) -> "Work":
        """The work by the definitions of now.

        Raises:
            DefinitionError: the definitions cannot be read.
        """
        from meterhouse.conversion.convert import Converter

        definitions = site.definitions
        said = {table: used.meaning_of(table, definitions, site.settings) for table in TABLES}
        return cls(definitions, Converter.from_settings(site.settings, definitions), said)

    def record(self, lease: Lease, tables: Collection[str], hours: Iterable[str], version: int) -> None:
        """Record by what the notifications of arrival hours up to a version are converted, before rows are appended."""
        with lease.begin() as connection:
            for table in tables:
                used.record(connection, table, hours, self.meanings[table], version)


def convert(site: Site, *, wait_seconds: float = 0.0, record: bool = True) -> Conversion:
    """Convert what was landed since the last run.

    Args:
        site: the site.
        wait_seconds: how long to wait for another process that is running this step.
        record: whether to record the run in the warehouse. If false, the caller does.

    Raises:
        AlreadyRunning: another process is still running this step after `wait_seconds`.
        DefinitionError: the definitions cannot be read; nothing was converted.
        WentBack: the lake's notifications are older than what was converted, or others; nothing was converted.
        MeterhouseError: the lake or the warehouse cannot be reached; the next run converts the rest.
    """
    started = times.now()
    with site.warehouse.lease("convert", wait_seconds=wait_seconds) as lease:
        done = convert_under(site, lease)
        if done.notifications and record:
            site.warehouse.record_run("convert", started, vars(done))
    return done


def convert_under(site: Site, lease: Lease) -> Conversion:
    """See `convert`; the caller holds the lease."""
    done, clock = Conversion(), time.monotonic()
    site.lake.fence(lease, *TABLES)
    check_history(site)
    work = Work.of(site)
    while _convert_some(site, work, done, lease):
        pass
    done.meters_left_out = len(work.definitions.faults)
    done.seconds = time.monotonic() - clock
    return done


def check_history(site: Site) -> None:
    """Compare the notifications with those that were converted.

    Raises:
        WentBack: they are older, or others.
    """
    for name in TABLES:
        reached = converted_position(site.lake, name)
        if not history.is_same_history(site.lake, "notifications", reached):
            raise history.went_back(site.lake, "notifications", reached, f"the conversion to {name}")


def unconverted(site: Site) -> int:
    """How many commits of landed notifications wait for conversion."""
    reached = min(site.lake.transaction(name, APP) or 0 for name in TABLES)
    found = site.lake.version("notifications") - reached
    return max(found, 0)


def converted_position(lake: Lake, name: str) -> Position:
    """The position of `notifications` up to which a table has converted them, as the table has recorded it."""
    version, mark, moment = (lake.transaction(name, app) for app in (APP, MARK, AT))
    return Position(version or 0, mark, None if moment is None else times.EPOCH + timedelta(milliseconds=moment))


def numbers(reached: Position) -> dict[str, int]:
    """A position as application transactions, beside that of its version."""
    found = {} if reached.mark is None else {MARK: reached.mark}
    return found if reached.at is None else {**found, AT: (reached.at - times.EPOCH) // timedelta(milliseconds=1)}


def _convert_some(site: Site, work: Work, done: Conversion, lease: Lease) -> bool:
    """Convert one bounded piece. Returns False if there is none."""
    lake = site.lake
    reached = {name: lake.transaction(name, APP) or 0 for name in TABLES}
    after, ahead = min(reached.values()), max(reached.values())
    # If a kill left one table behind the other, the piece ends where the other table is.
    try:
        landed = lake.appended("notifications", after, until=ahead if ahead > after else None, max_rows=100_000)
    except Replaced:
        _convert_files(site, work, done, lease)
        return True
    if landed is None:
        return False
    if landed.rows.num_rows == 0 and landed.version == after:
        return False
    made = work.converter.convert(landed.rows)
    behind = [name for name in TABLES if reached[name] < landed.version]
    work.record(lease, behind, landed.rows["arrival_hour"].unique().to_pylist(), landed.version)
    _keep(site, lease, landed.rows, made, done)
    beside = numbers(history.position(lake, "notifications", landed.version))
    for name, rows in (("samples", made.samples), ("events", made.events)):
        if name in behind:
            lake.append(name, rows, transaction=(APP, landed.version), after=reached[name], beside=beside, lease=lease)
    drift.record(lease, made.uses)
    done.samples += made.samples.num_rows
    done.events += made.events.num_rows
    return True


def _convert_files(site: Site, work: Work, done: Conversion, lease: Lease) -> None:
    """Convert the files in the place of commits that are no longer there: sealed and vacuumed, or cleaned up.

    These files may also hold notifications that are converted already; see `again`.
    """
    lake = site.lake
    newest = lake.version("notifications")
    hours = {name: _hours_since(lake, lake.transaction(name, APP) or 0, newest) for name in TABLES}
    for name in TABLES:
        convert_hours_of(site, lease, work, name, hours[name], newest, done)


def convert_hours_of(
    site: Site,
    lease: Lease,
    work: Work,
    table: str,
    hours: Collection[str],
    version: int,
    done: Conversion,
) -> None:
    """Add what a table lacks of some arrival hours, and record that all of a version is converted.

    `lease` is that of the step `convert`.
    """
    from meterhouse.conversion.again import convert_hours

    work.record(lease, [table], hours, version)
    added = convert_hours(
        site, lease, work.converter, hours, [table], lambda landed, made: _keep(site, lease, landed, made, done)
    )
    beside = numbers(history.position(site.lake, "notifications", version))
    site.lake.commit(table, [], 0, transactions={}, beside={APP: version, **beside}, lease=lease)
    done.samples += added.get("samples", 0)
    done.events += added.get("events", 0)


def _hours_since(lake: Lake, after: int, newest: int) -> set[str]:
    """The arrival hours of the files of `notifications` that were not there at a version; of all if that is unknown."""
    files = lake.actions("notifications", newest).select(["path", "partition.arrival_hour"]).to_pylist()
    before = lake.known_files("notifications", after)
    known = set() if before is None else set(before["path"].to_pylist())
    return {str(file["partition.arrival_hour"]) for file in files if file["path"] not in known}


def keep_beside(site: Site, lease: Lease, landed: pa.Table, made: "Converted") -> None:
    """Store what notifications yield beside samples and events, before these are appended."""
    keep_metadata(lease, made.metadata)
    _store_unsigned(site, landed, made.unsigned)


def _keep(site: Site, lease: Lease, landed: pa.Table, made: "Converted", done: Conversion) -> None:
    keep_beside(site, lease, landed, made)
    done.notifications += landed.num_rows
    done.errors += len(made.errors)
    done.unsigned += len(made.unsigned)
    done.error_kinds.update(error.endpoint for error in made.errors)
    for error in made.errors[: ERRORS_SHOWN - len(done.first_errors)]:
        done.first_errors.append(f"{error.message_id} {error.endpoint}: {error.detail}"[:500])


def _store_unsigned(site: Site, notifications: pa.Table, unsigned: list[tuple[int, bytes, str]]) -> None:
    """Store polled samples with a wrong signature as dead letters, each once even if this is repeated."""
    if not unsigned:
        return
    rows = notifications.select(["received_at", "source", "message_id"]).take([row for row, _, _ in unsigned])
    seen: Counter[int] = Counter()
    letters = []
    for came, (row, body, reason) in zip(rows.to_pylist(), unsigned, strict=True):
        place = f"{came['message_id']}:{seen[row]}"
        seen[row] += 1
        letters.append(Letter(came["received_at"], came["source"], reason, body, place))
    store_letters(site.lake, letters, min(times.arrival_hour(letter.received_at) for letter in letters))


def keep_metadata(lease: Lease, metadata: dict[int, bytes]) -> None:
    """Write the resources' metadata to the warehouse, before a sample that refers to it is in the lake."""
    rows = pa.table(
        {
            "metadata_id": pa.array(list(metadata), pa.int64()),
            "metadata": pa.array([text.decode() for text in metadata.values()], pa.string()),
        }
    )
    with lease.begin() as connection:
        upsert(connection, resource_metadata, rows)
