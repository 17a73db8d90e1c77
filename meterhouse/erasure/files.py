"""Personal data in files: what waits in the spool, or was found damaged there, exported reports, and closed months.

What a roll-up has kept of a running day has ids of series, by which a user can be found again. It is deleted.

A file of the spool is replaced while collectors may be reading it: what they read of the old one, they land without the
data. Files that cannot be read are left, and named.
"""

import gzip
import io
import os
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from meterhouse.billing import closing, frozen
from meterhouse.errors import Damaged, MeterhouseError
from meterhouse.personal_data import Person
from meterhouse.rollups import kept_day
from meterhouse.site import Site

BEFORE_NAME = "."
"""How the name of a file starts that is being written in the spool: collectors skip it."""

LEASE_SECONDS = 60
"""How long an erasure waits for a process that closes a month."""


@dataclass
class FilesFound:
    """What was found in files.

    Attributes:
        counts: `spool`: messages; `exports`, `bills`: files.
        left: files that have to be looked at by a person, and why.
    """

    counts: Counter[str] = field(default_factory=Counter)
    left: list[str] = field(default_factory=list)


def replace(site: Site, person: Person, *, dry_run: bool) -> FilesFound:
    """Replace personal data in files.

    Raises:
        MeterhouseError: a file cannot be written.
    """
    done = FilesFound()
    if site.settings.is_spool:
        _spool(site.settings.spool, person, done, dry_run)
    _exports(site, person, done, dry_run)
    _bills(site, person, done, dry_run)
    if not dry_run and site.lake.spill is not None:
        _kept_days(site.lake.spill)
    _others(site, person, done)
    return done


def _spool(folder: Path, person: Person, done: FilesFound, dry_run: bool) -> None:
    needles = [needle.encode("utf-8", "replace") for needle in person.needles]
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.is_symlink() or not path.is_file() or path.name.startswith(BEFORE_NAME):
            continue
        is_compressed = ".gz" in path.suffixes
        try:
            count = 0
            for line in _lines(path, is_compressed):
                if any(needle in line for needle in needles):
                    count += _without(line, person) != line
        except FileNotFoundError:  # it was landed meanwhile, without the data
            continue
        except (OSError, EOFError, zlib.error) as error:
            done.left.append(f"{path} cannot be read ({error}): look at it, and delete it")
            continue
        done.counts["spool"] += count
        if count and not dry_run:
            _rewrite(path, is_compressed, person)


def _rewrite(path: Path, is_compressed: bool, person: Person) -> None:
    beside = path.with_name(f"{BEFORE_NAME}{path.name}.erasing")
    try:
        status = path.stat()
        with gzip.open(beside, "wb") if is_compressed else beside.open("wb") as target:
            for line in _lines(path, is_compressed):
                target.write(_without(line, person))
        beside.chmod(status.st_mode & 0o777)
        with suppress(PermissionError):  # only root may give files away
            os.chown(beside, status.st_uid, status.st_gid)
        with beside.open("rb") as handle:
            os.fsync(handle.fileno())
        if path.exists():  # otherwise it is landed
            beside.replace(path)
    except FileNotFoundError:  # it was landed meanwhile
        pass
    except OSError as error:
        raise MeterhouseError(
            f"a file of the spool cannot be written: {error.strerror or error}",
            where=str(path),
            hint="Check the folder's owner and the free space, and run the command again",
        ) from error
    finally:
        beside.unlink(missing_ok=True)


def _lines(path: Path, is_compressed: bool) -> Iterator[bytes]:
    with gzip.open(path, "rb") if is_compressed else path.open("rb") as handle:
        yield from handle


def _without(line: bytes, person: Person) -> bytes:
    return person.body(line.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")


def _exports(site: Site, person: Person, done: FilesFound, dry_run: bool) -> None:
    lake = site.lake
    for uri, _ in lake.listed("exports"):
        path = uri[uri.index("/exports/") + 1 :]
        before = lake.get(path)
        if path.endswith(".parquet"):
            after = _parquet_without(before, person)
        else:
            after = _without(before, person)
            after = None if after == before else after
        if after is not None:
            done.counts["exports"] += 1
            if not dry_run:
                lake.put(path, after)


def _bills(site: Site, person: Person, done: FilesFound, dry_run: bool) -> None:
    """Replace personal data in closed months; their figures stay."""

    def change(name: str, content: bytes) -> bytes:
        if name.endswith(".parquet"):
            return _parquet_without(content, person) or content
        return _without(content, person)

    def replace_all() -> None:
        for month in frozen.closed_months(site.lake):
            try:
                done.counts["bills"] += frozen.replaced(site.lake, month, change, dry_run=dry_run)
            except Damaged as error:
                done.left.append(f"{error.where} is damaged: {error.what}")

    if dry_run:
        replace_all()
        return
    with site.warehouse.lease(closing.LEASE, wait_seconds=LEASE_SECONDS):
        replace_all()
        closing.index(site, closing.closed(site))


def _kept_days(folder: Path) -> None:
    try:
        kept_day.forget(folder)
    except OSError as error:
        raise MeterhouseError(
            f"what is kept of a day cannot be deleted: {error.strerror or error}",
            where=str(folder),
            hint="Check the rights of this user, and run the command again",
        ) from error


def _parquet_without(content: bytes, person: Person) -> bytes | None:
    """A Parquet file without personal data; None if it has none."""
    rows = pq.read_table(io.BytesIO(content))
    changed = False
    for place, column in enumerate(rows.columns):
        if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
            continue
        coded = column.combine_chunks().dictionary_encode()
        texts = coded.dictionary.to_pylist()
        without = [None if text is None else person.body(text) for text in texts]
        if without != texts:
            changed = True
            rows = rows.set_column(place, rows.schema.field(place), pa.array(without, column.type).take(coded.indices))
    if not changed:
        return None
    made = io.BytesIO()
    pq.write_table(rows, made, compression="zstd")
    return made.getvalue()


def _others(site: Site, person: Person, done: FilesFound) -> None:
    """Name files that a person has to look at: the site's own configuration, and what was damaged."""
    folder = site.settings.config_dir
    for path in sorted(folder.rglob("*")) if folder is not None and folder.is_dir() else []:
        with suppress(OSError, UnicodeDecodeError):
            if path.is_file() and person.is_in(path.read_text("utf-8")):
                done.left.append(f"{path} has the id: change it yourself")
    damaged = [uri for uri, _ in site.lake.listed("damaged")]
    if damaged:
        done.left.append(f"{len(damaged)} damaged files cannot be searched, such as {damaged[0]}: delete them")
