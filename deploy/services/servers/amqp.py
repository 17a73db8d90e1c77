"""RabbitMQ."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar
from urllib.parse import SplitResult

from ports import kept_ports, reply
from processes import spawn, wait_until
from programs import SEARCH_PATH, which
from record import Folder
from server import Daemon, Listener, Starting

URL = "METERHOUSE_TEST_AMQP_URL"
METRICS_URL = "METERHOUSE_TEST_AMQP_METRICS_URL"


class Amqp(Daemon):
    """A RabbitMQ broker on the folder's data, with its own exporter of metrics.

    It keeps its ports over a stop, since clients wait for it there.
    """

    name = "amqp"
    variables = (URL,)
    packages = ("rabbitmq-server",)
    container_port = 5672
    further: ClassVar[dict[str, Listener]] = {METRICS_URL: Listener("http://127.0.0.1:{port}/metrics", 15692)}

    def env(self, port: int) -> dict[str, str]:
        return {URL: f"amqp://guest:guest@127.0.0.1:{port}/%2F"}

    def responds(self, url: SplitResult) -> bool:
        return reply(url.hostname, url.port or 5672, b"AMQP\0\0\x09\x01")[:1] == b"\x01"

    def find(self) -> Path | None:
        """Return the folder of RabbitMQ's own scripts; those in PATH are wrappers that change the user."""
        folders = [Path("/usr/lib/rabbitmq/bin"), *sorted(Path("/usr/lib/rabbitmq/lib").glob("*/sbin"))]
        return next((path for path in folders if (path / "rabbitmq-server").exists() and which("epmd")), None)

    def start(self, folder: Folder, found: Path) -> Starting:
        """Start the broker, with an epmd beside it: one that the broker starts itself would outlive it."""
        home = folder.home(self.name)
        for part in ("mnesia", "log"):
            (home / part).mkdir(exist_ok=True)
        port = kept_ports(home / "port", 12)
        epmd_port, node_port, tool_port, metrics_port = port + 1, port + 2, port + 3, port + 11
        (home / "enabled_plugins").write_text("[rabbitmq_prometheus].\n")
        (home / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{port}\n"
            f"prometheus.tcp.ip = 127.0.0.1\nprometheus.tcp.port = {metrics_port}\n"
            "disk_free_limit.absolute = 50MB\n"
            "vm_memory_high_watermark.absolute = 1GB\n"
            "log.console = false\n"
            "log.file.level = info\n"
        )
        # Check every second, instead of every minute, for overdue acknowledgements (consumer_timeout).
        (home / "advanced.config").write_text("[{rabbit, [{channel_tick_interval, 1000}]}].\n")
        quiet_schedulers = "+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none"
        env = {
            "PATH": f"{found}:{SEARCH_PATH}",
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(epmd_port),
            "RABBITMQ_NODENAME": f"meterhouse-{folder.token}@localhost",
            "RABBITMQ_DIST_PORT": str(node_port),
            "RABBITMQ_CTL_DIST_PORT_MIN": str(tool_port),
            "RABBITMQ_CTL_DIST_PORT_MAX": str(tool_port + 7),
            "RABBITMQ_MNESIA_BASE": str(home / "mnesia"),
            "RABBITMQ_LOG_BASE": str(home / "log"),
            "RABBITMQ_LOGS": str(home / "log" / "rabbit.log"),
            "RABBITMQ_PID_FILE": str(home / "rabbit.pid"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "enabled_plugins"),
            "RABBITMQ_CONFIG_FILE": str(home / "rabbitmq"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(home / "advanced.config"),
            "RABBITMQ_CONF_ENV_FILE": str(home / "none.conf"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                f"{quiet_schedulers} -start_epmd false -kernel inet_dist_use_interface {{127,0,0,1}}"
            ),
        }
        epmd = [which("epmd") or "epmd", "-address", "127.0.0.1", "-port", str(epmd_port)]
        names_request = b"\0\x01n"
        mapper = spawn(folder, self.name, "epmd", epmd)
        wait_until(lambda: bool(reply("127.0.0.1", epmd_port, names_request)), mapper)
        spawned = spawn(folder, self.name, "rabbitmq", [str(found / "rabbitmq-server")], env=env)
        variables = self.env(port)
        variables |= {name: listener.url.format(port=metrics_port) for name, listener in self.further.items()}
        return Starting(variables, spawned)
