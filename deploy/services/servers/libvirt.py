"""libvirt's Python package, with libvirt's drivers `test` and `qemu`."""

from __future__ import annotations

import sys
from pathlib import Path

from programs import which
from pypi import installed
from record import Folder, Service
from server import Server

PACKAGES = "METERHOUSE_TEST_LIBVIRT_PACKAGES"
REQUIREMENTS = Path(__file__).resolve().parents[1] / "libvirt.txt"
HEADER = "libvirt/libvirt.h"
QEMU_DRIVER = "libvirt/connection-driver/libvirt_driver_qemu.so"


class Libvirt(Server):
    """The folder with libvirt's Python package, built for this Python. Nothing runs: the drivers are libraries.

    PyPI has its sources only. Debian's own package is for the system's Python.
    """

    name = "libvirt"
    kind = "a folder of Python packages"
    variables = (PACKAGES,)
    # The last one makes the user that the guests run as.
    packages = (
        "libvirt-dev",
        "gcc",
        "libc6-dev",
        "pkg-config",
        "qemu-system-x86",
        "libvirt-daemon-driver-qemu",
        "libvirt-daemon-system",
    )
    on_request = True

    def find(self) -> Path | None:
        """Return the interpreter to build for, if what the package is built with and runs on is there."""
        header = any(folder.joinpath(HEADER).exists() for folder in map(Path, ("/usr/include", "/usr/local/include")))
        driver = any(
            folder.joinpath(QEMU_DRIVER).exists()
            for folder in (*Path("/usr/lib").glob("*-linux-gnu"), Path("/usr/lib64"))
        )
        programs = all(map(which, ("gcc", "pkg-config", "qemu-system-x86_64")))
        return Path(sys.executable) if header and driver and programs else None

    def start(self, folder: Folder, found: Path) -> None:
        python = installed(folder, self.name, REQUIREMENTS)
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        packages = python.parents[1] / "lib" / version / "site-packages"
        folder.services[self.name] = Service({PACKAGES: str(packages)})

    def answers(self, env: dict[str, str]) -> bool:
        return (Path(env[PACKAGES]) / "libvirt.py").exists()
