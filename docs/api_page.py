"""The reference page of the HTTP API, from its OpenAPI description and the examples of its operations."""

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from meterhouse.api.app import create_app
from meterhouse.api.reference.description import described, operations
from meterhouse.api.reference.examples import Example, examples
from meterhouse.settings import Settings
from meterhouse.site import Site

Table = Callable[[Sequence[str], Iterator[Sequence[str]]], str]
Code = Callable[[object], str]

_START = """\
# API

Each path of the HTTP API, with its parameters, its answer and an example. [The API's guide](../api.md) says how to \
start it, who may ask, and what differs from Ceilometer and Aodh. `GET /openapi.json` answers this page as OpenAPI.

In the examples, `...` stands for what is left out. Every error has the body \
`{"error_message": {"faultcode": "Client", "faultstring": "what is wrong, and what to do", "debuginfo": null}}`.
"""


def description() -> dict[str, Any]:
    """The OpenAPI description of the API, of a site that has no data."""
    with tempfile.TemporaryDirectory() as folder:
        return described(create_app(Site.open(Settings(home=Path(folder)))))


def api_page(table: Table, code: Code) -> str:
    """The page, as Markdown.

    Args:
        table: makes a table of columns and rows.
        code: makes inline code.
    """
    made = description()
    of_tags: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    for name, operation in operations(made):
        of_tags.setdefault((operation.get("tags") or ["api"])[0], []).append((name, operation))
    index = table(
        ("request", "does"),
        (
            (f"[{code(name)}](#{_anchor(name)})", operation.get("summary", ""))
            for listed in of_tags.values()
            for name, operation in listed
        ),
    )
    parts = [_START, index]
    for tag, listed in of_tags.items():
        parts.append(f"## {tag[:1].upper()}{tag[1:]}\n")
        parts += [_operation(name, operation, made, table, code) for name, operation in listed]
    return "\n".join(parts)


def _anchor(name: str) -> str:
    """GitHub's anchor of a heading."""
    kept = "".join(each for each in name.lower() if each.isalnum() or each in "-_ ")
    return kept.strip().replace(" ", "-")


def _operation(name: str, operation: Mapping[str, Any], made: Mapping[str, Any], table: Table, code: Code) -> str:
    parts = [f"### {name}\n", f"{operation.get('description') or operation.get('summary', '')}\n"]
    given = operation.get("parameters", [])
    if given:
        rows = ((code(each["name"]), each["in"], _kind(each["schema"]), each.get("description", "")) for each in given)
        parts.append(table(("parameter", "in", "type", "meaning"), rows))
    fields = list(_fields(operation.get("requestBody", {}), made))
    if fields:
        parts += ["The body:\n", table(("field", "type", "meaning"), ((code(n), k, m) for n, k, m in fields))]
    for status, answer in operation["responses"].items():
        listed = list(_fields(answer, made))
        if status != "default" and listed:
            rows = ((code(n), k, m) for n, k, m in listed)
            parts += [f"The answer, with status {status}:\n", table(("field", "type", "meaning"), rows)]
    for example in examples():
        if example.operation == name:
            parts.append(_example(example))
    return "\n".join(parts)


def _fields(content: Mapping[str, Any], made: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """The fields of the objects in a body: name, type, meaning."""
    schema = content.get("content", {}).get("application/json", {}).get("schema", {})
    schema = _resolved(schema, made)
    if schema.get("type") == "array":
        schema = _resolved(schema.get("items", {}), made)
    for name, each in schema.get("properties", {}).items():
        resolved = _resolved(each, made)
        yield name, _kind(each), each.get("description") or resolved.get("description", "")


def _resolved(schema: Mapping[str, Any], made: Mapping[str, Any]) -> Mapping[str, Any]:
    if "$ref" in schema:
        found: Mapping[str, Any] = made["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        return found
    return schema


def _kind(schema: Mapping[str, Any]) -> str:
    """A type in words."""
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_kind(each) for each in schema["anyOf"]))
    if "$ref" in schema:
        return "object"
    if schema.get("type") == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    if "enum" in schema:
        return ", ".join(str(each) for each in schema["enum"])
    kind = schema.get("type", "any")
    known = {"string": "text", "integer": "whole number", "boolean": "true or false", "null": "null"}
    return "time" if schema.get("format") == "date-time-local" else known.get(kind, str(kind))


def _example(example: Example) -> str:
    lines = [f"{example.method} {example.path}", *(f"{name}: {value}" for name, value in example.headers.items())]
    if example.body is not None:
        lines += ["", _json(example.body)]
    shown = [f"{example.says}\n"] if example.says else []
    shown += ["```text", *lines, "```", ""]
    if example.answer is None:
        return "\n".join([*shown, f"The answer has status {example.status} and no body.\n"])
    body = example.answer if isinstance(example.answer, str) else _json(example.answer)
    status = [] if example.status == 200 else [f"Status {example.status}:", ""]
    return "\n".join([*shown, *status, "```text", body.strip(), "```", ""])


def _json(content: Any) -> str:
    """JSON with what is short on one line."""
    whole = json.dumps(content, ensure_ascii=False)
    if len(whole) <= 100 or not isinstance(content, dict | list):
        return whole
    if isinstance(content, list):
        inner = [_json(each) for each in content]
        opening, closing = "[", "]"
    else:
        inner = [f"{json.dumps(name)}: {_json(each)}" for name, each in content.items()]
        opening, closing = "{", "}"
    lines = ",\n".join(inner).splitlines()
    return "\n".join([opening, *(f"  {line}" for line in lines), closing])
