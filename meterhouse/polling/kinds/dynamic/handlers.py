"""Reads answers: JSON, XML, text; never more deeply nested than what a sample can hold."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import orjson

from meterhouse.polling.polled import PollError

MAX_DEPTH: Final = 100
"""Maximum number of levels of an answer."""

_CHARSET: Final = re.compile(r"charset\s*=\s*[\"']?([\w.:-]+)", re.ASCII | re.IGNORECASE)
_DECLARED: Final = re.compile(rb"\s*<\?xml[^>]{0,200}?encoding\s*=\s*[\"']([\w.:-]+)[\"']")


class Unreadable(ValueError):
    """An answer that a handler cannot read; the text says why, and has nothing of the answer."""


def read(body: bytes, headers: Mapping[str, str], handlers: Sequence[str], where: str) -> Any:
    """What an answer says.

    Args:
        body: of the answer.
        headers: its headers, in lower case.
        handlers: names of `HANDLERS`; the first that can read the answer does.
        where: of which address the answer is, for an error.

    Raises:
        PollError: none can.
    """
    reasons = []
    for name in handlers:
        try:
            return HANDLERS[name](body, headers)
        except Unreadable as error:
            reasons.append(str(error))
    raise PollError(f"the answer cannot be read: {', and '.join(reasons)}", where=where)


def _json(body: bytes, headers: Mapping[str, str]) -> Any:
    try:
        found = orjson.loads(body)
    except ValueError:
        return _lenient_json(body, headers)
    try:
        orjson.dumps(found)  # which is faster than to walk it, and refuses more than 254 levels
    except (TypeError, ValueError):
        raise Unreadable("its JSON is nested too deeply") from None
    return found


def _lenient_json(body: bytes, headers: Mapping[str, str]) -> Any:
    """JSON as Python's own module reads it: with NaN and Infinity, and in other encodings."""
    import json

    if not body.strip():
        raise Unreadable("it is empty")
    try:
        found = json.loads(_decoded(body, headers))
    except RecursionError:
        raise Unreadable("its JSON is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise Unreadable(f"it is not JSON from line {error.lineno}, column {error.colno}") from None
    except ValueError as error:  # more digits than Python reads
        raise Unreadable(f"it is not JSON: {str(error)[:80]}") from None
    if _depth_exceeds(found, MAX_DEPTH):
        raise Unreadable("its JSON is nested too deeply")
    return found


def _xml(body: bytes, headers: Mapping[str, str]) -> Any:
    import xmltodict

    declared = _DECLARED.match(body)
    text = _decoded(body, headers, declared[1].decode() if declared else None)
    _check_depth_of_xml(text)
    try:
        return xmltodict.parse(text)  # without entities, which could stand for gigabytes
    except Exception as error:  # expat's, and those of what builds the tree
        raise Unreadable(f"it is not XML: {str(error)[:80]}") from None


def _check_depth_of_xml(text: str) -> None:
    """Raise if elements are nested too deeply, before memory is taken for each."""
    from xml.parsers import expat

    depth = 0

    def start(name: str, attributes: object) -> None:
        nonlocal depth
        depth += 1
        if depth > MAX_DEPTH:
            raise Unreadable("its XML is nested too deeply")

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1

    def entity(*_: object) -> None:
        raise Unreadable("its XML declares entities")

    parser = expat.ParserCreate("utf-8")
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.EntityDeclHandler = entity
    try:
        parser.Parse(text.encode("utf-8", "replace"), True)
    except expat.ExpatError as error:
        raise Unreadable(f"it is not XML: {expat.ErrorString(error.code)}, line {error.lineno}") from None


def _text(body: bytes, headers: Mapping[str, str]) -> Any:
    return [{"out": _decoded(body, headers)}]


HANDLERS: Final[Mapping[str, Callable[[bytes, Mapping[str, str]], Any]]] = {
    "json": _json,
    "xml": _xml,
    "text": _text,
}
"""What reads an answer, by the names of Ceilometer."""

HEADERS: Final = ("headers",)
"""In place of handlers, which is ours: HEAD is asked, and the answer's headers, in lower case, are its only entry. Its
`id` is what was asked about: the project, or whatever else was discovered."""


def _decoded(body: bytes, headers: Mapping[str, str], declared: str | None = None) -> str:
    """The text of an answer, by its charset; otherwise UTF-8, or what is not UTF-8, as Latin-1."""
    named = _CHARSET.search(headers.get("content-type", ""))
    for charset in (named[1] if named else None, declared, "utf-8-sig"):
        if charset:
            try:
                return body.decode(charset)
            except (LookupError, ValueError):
                continue
    return body.decode("latin-1")


def _depth_exceeds(value: Any, most: int) -> bool:
    level = [value]
    for _ in range(most):
        following: list[Any] = []
        for each in level:
            if isinstance(each, dict):
                following += [inner for inner in each.values() if isinstance(inner, dict | list)]
            elif isinstance(each, list):
                following += [inner for inner in each if isinstance(inner, dict | list)]
        if not following:
            return False
        level = following
    return True
