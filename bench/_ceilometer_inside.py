"""Runs inside Ceilometer's own virtual environment: jobs on stdin, one JSON object a line, answers on stdout likewise.

See `bench/_ceilometer.py`, which starts it. Every message goes the way that it goes in the notification agent, from the
unpacking of its context over the dispatcher's own view of it to the endpoints and the pipeline's check of volumes;
only the last step, handing samples to a publisher, is left out. Each endpoint gets a copy of the message of its own.
"""

import json
import logging
import os
import sys
import tempfile
import time
import types

import jsonpath_rw
import ply.lex
import ply.yacc
from ceilometer import declarative, service
from ceilometer.event import models as event_models
from ceilometer.pipeline import event as event_pipeline
from ceilometer.pipeline import sample as sample_pipeline
from jsonpath_rw_ext import _arithmetic, _filter
from oslo_messaging._drivers import amqp
from oslo_messaging.notify import dispatcher
from oslo_serialization import jsonutils
from stevedore import extension

ANSWERS, sys.stdout = sys.stdout, sys.stderr  # what a library prints must not come between the answers


def _keep_parsers() -> None:
    """Let ply build the tables of a grammar once, not once per expression: loading is many times faster."""
    make_lexer, make_parser = ply.lex.lex, ply.yacc.yacc
    lexers, parsers = {}, {}

    def lex(module=None, **options):
        if type(module) not in lexers:
            lexers[type(module)] = make_lexer(module=module, **options)
        lexer = lexers[type(module)].clone()
        lexer.lexstatestack = []
        lexer.begin("INITIAL")
        lexer.lineno = 1
        return lexer

    def yacc(module=None, **options):
        if module not in parsers:
            parsers[module] = make_parser(module=module, **options)
        return parsers[module]

    ply.lex.lex, ply.yacc.yacc = lex, yacc


_keep_parsers()

TRAIT_TYPES = {0: "none", 1: "text", 2: "integer", 3: "float", 4: "datetime"}
NAMES = {"_sample": "polling"}
PRIORITIES = {"samples": ("info", "sample"), "events": ("info", "error")}


class _Warnings(logging.Handler):
    def __init__(self):
        super().__init__(logging.WARNING)
        self.texts = []

    def emit(self, record):
        try:
            self.texts.append(record.getMessage())
        except Exception as error:
            self.texts.append(str(error))

    def taken(self):
        texts, self.texts = self.texts, []
        return sorted(texts)


class _Publisher:
    """Stands where the agent has the pipelines."""

    def __init__(self, publish):
        self._publish = publish

    def __enter__(self):
        return self._publish

    def __exit__(self, *_):
        return None


class _Sink:
    """The pipelines' sink, with no publisher behind it."""

    name = "none"
    count = 0

    def publish_samples(self, samples):
        _Sink.count += len(samples)

    publish_events = publish_samples


WARNINGS = _Warnings()
CONF = service.prepare_service([], [])
for handler in list(logging.getLogger().handlers):
    logging.getLogger().removeHandler(handler)
for logger in ("ceilometer", "stevedore"):
    logging.getLogger(logger).addHandler(WARNINGS)
    logging.getLogger(logger).propagate = False
sys.excepthook = sys.__excepthook__
logging.getLogger().addHandler(logging.NullHandler())
DISPATCHER = dispatcher.NotificationDispatcher([], None)
SOURCE = {"name": "all", "meters": ["*"], "events": ["*"], "sinks": ["none"]}
SAMPLES = sample_pipeline.SamplePipeline(CONF, sample_pipeline.SampleSource(SOURCE), _Sink())
EVENTS = event_pipeline.EventPipeline(CONF, event_pipeline.EventSource(SOURCE), _Sink())


def _multiplied(left, right):
    if not isinstance(left, (int, float)) or not isinstance(right, (int, float)):
        raise TypeError("only numbers are multiplied")
    return left * right


if "--multiply-numbers-only" in sys.argv:
    _arithmetic.OPERATOR_MAP["*"] = _multiplied


def seen(body):
    """The priority of a message, and the message as endpoints see it."""
    message = jsonutils.loads(body)
    context = amqp.unpack_context(message)
    incoming = types.SimpleNamespace(ctxt=context.to_dict(), message=message)
    priority, _, notification = DISPATCHER._extract_user_message(incoming)
    return priority, notification


def sample_endpoints(files, publish):
    """The sample endpoints by name, as the agent loads them, with these meter files or the packaged ones."""
    if files is None:
        CONF.clear_override("meter_definitions_dirs", "meter")
    else:
        folder = tempfile.mkdtemp()
        folders = []
        for number, file in enumerate(files):
            folders.append(os.path.join(folder, str(number)))
            os.mkdir(folders[-1])
            os.symlink(os.path.abspath(file), os.path.join(folders[-1], "meters.yaml"))
        CONF.set_override("meter_definitions_dirs", folders, "meter")
    loaded = extension.ExtensionManager("ceilometer.sample.endpoint")
    return {each.name: each.plugin(CONF, _Publisher(publish)) for each in loaded}


def event_endpoint(file, publish):
    """The endpoint of events, with this file or the packaged one."""
    if file is None:
        CONF.clear_override("definitions_cfg_file", "event")
    else:
        CONF.set_override("definitions_cfg_file", os.path.abspath(file), "event")
    return event_pipeline.EventEndpoint(CONF, _Publisher(publish))


def _passes(endpoint, message):
    rule = getattr(endpoint, "filter_rule", None)
    return rule is None or rule.match(*(message[key] for key in SEEN))


SEEN = ("ctxt", "publisher_id", "event_type", "metadata", "payload")


def _failed(error):
    detail = str(error)
    return {"error": type(error).__name__, "detail": detail}


def samples_line(endpoints, body):
    """A line of expected_samples.jsonl."""
    message = json.loads(body)
    line = {
        "message_id": message.get("message_id"),
        "event_type": message.get("event_type"),
        "samples": [],
        "errors": [],
    }
    for name, endpoint in endpoints.items():
        shown = NAMES.get(name, name)
        WARNINGS.taken()
        try:
            priority, notification = seen(body)
            if priority not in PRIORITIES["samples"] or not _passes(endpoint, notification):
                continue
            for each in list(endpoint.build_sample(notification)):
                published = False
                try:
                    published = SAMPLES._validate_volume(each)
                except (
                    Exception
                ) as error:  # the agent loses the whole message by it; shown here is which sample is at fault
                    line["errors"].append({"endpoint": shown, "volume": type(error).__name__, "detail": str(error)})
                line["samples"].append(
                    {
                        "name": each.name,
                        "type": each.type,
                        "unit": each.unit,
                        # As the recorded lines have it: the number that a publisher's reader makes of a text.
                        "volume": float(each.volume) if published and isinstance(each.volume, str) else each.volume,
                        "resource_id": each.resource_id,
                        "project_id": each.project_id,
                        "user_id": each.user_id,
                        "timestamp": each.timestamp,
                        "source": each.source,
                        "metadata": each.resource_metadata,
                        "published": published,
                        "endpoint": shown,
                    }
                )
        except Exception as error:
            line["errors"].append({"endpoint": shown, **_failed(error)})
        warnings = WARNINGS.taken()
        if warnings:
            line["errors"].append({"endpoint": shown, "warnings": warnings})
    return line


def event_line(endpoint, body):
    """A line of expected_events.jsonl."""
    line = {"message_id": json.loads(body).get("message_id"), "event": None, "error": None}
    try:
        priority, notification = seen(body)
        if priority not in PRIORITIES["events"]:
            return line
        event = endpoint.event_converter.to_event(priority, notification)
        if event is not None:
            line["event"] = {
                "event_type": event.event_type,
                "generated": event.generated.isoformat(),
                "traits": [
                    [trait.name, TRAIT_TYPES[trait.dtype], event_models.serialize_dt(trait.value)]
                    for trait in event.traits
                ],
            }
    except Exception as error:
        line["error"] = _failed(error)
    WARNINGS.taken()
    return line


def bodies(job):
    """The messages of a job as texts."""
    if "file" in job:
        with open(job["file"]) as lines:
            return [line for line in lines if line.strip()]
    return [json.dumps(message) for message in job["messages"]]


def convert(job):
    """The lines of a job's messages, and how many definitions were loaded; `fatal` where the loading itself fails."""
    answer = {"loaded": None, "fatal": None, "lines": []}
    definitions = job.get("definitions")
    try:
        if job["job"] == "samples":
            made = sample_endpoints(definitions, None)
            answer["loaded"] = len(made["meter"].definitions)
        else:
            made = event_endpoint(definitions, None)
            entries = declarative.load_definitions(CONF, [], CONF.event.definitions_cfg_file)
            answer["loaded"] = len(entries or [])
    except Exception as error:
        answer["fatal"] = f"{type(error).__name__}: {error}"
        return answer
    line = samples_line if job["job"] == "samples" else event_line
    answer["lines"] = [line(made, body) for body in bodies(job)]
    return answer


def rate(job):
    """How long the agent's endpoints take for a file, in seconds of the wall and of the processor."""
    what = job["what"]
    endpoints = []
    if what in ("samples", "both", "polled"):
        endpoints += sample_endpoints(job.get("meters"), SAMPLES.publish_data).values()
    if what in ("events", "both"):
        endpoints.append(event_endpoint(job.get("events"), EVENTS.publish_data))
    agent = dispatcher.BatchNotificationDispatcher(endpoints, None)
    texts = bodies(job)
    logging.getLogger("ceilometer").removeHandler(WARNINGS)
    logging.getLogger("ceilometer").addHandler(logging.NullHandler())
    logging.getLogger("ceilometer").setLevel(logging.CRITICAL)
    _Sink.count = 0
    wall, processor = time.perf_counter(), time.process_time()
    for body in texts:
        message = jsonutils.loads(body)
        context = amqp.unpack_context(message)
        agent.dispatch([types.SimpleNamespace(ctxt=context.to_dict(), message=message)])
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    return {"messages": len(texts), "made": _Sink.count, "seconds": wall, "cpu_seconds": processor}


def _tree(node):
    """A syntax tree as lists: the kind of each node, then what it consists of."""
    if isinstance(node, (list, tuple)):
        return [_tree(each) for each in node]
    if not isinstance(node, jsonpath_rw.JSONPath):
        return node
    parts = vars(node)
    if "op" in parts:
        symbols = {value: key for key, value in {**_arithmetic.OPERATOR_MAP, **_filter.OPERATOR_MAP}.items()}
        parts = {**parts, "op": "=" if parts["op"] in ("=", "==") else symbols.get(parts["op"], parts["op"])}
    parts.pop("method", None)
    parts.pop("regex", None)
    return [type(node).__name__, *(_tree(part) for part in parts.values())]


def parsed(job):
    """What the parser makes of expressions, for comparison of syntax: a tree, or null where it refuses one."""

    def one(text):
        try:
            return _tree(declarative.Definition.JSONPATH_RW_PARSER.parse(text))
        except Exception:
            return None

    return [one(text) for text in job["texts"]]


JOBS = {"samples": convert, "events": convert, "rate": rate, "parse": parsed}

if __name__ == "__main__":
    for job_line in sys.stdin:
        given = json.loads(job_line)
        ANSWERS.write(json.dumps(JOBS[given["job"]](given)) + "\n")
        ANSWERS.flush()
