"""What definition files mean, as texts that can be kept and compared, so that it shows later what a change changed.

Comments, order of keys, quotes and anchors of a YAML file do not change what it means.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any


@dataclass(frozen=True)
class Meaning:
    """What files and settings say about the rows of a table.

    Attributes:
        parts: each part by its label, such as `meter cpu`, as canonical JSON; in an order that counts.
        files: file or setting → hash of what it says.
    """

    parts: tuple[tuple[str, str], ...]
    files: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def text(self) -> str:
        """The parts as JSON text: a list of pairs."""
        return json.dumps(self.parts, separators=(",", ":"))

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the text, 16 hex digits."""
        return fingerprint(self.text)

    def changes_since(self, text: str) -> list[str]:
        """What has changed since another text of the same kind, such as `meter cpu changed`, by label."""
        return changes(dict(json.loads(text)), dict(self.parts)) or ["the order changed"]


def of_parts(parts: Iterable[tuple[str, str, Any]]) -> Meaning:
    """The meaning of these parts, in their order: file or setting, label, content of plain data."""
    listed = [(file, label, canonical(content)) for file, label, content in parts]
    by_file: dict[str, list[tuple[str, str]]] = {}
    for file, label, text in listed:
        by_file.setdefault(file, []).append((label, text))
    files = {file: fingerprint(json.dumps(of_file)) for file, of_file in by_file.items()}
    return Meaning(tuple((label, text) for _, label, text in listed), files)


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between two meanings, each as label → content: the label and `added`, `removed` or `changed`."""
    return [
        f"{label} {'added' if label not in before else 'removed' if label not in now else 'changed'}"
        for label in sorted(before.keys() | now.keys())
        if before.get(label) != now.get(label)
    ]


def canonical(content: Any) -> str:
    """Plain data as JSON text that is the same for equal data; keys are texts."""
    return json.dumps(_with_texts(content), sort_keys=True, separators=(",", ":"), default=str)


def fingerprint(text: str) -> str:
    """A hash of a text, 16 hex digits."""
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]


def _with_texts(content: Any) -> Any:
    if isinstance(content, dict):
        return {str(key): _with_texts(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_with_texts(each) for each in content]
    return content
