"""The table of units (`units.yaml`): which amounts can be converted into which, and by what exact factor."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

from meterhouse import yaml_lines
from meterhouse.definitions.site_files import in_use, once_a_change
from meterhouse.errors import DefinitionError, shown
from meterhouse.shipped import DEFAULTS

FILE: Final = "units.yaml"
SHIPPED: Final = DEFAULTS / FILE


@dataclass(frozen=True)
class Units:
    """A table of units.

    Attributes:
        factors: unit → (the unit that it is a multiple of, the factor).
        faults: the entries that cannot work.
        path: the file.
    """

    factors: dict[str, tuple[str, Fraction]]
    faults: tuple[DefinitionError, ...]
    path: str

    def base(self, unit: str | None) -> tuple[str | None, Fraction]:
        """The unit that all convertible ones have in common, and the factor to it."""
        of, factor = unit, Fraction(1)
        while of is not None and of in self.factors:
            of, times = self.factors[of]
            factor *= times
        return of, factor

    def factor(self, unit: str | None, to: str | None) -> Fraction | None:
        """What an amount in a unit is multiplied by to be in another; None if it cannot be converted.

        A missing unit is taken to be the wanted one.
        """
        if unit is None or to is None or unit == to:
            return Fraction(1)
        (of, factor), (to_of, to_factor) = self.base(unit), self.base(to)
        return factor / to_factor if of == to_of else None


def load(config_dir: Path | None) -> Units:
    """The site's table of units, or the shipped one.

    Raises:
        DefinitionError: the file as a whole cannot be read.
    """
    return _current(in_use(config_dir, FILE, SHIPPED))


def read(path: Path) -> Units:
    """The table of a file.

    Raises:
        DefinitionError: the file as a whole cannot be read.
    """
    content = yaml_lines.read(path)
    entries = content.get("units") if isinstance(content, dict) else None
    if not isinstance(entries, dict):
        raise DefinitionError("the file has no mapping `units`", where=f"{path}:1", hint="Start it with `units:`")
    factors, faults = dict[str, tuple[str, Fraction]](), list[DefinitionError]()
    for unit, entry in entries.items():
        try:
            factors[str(unit)] = _entry(entry)
        except ValueError as error:
            line = getattr(entry, "line", getattr(entries, "line", 1))
            faults.append(
                DefinitionError(
                    f"the unit {shown(unit)}: {error}", where=f"{path}:{line}", hint="Write {of: GiB, factor: 1/1024}"
                )
            )
    for unit in list(factors):
        seen = {unit}
        of = factors[unit][0]
        while of in factors and of not in seen:
            seen.add(of)
            of = factors[of][0]
        if of in seen:
            what = f"the unit {shown(unit)} is a multiple of itself"
            faults.append(DefinitionError(what, where=f"{path}:1", hint="Give it a unit that is not listed"))
            del factors[unit]
    return Units(factors, tuple(faults), str(path))


_current: Final = once_a_change(read)


def _entry(entry: Any) -> tuple[str, Fraction]:
    if not isinstance(entry, dict) or set(entry) != {"of", "factor"} or not isinstance(entry["of"], str):
        raise ValueError("it is not a mapping of `of` and `factor`")
    try:
        factor = Fraction(str(entry["factor"]).replace(" ", ""))
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"its factor {shown(entry['factor'])} is not a number") from None
    if factor <= 0:
        raise ValueError("its factor is not above 0")
    return entry["of"], factor
