"""Which definition file a site uses, and reading it only when it changed."""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

_Read = TypeVar("_Read")


def in_use(config_dir: Path | None, name: str, shipped: Path) -> Path:
    """The file of this name in the site's configuration folder; without one, the file that ships."""
    own = config_dir / name if config_dir else None
    return own if own is not None and own.exists() else shipped


def once_a_change(read: Callable[[Path], _Read]) -> Callable[[Path], _Read]:
    """A reader of files that reads a file again only when its time or its size changed.

    Raises:
        OSError: the file cannot be looked at; and what `read` raises.
    """

    @lru_cache(maxsize=8)
    def cached(path: Path, changed: int, size: int) -> _Read:
        return read(path)

    def current(path: Path) -> _Read:
        status = path.stat()
        return cached(path, status.st_mtime_ns, status.st_size)

    return current
