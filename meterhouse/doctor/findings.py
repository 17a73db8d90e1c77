"""What the doctor finds: the state of a part, a sentence about it, and what to do."""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Literal

from meterhouse.errors import MeterhouseError
from meterhouse.site import Site

State = Literal["ok", "warning", "failed"]
STATES: tuple[State, ...] = ("ok", "warning", "failed")
"""From good to bad."""


@dataclass(frozen=True)
class Finding:
    """One finding.

    Attributes:
        part: the part of the site.
        state: its state.
        found: what was found.
        to_do: what to do about it; empty if nothing.
    """

    part: str
    state: State
    found: str
    to_do: str = ""

    def __str__(self) -> str:
        return f"{self.found}; {self.to_do}" if self.to_do else self.found


@dataclass(frozen=True)
class Check:
    """A check of one part of a site.

    Attributes:
        part: the part that it checks.
        examine: returns findings; an error that it raises is one.
        needs: the parts without which it cannot be made.
        otherwise: what can be examined without them, if anything.
    """

    part: str
    examine: Callable[[Site], Iterable[Finding]]
    needs: tuple[str, ...] = ()
    otherwise: Callable[[Site], Iterable[Finding]] | None = None

    def findings(self, site: Site, failed: Collection[str] = ()) -> list[Finding]:
        """What it finds, if these parts have failed. Never raises."""
        missing = [part for part in self.needs if part in failed]
        if not missing:
            return guarded(self.part, lambda: self.examine(site))
        otherwise = self.otherwise
        if otherwise is None:
            return [Finding(self.part, "warning", f"not checked, because the {missing[0]} cannot be used")]
        return guarded(self.part, lambda: otherwise(site))


def guarded(part: str, examine: Callable[[], Iterable[Finding]]) -> list[Finding]:
    """The findings of a function; the part has failed if it raises."""
    try:
        return list(examine())
    except MeterhouseError as error:
        return [Finding(part, "failed", str(error))]
    except Exception as error:
        return [Finding(part, "failed", f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}")]


def age(seconds: float) -> str:
    """A span of time in the largest unit that keeps two digits: `90 s`, `15 min`, `3 h`, `2 days`."""
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"
