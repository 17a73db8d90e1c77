"""An S3 server: Ceph's object gateway."""

from __future__ import annotations

import http.client
import shutil
import signal
import uuid
from pathlib import Path
from urllib.parse import SplitResult

from ports import free_ports
from processes import run_step, spawn
from programs import which
from record import Folder
from report import ServiceError
from server import Daemon, Starting

ENDPOINT = "METERHOUSE_TEST_S3_ENDPOINT"
ACCESS_KEY = "METERHOUSE_TEST_S3_ACCESS_KEY"
SECRET_KEY = "METERHOUSE_TEST_S3_SECRET_KEY"

# The same in compose.yaml. They guard test data on a loopback port, and are no secret.
KEYS = {ACCESS_KEY: "meterhouse", SECRET_KEY: "meterhouse-secret"}

PROGRAMS = ("ceph", "ceph-authtool", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin")
MAX_HOME_LENGTH = 85  # the path of a Unix socket, in it, holds 107 bytes at most
CONF = """\
[global]
fsid = {fsid}
keyring = {home}/keyring
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
auth allow insecure global id reclaim = false
mon host = v2:127.0.0.1:{mon_port}/0
public addr = 127.0.0.1
public network = 127.0.0.0/8
cluster network = 127.0.0.0/8
ms bind ipv4 = true
ms bind msgr1 = false
ms bind port min = {osd_port}
ms bind port max = {osd_port_last}
run dir = {home}
admin socket = {home}/$name.asok
pid file = {home}/$name.pid
log file = {home}/$name.log
debug ms = 0
debug mon = 0
debug osd = 0
debug rgw = 0
# one monitor, one store, one copy of each object
mon allow pool size one = true
mon warn on pool no redundancy = false
mon data avail warn = 1
mon data avail crit = 1
mon max pg per osd = 1000
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pgp num = 8
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0

[mon.a]
mon data = {home}/mon

[osd.0]
osd data = {home}/osd
osd objectstore = memstore
memstore device bytes = 4294967296
osd memory target = 939524096
osd class dir = {classes}
osd class load list = *
osd class default list = *

[client.rgw]
rgw data = {home}/rgw
rgw frontends = beast endpoint=127.0.0.1:{port} tcp_nodelay=1
rgw thread pool size = 64
rgw enable usage log = false
"""
CAPS = {
    "mon.": {"mon": "allow *"},
    "client.admin": {"mon": "allow *", "osd": "allow *", "mgr": "allow *"},
    "osd.0": {"mon": "allow profile osd", "osd": "allow *"},
    "client.rgw": {"mon": "allow rw", "osd": "allow rwx"},
}


class S3(Daemon):
    """Ceph's S3 gateway over one monitor and one store in memory. Each start makes an empty cluster."""

    name = "s3"
    variables = (ENDPOINT, ACCESS_KEY, SECRET_KEY)
    packages = ("ceph-mon", "ceph-osd", "radosgw", "ceph-common")
    container_port = 9000

    def env(self, port: int) -> dict[str, str]:
        return {ENDPOINT: f"http://127.0.0.1:{port}", **KEYS}

    def responds(self, url: SplitResult) -> bool:
        connect = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
        client = connect(url.netloc, timeout=5)
        try:
            client.request("GET", "/")
            return client.getresponse().status < 500
        except (OSError, http.client.HTTPException):
            return False
        finally:
            client.close()

    def find(self) -> Path | None:
        """Return the folder of Ceph's object classes, if all its programs are installed."""
        folders = [*Path("/usr/lib").glob("*/rados-classes"), Path("/usr/lib64/rados-classes")]
        return next((path for path in folders if path.is_dir() and all(map(which, PROGRAMS))), None)

    def start(self, folder: Folder, found: Path) -> Starting:
        """Start the cluster. It authenticates with keys, since the gateway hangs with `auth ... = none`."""
        shutil.rmtree(folder.home(self.name))
        home = folder.home(self.name)
        if len(str(home)) > MAX_HOME_LENGTH:
            raise ServiceError(f"{home} is too long for the sockets in it: choose a shorter --dir")
        for part in ("mon", "osd", "rgw"):
            (home / part).mkdir()
        fsid, osd_id = str(uuid.uuid4()), str(uuid.uuid4())
        port, mon_port, osd_port = free_ports(), free_ports(), free_ports(16)
        places = {"home": home, "classes": found, "fsid": fsid, "port": port, "mon_port": mon_port}
        conf, keyring = home / "ceph.conf", home / "keyring"
        conf.write_text(CONF.format(**places, osd_port=osd_port, osd_port_last=osd_port + 15))

        def step(*command: str) -> None:
            run_step(folder, self.name, command)

        def ceph(program: str, *arguments: str) -> list[str]:
            return [which(program) or program, "-c", str(conf), *arguments]

        keyring.touch(mode=0o600)
        for who, caps in CAPS.items():
            words = [word for part, cap in caps.items() for word in ("--cap", part, cap)]
            step("ceph-authtool", str(keyring), "--gen-key", "-n", who, *words)
        monmap, address = str(home / "monmap"), ("--addv", "a", f"[v2:127.0.0.1:{mon_port}]")
        step("monmaptool", "--create", "--fsid", fsid, *address, monmap)
        step(*ceph("ceph-mon", "-i", "a", "--mkfs", "--monmap", monmap, "--keyring", str(keyring)))
        kill = signal.SIGKILL  # there is nothing to save, and a gateway without its store takes long to end
        spawn(folder, self.name, "mon", ceph("ceph-mon", "-i", "a", "-f"), stop_signal=kill)
        step(*ceph("ceph", "--connect-timeout", "60", "osd", "new", osd_id, "0"))
        step(*ceph("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd_id))
        spawn(folder, self.name, "osd", ceph("ceph-osd", "-i", "0", "-f"), stop_signal=kill)
        gateway = ("--name", "client.rgw", "--keyring", str(keyring))
        user = ("--uid", "meterhouse", "--display-name", "meterhouse")
        keys = ("--access-key", KEYS[ACCESS_KEY], "--secret-key", KEYS[SECRET_KEY])
        step(*ceph("radosgw-admin", *gateway, "user", "create", *user, *keys))
        spawned = spawn(folder, self.name, "rgw", ceph("radosgw", *gateway, "-f"), stop_signal=kill)
        return Starting(self.env(port), spawned)
