"""Writes the reference pages, `docs/reference/*.md`, from the code: `python docs/generate.py`.

With `--check` it writes nothing, and exits with status 1 if a page differs from the code.
"""

import argparse
import html
import inspect
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, fields
from itertools import takewhile
from pathlib import Path
from typing import Any

import click
import yaml
from api_page import api_page
from api_rules_page import api_rules_page
from sqlalchemy import Table, create_engine, event
from sqlalchemy.dialects import postgresql

from meterhouse import filters
from meterhouse.alarms.definitions import actions, checker
from meterhouse.alarms.definitions import alarm as alarm_definitions
from meterhouse.alarms.definitions import files as alarm_files
from meterhouse.alarms.definitions.rules import (
    absence,
    combination,
    comparing,
    composite,
    deviation,
    gnocchi,
    threshold,
)
from meterhouse.alarms.definitions.rules.comparing import COMPARE
from meterhouse.alarms.definitions.rules.kinds import REFUSED, RULES
from meterhouse.alarms.definitions.time_constraints import TimeConstraint
from meterhouse.alarms.definitions.wanted import STATISTICS
from meterhouse.cli import cli
from meterhouse.collection import stream_meters
from meterhouse.definitions import resources, units
from meterhouse.definitions.endpoints import ENDPOINTS
from meterhouse.definitions.events import DEFAULT_TRAITS, compile_event
from meterhouse.definitions.loading import ICEHOUSE_METERS
from meterhouse.definitions.meters import compile_meter
from meterhouse.definitions.quality_rules import CHECKS, SEVERITIES, Rule
from meterhouse.definitions.quality_rules import load as load_rules
from meterhouse.filters import SERIES
from meterhouse.polling import definitions as polling_definitions
from meterhouse.polling import poll_meters
from meterhouse.queries import report_files
from meterhouse.setting_types import Declared
from meterhouse.settings import FILED, Settings, declarations, file_variable, variable
from meterhouse.shipped import DEFAULTS
from meterhouse.stores import lake_tables as schema
from meterhouse.stores.sqlite_functions import add_functions
from meterhouse.stores.warehouse_tables import UtcTime, metadata, views
from meterhouse.verification import VERIFY_EVENT, VERIFY_METER

FOLDER = Path(__file__).parent / "reference"
HEADER = "<!-- Written from the code by docs/generate.py. Do not edit: run `python docs/generate.py`. -->\n\n"


# -- Markdown -----------------------------------------------------------------------------------------------


def code(content: object) -> str:
    """Inline code that is safe in a table's cell, both in GitHub's Markdown and in MkDocs'."""
    shown = str(content)
    if not set(shown) & set("|`"):
        return f"`{shown}`"
    escaped = html.escape(shown, quote=False)
    return "<code>" + re.sub(r"[|`*_\[\]\\$]", lambda found: f"&#{ord(found[0])};", escaped) + "</code>"


def codes(contents: Iterable[object]) -> str:
    """Several pieces of inline code, separated by commas."""
    return ", ".join(code(content) for content in contents)


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; cells are Markdown."""
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _cell(content: str) -> str:
    return " ".join(content.split()).replace("|", "\\|")


def sentence(content: str) -> str:
    """The text with a capital letter at its start and a full stop at its end."""
    content = " ".join(content.split())
    stop = "" if not content or content.endswith((".", "?", "!", ":")) else "."
    return content[:1].upper() + content[1:] + stop


# -- settings -----------------------------------------------------------------------------------------------

_TYPES: Mapping[object, str] = {
    Path: "path",
    str: "text",
    int: "whole number",
    float: "number",
    bool: "`true` or `false`",
}


DEFAULT_SETTINGS = Settings()


def settings_page() -> str:
    rows = []
    for name, setting in declarations().items():
        default = getattr(DEFAULT_SETTINGS, name)
        shown = code(default) if default not in ("", None) else ""
        rows.append((code(variable(name)), _setting_type(setting), shown, setting.description))
    return (
        "# Settings\n\n"
        "All settings are environment variables. A process reads and checks them once, when it starts. If a value "
        "cannot be used, the error names the variable and says what it takes. `meterhouse settings` prints the "
        "current values.\n\n"
        + table(("variable", "type", "default", "meaning"), rows)
        + f"\nInstead of {codes(map(variable, FILED))} you can set {codes(map(file_variable, FILED))} to the path of a "
        "file that has the value, as orchestrators mount secrets. One line break at its end is removed. A file that is "
        "missing or empty, has several lines, or is named beside the variable itself, is an error.\n"
        "\nThe command line also reads `METERHOUSE_DEBUG`. If it is set, an unexpected error is printed with its "
        "traceback instead of in one line.\n"
    )


def _setting_type(setting: Declared) -> str:
    if setting.choices:
        return codes(setting.choices)
    limits = [
        f"{sign} {bound}"
        for sign, bound in (("≥", setting.ge), (">", setting.gt), ("≤", setting.le))
        if bound is not None
    ]
    if setting.pattern is not None:
        limits.append(code(setting.pattern))
    if setting.min_length is not None:
        limits += ["not empty", f"at most {setting.max_length} characters"]
    return ", ".join([_TYPES[setting.kind], *limits])


# -- commands -----------------------------------------------------------------------------------------------


def commands_page() -> str:
    parts = [
        "# Commands\n\n"
        "Commands print data to standard output, and everything else to standard error. "
        "[The user guide](../user-guide.md#read-the-output) explains the formats, the "
        "[times](../user-guide.md#give-times), the [conditions](../user-guide.md#filter-with-conditions) and the "
        "[exit status](../user-guide.md#check-the-exit-status).\n"
    ]
    top = click.Context(cli, info_name="meterhouse")
    listed = [(f"[`{name}`](#meterhouse-{name})", _short(command)) for name, command in _members(cli)]
    parts.append(table(("command", "does"), listed))
    for name, command in _members(cli):
        parts.append(_command(command, click.Context(command, info_name=name, parent=top), 2))
        if isinstance(command, click.Group):
            for inner_name, inner in _members(command):
                context = click.Context(inner, info_name=inner_name, parent=click.Context(command, top, name))
                parts.append(_command(inner, context, 3))
    return "\n".join(parts)


def _members(group: click.Group) -> list[tuple[str, click.Command]]:
    context = click.Context(group)
    found = ((name, group.get_command(context, name)) for name in sorted(group.list_commands(context)))
    return [(name, command) for name, command in found if command is not None]


def _short(command: click.Command) -> str:
    return sentence(inspect.cleandoc(command.help or "").partition("\n\n")[0].partition(". ")[0])


def _command(command: click.Command, context: click.Context, level: int) -> str:
    path = context.command_path
    usage = " ".join([path, *command.collect_usage_pieces(context)])
    made = f"{'#' * level} {path}\n\n```text\n{usage}\n```\n\n{_help(command)}\n"
    records = [param.get_help_record(context) for param in command.params if isinstance(param, click.Option)]
    if records:
        rows = [(code(record[0]), record[1]) for record in records if record is not None]
        made += "\n" + table(("option", "meaning"), rows)
    if isinstance(command, click.Group):
        listed = [
            (f"[`{name}`](#meterhouse-{context.info_name}-{name})", _short(inner)) for name, inner in _members(command)
        ]
        made += "\n" + table(("command", "does"), listed)
    return made


def _help(command: click.Command) -> str:
    paragraphs = []
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        if paragraph.startswith("\b"):
            paragraphs.append("```text\n" + paragraph.removeprefix("\b").strip("\n") + "\n```")
        else:
            paragraphs.append(" ".join(paragraph.split()))
    return "\n\n".join(paragraphs)


# -- assets -------------------------------------------------------------------------------------------------


_ORIGINS = {
    "missed_polls": "the warehouse's record of polling, `poll_tasks`",
    "notifications": "the stream",
    "polled_samples": "answers of services, exporters and hosts, by `polling.yaml`",
    "resource_names": "`names.csv`, Keystone and notifications",
}
"""What assets are computed from that have no asset before them."""


def assets_page() -> str:
    with warnings.catch_warnings():
        import dagster as dg

        warnings.simplefilter("ignore", dg.BetaWarning)  # of BackfillPolicy
        from definitions import defs

        graph = defs.resolve_asset_graph()
    order = [key for level in graph.toposorted_asset_keys_by_level for key in sorted(level)]
    rows, details = [], []
    for key in order:
        node = graph.get(key)
        name = key.to_user_string()
        partitions = _partitions(node.partitions_def)
        rows.append((f"[`{name}`](#{name})", node.group_name or "", partitions or "none", node.description or ""))
        facts = [
            ("computed from", codes(sorted(parent.to_user_string() for parent in node.parent_keys)) or _ORIGINS[name]),
            ("partitions", partitions or "none"),
            ("backfill", _backfill(node.backfill_policy) if partitions else "none: materialize the asset"),
            ("kinds", ", ".join(sorted(node.kinds))),
            ("owners", codes(sorted(node.owners))),
        ]
        if not node.is_materializable:
            facts[2] = ("backfill", "none: no run makes it, a sensor reports its materializations")
        details.append(f"### {name}\n\n{node.description or ''}\n\n" + table(("", ""), facts))
    checks = [
        (code(key.name), code(key.asset_key.to_user_string()), graph.get(key).description or "")
        for key in sorted(graph.asset_check_keys, key=lambda key: (key.name, key.asset_key))
    ]
    jobs, purpose = [], {}
    for job in sorted(defs.jobs or (), key=lambda job: job.name):
        resolved = defs.resolve_job_def(job.name)
        chosen = sorted(key.to_user_string() for key in resolved.asset_layer.executable_asset_keys)
        chosen += [] if chosen else sorted(key.name for key in resolved.asset_layer.asset_graph.asset_check_keys)
        purpose[job.name] = about = resolved.description or ""
        jobs.append((code(job.name), codes(chosen) or "no asset", _partitions(resolved.partitions_def), about))
    sensors = []
    for sensor in sorted(defs.sensors or (), key=lambda sensor: sensor.name):
        started = codes(job.name for job in sensor.jobs) if sensor.has_jobs else "no run: it does the work itself"
        interval = f"{sensor.minimum_interval_seconds} s"
        sensors.append((code(sensor.name), started, interval, sensor.default_status.value, sensor.description or ""))
    schedules = []
    for name in sorted(schedule.name for schedule in defs.schedules or ()):
        schedule = defs.resolve_schedule_def(name)
        zone, status = schedule.execution_timezone or "UTC", schedule.default_status.value
        about = schedule.description or purpose[schedule.job_name]
        schedules.append((code(name), code(schedule.job_name), code(schedule.cron_schedule), zone, status, about))
    return (
        "# Assets\n\n"
        "The assets, asset checks, jobs, sensors and schedules of Meterhouse in Dagster. Partitions are event hours or "
        "event days in UTC. Only `archive` has arrival days.\n\n## Assets\n\n"
        + table(("asset", "group", "partitions", "what it is"), rows)
        + "\n"
        + "\n".join(details)
        + "\n## Asset checks\n\n"
        + table(("check", "asset", "passes if"), checks)
        + "\n## Jobs\n\n"
        + table(("job", "assets or checks", "partitions", "what it does"), jobs)
        + "\n## Sensors\n\n"
        "The interval is the minimum. Dagster's daemon evaluates sensors every five seconds.\n\n"
        + table(("sensor", "starts", "interval", "initial status", "what it does"), sensors)
        + "\n## Schedules\n\n"
        + table(("schedule", "starts", "cron", "time zone", "initial status", "what it does"), schedules)
    )


def _partitions(given: Any) -> str:
    if given is None:
        return ""
    return "hours" if "Hourly" in type(given).__name__ else "days"


def _backfill(policy: Any) -> str:
    if policy is None:
        return "one run for each partition"
    if policy.max_partitions_per_run is None:
        return "one run for all partitions"
    count = policy.max_partitions_per_run
    return "one run for each partition" if count == 1 else f"one run for every {count} partitions"


# -- meters and events --------------------------------------------------------------------------------------


def meters_page() -> str:
    parts = [
        "# Meters\n\n"
        "The meter definitions that Meterhouse ships, in the form of Ceilometer's `meters.yaml`. Your own "
        "`meters.d/*.yaml` or `meters.yaml` in `METERHOUSE_CONFIG_DIR` replace all of them. An event type is a regular "
        "expression that has to match at the start.\n\n"
        "Polled samples need no definition: each has its own meter, type and unit. "
        "[Those of Ceilometer's agents](#polled-meters) are listed below.\n"
    ]
    parts += [_meters_of(path, path.stem) for path in sorted((DEFAULTS / "meters.d").glob("*.yaml"))]
    parts.append(_meters_of(ICEHOUSE_METERS, "With METERHOUSE_ICEHOUSE_METERS"))
    parts.append(
        "## Made by code\n\n"
        "The form cannot express these meters. They are made whatever the definitions are. The last one is "
        "Meterhouse's own, the others are Ceilometer's.\n\n"
        + table(
            ("meter", "type", "unit", "event types", "meaning"),
            [(code(endpoint.name), *_BY_CODE[endpoint.name]) for endpoint in ENDPOINTS],
        )
    )
    parts.append(
        "## Polled meters\n\n"
        "The meters that Ceilometer's polling agents send. Other agents may send other meters. They are kept as they "
        "come. Those of Prometheus exporters are [with the pollsters](pollsters.md#meters-of-prometheus-exporters).\n"
    )
    polled: dict[str, list[list[str]]] = yaml.safe_load((DEFAULTS / "polled_meters.yaml").read_text("utf-8"))
    for service, meters in polled.items():
        rows = [
            (code(name), kind, code(unit) if unit else "none", sentence(about)) for name, kind, unit, about in meters
        ]
        parts.append(f"### Polled: {service}\n\n" + table(("meter", "type", "unit", "meaning"), rows))
    parts.append(
        "## Of the stream itself\n\n"
        "Gauges that show how far collection is behind, with source `meterhouse`. The resource is a queue, or `stream` "
        "for all queues. They are measured with each evaluation of the alarms, if an alarm uses one of them. See "
        "[Collect from RabbitMQ](../rabbitmq.md#see-whether-it-keeps-up).\n\n"
        + table(
            ("meter", "unit", "meaning"),
            [(code(name), code(unit), about) for name, (unit, about) in stream_meters.METERS.items()],
        )
    )
    parts.append(
        "## Of polling itself\n\n"
        "A gauge with source `meterhouse`. The resource is `source/pollster`; for a pollster of a host it is "
        "`source/pollster/host`. It is measured with each evaluation of the alarms, if an alarm uses it. See "
        "[Polling](../polling.md#get-an-alarm-if-polling-stops).\n\n"
        + table(
            ("meter", "unit", "meaning"),
            [(code(name), code(unit), about) for name, (unit, about) in poll_meters.METERS.items()],
        )
    )
    return "\n".join(parts)


def _meters_of(path: Path, title: str) -> str:
    content = path.read_text("utf-8")
    lines = content.splitlines()
    root: Any = yaml.compose(content)
    nodes = next(value for key, value in root.value if key.value == "metric").value
    rows = []
    for entry, node in zip(yaml.safe_load(content)["metric"], nodes, strict=True):
        compile_meter(entry)
        about = _comment(path, lines, node.start_mark.line)
        rows.append((code(entry["name"]), entry["type"], code(entry["unit"]), codes(_listed(entry)), sentence(about)))
    return f"## {title}\n\n{_remark(lines)}\n\n" + table(("meter", "type", "unit", "event types", "meaning"), rows)


_BY_CODE = {
    "hardware.ipmi.current": ("gauge", "as read", "`hardware.ipmi.*`", "Reading of a current sensor of a node."),
    "hardware.ipmi.fan": ("gauge", "`RPM`", "`hardware.ipmi.*`", "Speed of a fan of a node."),
    "hardware.ipmi.temperature": ("gauge", "`C`", "`hardware.ipmi.*`", "Reading of a temperature sensor of a node."),
    "hardware.ipmi.voltage": ("gauge", "`V`", "`hardware.ipmi.*`", "Reading of a voltage sensor of a node."),
    "http.request": ("delta", "`request`", "`http.request`", "A request to an API that has the audit middleware."),
    "http.response": ("delta", "`response`", "`http.response`", "The answer to such a request."),
    VERIFY_METER: ("gauge", "`notification`", f"`{VERIFY_EVENT}`", "The notification of `meterhouse verify`."),
}


def resources_page() -> str:
    types = resources.read(resources.SHIPPED)
    parts = [
        "# Billable resources\n\n"
        "The types of resources that periods, usage and bills know, as the shipped `resources.yaml` declares them. To "
        "change them, put a file of this name into `METERHOUSE_CONFIG_DIR`: it replaces the shipped one. Its comments "
        "explain the keys. See [Usage](../usage.md).\n\n"
        + table(("type", "what it is"), [(code(each.type), sentence(each.description)) for each in types.types])
    ]
    for each in types.types:
        rows = [
            ("begins with", codes(each.begins)),
            ("ends with", codes(each.ends)),
            ("other events", codes([glob for glob in each.events if glob not in (*each.begins, *each.ends)])),
            ("audits", codes(each.audits)),
            ("attributes", codes(list(each.attributes))),
            ("sizes", codes(list(each.sizes))),
            ("meters of pollsters", codes(each.polls.meters)),
        ]
        parts.append(f"## {each.type}\n\n" + table(("", ""), [row for row in rows if row[1]]))
    entries = units.read(units.SHIPPED).factors
    rows = [(code(unit), f"{factor} {code(of)}") for unit, (of, factor) in entries.items()]
    parts.append(
        "## Units\n\n"
        "Amounts are converted by the shipped `units.yaml`, or your own file of this name. A unit that is not listed "
        "stands for itself.\n\n" + table(("unit", "is"), rows)
    )
    return "\n".join(parts)


def events_page() -> str:
    path = DEFAULTS / "event_definitions.yaml"
    content = path.read_text("utf-8")
    lines = content.splitlines()
    root: Any = yaml.compose(content)
    sections: dict[int, list[Sequence[str]]] = {at: [] for at, line in enumerate(lines) if line.startswith(_SECTION)}
    for entry, node in zip(yaml.safe_load(content), root.value, strict=True):
        compile_event(entry)
        at = node.start_mark.line
        traits = [_trait(name, value) for name, value in sorted(entry["traits"].items())]
        row = codes(_listed(entry)), sentence(_comment(path, lines, at)), ", ".join(traits)
        sections[max(start for start in sections if start < at)].append(row)
    defaults = [
        (code(name), codes([paths] if isinstance(paths, str) else paths)) for name, paths in DEFAULT_TRAITS.items()
    ]
    parts = [
        "# Events\n\n"
        "The event definitions that Meterhouse ships, in the form of Ceilometer's `event_definitions.yaml`. Your own "
        "`event_definitions.yaml` in `METERHOUSE_CONFIG_DIR` replaces all of them. An event type is a shell glob. If "
        "several entries match, the last in the file applies.\n\n"
        "A trait is a text unless its type is given. Every event has the following traits, unless its entry defines "
        "them differently. The first path that finds a value is used. An event that no entry matches has only these "
        "traits:\n\n" + table(("trait", "read from"), defaults)
    ]
    for start, rows in sections.items():
        title, remark = lines[start].removeprefix(_SECTION), _remark(lines[start + 1 :])
        intro = f"{remark}\n\n" if remark else ""
        parts.append(f"## {title}\n\n{intro}" + table(("event types", "meaning", "traits"), rows))
    return "\n".join(parts)


_SECTION = "# -- "


def _listed(entry: Mapping[str, Any]) -> Sequence[str]:
    given = entry["event_type"]
    return given if isinstance(given, list) else [given]


def _trait(name: str, value: object) -> str:
    kind = value.get("type", "text") if isinstance(value, dict) else "text"
    return code(name) if kind == "text" else f"{code(name)} ({kind})"


def _remark(lines: Sequence[str]) -> str:
    """The comment at the start of these lines."""
    return " ".join(line.lstrip("# ") for line in takewhile(lambda line: line.startswith("#"), lines))


def _comment(path: Path, lines: Sequence[str], at: int) -> str:
    """The comment in the first line of an entry, or the one right above it.

    Raises:
        ValueError: there is no comment.
    """
    inline = re.search(r"\s#\s(.*)$", lines[at])
    if inline:
        return inline[1]
    above = list(takewhile(lambda line: line.lstrip().startswith("#"), reversed(lines[:at])))
    if not above or above[-1].startswith(_SECTION):
        raise ValueError(f"{path}:{at + 1}: the entry has no description: write a comment beside its first line")
    return " ".join(line.lstrip("# ") for line in reversed(above))


# -- quality rules ------------------------------------------------------------------------------------------

_CHECKS = {
    "finite": "the volume is infinite or not a number",
    "range": "the volume is below `min` or above `max`; you may leave out one of them",
    "future": "the point is dated more than `tolerance_seconds` after its arrival",
    "duplicate": "another sample of the series has the same time; the one that breaks no critical rule and arrived "
    "last counts",
    "reset": "a counter is below its previous good point, which is at most `METERHOUSE_CARRY_HOURS` older",
}


def rules_page() -> str:
    rules = load_rules(None).rules
    rows = [
        (
            code(rule.name),
            rule.severity,
            code(rule.check) + _limits(rule),
            codes(rule.meters) if rule.meters != ("*",) else "all",
            ", ".join(rule.types) if len(rule.types) < 3 else "all",
            str(rule.bit),
            rule.description,
        )
        for rule in rules
    ]
    return (
        "# Quality rules\n\n"
        "Before any statistic, the rules that apply to a point's meter and type judge it. A `critical` rule excludes "
        "the point. A `warning` flags it, but the point still counts. In both cases the lake's table `quarantine` "
        "lists the point.\n\n"
        "## The shipped rules\n\n"
        + table(("rule", "severity", "check", "meters", "types", "bit", "meaning"), rows)
        + "\n## Keys of a rule\n\n"
        "Put your own rules into `quality.yaml` in `METERHOUSE_CONFIG_DIR`, as a list under `rules:`. The file "
        "replaces the shipped one. Copy the rules that you want to keep.\n\n"
        "Two rules always hold, because no sum can be computed with the points that they exclude: `not_finite` and "
        "`too_large`. If your file does not exclude all such points, the shipped rule is added to it. It replaces a "
        "weaker rule of its name. If its bit is taken, it gets the highest free one.\n\n"
        + table(
            ("key", "takes", "default"),
            [
                ("`name`", "a unique name", "required"),
                ("`description`", "text", "none"),
                ("`bit`", "0 to 30: its place in `quarantine.reasons`; do not reuse it for another rule", "required"),
                ("`check`", codes(CHECKS), "required"),
                ("`severity`", codes(SEVERITIES), "required"),
                ("`meters`", "a list of shell globs of meter names", "every meter"),
                ("`types`", "a list of `gauge`, `delta`, `cumulative`", "every type"),
                ("`min`, `max`", "numbers, in the meter's unit; for `range`", "no bound"),
                ("`tolerance_seconds`", "a number; for `future`", "300"),
            ],
        )
        + "\n## Checks\n\n"
        + table(("check", "a point breaks it if"), [(code(check), _CHECKS.get(check, "")) for check in CHECKS])
    )


def _limits(rule: Rule) -> str:
    match rule.check:
        case "range":
            low = f" from {rule.minimum:g}" if rule.minimum > float("-inf") else ""
            high = f" to {rule.maximum:g}" if rule.maximum < float("inf") else ""
            return low + high
        case "future":
            return f" after {rule.tolerance_seconds:g} s"
        case _:
            return ""


# -- alarms -------------------------------------------------------------------------------------------------

_URLS = "list of URLs"
_ALARM_FIELDS = {
    "name": ("text", "A unique name. The `alarm_id` is made from it, so a renamed alarm is a new alarm."),
    "type": (codes(alarm_definitions.TYPES), "The kind of rule."),
    "description": ("text", "What it is for."),
    "enabled": ("`true`, `false`", "A disabled alarm is not evaluated and keeps its state."),
    "severity": (codes(alarm_definitions.SEVERITIES), "Sent with each notification."),
    "repeat_actions": (
        "`true`, `false`",
        "Notify at each evaluation, not only when the state changes. `insufficient data` is notified only once.",
    ),
    "alarm_actions": (_URLS, "Notified when the state becomes `alarm`."),
    "ok_actions": (_URLS, "Notified when the state becomes `ok`."),
    "insufficient_data_actions": (_URLS, "Notified when the state becomes `insufficient data`."),
    "time_constraints": ("list of constraints, below", "When it is evaluated; always, if there are none."),
}
_CONDITIONS = "list of `{field, op, value}`"
_PERIOD = (f"seconds, 1 to {comparing.MAX_PERIOD:,}", "The length of a period.")
_PERIODS = (f"whole number, 1 to {comparing.MAX_PERIODS:,}", "How many periods decide.")
_RULE_FIELDS = {
    "meter_name": ("text", "The meter to evaluate."),
    "threshold": ("finite number", "The value to compare with."),
    "query": (_CONDITIONS, "Conditions that the points have to meet, all of them. The series are evaluated together."),
    "comparison_operator": (codes(COMPARE), "How the value is compared with the threshold."),
    "statistic": (codes(STATISTICS), "The statistic of the good points of each period."),
    "period": _PERIOD,
    "evaluation_periods": _PERIODS,
    "exclude_outliers": (
        "`true`, `false`",
        "Leave out periods whose number of points differs from the mean by more than two standard deviations.",
    ),
    "where": (
        "text",
        "A further condition, such as `project = shop and not resource in (a, b)`; "
        "[the guide](../user-guide.md#filter-with-conditions) has all of it.",
    ),
    "alarm_ids": ("list of ids", "The alarms, at least two. In a file, `alarms` names them by name instead."),
    "operator": (codes(combination.OPERATORS), "How their states are joined."),
    "aggregation_method": (codes(gnocchi.METHODS), "The statistic, by Gnocchi's name."),
    "granularity": (f"seconds, 1 to {gnocchi.MAX_GRANULARITY:,}", "The length of a period, from the UNIX epoch on."),
    "metric": ("text", "The meter."),
    "metrics": ("list of `RESOURCE_ID/METER`", "The metrics, all of one meter."),
    "resource_id": ("text", "The resource."),
    "resource_type": ("text", "Taken and kept; the meter says enough."),
    "numerator": ("`{meter_name, query, statistic, where}`", "What is divided."),
    "denominator": ("`{meter_name, query, statistic, where}`", "By what. A period in which it is 0 does not count."),
    "weeks": (f"whole number, {deviation.MIN_WEEKS} to {deviation.MAX_WEEKS}", "How many past weeks are compared."),
    "deviations": ("number", "How many standard deviations of the past weeks it may be away from their mean."),
    "at_least": ("number", "How many percent of the mean it may be away in any case."),
    "direction": (codes(deviation.DIRECTIONS), "Which deviations count."),
    "event_type": ("text", "The type of event; `*` and `?` stand for any text and any character."),
    "within": (f"seconds, 1 to {comparing.MAX_PERIOD:,}", "How long may nothing come."),
    "of": (codes(absence.OF), "Whether all series have to be silent, or one is enough."),
    "known_for": (f"seconds, 1 to {comparing.MAX_WINDOW:,}", "`of: any`: since when a series must have had points."),
}
_OWN_RULE_FIELDS = {
    ("threshold", "statistic"): (codes(threshold.STATISTICS), "The statistic of the good points of each period."),
    ("rate_of_change", "threshold"): ("finite number", "The change a second to compare with."),
    ("event", "query"): (
        "list of `{field, op, value, type}`",
        "Conditions on `traits.NAME`, `event_type`, `message_id` or `generated`, all of them.",
    ),
    ("gnocchi_aggregation_by_resources_threshold", "query"): ("JSON in a text", "Gnocchi's search of resources."),
    ("gnocchi_resources_threshold", "evaluation_periods"): (f"whole number, 1 to {gnocchi.MAX_PERIODS}", _PERIODS[1]),
    ("absence", "meter_name"): ("text", "The meter of the series; or name an `event_type`."),
    ("absence", "query"): (_CONDITIONS, "Conditions on the points, or on the events."),
}
_CONSTRAINT_FIELDS = {
    "name": ("text", "A name, unique within the alarm."),
    "start": ("cron expression", "Five fields: when a span begins."),
    "duration": ("seconds", "How long it lasts."),
    "timezone": ("name", "The time zone of `start`, such as `Europe/Vienna`; UTC without one."),
    "description": ("text", "What it is for."),
}


def alarms_page() -> str:
    types = [(code(name), meaning) for name, meaning in alarm_definitions.TYPES.items()]
    return (
        "# Alarms\n\n"
        "Declare alarms in `alarms.yaml` in `METERHOUSE_CONFIG_DIR`, and in as many files of its folder `alarms.d/` as "
        "you like, each with a list under `alarms:`. The fields are those of Ceilometer's and Aodh's alarm object. "
        "Each evaluation first brings the warehouse in line with the files, if they have changed."
        "\n\n## Types\n\n"
        + table(("type", "what it does"), types)
        + "\nThe types of Aodh that are missing are refused with the reason: "
        + "; ".join(f"{code(name)} {what}" for name, (what, _) in REFUSED.items())
        + ".\n\n## Fields of an alarm\n\n"
        + _fields(
            alarm_definitions.Alarm, _ALARM_FIELDS, {"rule": ("TYPE_rule", "mapping", "The rule of its type, below.")}
        )
        + "\nA URL is `http://…`, `https://…`, `trust+http://…`, `trust+https://…` or `log://`: "
        "[webhooks](../webhooks.md#what-an-action-can-be) says what happens.\n"
        + "".join(_rule(name) for name in RULES)
        + "\n## Fields of a time constraint\n\n"
        "An alarm is evaluated while one of its constraints is in force: from each time of `start`, for `duration` "
        "seconds. Outside of them, its state stays.\n\n"
        + _fields(TimeConstraint, _CONSTRAINT_FIELDS, {})
        + "\n## Conditions\n\n"
        f"A condition of a query on points has a `field` ({codes(filters.names(SERIES))}), an `op` "
        f"({codes(COMPARE)}; default `eq`) and a `value`. `where` has the same fields. `metadata.KEY` is the metadata "
        "of each point, also spelt `resource_metadata.KEY`; of a point without the key, no comparison is true.\n"
        "\n## States\n\n"
        + table(
            ("state", "when"),
            [
                (
                    "`insufficient data`",
                    "fewer than `evaluation_periods` periods of the window have points, the points have different "
                    "units, the alarm cannot be evaluated, or it is new",
                ),
                ("`alarm`", "the comparison is true in each of the last `evaluation_periods` periods"),
                ("`ok`", "it is true in none of them"),
            ],
        )
        + "\nIf it is true only in some, the state stays. From `insufficient data`, it becomes the state of the latest "
        "period.\n"
        "\nThe window ends now. It is `evaluation_periods` + 1 periods long (twice `evaluation_periods` with "
        "`exclude_outliers`), so that it has enough points even if the newest are still on their way. It "
        f"is at most {comparing.MAX_WINDOW // 86400} days long.\n"
        "\n## Limits\n\n"
        + table(
            ("what", "maximum"),
            [
                ("alarms that files declare", f"{alarm_files.MAX_ALARMS:,}"),
                ("a list of actions or conditions", f"{checker.MAX_LIST} items"),
                ("rules of a composite alarm", f"{composite.MAX_RULES}"),
                ("a name, a meter or a value of a condition", f"{checker.MAX_NAME} characters"),
                ("a URL", f"{actions.MAX_URL:,} characters"),
                ("a description or a `where`", f"{checker.MAX_TEXT:,} characters"),
            ],
        )
        + "\nAn alarm that cannot work, or that reads series with different units, is left as the warehouse has it. "
        "`meterhouse alarms apply` and `evaluate` report file, line and reason, and exit with status 1. "
        "All other alarms are applied and evaluated.\n"
    )


def _rule(kind: str) -> str:
    rule, heading = RULES[kind], f"\n## Fields of a {kind}_rule\n\n"
    if kind == "composite":
        return (
            heading
            + "A mapping with one key, `and` or `or`, and a list. Each item is a mapping of that kind, or a rule "
            f"with its `type` ({codes(composite.KINDS)}) and the fields of that type.\n"
        )
    own = {name: meaning for (of, name), meaning in _OWN_RULE_FIELDS.items() if of == kind}
    return heading + _fields(rule, _RULE_FIELDS | own, {})


_NOT_WRITTEN = {"only_project"}
"""Fields that no file and no client writes."""


def _fields(kind: type[Any], meanings: Mapping[str, tuple[str, str]], named: Mapping[str, tuple[str, str, str]]) -> str:
    rows = []
    for field in fields(kind):
        if field.name in _NOT_WRITTEN:
            continue
        default = field.default
        if field.name in named:
            name, takes, meaning = named[field.name]
        else:
            name = field.name
            takes, meaning = meanings[name]
        shown = "required" if default is MISSING else "none" if default in ("", ()) else code(str(default).lower())
        rows.append((code(name), takes, shown, meaning))
    return table(("field", "takes", "default", "meaning"), rows)


# -- tables -------------------------------------------------------------------------------------------------

_PURPOSES = {
    "notifications": "The landed messages, unchanged, one row for each.",
    "samples": "Measurements: made from notifications, polled or loaded.",
    "events": "What happened to resources, with traits.",
    "rollups": "Roll-ups of good points to 1 hour, 1 day, and what the archive policy asks for.",
    "quarantine": "Points that break a quality rule, with the names of the rules.",
    "derived": "Points of derived meters, computed with the roll-ups of their hour.",
    "metadata_changes": "From when a series had which metadata. The view `resource_history` shows it by resource.",
    "resource_history": "The project, user and metadata of the resources by time: a view.",
    "resource_metadata_keys": "The metadata of `resource_metadata`, one row a key, such as `flavor.name`: a view. Keys "
    "of objects in objects are joined by dots, and places in lists count from 0.",
    "resource_metadata_history": "The metadata of the resources by time, one row a key: a view. The first known value "
    "also stands for the time before. A kind of samples that never has a key says nothing of it.",
    "name_history": "What projects, users and flavors were called by time: a view. Of several witnesses the file "
    "rules, then Keystone, then messages. The first known name also stands for the time before.",
    "names_now": "What projects, users and flavors are called now: a view.",
    "derived_meters": "What the derived meters are made of.",
    "received_meters": "Samples that were received under the name of a derived meter.",
    "dead_letters": "Messages and rows that could not be read, and samples with a wrong signature, with the reason.",
    "series": "The series and their dimensions.",
    "resources": "The resources, as of their newest good sample.",
    "resource_metadata": "Snapshots of the metadata of resources.",
    "quality_daily": "How many points of an event hour broke each rule.",
    "rollup_1h": "Hourly roll-ups: a view. Its rows are in the order of bucket and series.",
    "rollup_1d": "Daily roll-ups: a view. Its rows are in the order of bucket and series, with an index of series. A "
    "day of more than 2 million points has no percentiles until it is over.",
    "evidence": "What notifications say of billable resources: what `resource_periods` is made of.",
    "resource_states": "What was known of resources at the start of a month.",
    "alarms": "The alarms and their states.",
    "alarm_cycles": "One row: the last cycle in which the enabled alarms were evaluated.",
    "alarm_files": "Which content of the files of alarms was last applied.",
    "alarm_quotas": "How many alarms a project may have.",
    "alarm_silences": "When which alarms do not notify, by whom and why.",
    "alarm_history": "The history of alarms: creation, rule change, state transition, deletion.",
    "deliveries": "The outbox: notifications of alarms, and the state of each.",
    "delivery_attempts": "The attempts to send the notifications of `deliveries`, and how each was answered. An "
    "attempt whose process died has no row.",
    "webhook_credentials": "User and password of URLs in `deliveries`, which are shown without them: secrets.",
    "meanings": "What definitions, quality rules and archive policies meant, by fingerprint.",
    "conversions": "By which definitions the rows of an arrival hour were made.",
    "backfills": "How far backfills are that have not ended.",
    "archive_manifest": "What was sealed: counts, sums, digests and files of each arrival day.",
    "leases": "Which process is running a step.",
    "runs": "What each run of a step did.",
}
_MEANINGS = {
    "arrival_hour": "UTC hour of landing, `YYYY-MM-DDTHH`",
    "message_id": "the notification's; made from its content if it has none",
    "event_type": "the notification's",
    "publisher_id": "the notification's",
    "received_at": "when it was landed",
    "source": "where the sample comes from; `METERHOUSE_SAMPLE_SOURCE` for samples of notifications",
    "meter": "name of the meter",
    "type": "gauge, delta or cumulative",
    "unit": "of the volume",
    "resource_id": "what was measured",
    "project_id": "the project that owns it",
    "user_id": "the user that owns it",
    "generated": "the notification's timestamp",
    "min": "lowest volume",
    "max": "highest volume",
    "first_at": "time of the first point",
    "last_at": "time of the last point",
    "valid_from": "when it began, by a good point",
    "valid_to": "when the next one began; null if there is none",
    "first_sample_at": "time of the first good sample; null until it is rolled up",
    "last_sample_at": "time of the newest good sample; null until it is rolled up",
    "marked_at": "when it last became dirty",
    "judged_at": "when it was last judged",
    "rolled_at": "when it was last rolled up",
    "rolled_version": "version of the lake's `rollups` that has its rows",
    "day": "event day",
    "rule": "name of the quality rule",
    "severity": "critical or warning",
    "alarm_id": "made from the alarm's name if a file declares it, else random",
    "url": "the URL to call",
    "attempts": "calls made so far",
    "rows": "number of sealed rows",
    "bytes": "size of the sealed files",
    "sealed_at": "when it was sealed",
    "expires_at": "until when it is held",
    "event_day": "event day",
    "series_id": "64-bit hash of the series' seven dimensions",
    "timestamp": "event time",
    "volume": "the measured value",
    "sample_id": "64-bit hash; the same if a notification comes again",
    "granularity_s": "300, 3600, 86400, or another one of the archive policy",
    "bucket": "start of the bucket, aligned to the UNIX epoch",
    "count": "good points",
    "sum": "sum of the volumes",
    "sum_squares": "sum of the squared volumes, for variances",
    "first": "volume of the first point; gauges and counters only",
    "last": "volume of the last point; gauges and counters only",
    "increase": "growth of a counter, also since the last point before the bucket and across resets; counters only",
    "resets": "resets of a counter",
    "p50": "median",
    "p95": "95th percentile",
    "p99": "99th percentile",
    "excluded": "points that critical rules exclude",
    "cadence_s": "median step from a good point to the next, in seconds",
    "policies": "the archive policies and derived meters by which it was last rolled up: a fingerprint of "
    "`meanings`; null: by an earlier release",
    "rules": "the quality rules by which it was last judged: a fingerprint of `meanings`; null: by an earlier release",
    "fingerprint": "hash of the meaning",
    "meaning": "JSON: all that decides on rows, without comments and descriptions",
    "reason_names": "names of the rules that it breaks",
    "letter_id": "64-bit hash of queue and body",
    "queue": "where it came from: a queue, or file and line with `spool:` or `load:` before",
    "reason": "what is wrong with it",
    "metadata_id": "refers to `resource_metadata`",
    "metadata": "JSON",
    "first_seen": "time of the first good point; null until it is rolled up",
    "last_seen": "time of the last good point; null until it is rolled up",
    "first_point_at": "time of the first point, good or not",
    "last_point_at": "a time in the hour of the last point, good or not; the latest one of a meter is exact",
    "hour": "event hour",
    "marks": "how often it became dirty",
    "judged_marks": "`marks` when it was last judged",
    "rolled_marks": "`marks` when it was last rolled up",
    "late": "late points: those that came after the hour was rolled up",
    "why": "the reason of the latest mark",
    "follower": "the lake table that the catalog follows",
    "version": "a version of a lake table",
    "flagged": "points that broke the rule",
    "definition": "JSON",
    "state_reason": "the reason for the state",
    "evaluate_timestamp": "when it was first evaluated, or before it was disabled; `alarm_cycles` has the last time",
    "detail": "JSON",
    "event_id": "the id of the transition or change",
    "delivery_id": "sent as `Idempotency-Key`",
    "body": "the content",
    "next_attempt_at": "the earliest time of the next attempt",
    "last_error": "why the latest attempt failed",
    "table_name": "a lake table",
    "duplicates": "repeated rows that were removed",
    "volume_sum": "sum of the finite volumes; samples only",
    "digest": "XOR of the rows' MD5 hashes",
    "files_before": "number of files that were replaced",
    "bytes_before": "size of the files that were replaced",
    "files": "JSON: the sealed files",
    "day_over": "whether the day had ended",
    "holder": "host, pid, start time and a random part; empty if nobody runs the step",
    "generation": "how often the lease was taken; a process that lost it writes nothing more",
    "figures": "JSON: what the step did",
    "step": "collect, convert, catalog, sample_quality, rollups, archive, report or upkeep",
}
_OWN_MEANINGS = {
    ("warehouse_holds", "holds_until"): "event time up to which the warehouse shows everything that came",
    ("warehouse_holds", "came_until"): "when the newest samples that it knows of came",
    ("alarms", "name"): "its name; unique among the alarms of files",
    ("alarms", "origin"): "`file` or `outside`",
    ("alarms", "project_id"): "the project that owns it; empty for alarms of files",
    ("alarms", "user_id"): "the user that owns it; empty for alarms of files",
    ("alarms", "type"): "one of the [types](alarms.md#types)",
    ("alarm_cycles", "cycle_id"): "always 1",
    ("alarm_cycles", "evaluated_at"): "end of the windows: when every enabled alarm was last evaluated",
    ("alarm_cycles", "alarms"): "number of enabled alarms",
    ("alarm_cycles", "history"): "newest `sequence` of `alarm_history` after it",
    ("alarm_cycles", "watched"): "JSON: meters that alarms read, and the longest window of each in seconds",
    ("alarms", "held_since"): "may be null; since when its state is kept because intake is behind",
    ("alarm_files", "digest"): "hash of the files and of the release",
    ("alarm_files", "faults"): "JSON: what is wrong with alarms that were not applied",
    ("alarm_quotas", "project_id"): "the project",
    ("alarm_quotas", "maximum"): "maximum number of its alarms; -1 for no limit",
    ("alarm_silences", "silence_id"): "unique id",
    ("alarm_silences", "name_glob"): "the names of the alarms; `*` and `?` stand for any text and any character",
    ("alarm_silences", "project_id"): "alarms of this project only",
    ("alarm_silences", "severity"): "alarms of this severity only",
    ("alarm_silences", "begins_at"): "from when",
    ("alarm_silences", "ends_at"): "until when",
    ("alarm_silences", "author"): "who silenced them",
    ("alarm_silences", "reason"): "why",
    ("alarm_silences", "created_at"): "when it was recorded",
    ("alarm_history", "user_id"): "who did it; empty for files and evaluations",
    ("alarm_history", "project_id"): "the project of whoever did it",
    ("alarm_history", "on_behalf_of"): "the project that owns the alarm",
    ("alarm_history", "severity"): "of the alarm",
    ("alarms", "enabled"): "whether it is evaluated",
    ("alarms", "severity"): "low, moderate or critical",
    ("alarms", "state_timestamp"): "when the state last changed",
    ("alarm_history", "type"): "creation, rule change, state transition or deletion",
    ("alarm_history", "event_id"): "unique id",
    ("archive_manifest", "day"): "arrival day",
    ("deliveries", "body"): "JSON: what is sent",
    ("deliveries", "created_at"): "when the alarm was evaluated",
    ("deliveries", "sequence"): "the order of sending",
    ("deliveries", "url"): "the URL to call, without user and password",
    ("deliveries", "alarm_name"): "the alarm's name at that time; empty: by an earlier release",
    ("deliveries", "origin"): "`file`: the alarm is of `alarms.yaml`; `outside`: of somebody else",
    ("deliveries", "project_id"): "the alarm's project",
    ("deliveries", "receiver"): "scheme, host and port of the URL; receivers take turns. Empty: by an earlier release",
    ("deliveries", "attempts_before"): "calls made before it was last sent again by hand",
    ("deliveries", "alone"): "whether the receiver has refused it in a digest",
    ("deliveries", "queued_at"): "when it was put into the outbox, or sent again by hand; null: at `created_at`",
    ("delivery_attempts", "attempt"): "its number, from 1",
    ("delivery_attempts", "started_at"): "when the call began",
    ("delivery_attempts", "seconds"): "how long the call took",
    ("delivery_attempts", "address"): "the address and port that was called; null if none was reached",
    ("delivery_attempts", "status"): "HTTP status of the answer; null if there was none",
    ("delivery_attempts", "error"): "why the receiver has not accepted it; null if it has",
    ("delivery_attempts", "answer"): "how the body of the answer begins",
    ("delivery_attempts", "digest_id"): "`Idempotency-Key` of the digest that it was sent in; null: it was sent alone",
    ("webhook_credentials", "url"): "the URL, without user and password",
    ("webhook_credentials", "userinfo"): "what the URL has before `@`",
    ("webhook_credentials", "kept_at"): "when a notification last needed it",
    ("alarm_history", "sequence"): "the order in which it happened",
    ("deliveries", "delivered_at"): "when the receiver accepted it",
    ("leases", "name"): "the step",
    ("leases", "seconds"): "how long it is held without being renewed",
    ("resource_metadata", "metadata_id"): "64-bit hash of the JSON",
    ("dirty_hours", "good_points"): "how many points its last roll-up counted; empty before the first one",
    ("dirty_hours", "excluded_points"): "how many points its last roll-up left out",
    ("lateness", "octave"): "a power of two of seconds; 0 also has the points within a second, and before their time",
    ("lateness", "points"): "how many points came",
    ("lateness", "late"): "how many of them came after more than METERHOUSE_LATENESS_SECONDS",
    ("lateness", "seconds"): "the sum of their seconds",
    ("lateness", "max_seconds"): "the longest",
    ("lateness", "counted_at"): "when points were last added",
    ("runs", "dagster_run"): "the run of Dagster that did it; empty text if that is not known, null outside Dagster",
    ("runs", "run_id"): "unique id",
    ("runs", "sequence"): "the order in which they ended",
    ("runs", "started_at"): "when the run started",
    ("runs", "ended_at"): "when the run ended",
    ("quarantine", "excluded"): "whether it breaks a critical rule",
    ("alarm_history", "timestamp"): "when it happened",
    ("alarms", "timestamp"): "when the definition last changed",
    ("alarms", "state"): "ok, alarm or insufficient data",
    ("deliveries", "state"): "pending, delivered or dead",
    ("notifications", "timestamp"): "",
    ("notifications", "body"): "",
    ("meanings", "files"): "JSON: file or setting → hash of what it says; null: of an earlier release",
    ("meanings", "since"): "when it was first used; null: by an earlier release",
    ("conversions", "table_name"): "`samples` or `events`",
    ("conversions", "fingerprint"): "of the definitions, see `meanings`; `unknown` after the lake went back",
    ("conversions", "version"): "the version of `notifications` up to which they were converted by it",
    ("backfills", "asset"): "what is recomputed",
    ("backfills", "start_at"): "from when",
    ("backfills", "end_at"): "until when",
    ("backfills", "meaning"): "fingerprint of what it recomputes by; a backfill by another one starts over",
    ("backfills", "reached"): "what is not before this is done",
    ("backfills", "worked_at"): "when it last recorded this",
    ("poll_schedules", "source"): "name of the source in `polling.yaml`",
    ("poll_schedules", "pollster"): "name of the pollster",
    ("poll_schedules", "host"): "the host whose own resources it polls; empty: any member can poll it",
    ("poll_schedules", "namespaces"): "which members poll it",
    ("poll_schedules", "interval_seconds"): "length of a slot",
    ("poll_schedules", "shards"): "into how many tasks a slot is divided",
    ("poll_schedules", "history_seconds"): "for how long after its end a missed slot can be made up",
    ("poll_schedules", "definition"): "hash of the source and the pollster",
    ("poll_schedules", "active"): "whether it is polled",
    ("poll_schedules", "next_slot_at"): "start of the next slot that has no tasks yet",
    ("poll_schedules", "done_slot_at"): "start of the last slot that was completely polled",
    ("poll_schedules", "changed_at"): "when its files last changed it",
    ("poll_schedules", "changed_by"): "the member that read those files",
    ("poll_tasks", "task_id"): "its number",
    ("poll_tasks", "source"): "name of the source in `polling.yaml`",
    ("poll_tasks", "pollster"): "name of the pollster",
    ("poll_tasks", "host"): "the host whose own resources are polled; empty: any member can poll it",
    ("poll_tasks", "slot_at"): "start of the slot",
    ("poll_tasks", "shard"): "`1/4`: first of four parts; `1/4+1`: what it left to do; `*`: all of slots without tasks",
    ("poll_tasks", "slots"): "how many slots it is, the first at `slot_at`; above 1 only if missed",
    ("poll_tasks", "part"): "JSON: what it is of its shard, `page` or `resources`; null: all of it",
    ("poll_tasks", "end_at"): "end of the slot, or of the last one",
    ("poll_tasks", "until"): "until when a member may begin it",
    ("poll_tasks", "late"): "whether its slot was over when it became due: it is made up, after what is not late",
    ("poll_tasks", "state"): "open, claimed, done or missed",
    ("poll_tasks", "due_at"): "when a member may claim it",
    ("poll_tasks", "owner"): "the member that claimed it last",
    ("poll_tasks", "lease_until"): "until when it is the owner's",
    ("poll_tasks", "generation"): "how often its owner changed; what an owner of before says of it is ignored",
    ("poll_tasks", "uncertain"): "whether an owner of before lost its lease and may have landed samples",
    ("poll_tasks", "attempts"): "how often it was claimed",
    ("poll_tasks", "last_result"): "of the last attempt: polled, failed or lost",
    ("poll_tasks", "error"): "why it was missed, or why the last attempt failed",
    ("poll_tasks", "resources"): "how many resources were polled",
    ("poll_tasks", "samples"): "how many samples they gave",
    ("poll_tasks", "seconds"): "how long the last attempt took",
    ("poll_tasks", "message_id"): "of the notification with its samples",
    ("poll_tasks", "ended_at"): "when it was recorded as done or missed",
    ("poll_members", "member"): "host, pid, start time and a random part",
    ("poll_members", "host"): "where it runs",
    ("poll_members", "namespaces"): "what it polls",
    ("poll_members", "joined_at"): "when it began",
    ("poll_members", "seen_at"): "when it was last heard of",
    ("poll_members", "lease_seconds"): "how long its claims last without being renewed",
    ("poll_members", "left_at"): "when it ended in order; null: it has not",
    ("poll_members", "clock_ahead_seconds"): "how far its clock is before the warehouse's; negative: behind",
    ("poll_members", "definitions"): "hash of all files that it has read",
    ("poll_members", "claimed"): "number of its tasks when it was last heard of",
    ("archive_manifest", "version"): "the table's version that sealed the day",
    ("followed", "version"): "the last version that is in the catalog",
    ("dead_letters", "body"): "the message or row as it came",
}


def tables_page() -> str:
    lake = []
    comments = _schema_comments()
    for name, (columns, partitions) in schema.TABLES.items():
        rows = []
        for column in columns:
            meaning = comments.get((name, column.name)) or _meaning(name, column.name)
            if not meaning and name in ("quarantine", "derived"):
                meaning = comments.get(("samples", column.name), "")
            part = "partition; " if column.name in partitions else ""
            rows.append((code(column.name), code(column.type), part + meaning))
        lake.append(f"### Lake: {name}\n\n{_PURPOSES.get(name, '')}\n\n" + table(("column", "type", "meaning"), rows))
    warehouse = [_warehouse_table(each) for each in (*views.tables.values(), *metadata.tables.values())]
    return (
        "# Tables\n\n"
        "Times are UTC. *Arrival* is when a message was landed. *Event time* is the points' own time.\n\n"
        "## The lake\n\n"
        "Delta tables, under `tables/` in the lake's folder or bucket prefix. You can read them with any engine that "
        "reads Delta. In `meterhouse sql`, each is a view of the same name. Types are Arrow's.\n\n"
        "The lake also has `exports/REPORT/DAY.parquet`, `.csv` and `.json` (reports), "
        "`exports/bills/MONTH.…` (bills), `bills/MONTH/` (closed months) and `archive/DAY.json` (the "
        "manifest of an arrival day).\n\n" + "\n".join(lake) + "\n## The warehouse\n\n"
        "Tables and views of the SQL database. Types are PostgreSQL's. SQLite stores times as ISO text. "
        "`meterhouse sql --on warehouse` reads them.\n\n" + "\n".join(warehouse)
    )


def _schema_comments() -> dict[tuple[str, str], str]:
    """The comments beside the columns in `meterhouse/stores/lake_tables.py`."""
    names = {id(columns): name for name, (columns, _) in schema.TABLES.items()}
    found, current = {}, ""
    for line in inspect.getsource(schema).splitlines():
        if start := re.match(r"([A-Z_]+) = pa\.schema", line):
            current = names.get(id(getattr(schema, start[1])), "")
        elif column := re.match(r'\s+\("(\w+)", .*\),\s+# (.*)', line):
            found[current, column[1]] = column[2]
    return found


def _meaning(table_name: str, column: str) -> str:
    return _OWN_MEANINGS.get((table_name, column), _MEANINGS.get(column, ""))


def _warehouse_table(given: Table) -> str:
    rows = []
    for column in given.columns:
        kind = "TIMESTAMP WITH TIME ZONE" if isinstance(column.type, UtcTime) else column.type.compile(_POSTGRES)
        notes = [word for word, so in (("key", column.primary_key), ("may be null", column.nullable)) if so]
        notes += [meaning] if (meaning := _meaning(given.name, column.name)) else []
        rows.append(
            (code(column.name), code(str(kind).lower().replace("float(53)", "double precision")), "; ".join(notes))
        )
    about = given.comment or _PURPOSES.get(given.name, "")
    return f"### Warehouse: {given.name}\n\n{about}\n\n" + table(("column", "type", "meaning"), rows)


_POSTGRES = postgresql.dialect()


# -- reports ------------------------------------------------------------------------------------------------


def reports_page() -> str:
    engine = create_engine("sqlite://")
    event.listen(engine, "connect", lambda connection, _: add_functions(connection))
    for made in (metadata, views):
        made.create_all(engine)
    known = report_files.ours()
    parts = [
        "# Reports\n\n"
        "A report is a SQL query on the warehouse, in a file that is named for the question it answers. Its parameters "
        "are a span of event time, `:start` inclusive and `:end` exclusive. `meterhouse report NAME` runs it; see "
        "[Reports](../reports.md).\n\n"
        + table(
            ("report", "question", "exported by"),
            [(f"[`{name}`](#{name})", each.question, each.partition) for name, each in known.items()],
        )
    ]
    for name, each in known.items():
        with engine.connect() as connection:
            columns = list(connection.exec_driver_sql(each.query, dict.fromkeys(report_files.PARAMETERS)).keys())
        parts.append(
            f"## {name}\n\n" + "\n\n".join([each.question, *each.description]) + f"\n\nColumns: {codes(columns)}.\n\n"
            f"```sql\n{each.query.strip()}\n```\n"
        )
    return "\n".join(parts)


def pollsters_page() -> str:
    polled = yaml.safe_load((DEFAULTS / "polled_meters.yaml").read_text("utf-8"))
    known = {name: (kind, unit) for meters in polled.values() for name, kind, unit, _ in meters}
    loaded = {each.where.rpartition(":")[0]: [] for each in polling_definitions.load(None).pollsters}
    parts = [
        "# Pollsters\n\n"
        "The pollsters that Meterhouse ships. Those of OpenStack's services have the names, types and units of "
        "Ceilometer's central agent, those of libvirt of its compute agent, and those of SNMP of its `hardware.*`, "
        "which it had until 2023. A source of `polling.yaml` selects them by name. A pollster of the same name in "
        "`pollsters.d` of `METERHOUSE_CONFIG_DIR` replaces one. See [Write pollsters](../pollsters.md).\n"
    ]
    for file in loaded:
        path = Path(file)
        entries = yaml.safe_load(path.read_text("utf-8"))
        about = path.read_text("utf-8").partition("\n-")[0].replace("\n# ", " ").removeprefix("# ")
        rows = [
            (
                code(entry["name"]),
                entry.get("sample_type", known.get(entry["name"], ("", ""))[0]),
                code(unit) if (unit := entry.get("unit", known.get(entry["name"], ("", ""))[1])) else "",
                sentence(entry.get("description", "")),
                code(f"{entry['endpoint_type']}: {entry['url_path']}") if "url_path" in entry else "",
            )
            for entry in entries
        ]
        title, _, rest = about.partition(":")
        if len(title.split()) > 2:  # no name, but the first sentence
            title, rest = path.stem.capitalize(), about
        parts.append(
            f"## {title.strip()}\n\n{sentence(rest)}\n\n"
            + table(("pollster", "type", "unit", "measures", "asks"), rows)
        )
    sources = yaml.safe_load((DEFAULTS / polling_definitions.SOURCES).read_text("utf-8"))["sources"]
    rows = [(code(each["name"]), f"{each['interval']} s", codes(each["meters"])) for each in sources]
    parts.append(
        "## Sources\n\nWithout a `polling.yaml` of yours, these are polled:\n\n"
        + table(("source", "interval", "pollsters"), rows)
    )
    parts.append(
        "## Meters of Prometheus exporters\n\n"
        "What the shipped mappings in `prometheus.d` make of the metrics of exporters. A meter is cumulative if its "
        "metric counts up, else it is a gauge. Words in braces are labels, and `host` is that of the exporter.\n"
    )
    for path in sorted((DEFAULTS / "prometheus.d").glob("*.yaml")):
        mapping = yaml.safe_load(path.read_text("utf-8"))
        rows = [
            (
                code(rule.get("name", rule["metric"])),
                code(rule["unit"]),
                code(rule.get("resource_id", mapping["resource_id"])),
                code(rule["metric"]),
                sentence(rule["description"]),
            )
            for rule in mapping["meters"]
            if not rule.get("skip")
        ]
        parts.append(
            f"### prometheus.{path.stem}\n\n{sentence(mapping['description'])}\n\n"
            + table(("meter", "unit", "resource", "metric", "meaning"), rows)
        )
    return "\n".join(parts)


PAGES: dict[str, Callable[[], str]] = {
    "settings": settings_page,
    "commands": commands_page,
    "assets": assets_page,
    "meters": meters_page,
    "pollsters": pollsters_page,
    "events": events_page,
    "resources": resources_page,
    "rules": rules_page,
    "alarms": alarms_page,
    "tables": tables_page,
    "reports": reports_page,
    "api": lambda: api_page(table, code),
    "api-rules": lambda: api_rules_page(table, code),
}


def main() -> int:
    """Write the pages, or compare them; return the exit status."""
    for name in [name for name in os.environ if name.startswith("METERHOUSE_")]:
        del os.environ[name]  # the pages must not depend on the environment
    parser = argparse.ArgumentParser(description="Write the reference pages from the code.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with status 1 if a page differs")
    check = parser.parse_args().check
    differing = []
    for name, make in PAGES.items():
        path = FOLDER / f"{name}.md"
        wanted = HEADER + make().strip() + "\n"
        if not path.exists() or path.read_text("utf-8") != wanted:
            differing.append(name)
            if not check:
                path.parent.mkdir(exist_ok=True)
                path.write_text(wanted, "utf-8")
    for name in differing:
        print(f"{'differs' if check else 'written'}: docs/reference/{name}.md", file=sys.stderr)
    if check and differing:
        print("run `python docs/generate.py`", file=sys.stderr)
    return 1 if check and differing else 0


if __name__ == "__main__":
    sys.exit(main())
