"""YAML with line numbers, so that an error can say where."""

from pathlib import Path
from typing import Any

import yaml

from meterhouse import yaml_bounds
from meterhouse.errors import DefinitionError


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
        return yaml.load(yaml_bounds.read(path), _Loader)
    except OSError as error:
        raise DefinitionError(f"cannot be read: {error.strerror}", where=str(path)) from None
    except UnicodeDecodeError as error:
        raise DefinitionError(f"is not UTF-8 text ({error.reason})", where=str(path)) from None
    except yaml_bounds.Unbounded as error:
        raise DefinitionError(f"cannot be used: {error}", where=f"{path}:{error.line}", hint="Simplify it") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        said = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise DefinitionError(f"is not YAML: {said}", where=where, hint="Mend the file") from None
