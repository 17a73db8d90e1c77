"""Typed and bounded values of one mapping of a definition, with errors that name file, line and alarm."""

import math
from collections.abc import Set
from dataclasses import fields
from typing import Any

from meterhouse.alarms.definitions import actions
from meterhouse.errors import DefinitionError, InvalidValue, shown
from meterhouse.untrusted import is_plain

MAX_NAME = 255
"""Maximum number of characters of a name."""

MAX_TEXT = 10_000
"""Maximum number of characters of a description."""

MAX_LIST = 50
"""Maximum number of URLs or conditions in a list."""


def names(kind: type[Any]) -> frozenset[str]:
    """The names of a dataclass's fields: the keys that its mapping may have."""
    return frozenset(field.name for field in fields(kind))


class Checker:
    """Reads values from a mapping.

    Args:
        entry: what should be a mapping.
        where: its file and line.
        label: what it defines, for errors.
        as_text: whether numbers and flags may be texts, as clients of the API send them.

    Raises:
        DefinitionError: it is not a mapping. The methods raise it for a value that cannot be used.
    """

    def __init__(self, entry: Any, where: str, label: str, *, as_text: bool = False) -> None:
        self.where, self.label, self.as_text = where, label, as_text
        if not isinstance(entry, dict):
            raise self.fault("is not a mapping", "Write its keys and values")
        self.entry = entry

    def fault(self, what: str, hint: str) -> DefinitionError:
        """An error about this mapping."""
        return DefinitionError(f"{self.label} {what}", where=self.where, hint=hint)

    def invalid(self, key: str, value: object, what: str, hint: str) -> DefinitionError:
        """An error about the value of a key."""
        return InvalidValue.of(key, value, self.fault(what, hint))

    def keys(self, known: Set[str]) -> None:
        """Reject unknown keys."""
        if self.entry.keys() <= known:
            return
        unknown = sorted(actions.shown_url(shown(key).strip("'")) for key in set(self.entry) - known)
        if unknown:
            raise self.fault(f"has unknown keys: {', '.join(unknown[:MAX_LIST])}", f"Known: {', '.join(sorted(known))}")

    def within(self, key: str, label: str) -> "Checker":
        """The mapping that a key has."""
        inner = self.entry.get(key)
        return Checker(inner, self._where(inner), label, as_text=self.as_text)

    def text(self, key: str, default: str = "") -> str:
        """A text of one line; required if there is no default."""
        value = self.entry.get(key)
        if (value is None or value == "") and default:
            return default
        if value is None or value == "":
            raise self.invalid(key, None, f"has no {key}", f"Add `{key}: …`")
        if not isinstance(value, str):
            raise self.invalid(key, value, f"has {key} {shown(value)}", "Write a text, in quotes if it is not a word")
        return self._bounded(key, value, MAX_NAME)

    def prose(self, key: str) -> str:
        """A text of any number of lines; empty if there is none."""
        value = self.entry.get(key, "")
        if not isinstance(value, str):
            raise self.invalid(key, value, f"has {key} {shown(value)}", "Write a text, in quotes if it is not a word")
        return self._bounded(key, value, MAX_TEXT, lines=True)

    def number(self, key: str, default: float | None = None) -> float:
        """A finite number; required if there is no default."""
        value = self.entry.get(key) if default is None else self.entry.get(key, default)
        try:
            if self.as_text and isinstance(value, str) and len(value) < MAX_NAME:
                value = float(value.replace("_", "no number"))
        except ValueError:
            pass
        try:
            if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
                return float(value)
        except OverflowError:  # a whole number that no float can hold
            pass
        raise self.invalid(key, value, f"has {key} {shown(value)}", f"Write a number for {key}, at most 1.7e308")

    def whole(self, key: str, default: int | None, most: int, least: int = 1) -> int:
        """A whole number from `least` to `most`; required if there is no default."""
        value = self.entry.get(key, default)
        if value is None:
            raise self.invalid(key, None, f"has no {key}", f"Add `{key}: …`")
        if self.as_text and isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 16:
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise self.invalid(
                key, value, f"has {key} {shown(value)}", f"Write a whole number from {least} to {most:,} for {key}"
            )
        return value

    def flag(self, key: str, default: bool) -> bool:
        """True or false."""
        value = self.entry.get(key, default)
        if self.as_text and isinstance(value, str) and value.lower() in ("true", "false"):
            value = value.lower() == "true"
        if not isinstance(value, bool):
            raise self.invalid(key, value, f"has {key} {shown(value)}", "Write true or false")
        return value

    def one_of(self, key: str, known: tuple[str, ...], default: str) -> str:
        """One of the known words."""
        value = self.entry.get(key, default)
        if value not in known:
            raise self.invalid(key, value, f"has {key} {shown(value)}", f"Write one of {', '.join(known)}")
        return str(value)

    def items(self, key: str, of: str) -> list[Any]:
        """A list of at most MAX_LIST items."""
        value = self.entry.get(key, [])
        if not isinstance(value, list | tuple):
            raise self.fault(f"has {key} that is not a list", f"Write a list of {of}")
        if len(value) > MAX_LIST:
            raise self.fault(f"has {len(value):,} items in {key}", f"Write at most {MAX_LIST}")
        return list(value)

    def texts(self, key: str) -> list[str]:
        """A list of texts of one line."""
        value = self.items(key, "texts")
        for each in value:
            if not isinstance(each, str) or not each:
                raise self.fault(f"has {shown(each)} in {key}", "Write a text, in quotes if it is not a word")
            self._bounded(key, each, MAX_TEXT)
        return value

    def mappings(self, key: str, of: str, label: str) -> list["Checker"]:
        """A list of mappings."""
        return [Checker(item, self._where(item), label, as_text=self.as_text) for item in self.items(key, of)]

    def urls(self, key: str) -> tuple[str, ...]:
        """A list of URLs to notify, each once, their schemes in lower case."""
        value = self.items(key, "URLs")
        for url in value:
            if refused := actions.refusal(url):
                raise self.fault(f"has {key}: {refused[0]}", refused[1])
        return tuple(dict.fromkeys(map(actions.with_lower_scheme, value)))

    def operand(self, key: str) -> str:
        """What a condition compares with: a text or a number, as text."""
        value = self.entry.get(key, "")
        if not isinstance(value, str | int | float) or isinstance(value, bool):
            raise self.invalid(key, value, f"has {key} {shown(value)}", "Write a text, in quotes if it is not a word")
        try:
            return self._bounded(key, str(value), MAX_NAME)
        except ValueError:  # more digits than Python prints
            raise self.invalid(key, value, f"has {key} {shown(value)}", "Write a shorter one") from None

    def _bounded(self, key: str, value: str, most: int, *, lines: bool = False) -> str:
        if len(value) > most:
            raise self.fault(f"has {key} of {len(value):,} characters", f"Write at most {most:,}")
        if not is_plain(value, lines=lines):
            raise self.invalid(key, value, f"has {key} {shown(value)}", "Write it without control characters")
        return value

    def _where(self, inner: Any) -> str:
        line = getattr(inner, "line", None)
        return self.where if line is None else f"{self.where.rpartition(':')[0]}:{line}"
