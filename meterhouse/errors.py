"""Errors that are meant for the person at the terminal: what, where and what to do."""


class MeterhouseError(Exception):
    """A fault that the user can mend.

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

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return f"{text}. {self.hint}" if self.hint else text


class DefinitionError(MeterhouseError):
    """A definition file (meters, events, quality rules, alarms) that cannot work."""


class SettingsError(MeterhouseError):
    """A `METERHOUSE_*` variable that cannot be used."""


class UnknownName(MeterhouseError):
    """A meter, alarm, report or resource that does not exist; the hint lists the near ones."""

    def __init__(self, kind: str, name: str, known: list[str], *, hint: str = "") -> None:
        from difflib import get_close_matches

        near = get_close_matches(name, known, n=5, cutoff=0.5) or sorted(known)[:5]
        did_you_mean = f"Did you mean {', '.join(near)}?" if near else f"There is no {kind} yet"
        super().__init__(f"unknown {kind} '{name}'", hint=hint or did_you_mean)


class Unavailable(MeterhouseError):
    """A server does not answer. It may be back soon."""


class Conflict(MeterhouseError):
    """Another process is doing the same work, or changed the data first; nothing was done."""


class AlreadyRunning(Conflict):
    """Another process holds the lease of this step; nothing was done."""
