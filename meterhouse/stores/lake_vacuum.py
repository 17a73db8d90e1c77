"""Data files in a table's folder, for a vacuum: it deletes those that are neither live nor were replaced lately.

delta-rs's vacuum knows replaced files by the names that checkpoints keep. A site with a commit a second replaces 86,400
files a day, and with so many names it takes 65 ms more to open a table, or to write a checkpoint. So the checkpoints of
a table in a folder forget them, and Meterhouse's own vacuum looks into the commits, which are kept for longer.
"""

import os
from pathlib import Path


def written_before(folder: str, moment: float) -> set[str]:
    """The paths, below a table's folder, of the data files that were last written before a time (s since 1970)."""
    found: set[str] = set()
    for at, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(("_", "."))]
        for name in names:
            if not name.startswith(("_", ".")):
                path = Path(at, name)
                if path.stat().st_mtime <= moment:
                    found.add(str(path.relative_to(folder)))
    return found
