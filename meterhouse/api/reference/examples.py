"""The examples of the API's operations: what is asked, and what the API of an example site answers.

They are data, in `examples.yaml`: the documentation shows them, `/openapi.json` has them, and a test asks each of a
site. In an answer, `...` stands for any value, and for any further entries at the end of a list or object.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

from meterhouse.errors import DefinitionError

FILE: Final = Path(__file__).with_name("examples.yaml")

ANY: Final = "..."
"""Any value; at the end of a list or as a key of an object: any further entries."""


@dataclass(frozen=True)
class Example:
    """A request, and its answer.

    Attributes:
        operation: method and path template: `GET /v2/samples/{sample_id}`.
        path: the path and the query that are asked.
        says: what the example shows, if not the usual.
        headers: of the request.
        body: of the request, for JSON.
        status: of the answer.
        answer: its body, from JSON or as text; None if it has none.
        named: names for values of the answer that later requests use, such as `{alarm}`: name → path of keys.
    """

    operation: str
    path: str
    says: str
    headers: Mapping[str, str]
    body: Any
    status: int
    answer: Any
    named: Mapping[str, str]

    @property
    def method(self) -> str:
        """Of HTTP."""
        return self.operation.partition(" ")[0]


@cache
def examples() -> tuple[Example, ...]:
    """All examples, in the order in which they can be asked one after the other.

    Raises:
        DefinitionError: an entry is none.
    """
    found = []
    for entry in yaml.safe_load(FILE.read_text("utf-8")):
        unknown = set(entry) - {"ask", "path", "says", "headers", "body", "status", "answer", "named"}
        if unknown or "ask" not in entry:
            raise DefinitionError(f"the entry {entry} is not an example", where=FILE.name)
        operation = entry["ask"]
        found.append(
            Example(
                operation,
                entry.get("path", operation.partition(" ")[2]),
                entry.get("says", ""),
                entry.get("headers", {}),
                entry.get("body"),
                entry.get("status", 200),
                entry.get("answer"),
                entry.get("named", {}),
            )
        )
    return tuple(found)
