"""Runs inside Aodh's own virtual environment: its evaluation service on some alarms, for some seconds.

    echo '{"folder": …, "url": "http://127.0.0.1:1234", "resources": […], "seconds": 20}' | python _aodh_inside.py

There is a `gnocchi_resources_threshold` alarm for each resource: the mean of `cpu_util` over 60 s is greater than 90 in
five periods. They are in a SQLite database of Aodh's own, and are `ok` already. `AlarmEvaluationService` is Aodh's own,
without its threads: its methods select the alarms and evaluate one after the other, by gnocchiclient without Keystone,
until all are done or the time is over.

On stdout: a JSON object with `alarms` (evaluated), `seconds`, `cpu` (seconds), `selected` (seconds for the selection of
the alarms), and `states`.
"""

import collections
import json
import sys
import time
import uuid
from datetime import datetime, timedelta

from aodh import coordination, service, storage
from aodh.evaluator import AlarmEvaluationService
from aodh.storage import models
from gnocchiclient import auth
from gnocchiclient.v1 import client
from stevedore import named

TYPE = "gnocchi_resources_threshold"

CONFIGURATION = """
[DEFAULT]
transport_url = fake://
log_file = {folder}/aodh.log
[database]
connection = sqlite:///{folder}/aodh.db
"""


class Service(AlarmEvaluationService):
    """Aodh's service without its threads."""

    def __init__(self, conf, url):
        self.conf = conf
        self.storage_conn = storage.get_connection_from_config(conf)
        self.partition_coordinator = coordination.PartitionCoordinator(conf)
        self.evaluators = named.NamedExtensionManager(
            self.EVALUATOR_EXTENSIONS_NAMESPACE, [TYPE], invoke_on_load=True, invoke_args=(conf,)
        )
        plugin = auth.GnocchiNoAuthPlugin("u", "p", "admin", url)
        from keystoneauth1 import session

        self.evaluators[TYPE].obj._gnocchi_client = client.Client(session=session.Session(plugin))


def alarm(number, resource):
    """An alarm as Aodh's API stores it."""
    long_ago = datetime.utcnow() - timedelta(days=1)
    return models.Alarm(
        alarm_id=str(uuid.uuid4()),
        type=TYPE,
        enabled=True,
        name=f"cpu of {number:06}",
        description="",
        timestamp=long_ago,
        user_id="u",
        project_id="p",
        state="ok",
        state_timestamp=long_ago,
        state_reason="",
        ok_actions=[],
        alarm_actions=["http://127.0.0.1:9/alarm"],
        insufficient_data_actions=[],
        repeat_actions=False,
        rule={
            "metric": "cpu_util",
            "resource_id": resource,
            "resource_type": "generic",
            "aggregation_method": "mean",
            "granularity": 60,
            "comparison_operator": "gt",
            "threshold": 90.0,
            "evaluation_periods": 5,
        },
        time_constraints=[],
        severity="low",
        evaluate_timestamp=long_ago,
    )


def main(given):
    """Evaluate for some seconds."""
    path = f"{given['folder']}/aodh.conf"
    with open(path, "w") as file:
        file.write(CONFIGURATION.format(**given))
    conf = service.prepare_service([], config_files=[path])
    driven = Service(conf, given["url"])
    driven.storage_conn.upgrade()
    for number, resource in enumerate(given["resources"]):
        driven.storage_conn.create_alarm(alarm(number, resource))
    began, cpu = time.monotonic(), time.process_time()
    selected = list(driven._assigned_alarms())
    chosen = time.monotonic() - began
    count = 0
    for each in selected:
        if time.monotonic() - began > given["seconds"]:
            break
        driven._evaluate_alarm(each)
        count += 1
    wall = time.monotonic() - began
    states = collections.Counter(each.state for each in driven.storage_conn.get_alarms())
    found = {"alarms": count, "seconds": wall, "cpu": time.process_time() - cpu, "selected": chosen}
    print(json.dumps({**found, "states": dict(states)}))


main(json.load(sys.stdin))
