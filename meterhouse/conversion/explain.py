"""Explains what one notification yields: which definitions matched, and what each path found."""

from collections.abc import Iterator
from typing import Any

from meterhouse.conversion.convert import Converter
from meterhouse.conversion.nova_versioned import legacy_twin
from meterhouse.definitions.events import EventDefinition, Trait
from meterhouse.definitions.events import as_text as trait_text
from meterhouse.definitions.expressions import Message
from meterhouse.definitions.loading import Definitions
from meterhouse.definitions.meters import ATTRIBUTES, Meter
from meterhouse.definitions.values import Value

Explanation = dict[str, Any]


def explain_samples(definitions: Definitions, converter: Converter, message: Message) -> Explanation:
    """Explain how the meters read a notification.

    Returns:
        `message_id`, `event_type`, `priority`, `read_as` (the type of its legacy twin, or None), `matched` (each
        meter's `name`, `where`, the `event_type` that matched, and `paths`: `reads`, `path`, `plugin`, `found` as
        [path, value], `value`, and `instead` if it found nothing), `result` (as `convert samples` prints it).
    """
    seen, head = _head(message, converter.reads_versioned)
    event_type = seen.get("event_type")
    plan = [meter for meter in definitions.meters.meters if isinstance(event_type, str) and meter.matches(event_type)]
    result = converter.samples_line(message)
    made_by = {sample["endpoint"] for sample in result["samples"]} | {error["endpoint"] for error in result["errors"]}
    by_code = [
        {"name": f"{endpoint}, which no definition can express", "where": "", "paths": []}
        for endpoint in sorted(made_by - {"meter"})
    ]
    return {**head, "matched": [_meter(meter, seen) for meter in plan] + by_code, "result": result}


def explain_event(definitions: Definitions, converter: Converter, message: Message) -> Explanation:
    """Explain how the event definitions read a notification; the result is like that of `explain_samples`.

    The definition that applies comes first. Those that match too, but are hidden by a later one of the file, come
    after it with `hidden_by`.
    """
    seen, head = _head(message, converter.reads_versioned)
    event_type = seen.get("event_type")
    matched: list[Explanation] = []
    if isinstance(event_type, str):
        applied = definitions.events.matching(event_type)
        matched.append(_event(applied, seen))
        matched += [
            {"name": ", ".join(each.globs), "where": each.where, "hidden_by": applied.where}
            for each in definitions.events.definitions
            if each is not applied and each.matches(event_type)
        ]
    return {**head, "matched": matched, "result": converter.event_line(message)}


def as_text(explanation: Explanation) -> Iterator[str]:
    """The explanation as lines for a terminal."""
    yield f"{explanation['message_id']}  {explanation['event_type']}  {explanation['priority']}"
    if explanation["read_as"]:
        yield f"  a versioned notification of Nova, read as its legacy twin {explanation['read_as']}"
    if not explanation["matched"]:
        yield "  no definition matches this event type"
    for matched in explanation["matched"]:
        place = f"  {matched['where']}" if matched["where"] else ""
        yield f"  {matched['name']}{place}"
        if "hidden_by" in matched:
            yield f"    matches too, but the later one at {matched['hidden_by']} hides it"
            continue
        if matched.get("event_type"):
            yield f"    matched by {matched['event_type']}"
        for path in matched["paths"]:
            yield f"    {path['reads']}: {_shown(path['value'])}{_reason(path)}"
    result = explanation["result"]
    for sample in result.get("samples", ()):
        kept = "" if sample["published"] else "  NOT KEPT"
        yield (
            f"  -> {sample['name']} {_shown(sample['volume'])} {sample['unit']} of {_shown(sample['resource_id'])}"
            f" at {sample['timestamp']}{kept}"
        )
    if result.get("event"):
        yield f"  -> event {result['event']['event_type']} with {len(result['event']['traits'])} traits"
    for error in [*result.get("errors", ()), *filter(None, [result.get("error")])]:
        for reason in error.get("warnings", [f"{error.get('error')}: {error.get('detail')}"]):
            yield f"  !! {reason}"
    if not result.get("samples") and not result.get("event"):
        yield f"  -> no {'event' if 'event' in result else 'samples'}{_why_not(explanation)}"


def _why_not(explanation: Explanation) -> str:
    wanted = ("info", "error") if "event" in explanation["result"] else ("info", "sample")
    if str(explanation["priority"]).lower() not in wanted:
        return f": they are only made of the priorities {' and '.join(wanted)}"
    if "event" in explanation["result"] and not explanation["result"]["error"]:
        return ": no definition matches, and METERHOUSE_DROP_UNMATCHED_NOTIFICATIONS is on"
    return ""


def _head(message: Message, versioned: bool) -> tuple[Message, Explanation]:
    twin = legacy_twin(message) if versioned else None
    return twin or message, {
        "message_id": message.get("message_id"),
        "event_type": message.get("event_type"),
        "priority": message.get("priority"),
        "read_as": twin and twin["event_type"],
    }


def _meter(meter: Meter, message: Message) -> Explanation:
    pattern = next(each.pattern for each in meter.event_types if each.match(message["event_type"]))
    paths = []
    for name in ATTRIBUTES:
        value = meter.attributes.get(name)
        literal = meter.literals.get(name)
        if value is None:
            if name == "timestamp":
                paths.append(_nothing(name, message.get("timestamp"), "the notification's"))
        elif value.never and literal is not None:
            paths.append(_nothing(name, literal, "as written"))
        else:
            paths.append(_path(name, value, message, several=name in meter.lookup, literal=literal))
    paths += [_path(f"metadata {name}", value, message) for name, value in meter.metadata]
    if meter.user_metadata is not None:
        paths.append(_path("user_metadata", meter.user_metadata, message))
    return {"name": meter.name, "where": meter.where, "event_type": pattern, "paths": paths}


def _event(definition: EventDefinition, message: Message) -> Explanation:
    return {
        "name": ", ".join(definition.globs) or "the default traits only: no definition matches",
        "where": definition.where,
        "paths": [_trait(trait, message) for trait in definition.traits],
    }


def _trait(trait: Trait, message: Message) -> Explanation:
    explained = _path(f"trait {trait.name} ({trait.dtype})", trait.value, message)
    try:
        trait_text(trait, explained["value"])
    except Exception as error:
        explained["instead"] = f"which is not of type {trait.dtype}, so there is no event: {error}"
    return explained


def _nothing(reads: str, value: Any, instead: str) -> Explanation:
    return {"reads": reads, "path": None, "plugin": "", "found": [], "value": value, "instead": instead}


def _path(reads: str, value: Value, message: Message, *, several: bool = False, literal: Any = None) -> Explanation:
    if value.expression is None:
        return _nothing(reads, value.constant, "as written")
    explained: Explanation = {"reads": reads, "path": value.expression.text, "plugin": value.plugin, "found": []}
    warn: list[str] = []
    try:
        explained["found"] = [list(match) for match in value.expression.matches(message)]
        found = value.many(message, warn) if several and value.many else value.first(message, warn)
        if found is None and literal is not None:
            return {**explained, "value": literal, "instead": "as written"}
        return {**explained, "value": found, "instead": "; ".join(warn)}
    except Exception as error:
        return {**explained, "value": None, "instead": f"{type(error).__name__}: {error}"}


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    text = value if isinstance(value, str) and value.isprintable() else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _reason(path: Explanation) -> str:
    if path["path"] is None:
        return f"  ({path['instead']})"
    by = f" by {path['plugin']}" if path["plugin"] else ""
    found = ", ".join(f"{where} = {_shown(value)}" for where, value in path["found"][:4]) or "not there"
    more = f" and {len(path['found']) - 4} more" if len(path["found"]) > 4 else ""
    instead = f"; {path['instead']}" if path["instead"] else ""
    plain = len(path["found"]) == 1 and not path["plugin"] and not instead and path["value"] == path["found"][0][1]
    return f"  ({path['path']})" if plain else f"  ({path['path']}{by}: {found}{more}{instead})"
