"""Closed months as files: what each bill was made of, and the bill; the manifest, written last, is what closes a month.

In the folder of a month:

- `periods.parquet`, `counters.parquet`: what existed and what was counted;
- `usage.parquet`: the periods, added up by project, type and flavor;
- `prices.yaml`, `resources.yaml`, `units.yaml`: the definitions;
- `corrections.parquet`: what changed in months that were closed before;
- `inputs.json`: names of projects, what could not be counted, up to when it was complete, corrections of points;
- `lines.parquet`, `not_priced.parquet`, `unconfirmed.parquet`, `bill.json`: the bill;
- `manifest.json`: the SHA-256 of each, when the month was closed, and by whom.
"""

import hashlib
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from meterhouse import __version__, times
from meterhouse.billing import figures
from meterhouse.billing.bill import Bill, Closing, Total
from meterhouse.billing.formats.tables import parquet
from meterhouse.billing.inputs import DEFINITIONS, Amounts, Inputs
from meterhouse.definitions.resources import SIZES
from meterhouse.errors import Damaged, MeterhouseError

if TYPE_CHECKING:
    from meterhouse.stores.lake import Lake

FOLDER: Final = "bills"
"""The folder of closed months under the lake's URL."""

MANIFEST: Final = "manifest.json"

NEXT: Final = "manifest.next.json"
"""The manifest of files that are being replaced by an erasure; each file is then that of one of the two."""

FORMAT: Final = 1
"""The number of this form of the files."""

Read = Callable[[str], bytes]
"""Reads a file of a month's folder by its name; raises FileNotFoundError."""


@dataclass(frozen=True)
class Month:
    """A closed month, as its manifest has it.

    Attributes:
        month: `2026-11`.
        time_zone: of the month, by name.
        start: its start, UTC.
        end: its end, UTC, exclusive.
        closing: when it was closed, and by whom.
        lines: the number of lines.
        totals: sums by currency.
        files: name → SHA-256, in hexadecimal digits.
    """

    month: str
    time_zone: str
    start: datetime
    end: datetime
    closing: Closing
    lines: int
    totals: tuple[Total, ...]
    files: Mapping[str, str]


def files(given: Inputs, made: Bill) -> dict[str, bytes]:
    """The files of a month but for the manifest, in the order in which they are written."""
    amounts = given.amounts
    inputs = {
        "month": given.month,
        "projects": dict(sorted(given.projects.items())),
        "refused": list(amounts.refused),
        "holds_until": times.text(given.holds_until),
        "open_hours": given.open_hours,
        "behind": given.behind,
        "point_corrections": list(given.point_corrections),
    }
    return {
        "periods.parquet": parquet(amounts.periods),
        "counters.parquet": parquet(amounts.counters),
        "usage.parquet": parquet(_usage(amounts.periods)),
        **{name: given.definitions[name] for name in DEFINITIONS},
        "corrections.parquet": parquet(given.corrections),
        "inputs.json": encoded(inputs),
        "lines.parquet": parquet(made.lines),
        "not_priced.parquet": parquet(made.not_priced),
        "unconfirmed.parquet": parquet(made.unconfirmed),
        "bill.json": encoded({"notes": list(made.notes)}),
    }


def _usage(periods: pa.Table) -> pa.Table:
    """Periods, added up by project, type and flavor: the number of resources, seconds, and sizes times seconds."""
    micros = pc.subtract(periods["ended_at"].cast(pa.int64()), periods["started_at"].cast(pa.int64()))
    seconds = pc.divide(micros.cast(pa.float64()), 1e6)
    columns = {name: periods[name] for name in ("project_id", "resource_type", "flavor", "resource_id")}
    columns |= {"seconds": seconds}
    columns |= {f"{size}_seconds": pc.multiply(periods[size], seconds) for size in SIZES}
    keys = ["project_id", "resource_type", "flavor"]
    sums = [("seconds", "sum"), *((f"{size}_seconds", "sum") for size in SIZES)]
    added = pa.table(columns).group_by(keys, use_threads=False).aggregate([("resource_id", "count_distinct"), *sums])
    names = {"resource_id_count_distinct": "resources"}
    named = added.rename_columns([names.get(name, name.removesuffix("_sum")) for name in added.column_names])
    return named.sort_by([(key, "ascending") for key in keys])


def manifest(made: Bill, written: Mapping[str, bytes], closed_at: datetime, closed_by: str) -> bytes:
    """The manifest of a month whose files have this content."""
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in written.items()}
    return encoded(
        {
            "format": FORMAT,
            "month": made.month,
            "time_zone": made.time_zone,
            "from": times.text(made.start),
            "to": times.text(made.end),
            "closed_at": times.text(closed_at),
            "closed_by": closed_by,
            "digest": digest(hashes),
            "lines": made.lines.num_rows,
            "totals": [
                {
                    "currency": each.currency,
                    "lines": each.lines,
                    "net": figures.money(each.net),
                    "tax": figures.money(each.tax),
                }
                for each in made.totals()
            ],
            "files": {name: {"sha256": hashes[name], "bytes": len(content)} for name, content in written.items()},
            "made_by": f"meterhouse {__version__}",
        }
    )


def digest(hashes: Mapping[str, str]) -> str:
    """SHA-256 over lines of a file's name and its hash, by name: the same files have the same digest."""
    text = "".join(f"{name} {each}\n" for name, each in sorted(hashes.items()))
    return hashlib.sha256(text.encode()).hexdigest()


# -- reading --------------------------------------------------------------------------------------------------


def in_lake(lake: "Lake", month: str) -> Read:
    """Reads the files of a month in the lake."""
    return lambda name: lake.get(f"{FOLDER}/{month}/{name}")


def in_folder(folder: Path) -> Read:
    """Reads the files of a month in a folder, such as a copy."""
    return lambda name: (folder / name).read_bytes()


def closed_months(lake: "Lake") -> list[str]:
    """The closed months, in their order: those that have a manifest."""
    try:
        found = [uri for uri, _ in lake.listed(FOLDER)]
    except FileNotFoundError:
        return []
    return sorted(uri.split("/")[-2] for uri in found if uri.endswith(f"/{MANIFEST}"))


def read_month(read: Read, where: str) -> Month | None:
    """The month of a folder; None if it is not closed.

    Args:
        read: reads its files.
        where: the folder, for errors.

    Raises:
        Damaged: the manifest cannot be read.
        MeterhouseError: a later release wrote it.
    """
    try:
        content = read(MANIFEST)
    except FileNotFoundError:
        return None
    try:
        found = json.loads(content)
        if found["format"] > FORMAT:
            raise MeterhouseError(
                f"the files have form {found['format']}, this release reads up to {FORMAT}",
                where=f"{where}/{MANIFEST}",
                hint="Upgrade Meterhouse",
            )
        hashes = {name: str(each["sha256"]) for name, each in found["files"].items()}
        if digest(hashes) != found["digest"]:
            raise ValueError("the digest is not that of its files")
        return Month(
            month=found["month"],
            time_zone=found["time_zone"],
            start=times.parse(found["from"]),
            end=times.parse(found["to"]),
            closing=Closing(times.parse(found["closed_at"]), found["closed_by"], found["digest"]),
            lines=found["lines"],
            totals=tuple(
                Total("", each["currency"], each["lines"], Decimal(each["net"]), Decimal(each["tax"]))
                for each in found["totals"]
            ),
            files=hashes,
        )
    except (ValueError, KeyError, TypeError) as error:
        raise Damaged(
            f"the manifest cannot be read: {error}", where=f"{where}/{MANIFEST}", hint="Restore it from a backup"
        ) from None


def read_bill(read: Read, month: Month, where: str) -> Bill:
    """The bill of a closed month, as it was.

    Raises:
        Damaged: a file is missing, or not the one that was written when the month was closed.
    """
    checked = _checked(read, month, where)
    inputs, about = json.loads(checked("inputs.json")), json.loads(checked("bill.json"))
    return Bill(
        month=month.month,
        time_zone=month.time_zone,
        start=month.start,
        end=month.end,
        lines=_table(checked("lines.parquet")),
        not_priced=_table(checked("not_priced.parquet")),
        unconfirmed=_table(checked("unconfirmed.parquet")),
        notes=tuple(about["notes"]),
        holds_until=times.parse(inputs["holds_until"]),
        projects=inputs["projects"],
        closing=month.closing,
    )


def read_inputs(read: Read, month: Month, where: str) -> Inputs:
    """What the bill of a closed month was made of.

    Raises:
        Damaged: as `read_bill`.
    """
    checked = _checked(read, month, where)
    inputs = json.loads(checked("inputs.json"))
    return Inputs(
        month=month.month,
        amounts=Amounts(
            periods=_table(checked("periods.parquet")),
            counters=_table(checked("counters.parquet")),
            refused=tuple(inputs["refused"]),
        ),
        definitions={name: checked(name) for name in DEFINITIONS},
        projects=inputs["projects"],
        corrections=_table(checked("corrections.parquet")),
        holds_until=times.parse(inputs["holds_until"]),
        open_hours=inputs["open_hours"],
        behind=inputs["behind"],
        point_corrections=tuple(inputs["point_corrections"]),
    )


def read_corrections(read: Read, month: Month, where: str) -> pa.Table:
    """The lines of a closed month's bill that correct earlier months, without reading the others.

    Raises:
        Damaged: as `read_bill`.
    """
    return _table(_checked(read, month, where)("corrections.parquet"))


def check(read: Read, month: Month, where: str) -> None:
    """Make sure that all files of a closed month are those that were written when it was closed.

    Raises:
        Damaged: as `read_bill`.
    """
    one = _checked(read, month, where)
    for name in month.files:
        one(name)


def _checked(read: Read, month: Month, where: str) -> Read:
    """Reads files that are those of the manifest, or of the next one while an erasure replaces them."""

    def one(name: str) -> bytes:
        hint = "Restore it from a backup"
        try:
            content = read(name)
        except FileNotFoundError:
            raise Damaged("a file of a closed month is missing", where=f"{where}/{name}", hint=hint) from None
        found = hashlib.sha256(content).hexdigest()
        if found != month.files.get(name) and found != _next_hashes(read).get(name):
            what = f"a file of the closed month {month.month} is not the one that was written when it was closed"
            raise Damaged(what, where=f"{where}/{name}", hint=hint)
        return content

    return one


def _next_hashes(read: Read) -> dict[str, str]:
    try:
        return {name: each["sha256"] for name, each in json.loads(read(NEXT))["files"].items()}
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return {}


def replaced(lake: "Lake", month: str, change: Callable[[str, bytes], bytes], *, dry_run: bool) -> int:
    """Replace the content of a closed month's files, such as a person's id by a pseudonym; figures must stay.

    The manifest gets the new hashes. If this is interrupted, the month can be read meanwhile, and a second call
    continues.

    Args:
        lake: the lake.
        month: a closed month.
        change: from the name and content of a file to its new content; what it has changed already, it leaves.
        dry_run: whether to count only.

    Returns:
        How many files change.

    Raises:
        Damaged: a file is missing or changed.
        MeterhouseError: a file cannot be written.
    """
    read, where = in_lake(lake, month), f"{lake.url}/{FOLDER}/{month}"
    known = read_month(read, where)
    if known is None:
        return 0
    checked = _checked(read, known, where)
    before = {name: checked(name) for name in known.files}
    after = {name: change(name, content) for name, content in before.items()}
    named = json.loads(change(MANIFEST, read(MANIFEST)))
    changed = [name for name in before if after[name] != before[name]]
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in after.items()}
    following = {
        **named,
        "digest": digest(hashes),
        "files": {name: {"sha256": hashes[name], "bytes": len(content)} for name, content in after.items()},
    }
    new, old = encoded(following), read(MANIFEST)
    if new != old and not dry_run:
        folder = f"{FOLDER}/{month}"
        following_uri = lake.put(f"{folder}/{NEXT}", new)
        for name in changed:
            lake.put(f"{folder}/{name}", after[name])
        lake.put(f"{folder}/{MANIFEST}", new)
        lake.remove([following_uri])
    elif not dry_run and _next_hashes(read):  # an earlier call was killed before it removed this
        lake.remove([f"{where}/{NEXT}"])
    return len(changed) + (new != old)


def _table(content: bytes) -> pa.Table:
    return pq.read_table(io.BytesIO(content))


def encoded(content: Mapping[str, Any]) -> bytes:
    """JSON of a file of a month."""
    return json.dumps(content, ensure_ascii=False, indent=1).encode() + b"\n"
