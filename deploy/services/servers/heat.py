"""Heat, OpenStack's orchestration service."""

from __future__ import annotations

import datetime
import signal
import sys
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from identity import DEFAULT_DOMAIN, Identity
from ports import kept_ports, reply
from processes import run_step, spawn, wait_until
from pypi import installed
from record import Folder
from server import Daemon, Starting

from servers import amqp, keystone, postgres

URL = "METERHOUSE_TEST_HEAT_URL"

ROLES = ("heat_stack_owner", "heat_stack_user")
DOMAIN = "heat"
DOMAIN_ADMIN, DOMAIN_ADMIN_PASSWORD = "heat_domain_admin", "heat_domain_adminpw"
USERNAME, PASSWORD = "heat", "heatpw"
"""Heat's own user, an administrator in the project `service`. These passwords guard test data, and are no secret."""

REQUIREMENTS = Path(__file__).resolve().parents[1] / "heat.txt"
CONF = """\
[DEFAULT]
transport_url = {transport_url}
host = meterhouse
num_engine_workers = 1
stack_user_domain_name = {domain}
stack_domain_admin = {domain_admin}
stack_domain_admin_password = {domain_admin_password}
auth_encryption_key = meterhouse-meterhouse-meterhouse
region_name_for_services = RegionOne
[database]
# Not SQLite: several threads write, and some would find it locked.
connection = {database_url}
[paste_deploy]
api_paste_config = {paste}
[clients_keystone]
auth_uri = {keystone_url}
[keystone_authtoken]
www_authenticate_uri = {keystone_url}
{account}
{project}
[trustee]
# Without a project: a trust says which.
{account}
[ec2authtoken]
# It adds the version to the URL, which the catalogue has already.
endpoint_override = {keystone_root}
{account}
{project}
"""
ACCOUNT = """\
auth_type = password
auth_url = {keystone_url}
username = {username}
password = {password}
user_domain_id = default"""
PROJECT = """\
project_name = service
project_domain_id = default"""
MAKE_DATABASE = """\
import contextlib, sys
import psycopg2
server, name = sys.argv[1:]
with contextlib.closing(psycopg2.connect(server)) as connection:
    connection.autocommit = True
    cursor = connection.cursor()
    cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name])
    if not cursor.fetchone():
        cursor.execute(f"CREATE DATABASE {name} TEMPLATE template0")
"""
# The two APIs in one process, told apart by the port; and /engine, which says whether the engine takes calls.
# Heat parses the arguments of whatever program imports it.
APPLICATION = """\
import os, sys
sys.argv = ["heat-api", "--config-file", os.environ["HEAT_CONF"]]
from heat.api.openstack import wsgi
from heat.common import config, context
from heat.db import api
orchestration, cloudformation = wsgi.init_application(), config.load_paste_app("heat-api-cfn")
def application(environ, start_response):
    if environ["PATH_INFO"] == "/engine":
        engines = api.service_get_all(context.get_admin_context())
        started = any(each.created_at.isoformat() >= os.environ["HEAT_STARTED"] for each in engines)
        start_response("200 OK" if started else "503 Service Unavailable", [])
        return []
    of_cloudformation = environ["SERVER_PORT"] == os.environ["HEAT_CLOUDFORMATION_PORT"]
    return (cloudformation if of_cloudformation else orchestration)(environ, start_response)
"""


class Heat(Daemon):
    """A Heat from PyPI, with its own environment and its own database: engine, API and CloudFormation API.

    The CloudFormation API answers pre-signed signal URLs, on the port after the API's. Keystone's catalogue has both.
    In RabbitMQ it uses the queue `engine`, so no other Heat can use the same one.
    """

    name = "heat"
    variables = (URL,)
    packages = ()
    needs = ("amqp", "keystone", "postgres")
    on_request = True
    container_port = None

    def env(self, port: int) -> dict[str, str]:
        return {URL: f"http://127.0.0.1:{port}/v1"}

    def responds(self, url: SplitResult) -> bool:
        return _answers(url, "/healthcheck")

    def find(self) -> Path:
        """Return the interpreter to make the environment with."""
        return Path(sys.executable)

    def start(self, folder: Folder, found: Path) -> Starting:
        """Start Heat; the first time, install it and make its database. Its accounts are made in Keystone."""
        home = folder.home(self.name)
        python = installed(folder, self.name, REQUIREMENTS)
        port = kept_ports(home / "port", 2)
        env = self.env(port)
        url, username, password = (folder.available["keystone"][name] for name in keystone.Keystone.variables)
        _register(Identity(url, username, password), env[URL], f"http://127.0.0.1:{port + 1}/v1")
        server = folder.available["postgres"][postgres.URL].replace("postgresql+psycopg://", "postgresql://", 1)
        database = f"heat_{folder.token}"
        given = {"keystone_url": url, "username": USERNAME, "password": PASSWORD}
        conf = home / "heat.conf"
        text = CONF.format(
            **given,
            keystone_root=url.removesuffix("/v3"),
            account=ACCOUNT.format(**given),
            project=PROJECT,
            transport_url=folder.available["amqp"][amqp.URL].replace("amqp://", "rabbit://", 1),
            database_url=urlsplit(server)._replace(scheme="postgresql+psycopg2", path=f"/{database}").geturl(),
            domain=DOMAIN,
            domain_admin=DOMAIN_ADMIN,
            domain_admin_password=DOMAIN_ADMIN_PASSWORD,
            paste=python.parents[1] / "etc" / "heat" / "api-paste.ini",
        )
        conf.write_text(text)
        (home / "application.py").write_text(APPLICATION)
        made = home / "made"
        if not (made.exists() and made.read_text() == server):
            run_step(folder, self.name, [str(python), "-c", MAKE_DATABASE, server, database])
            run_step(folder, self.name, [str(python.parent / "heat-manage"), "--config-file", str(conf), "db_sync"])
            made.write_text(server)
        started = datetime.datetime.now(datetime.UTC).replace(tzinfo=None).isoformat()
        engine_command = [str(python.parent / "heat-engine"), "--config-file", str(conf)]
        engine = spawn(folder, self.name, "engine", engine_command, stop_signal=signal.SIGKILL)  # it takes long to end
        command = [str(python), "-m", "gunicorn", "--chdir", str(home)]
        command += [f"--bind=127.0.0.1:{each}" for each in (port, port + 1)]
        command += ["--worker-class", "gthread", "--threads", "4", "--keep-alive", "75", "--timeout", "120"]
        command += ["--no-control-socket", "application:application"]
        config = {"HEAT_CONF": str(conf), "HEAT_CLOUDFORMATION_PORT": str(port + 1), "HEAT_STARTED": started}
        at_once = signal.SIGQUIT
        spawned = spawn(folder, self.name, "gunicorn", command, env=config, stop_signal=at_once)
        wait_until(lambda: self.answers(env), spawned)
        wait_until(lambda: _answers(urlsplit(env[URL]), "/engine"), engine)
        return Starting(env, spawned)


def _register(identity: Identity, orchestration: str, cloudformation: str) -> None:
    """Make the accounts, roles and endpoints that Heat needs in Keystone.

    Raises:
        ServiceError: Keystone refuses a request.
    """
    for role in ROLES:
        identity.made("role", role)
    admin = identity.made("role", "admin")
    project = identity.made("project", "service", domain_id=DEFAULT_DOMAIN)
    user = identity.made("user", USERNAME, password=PASSWORD, domain_id=DEFAULT_DOMAIN)
    identity.give(admin, user, project=project)
    domain = identity.made("domain", DOMAIN)
    domain_admin = identity.made("user", DOMAIN_ADMIN, password=DOMAIN_ADMIN_PASSWORD, domain_id=domain)
    identity.give(admin, domain_admin, domain=domain)
    identity.list_service("orchestration", "heat", f"{orchestration}/$(tenant_id)s")
    identity.list_service("cloudformation", "heat-cfn", cloudformation)


def _answers(url: SplitResult, path: str) -> bool:
    """Return whether a path of a server's API answers with status 200."""
    question = f"GET {path} HTTP/1.0\r\nHost: {url.netloc}\r\n\r\n".encode()
    return reply(url.hostname, url.port or 80, question)[9:12] == b"200"
