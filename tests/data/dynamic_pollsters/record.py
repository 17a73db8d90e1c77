"""Records what Ceilometer's dynamic pollsters make of each definition and answer: `ceilometer.jsonl`.

    python record.py > ceilometer.jsonl

It needs Ceilometer (27.0.0 has made the file) and PyYAML. Its HTTP session is replaced; all else is Ceilometer's own.
"""

import copy
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import requests
import yaml

HERE = Path(__file__).parent
URL = "http://service.example"
DEFAULTS = {"name": "meter", "sample_type": "gauge", "unit": "1", "endpoint_type": "service", "url_path": "v1/list"}

yaml.SafeLoader.add_constructor("!text", lambda loader, node: ("text", node.value))


def cases():
    """Each definition with each answer: names, definition, answers by path."""
    definitions = yaml.safe_load((HERE / "definitions.yaml").read_text())
    given = yaml.safe_load((HERE / "answers.yaml").read_text())
    for name, definition in definitions.items():
        only = definition.pop("only", None)
        for about, answer in given["answers"].items():
            is_text = isinstance(answer["first"], tuple)
            if about in only if only is not None else not is_text:
                whole = {**DEFAULTS, **copy.deepcopy(definition)}
                paths = {"/v1/list": answer["first"], "/v1/things/list": answer["first"]}
                yield name, about, whole, {**paths, **answer.get("pages", {}), **given["common"]}


def body(answer, url):
    """An answer as it is sent."""
    if isinstance(answer, tuple):
        return answer[1]
    return json.dumps(answer).replace("{url}", url)


def recorded(definition, answers):
    """What Ceilometer makes of it: samples, and the error that ended it, if one did."""
    from ceilometer.polling.dynamic_pollster import DynamicPollster

    asked = []

    def get(url, **_):
        parts = urlsplit(url)
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        asked.append(path)
        answer = requests.Response()
        answer.url, answer.encoding = url, "utf-8"
        answer.status_code = 200 if path in answers else 404
        answer._content = body(answers.get(path), URL).encode()
        return answer

    keystone = SimpleNamespace(session=SimpleNamespace(get=get))
    manager = SimpleNamespace(_keystone=keystone, discover=lambda *_: [URL])
    samples, error = [], None
    try:
        pollster = DynamicPollster(definition, conf=None)
        for sample in pollster.get_samples(manager, {}, [URL]):
            samples.append(
                {
                    "name": sample.name,
                    "type": sample.type,
                    "unit": sample.unit,
                    "volume": sample.volume,
                    "user_id": sample.user_id,
                    "project_id": sample.project_id,
                    "resource_id": sample.resource_id,
                    "metadata": copy.deepcopy(sample.resource_metadata),
                }
            )
    except Exception as caught:
        error = type(caught).__name__
    return {"samples": samples, "error": error, "asked": asked}


if __name__ == "__main__":
    for name, about, definition, answers in cases():
        line = {"definition": name, "answer": about, **recorded(definition, answers)}
        sys.stdout.write(json.dumps(line) + "\n")
