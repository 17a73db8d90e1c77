"""What is wrong with entries of polling.yaml and pollsters.d."""

from dataclasses import dataclass
from typing import Any, Final, Literal

import yaml

Severity = Literal["fault", "warning"]

NAME: Final = 80
"""Characters that are shown of a name."""


@dataclass(frozen=True)
class Finding:
    """A problem of an entry.

    Attributes:
        file: the file that has it.
        line: the line, from 1.
        severity: `fault`: the entry is left out; `warning`: it is used, but is probably a mistake.
        entry: `source NAME` or `pollster NAME`; empty if the problem is the file itself.
        reason: what is wrong.
    """

    file: str
    line: int
    severity: Severity
    entry: str
    reason: str

    def __str__(self) -> str:
        named = f" {self.entry}:" if self.entry else ""
        return f"{self.file}:{self.line}: {self.severity}:{named} {self.reason}"


def named_source(name: str) -> str:
    """What findings call a source."""
    return f"source {name[:NAME]}"


def named_pollster(name: str) -> str:
    """What findings call a pollster."""
    return f"pollster {name[:NAME]}"


def line_at(node: Any, keys: tuple[str, ...] = ()) -> int:
    """The line of the value that keys, and places in lists, lead to in a YAML node, as far as they exist."""
    for key in keys:
        if isinstance(node, yaml.MappingNode):
            found = [value for name, value in node.value if isinstance(name, yaml.ScalarNode) and name.value == key]
            node = found[-1] if found else node
        elif isinstance(node, yaml.SequenceNode) and key.isdecimal() and int(key) < len(node.value):
            node = node.value[int(key)]
    return int(node.start_mark.line) + 1
