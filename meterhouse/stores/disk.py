"""Syncing files to disk, in the order in which a power cut may come between them."""

import os
from contextlib import suppress
from pathlib import Path


def sync(files: set[Path]) -> None:
    """Sync files and their folders' entries to disk. Files that were deleted meanwhile are skipped.

    Data files are synced before the commits that name them.

    Raises:
        OSError: the disk cannot store them.
    """
    in_order = sorted(files, key=lambda file: (file.parent.name == "_delta_log", file))
    for place in [*in_order, *sorted({file.parent for file in files})]:
        with suppress(FileNotFoundError):
            handle = os.open(place, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
