"""python-ceilometerclient's Python API; see calls.py. The argument is JSON: how to log in."""

import json
import sys

from calls import main
from ceilometerclient.client import get_client


def plain(answer):
    if isinstance(answer, list | tuple):
        return [plain(each) for each in answer]
    return answer.to_dict() if hasattr(answer, "to_dict") else answer


main(get_client("2", **json.loads(sys.argv[1])), plain)
