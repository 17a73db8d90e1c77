"""An SNMP agent: Net-SNMP's snmpd."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import SplitResult

from ports import free_ports
from processes import spawn
from programs import succeeds, which
from record import Folder
from server import Daemon, Starting

URL = "METERHOUSE_TEST_SNMP_URL"
SYSTEM_UPTIME = "1.3.6.1.2.1.1.3.0"


class Snmp(Daemon):
    """An snmpd that tells of this machine, on a loopback UDP port, to the v2c community `public`."""

    name = "snmp"
    variables = (URL,)
    packages = ("snmpd", "snmp")
    container_port = None

    def env(self, port: int) -> dict[str, str]:
        return {URL: f"snmp://public@127.0.0.1:{port}"}

    def responds(self, url: SplitResult) -> bool:
        program = which("snmpget") or "snmpget"
        agent = f"udp:{url.hostname}:{url.port or 161}"
        community = url.username or "public"
        return succeeds([program, "-t", "1", "-r", "0", "-v2c", "-c", community, agent, SYSTEM_UPTIME])

    def find(self) -> Path | None:
        program = which("snmpd")
        return Path(program) if program and which("snmpget") else None

    def start(self, folder: Folder, found: Path) -> Starting:
        home, port = folder.home(self.name), free_ports()
        conf = home / "snmpd.conf"
        conf.write_text(f"agentaddress udp:127.0.0.1:{port}\nrocommunity public 127.0.0.1\n")
        command = [str(found), "-f", "-C", "-c", str(conf), "-Lo", f"--persistentDir={home}"]
        return Starting(self.env(port), spawn(folder, self.name, "snmpd", command))
