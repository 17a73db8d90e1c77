"""What a check of the suite finds."""

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "failed", "skipped"]


@dataclass(frozen=True)
class Finding:
    """What a check finds.

    Attributes:
        check: its name.
        state: `skipped` if it cannot be made, because another has failed.
        found: what was found, in a sentence without a full stop.
        to_do: where to look, if it has failed.
        seconds: how long it took.
    """

    check: str
    state: State
    found: str
    to_do: str = ""
    seconds: float = 0.0

    def __str__(self) -> str:
        return f"{self.found}. {self.to_do}" if self.to_do else self.found


class Failed(Exception):
    """A check has failed.

    Args:
        found: what was found.
        to_do: where to look.
    """

    def __init__(self, found: str, to_do: str = "") -> None:
        super().__init__(found)
        self.found, self.to_do = found, to_do
