"""Makes calls of a client of OpenStack: each line of standard input is a call, each of standard output its result.

A call is `{"call": "alarm.create", "args": [...], "kwargs": {...}}`, a result `{"answer": ...}` or `{"error": "..."}`.
The interpreter of the client's own environment runs it; Python's standard library and the client are all it has.
"""

import json
import sys
import warnings
from operator import attrgetter

warnings.simplefilter("ignore")


def main(client, plain):
    """Answer calls until the input ends.

    `plain` makes JSON of what the client answers.
    """
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            found = {"answer": plain(attrgetter(asked["call"])(client)(*asked["args"], **asked["kwargs"]))}
        except Exception as error:
            found = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(found), flush=True)
