"""YAML files, read within limits and with line numbers for errors.

A file of a few kilobytes can be nested so deeply that the parser overflows its stack, or expand to gigabytes by aliases
of aliases. So the parser's events are counted first, without recursion.
"""

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


def read_text(path: Path) -> str:
    """The text of a YAML file that is within the limits.

    Raises:
        OSError: the file cannot be read.
        UnicodeDecodeError: it is not UTF-8.
        TooLarge: it is too large, nested too deeply, or its aliases stand for too many values.
        yaml.YAMLError: it is not YAML.
    """
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise TooLarge(1, f"the file is larger than {MAX_BYTES >> 20} MiB")
    text = content.decode("utf-8")
    _check(text)
    return text


def _check(text: str) -> None:
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
        if sizes[-1] > MAX_VALUES:
            raise TooLarge(line, f"it has more than {MAX_VALUES:,} values, counting those that aliases stand for")


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


def read(path: Path) -> Any:
    """The file's content; mappings are `Lined`.

    Raises:
        DefinitionError: the file cannot be read or is not YAML; the error has the line.
    """
    try:
        return yaml.load(read_text(path), _Loader)
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


def is_plain(text: str, *, lines: bool = False) -> bool:
    """Whether a text has no control characters, so that every database, statement and terminal takes it.

    Args:
        text: the text.
        lines: whether it may have several lines.
    """
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return all(each >= " " and not "\x7f" <= each <= "\x9f" for each in text if not (lines and each in "\n\t"))
