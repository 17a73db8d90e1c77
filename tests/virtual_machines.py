"""A guest of qemu in this process' own libvirt: no daemon, no acceleration, no system in the guest."""

from __future__ import annotations

import contextlib
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CONF = """\
stdio_handler = "file"
user = "root"
group = "root"
security_driver = "none"
cgroup_controllers = []
remember_owner = 0
namespaces = []
"""


@contextlib.contextmanager
def qemu_guest(folder: Path, xml: str) -> Iterator[tuple[str, Any]]:
    """The URI of a libvirt and a domain in it, made of one for the test driver: its BIOS has read the disk."""
    import libvirt

    _run_events(libvirt)
    image = folder / "disk.img"
    with image.open("wb") as file:
        file.truncate(1 << 20)
    root = Path(tempfile.mkdtemp(prefix="mh-", dir="/tmp"))  # a short path: sockets are in it
    (root / "etc").mkdir()
    (root / "etc" / "qemu.conf").write_text(CONF)
    uri = f"qemu:///embed?root={root}"
    connection = libvirt.open(uri)
    try:
        domain = connection.createXML(_for_qemu(xml, image), 0)
        try:
            deadline = time.monotonic() + 60
            while domain.blockStats("vda")[0] == 0:
                assert time.monotonic() < deadline, "the guest's BIOS has not read its disk"
                time.sleep(0.05)
            domain.suspend()
            yield uri, domain
        finally:
            domain.destroy()
    finally:
        connection.close()
        shutil.rmtree(root, ignore_errors=True)


def _for_qemu(xml: str, image: Path) -> str:
    metadata = re.search(r"<metadata>.*</metadata>", xml, re.DOTALL)
    assert metadata
    return f"""<domain type='qemu'><name>guest</name><memory unit='MiB'>64</memory><vcpu>2</vcpu>{metadata[0]}
    <os><type arch='x86_64' machine='pc'>hvm</type></os><devices>
    <disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{image}'/>
    <target dev='vda' bus='virtio'/></disk>
    <memballoon model='virtio'/></devices></domain>"""


_events: list[threading.Thread] = []


def _run_events(libvirt: Any) -> None:
    """libvirt's driver for qemu needs an event loop in the process that it is in."""
    if _events:
        return
    libvirt.virEventRegisterDefaultImpl()

    def run() -> None:
        while True:
            libvirt.virEventRunDefaultImpl()

    thread = threading.Thread(target=run, name="libvirt events", daemon=True)
    _events.append(thread)
    thread.start()
