"""Peers from PyPI, each in a virtual environment of its own below `.tools/`."""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def interpreter(name: str, version: str, extras: str = "", also: Sequence[str] = ()) -> Path:
    """The interpreter of a package's virtual environment, which is made where there is none.

    Args:
        name: the package.
        version: its version.
        extras: such as `[file,postgresql]`.
        also: further requirements, such as `numpy<2`.

    Raises:
        CalledProcessError: the package cannot be installed.
    """
    home = ROOT / ".tools" / f"{name}-{version}"
    found, complete = home / "bin" / "python", home / ".complete"
    if complete.exists():
        return found
    shutil.rmtree(home, ignore_errors=True)
    requirements = [f"{name}{extras}=={version}", *also]
    uv = shutil.which("uv") or shutil.which("uv", path=ROOT / ".tools" / "bin")
    if uv:
        steps = [
            [uv, "venv", "--quiet", "--python", sys.executable, str(home)],
            [uv, "pip", "install", "--quiet", "--python", str(found), *requirements],
        ]
    else:
        steps = [
            [sys.executable, "-m", "venv", str(home)],
            [str(found), "-m", "pip", "install", "--quiet", *requirements],
        ]
    for step in steps:
        subprocess.run(step, check=True, stdout=sys.stderr)
    complete.touch()
    return found
