"""Warnings about entries that gave no sample: each reason once, with how many entries and which was the first."""

from collections.abc import Iterator
from typing import Final

from meterhouse.untrusted import printable

MAX_REASONS: Final = 5


class Warnings:
    """Collects warnings; those of further reasons are only counted."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[int, str]] = {}
        self._others = 0

    def add(self, reason: str, about: object) -> None:
        """Add a warning.

        Args:
            reason: why; without values of the answer.
            about: what identifies the entry.
        """
        known = self._found.get(reason)
        if known is not None:
            self._found[reason] = (known[0] + 1, known[1])
        elif len(self._found) < MAX_REASONS:
            self._found[reason] = (1, printable(str(about))[:100])
        else:
            self._others += 1

    def merge(self, others: "Warnings") -> None:
        """Add those that were collected elsewhere."""
        for reason, (count, first) in others._found.items():
            self.add(reason, first)
            if reason in self._found:
                self._found[reason] = (self._found[reason][0] + count - 1, self._found[reason][1])
            else:
                self._others += count - 1
        self._others += others._others

    def texts(self) -> Iterator[str]:
        """The warnings."""
        for reason, (count, first) in self._found.items():
            yield f"{first}: {reason}" if count == 1 else f"{count:,} entries, first {first}: {reason}"
        if self._others:
            yield f"{self._others:,} entries: for other reasons"
