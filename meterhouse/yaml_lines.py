"""YAML files, read within limits and with line numbers for errors.

A file of a few kilobytes can be nested so deeply that the parser overflows its stack, or expand to gigabytes by aliases
of aliases. So the parser's events are counted first, without recursion.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from meterhouse.errors import DefinitionError

MAX_BYTES: Final = 4 << 20
"""Maximum size of a file."""

MAX_DEPTH: Final = 64
"""Maximum number of nested levels."""

MAX_VALUES: Final = 500_000
"""Maximum number of values, where each alias counts as all the values that it stands for."""

_Parser: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class TooLarge(ValueError):
    """A file that exceeds a limit; `line` is the line, from 1, at which it does."""

    def __init__(self, line: int, reason: str) -> None:
        self.line = line
        super().__init__(reason)


@dataclass(frozen=True)
class Limits:
    """How large a file may be.

    Attributes:
        size: of the file in bytes.
        values: how many it has, where each alias counts as all the values that it stands for.
    """

    size: int = MAX_BYTES
    values: int = MAX_VALUES


ONE_DEFINITION: Final = Limits()


def read_text(path: Path, limits: Limits = ONE_DEFINITION) -> str:
    """The text of a YAML file that is within the limits.

    Raises:
        OSError: the file cannot be read.
        UnicodeDecodeError: it is not UTF-8.
        TooLarge: it is too large, nested too deeply, or its aliases stand for too many values.
        yaml.YAMLError: it is not YAML.
    """
    text = _text(path, limits)
    _check(text, limits)
    return text


def _text(path: Path, limits: Limits) -> str:
    with path.open("rb") as file:
        content = file.read(limits.size + 1)
    if len(content) > limits.size:
        raise TooLarge(1, f"the file is larger than {limits.size >> 20} MiB")
    return content.decode("utf-8")


def _check(text: str, limits: Limits) -> None:
    weights: dict[str, int] = {}  # anchor → number of values, with all aliases expanded
    names: list[str | None] = []  # the anchors of the open collections
    sizes = [0]  # the sizes so far of the document and of the open collections
    for event in yaml.parse(text, _Parser):
        line = event.start_mark.line + 1 if event.start_mark else 1
        if isinstance(event, yaml.CollectionStartEvent):
            names.append(event.anchor)
            sizes.append(1)
            if event.anchor is not None:
                weights.pop(event.anchor, None)
            if len(names) > MAX_DEPTH:
                raise TooLarge(line, f"it is nested more than {MAX_DEPTH} levels deep")
            continue
        if isinstance(event, yaml.CollectionEndEvent):
            name, weight = names.pop(), sizes.pop()
        elif isinstance(event, yaml.ScalarEvent):
            name, weight = event.anchor, 1
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor in names:
                raise TooLarge(line, f"the alias '{event.anchor}' is part of what it stands for")
            name, weight = None, weights.get(event.anchor or "", 1)
        else:
            continue
        if name is not None:
            weights[name] = weight
        sizes[-1] += weight
        if sizes[-1] > limits.values:
            raise TooLarge(line, f"it has more than {limits.values:,} values, counting those that aliases stand for")


class Lined(dict[str, Any]):
    """A mapping that knows the line on which it starts (1-based)."""

    line: int = 0


# libyaml's loader, if PyYAML was built with it; mypy accepts no base class that is chosen at run time.
class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    pass


def _mapping(loader: _Loader, node: yaml.MappingNode) -> Lined:
    loader.flatten_mapping(node)
    content: dict[Any, Any] = loader.construct_mapping(node, deep=True)
    made = Lined(content)
    made.line = node.start_mark.line + 1
    return made


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def _scalar(loader: _Loader, node: yaml.ScalarNode) -> Any:
    """A number or a time. If it cannot be one, its text: whoever reads it refuses that entry and keeps the others."""
    try:
        return _Parser.yaml_constructors[node.tag](loader, node)
    except (ValueError, OverflowError):  # the 45th of a month, or more digits than Python reads
        return node.value


for _kind in ("int", "float", "timestamp"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_kind}", _scalar)


class _Special(Exception):
    """The text has anchors, tags or merged keys, which only PyYAML's own constructor knows."""


def _built(text: str, limits: Limits) -> Any:
    """The content of a text without anchors, tags and merged keys; in one pass, a quarter of the time of `yaml.load`.

    Raises:
        _Special: it has some.
        TooLarge: it is beyond a limit.
        yaml.YAMLError: it is not YAML.
    """
    known: dict[str, Any] = {}  # plain scalar → its value
    open_ones: list[Any] = []
    keys: list[Any] = []  # of each open mapping, the key that waits for its value
    top: list[Any] = []
    count = 0
    scalar_event, start_event, end_event = yaml.ScalarEvent, yaml.CollectionStartEvent, yaml.CollectionEndEvent
    events: Iterator[Any] = yaml.parse(text, _Parser)
    for event in events:
        kind = type(event)
        if kind is scalar_event:
            if event.anchor is not None or event.tag is not None:
                raise _Special
            value: Any = event.value
            if event.implicit[0]:  # plain
                try:
                    value = known[value]
                except KeyError:
                    known[value] = value = _resolved(value)
        elif isinstance(event, start_event):
            if event.anchor is not None or event.tag is not None:
                raise _Special
            if len(open_ones) >= MAX_DEPTH:
                raise TooLarge(_line(event), f"it is nested more than {MAX_DEPTH} levels deep")
            made: Any
            if kind is yaml.MappingStartEvent:
                made = Lined()
                made.line = _line(event)
            else:
                made = []
            open_ones.append(made)
            keys.append(_NO_KEY)
            continue
        elif isinstance(event, end_event):
            value = open_ones.pop()
            keys.pop()
        elif kind is yaml.AliasEvent:
            raise _Special
        elif kind is yaml.DocumentStartEvent and top:
            raise _Special  # a second document: its error is PyYAML's
        else:
            continue
        count += 1
        if count > limits.values:
            raise TooLarge(_line(event), f"it has more than {limits.values:,} values")
        if not open_ones:
            top.append(value)
        elif type(open_ones[-1]) is list:
            open_ones[-1].append(value)
        elif keys[-1] is _NO_KEY:
            if isinstance(value, list | dict):
                raise _Special  # a key that is a collection: its error is PyYAML's
            keys[-1] = value
        else:
            open_ones[-1][keys[-1]] = value
            keys[-1] = _NO_KEY
    return top[0] if top else None


_NO_KEY: Final = object()


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1


def _resolved(text: str) -> Any:
    """What a plain scalar says, as YAML 1.1 has it."""
    for tag, pattern in _Loader.yaml_implicit_resolvers.get(text[:1], []):
        if pattern.match(text):
            if tag in ("tag:yaml.org,2002:merge", "tag:yaml.org,2002:value"):
                raise _Special
            return _Loader.yaml_constructors[tag](_Loader(""), yaml.ScalarNode(tag, text))
    return text


def read(path: Path, limits: Limits = ONE_DEFINITION) -> Any:
    """The file's content; mappings are `Lined`.

    Raises:
        DefinitionError: the file cannot be read or is not YAML; the error has the line.
    """
    try:
        text = _text(path, limits)
        try:
            return _built(text, limits)
        except _Special:
            _check(text, limits)
            return yaml.load(text, _Loader)
    except OSError as error:
        raise DefinitionError(f"cannot be read: {error.strerror}", where=str(path)) from None
    except UnicodeDecodeError as error:
        raise DefinitionError(f"is not UTF-8 text ({error.reason})", where=str(path)) from None
    except TooLarge as error:
        raise DefinitionError(f"cannot be used: {error}", where=f"{path}:{error.line}", hint="Simplify it") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise DefinitionError(f"is not YAML: {problem}", where=where, hint="Fix the file") from None
