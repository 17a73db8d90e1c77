"""OpenAPI's description of the API: FastAPI's, with the errors as they are answered, and an example of each operation.

Source: OpenAPI Specification 3.1.0.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from meterhouse.api.reference.examples import examples

METHODS: Final = ("get", "post", "put", "delete", "patch")

_ERROR: Final = {
    "type": "object",
    "description": "What is wrong, as Ceilometer and Aodh answer it.",
    "required": ["error_message"],
    "properties": {
        "error_message": {
            "type": "object",
            "required": ["faultcode", "faultstring", "debuginfo"],
            "properties": {
                "faultcode": {"type": "string", "enum": ["Client", "Server"], "description": "Whose fault it is."},
                "faultstring": {"type": "string", "description": "What is wrong, and what to do."},
                "debuginfo": {"type": "null"},
            },
        }
    },
}

_JSON: Final = "application/json"


def described(app: FastAPI) -> dict[str, Any]:
    """The description of an application; made once."""
    if app.openapi_schema is None:
        app.openapi_schema = _described(app)
    return app.openapi_schema


def operations(description: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The operations of a description, each with its method and path: `GET /v2/meters`."""
    for path, methods in description["paths"].items():
        for method in METHODS:
            if method in methods:
                yield f"{method.upper()} {path}", methods[method]


def _described(app: FastAPI) -> dict[str, Any]:
    made = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    schemas = made.setdefault("components", {}).setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    schemas["Error"] = _ERROR
    _without_zones(made)
    first = {each.operation: each for each in reversed(examples())}
    for name, operation in operations(made):
        operation["summary"] = operation.get("description", "").partition(". ")[0].partition("\n")[0].rstrip(".")
        operation["responses"].pop("422", None)
        error = {"description": "An error", "content": {_JSON: {"schema": {"$ref": "#/components/schemas/Error"}}}}
        operation["responses"].setdefault("default", error)
        example = first.get(name)
        if example is None:
            continue
        operation["x-example"] = {"path": example.path, "headers": dict(example.headers)}
        if example.body is not None:
            content = operation.setdefault("requestBody", {}).setdefault("content", {})
            content.setdefault(_JSON, {})["example"] = example.body
        answered = operation["responses"].setdefault(str(example.status), {"description": "The answer"})
        if example.answer is not None:
            kind = _JSON if not isinstance(example.answer, str) else next(iter(answered.get("content", {_JSON: None})))
            answered.setdefault("content", {}).setdefault(kind, {})["example"] = example.answer
    return made


def _without_zones(content: Any) -> None:
    """Say of all times that they have no zone: OpenAPI's format `date-time` would want one."""
    if isinstance(content, dict):
        if content.get("format") == "date-time":
            content["format"] = "date-time-local"
        for each in content.values():
            _without_zones(each)
    elif isinstance(content, list):
        for each in content:
            _without_zones(each)
