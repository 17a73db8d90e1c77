"""Files and folders that only their owner may read, whatever the umask is: a site has secrets and data of projects.

What exists already keeps its mode: whoever shares a folder with a group on purpose has to be able to.
"""

import os
from contextlib import suppress
from pathlib import Path

FILE_MODE, FOLDER_MODE = 0o600, 0o700


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it that do not exist, for the owner alone.

    Raises:
        OSError: it cannot be made, or is not a folder.
    """
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    for each in reversed(missing):
        with suppress(FileExistsError):  # another process did
            each.mkdir(FOLDER_MODE)
            each.chmod(FOLDER_MODE)  # mkdir takes the umask away, which may be more than a mode needs
    if not folder.is_dir():
        raise NotADirectoryError(20, "is not a folder", str(folder))


def make_file(path: Path) -> None:
    """Make an empty file for the owner alone, if there is none.

    Raises:
        OSError: it cannot be made.
    """
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, FILE_MODE))


def is_open_to_others(path: Path) -> bool:
    """Whether users other than the owner and the group may read this."""
    try:
        return bool(path.stat().st_mode & 0o007)
    except OSError:
        return False
