"""Makes samples of an exporter's page."""

import math
from collections.abc import Mapping as Map
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from meterhouse.polling.kinds.prometheus.exposition import Malformed, Page, family, labels
from meterhouse.polling.kinds.prometheus.mapping import MAX_METER_LENGTH, TYPES, Mapping, Rule
from meterhouse.polling.polled import WireSample

OF_PARTS: Final = "observation"
"""The unit of a histogram's buckets and of counts."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_MILLISECOND: Final = 253_402_300_799_999  # of the year 9999


@dataclass
class Made:
    """The samples of a page, and how many series gave none.

    Attributes:
        samples: in the order of the page.
        not_numbers: series that are NaN or infinite.
        bad_times: series whose time cannot be.
        doubles: series with meter and resource of an earlier one; `double` names one of them.
        unnamed: series whose meter has no name, or one longer than 255 characters.
    """

    samples: list[WireSample] = field(default_factory=list)
    not_numbers: int = 0
    bad_times: int = 0
    doubles: int = 0
    double: str = ""
    unnamed: int = 0

    def warnings(self, where: str) -> list[str]:
        """What to say about the series that gave no sample."""
        counted = {
            "are not numbers (NaN or infinite)": self.not_numbers,
            "have a time before 1970 or after 9999": self.bad_times,
            "have a meter without a name, or with more than 255 characters": self.unnamed,
            f"have meter and resource of another one, such as {self.double}; put labels into resource_id": self.doubles,
        }
        return [f"{where}: {count} series {what}: no samples" for what, count in counted.items() if count]


def make(page: Page, mapping: Mapping, given: Map[str, str], *, source: str, received: str) -> Made:
    """Make samples of the series that the mapping names.

    Args:
        page: of the exporter.
        mapping: says which series give samples, and which.
        given: `host` and `target`, which templates may use beside the labels.
        source: of the samples.
        received: when the page was received; the time of the series that have none of their own.

    Raises:
        Malformed: a series' labels or value cannot be read.
    """
    made = Made()
    rules: dict[str, tuple[list[Rule], str, str, str]] = {}
    seen: set[tuple[str, str]] = set()
    for name, text, value, milliseconds in page.series:
        found = rules.get(name)
        if found is None:
            metric, kind, part = family(name, page.types)
            found = rules[name] = (mapping.of(metric), metric, kind, part)
        candidates, metric, kind, part = found
        if not candidates:
            continue
        own = labels(text) if text else {}
        rule = next((rule for rule in candidates if rule.applies(own)), None)
        if rule is None or rule.skip:
            continue
        volume = _number(value)
        if not math.isfinite(volume):
            made.not_numbers += 1
            continue
        when = received
        if milliseconds:
            if len(milliseconds) > 15 or not 0 <= int(milliseconds) <= _LAST_MILLISECOND:
                made.bad_times += 1
                continue
            when = (_EPOCH + timedelta(milliseconds=int(milliseconds))).replace(tzinfo=None).isoformat()
        values = {**own, **given, "metric": metric}
        meter = rule.name.fill(values) + (f".{part}" if part else "")
        if not 0 < len(meter) <= MAX_METER_LENGTH:
            made.unnamed += 1
            continue
        resource = _resource(rule, own, values)
        if (meter, resource) in seen:
            made.doubles += 1
            made.double = f"{meter} of {resource}"
            continue
        seen.add((meter, resource))
        made.samples.append(
            {
                "source": source,
                "counter_name": meter,
                "counter_type": rule.kind or ("cumulative" if part else TYPES.get(kind, "gauge")),
                "counter_unit": OF_PARTS if part in ("bucket", "count") else rule.unit,
                "counter_volume": volume if part in ("bucket", "count") else volume * rule.scale,
                "user_id": rule.user_id.fill(values) or None if rule.user_id else None,
                "project_id": rule.project_id.fill(values) or None if rule.project_id else None,
                "resource_id": resource,
                "timestamp": when,
                "resource_metadata": _metadata(rule, own, values),
            }
        )
    return made


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise Malformed(f"{text[:80]!r} is not a value") from None


def _resource(rule: Rule, own: Map[str, str], values: Map[str, str]) -> str:
    """The resource's id. Without a template it has the host and all labels, so that no two series share one."""
    if rule.resource_id is None:
        return "/".join([values["host"], *(f"{label}={own[label]}" for label in sorted(own))])
    resource = rule.resource_id.fill(values)
    for label in ("le", "quantile"):  # tell the parts of a histogram or a summary apart
        if label in own and label not in rule.resource_id.names:
            resource += f"/{label}={own[label]}"
    return resource


def _metadata(rule: Rule, own: Map[str, str], values: Map[str, str]) -> dict[str, Any]:
    if rule.metadata is None:
        return {"host": values["host"], **own}
    return {key: template.fill(values) for key, template in rule.metadata}
