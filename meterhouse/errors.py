"""Errors that are meant for the person at the terminal: what, where and what to do."""

from collections.abc import Sequence


class MeterhouseError(Exception):
    """A fault that the user can fix.

    Args:
        what: what is wrong, in one sentence without a full stop.
        where: the file and line, the setting or the argument at fault; empty where the sentence already says it.
        hint: what to do about it.
    """

    def __init__(self, what: str, *, where: str = "", hint: str = "") -> None:
        self.what = what
        self.where = where
        self.hint = hint
        super().__init__(str(self))

    def __reduce__(self) -> "tuple[object, ...]":
        """Errors go to other processes, whatever the arguments of their class are."""
        return _again, (type(self), self.what, self.where, self.hint)

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return f"{text}. {self.hint}" if self.hint else text


def _again(kind: type[MeterhouseError], what: str, where: str, hint: str) -> MeterhouseError:
    made = kind.__new__(kind)
    MeterhouseError.__init__(made, what, where=where, hint=hint)
    return made


class DefinitionError(MeterhouseError):
    """A definition file (meters, events, quality rules, archive policies, alarms) that cannot work."""


class InvalidValue(DefinitionError):
    """A value of a definition that cannot be used, or is missing.

    Attributes:
        key: of the value.
        value: as an error shows it; `None` if it is missing.
    """

    key: str = ""
    value: str = ""

    @classmethod
    def of(cls, key: str, value: object, error: DefinitionError) -> "InvalidValue":
        """The error of a value, with the texts of another one."""
        made = cls(error.what, where=error.where, hint=error.hint)
        made.key, made.value = key, value if isinstance(value, str) else shown(value)
        return made


class SettingsError(MeterhouseError):
    """A `METERHOUSE_*` variable that cannot be used."""


class UsageError(MeterhouseError):
    """A command or a query that cannot work, whatever the data is: exit status 2."""


class UnknownName(MeterhouseError):
    """A meter, alarm, resource or dead letter that does not exist; the hint lists near misses."""

    def __init__(self, kind: str, name: str, known: Sequence[str], *, hint: str = "") -> None:
        near = near_misses(name, known) or sorted(known)[:NEAR_MISSES]
        did_you_mean = f"Did you mean {', '.join(near)}?" if near else f"There is no {kind} yet"
        super().__init__(f"unknown {kind} '{name}'", hint=hint or did_you_mean)


class UnknownKeyword(UnknownName, UsageError):
    """A name that is not in the code: a field, an operator, a group, an aggregate, a report or an asset."""

    def __init__(self, kind: str, name: str, known: Sequence[str]) -> None:
        super().__init__(kind, name, known, hint="" if near_misses(name, known) else f"Known: {', '.join(known)}")


NEAR_MISSES = 5
"""How many near misses a hint lists at most."""


def near_misses(name: str, known: Sequence[str]) -> list[str]:
    """The known names that may be meant: those that start with it, then similar ones, then those that contain it."""
    from difflib import get_close_matches

    lower = name.lower()
    near = sorted(each for each in known if lower and each.lower().startswith(lower))
    if len(near) < NEAR_MISSES:
        near += get_close_matches(name, known, n=NEAR_MISSES, cutoff=0.5)
        near += sorted(each for each in known if lower and lower in each.lower())
    return list(dict.fromkeys(near))[:NEAR_MISSES]


class NotAllowed(MeterhouseError):
    """Something that this caller may not do."""


class NotAuthorized(NotAllowed):
    """Something of another project or user, or of administrators: whoever asks as them may do it."""


class OverQuota(NotAllowed):
    """A project or a user already has the maximum number of what it asks for."""


class Unavailable(MeterhouseError):
    """A server does not answer. It may be back soon."""


class Damaged(MeterhouseError):
    """A file of the lake that is missing, empty, cut or changed."""


class WentBack(MeterhouseError):
    """A lake table that is older than what was read of it, or another one: it was restored, or its end was lost."""


class Conflict(MeterhouseError):
    """Another process is doing the same work, or changed the data first; nothing was done."""


class Replaced(Conflict):
    """Files were replaced and deleted while they were being read; a second reading finds those in their place."""


class AlreadyRunning(Conflict):
    """Another process holds the lease of this step; nothing was done."""


SHOWN_LENGTH = 60
"""How many characters of a value an error shows at most."""


def shown(value: object) -> str:
    """A value of a file as an error shows it: shortened, and whatever it is."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # more digits than Python prints, or too deep
        return f"a {type(value).__name__} that is too large to show"
    return text if len(text) <= SHOWN_LENGTH else f"{text[:SHOWN_LENGTH]}…"
