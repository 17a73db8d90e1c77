"""aodhclient's Python API; see calls.py. The argument is JSON: how to log in."""

import json
import sys

from aodhclient.client import Client
from aodhclient.noauth import AodhNoAuthPlugin
from calls import main
from keystoneauth1.identity.v3 import Password
from keystoneauth1.session import Session

how = json.loads(sys.argv[1])
if "endpoint" in how:
    made = Client("2", session=Session(AodhNoAuthPlugin(**how)))
else:
    region = how.pop("region_name")
    made = Client("2", session=Session(Password(**how)), region_name=region)
main(made, lambda answer: answer)
