"""The files that declare alarms: `alarms.yaml`, and those of the folder `alarms.d/`, in the order of their names."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from meterhouse import __version__, yaml_lines
from meterhouse.alarms.definitions.alarm import Alarm, from_mapping
from meterhouse.definitions.site_files import in_use
from meterhouse.errors import DefinitionError
from meterhouse.garbage import gc_disabled
from meterhouse.shipped import DEFAULTS

MAX_ALARMS: Final = 200_000
"""Maximum number of alarms that the files declare."""

LIMITS: Final = yaml_lines.Limits(size=1 << 29, values=20_000_000)
"""How large one of the files may be. What is bounded is each alarm, not how many there are."""


@dataclass(frozen=True)
class Defined:
    """What the files declare.

    Attributes:
        alarms: the alarms that can be evaluated, each with its file and line.
        faults: what is wrong with each of the others, and with files that cannot be read.
        names: the names of all alarms, if every file could be read and every alarm has a name; otherwise None.
    """

    alarms: tuple[tuple[Alarm, str], ...]
    faults: tuple[DefinitionError, ...]
    names: frozenset[str] | None


def paths(config_dir: Path | None) -> list[Path]:
    """The files in use: the site's, or the shipped one, which declares none."""
    first = in_use(config_dir, "alarms.yaml", DEFAULTS / "alarms.yaml")
    more = (config_dir / "alarms.d").glob("*.y*ml") if config_dir else ()
    return [first, *sorted(more)]


def digest(config_dir: Path | None) -> str:
    """What differs if a file has changed, or if another release reads it."""
    import xxhash

    made = xxhash.xxh3_128(__version__.encode())
    for path in paths(config_dir):
        made.update(f"\0{path}\0".encode())
        try:
            made.update(path.read_bytes())
        except OSError as error:
            made.update(str(error.errno).encode())
    return made.hexdigest()


def read(config_dir: Path | None) -> Defined:
    """The site's alarms. An alarm or a file that cannot work affects no other one."""
    with gc_disabled():  # it would look at millions of objects again and again, none of which is garbage
        return _read(config_dir)


def _read(config_dir: Path | None) -> Defined:
    made: dict[str, tuple[Alarm, str]] = {}
    faults: list[DefinitionError] = []
    names: set[str] = set()
    all_named, count = True, 0
    for path in paths(config_dir):
        try:
            for entry, where in _entries(path):
                count += 1
                if count > MAX_ALARMS:
                    raise DefinitionError(
                        f"the files declare more than {MAX_ALARMS:,} alarms", where=where, hint="Remove some"
                    )
                name = entry.get("name") if isinstance(entry, dict) else None
                if isinstance(name, str) and name:
                    names.add(name)
                else:
                    all_named = False
                try:
                    alarm = from_mapping(entry, where)
                    if alarm.name in made:
                        raise DefinitionError(
                            f"two alarms are named '{alarm.name}'",
                            where=where,
                            hint=f"The first is in {made[alarm.name][1]}. Give each its own name",
                        )
                except DefinitionError as error:
                    faults.append(error)
                else:
                    made[alarm.name] = (alarm, where)
        except DefinitionError as error:
            faults.append(error)
            all_named = False
    return Defined(tuple(made.values()), tuple(faults), frozenset(names) if all_named else None)


def load(config_dir: Path | None) -> list[Alarm]:
    """The site's alarms, if all of them can work.

    Raises:
        DefinitionError: an alarm is invalid; the error has file, line, what is wrong and what to do.
    """
    found = read(config_dir)
    for fault in found.faults:
        raise fault
    return [alarm for alarm, _ in found.alarms]


def _entries(path: Path) -> Iterator[tuple[Any, str]]:
    """The entries of a file, each with file and line.

    Raises:
        DefinitionError: the file has no list of alarms.
    """
    content = yaml_lines.read(path, LIMITS)
    entries = content.get("alarms") if isinstance(content, dict) else None
    if not isinstance(entries, list):
        raise DefinitionError("the file has no list `alarms`", where=f"{path}:1", hint="Start the file with `alarms:`")
    for entry in entries:
        yield entry, f"{path}:{getattr(entry, 'line', 1)}"
