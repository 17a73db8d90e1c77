"""YAML files, read within bounds and with line numbers, so that an error can say where.

A file of a few kilobytes can be nested so deeply that the parser overflows its stack, or stand for gigabytes by aliases
of aliases. So its events are counted first, one after the other, with no recursion.
"""

from pathlib import Path
from typing import Any, Final

import yaml

from meterhouse.errors import DefinitionError

MOST_BYTES: Final = 4 << 20
"""So large a file may be."""

MOST_DEPTH: Final = 64
"""So many levels it may be nested."""

MOST_VALUES: Final = 500_000
"""So many values it may hold, those that aliases stand for counted each time."""

_Parser: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Unbounded(ValueError):
    """A file that is too large to be read; `line` is the line, from 1, at which it becomes so."""

    def __init__(self, line: int, reason: str) -> None:
        self.line = line
        super().__init__(reason)


def read_text(path: Path) -> str:
    """The text of a YAML file that is within the bounds.

    Raises:
        OSError: it cannot be read.
        UnicodeDecodeError: it is not UTF-8.
        Unbounded: it is too large, too deep, or its aliases stand for too much.
        yaml.YAMLError: it is no YAML.
    """
    with path.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise Unbounded(1, f"the file is larger than {MOST_BYTES >> 20} MiB")
    text = content.decode("utf-8")
    _check(text)
    return text


def _check(text: str) -> None:
    weights: dict[str, int] = {}  # of what the anchors name, all aliases within it resolved
    names: list[str | None] = []  # of the collections that are open
    sizes = [0]  # of them, the document's first
    for event in yaml.parse(text, _Parser):
        line = event.start_mark.line + 1 if event.start_mark else 1
        if isinstance(event, yaml.CollectionStartEvent):
            names.append(event.anchor)
            sizes.append(1)
            if event.anchor is not None:
                weights.pop(event.anchor, None)
            if len(names) > MOST_DEPTH:
                raise Unbounded(line, f"it is nested more than {MOST_DEPTH} levels deep")
            continue
        if isinstance(event, yaml.CollectionEndEvent):
            name, weight = names.pop(), sizes.pop()
        elif isinstance(event, yaml.ScalarEvent):
            name, weight = event.anchor, 1
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor in names:
                raise Unbounded(line, f"the alias '{event.anchor}' is part of what it stands for")
            name, weight = None, weights.get(event.anchor or "", 1)
        else:
            continue
        if name is not None:
            weights[name] = weight
        sizes[-1] += weight
        if sizes[-1] > MOST_VALUES:
            raise Unbounded(line, f"it holds more than {MOST_VALUES:,} values, what its aliases stand for included")


class Lined(dict[str, Any]):
    """A mapping that knows the line on which it starts (1-based)."""

    line: int = 0


# libyaml's loader where PyYAML was built with it; mypy takes no base class that is chosen at run time.
class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    pass


def _mapping(loader: _Loader, node: yaml.MappingNode) -> Lined:
    loader.flatten_mapping(node)
    content: dict[Any, Any] = loader.construct_mapping(node, deep=True)
    made = Lined(content)
    made.line = node.start_mark.line + 1
    return made


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def read(path: Path) -> Any:
    """The file's content; mappings are `Lined`.

    Raises:
        DefinitionError: the file cannot be read or is no YAML; says the line.
    """
    try:
        return yaml.load(read_text(path), _Loader)
    except OSError as error:
        raise DefinitionError(f"cannot be read: {error.strerror}", where=str(path)) from None
    except UnicodeDecodeError as error:
        raise DefinitionError(f"is not UTF-8 text ({error.reason})", where=str(path)) from None
    except Unbounded as error:
        raise DefinitionError(f"cannot be used: {error}", where=f"{path}:{error.line}", hint="Simplify it") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        said = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise DefinitionError(f"is not YAML: {said}", where=where, hint="Mend the file") from None
