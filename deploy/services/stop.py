"""`stop`: stop services and forget them."""

from __future__ import annotations

import shutil
from collections.abc import Sequence

from compose import remove_containers
from processes import end_processes
from record import Folder
from signals import ignore_signals


def stop(folder: Folder, names: Sequence[str]) -> None:
    """Stop these services and remove them from the record.

    Raises:
        ServiceError: some processes or containers remain.
    """
    end_processes(folder, names)
    remove_containers(folder, names)
    for name in names:
        folder.services.pop(name, None)
    folder.save()


def finish(folder: Folder, names: Sequence[str]) -> None:
    """Stop these services whatever signals arrive; remove a temporary folder in which nothing runs any more."""
    ignore_signals()
    with folder.locked():
        stop(folder, names)
    if folder.temporary and not folder.services:
        shutil.rmtree(folder.path, ignore_errors=True)
