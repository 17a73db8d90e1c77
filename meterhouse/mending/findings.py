"""What a mending run found and did."""

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Findings:
    """Rows of `part`, `state` (ok, fixed or failed) and `finding`, in the order of the work."""

    rows: list[dict[str, Any]] = field(default_factory=list)

    def ok(self, part: str, finding: str) -> None:
        """Nothing was wrong."""
        self.rows.append({"part": part, "state": "ok", "finding": finding})

    def fixed(self, part: str, finding: str) -> None:
        """Something was wrong, and is fixed."""
        self.rows.append({"part": part, "state": "fixed", "finding": finding})

    def failed(self, part: str, finding: str) -> None:
        """Something could not be recomputed, or not yet."""
        self.rows.append({"part": part, "state": "failed", "finding": finding})

    def found(self, part: str) -> bool:
        """Whether there is a row of a part."""
        return any(row["part"] == part for row in self.rows)
