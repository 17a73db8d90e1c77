"""The servers, one file each. A new one is a file here and an entry in `SERVERS`."""

from __future__ import annotations

from server import Server

from servers.amqp import Amqp
from servers.browser import Browser
from servers.heat import Heat
from servers.json_api import JsonApi
from servers.keystone import Keystone
from servers.libvirt import Libvirt
from servers.node_exporter import NodeExporter
from servers.postgres import Postgres
from servers.s3 import S3
from servers.snmp import Snmp
from servers.victoria import Victoria

# In the order in which they start: RabbitMQ takes longest to answer, so the others are set up meanwhile. A server
# comes after those that it needs.
SERVERS: dict[str, Server] = {
    server.name: server
    for server in (
        Amqp(),
        Postgres(),
        S3(),
        Victoria(),
        JsonApi(),
        NodeExporter(),
        Snmp(),
        Browser(),
        Libvirt(),
        Keystone(),
        Heat(),
    )
}
