"""Makes samples of the entries of an answer."""

import math
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from meterhouse.polling.expressions import ExpressionError
from meterhouse.polling.kinds.dynamic.definition import Definition
from meterhouse.polling.kinds.dynamic.extraction import SKIPPED, Extraction, Unusable
from meterhouse.polling.kinds.dynamic.warnings import Warnings
from meterhouse.polling.polled import WireSample
from meterhouse.polling.shards import shard_of
from meterhouse.timestamps import parse_datetime

Extra = Callable[[list[dict[str, Any]], Warnings], list[Mapping[str, Any]]]
"""From entries to the extra metadata of each."""


class Sampling:
    """Makes samples by a definition. It is used by several threads at the same time.

    Args:
        definition: of the pollster.
        source: `source` of the samples.
    """

    def __init__(self, definition: Definition, source: str) -> None:
        self._definition = definition
        self._extraction = Extraction(definition)
        self._source: Final = source

    def samples(
        self,
        entries: Iterable[Any],
        at: datetime,
        warnings: Warnings,
        extra: Extra | None = None,
        share: tuple[int, int] | None = None,
    ) -> list[WireSample]:
        """The samples of entries. An entry that gives none leaves a warning, and the others theirs.

        Args:
            entries: of an answer; they are changed (see `Extraction`).
            at: when the answer came, UTC.
            warnings: where warnings go.
            extra: what looks extra metadata up, if the definition has some.
            share: number and count of shards, if only the resources of one are wanted.
        """
        definition, extraction = self._definition, self._extraction
        made: list[WireSample] = []
        found: list[dict[str, Any]] = []
        moment = timestamp_text(at)
        source, kind, unit = self._source, definition.sample_type, definition.unit
        prepare, metadata_of = extraction.prepare, extraction.metadata
        is_one = definition.sub_name is None
        name, value_of = definition.name, extraction.value
        timestamp = definition.timestamp
        for place, entry in enumerate(entries):
            resource_id: Any = None
            try:
                missing = prepare(entry)
                resource_id = entry.get("id")
                if type(resource_id) is not str or not resource_id:
                    resource_id = _identifier(resource_id)
                    if resource_id is None:
                        raise Unusable(missing or "it has no resource id: see resource_id_attribute")
                if share is not None and shard_of(resource_id, share[1]) != share[0]:
                    continue
                if missing is not None:
                    warnings.add(missing, resource_id)
                user_id, project_id = entry.get("user_id"), entry.get("project_id")
                if user_id is not None and type(user_id) is not str:
                    user_id = _identifier(user_id)
                if project_id is not None and type(project_id) is not str:
                    project_id = _identifier(project_id)
                if timestamp is not None:
                    moment = _time(timestamp(entry))
                if is_one:
                    value = value_of(entry)
                    if value is SKIPPED:
                        continue
                    entry["value"] = value
                    meters: Iterable[tuple[str, Any]] = ((name, value),)
                else:
                    meters = extraction.meters(entry)
                for meter, value in meters:
                    volume = value if type(value) is int and -_LARGE < value < _LARGE else number(value)
                    metadata, missing = metadata_of(entry)
                    if missing is not None:
                        warnings.add(f"metadata: {missing}", resource_id)
                    entry["metadata"] = metadata
                    made.append(
                        {
                            "source": source,
                            "counter_name": meter,
                            "counter_type": kind,
                            "counter_unit": unit,
                            "counter_volume": volume,
                            "user_id": user_id,
                            "project_id": project_id,
                            "resource_id": resource_id,
                            "timestamp": moment,
                            "resource_metadata": metadata,
                        }
                    )
                    if extra is not None:
                        found.append(entry if is_one else dict(entry))
            except (Unusable, ExpressionError) as error:
                about = resource_id if isinstance(resource_id, str) and resource_id else f"entry {place + 1}"
                warnings.add(str(error), about)
        if extra is not None:
            for sample, more in zip(made, extra(found, warnings), strict=True):
                own = sample["resource_metadata"]
                for key, value in more.items():
                    own.setdefault(key, value)
        return made


_LARGE: Final = 2**63


def timestamp_text(at: datetime) -> str:
    """A time as samples have it: ISO 8601, UTC, without offset."""
    return at.astimezone(UTC).replace(tzinfo=None).isoformat()


def number(value: Any) -> int | float:
    """The volume that a value stands for.

    Raises:
        Unusable: it is not a finite number.
    """
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            raise Unusable("its value is a text, not a number: see value_mapping") from None
    if isinstance(value, int):
        value = value if -_LARGE < value < _LARGE else float(value) if abs(value) < 2**1000 else math.inf
    if not isinstance(value, int | float):
        raise Unusable("it has no value" if value is None else f"its value is a {type(value).__name__}, not a number")
    if not math.isfinite(value):
        raise Unusable("its value is not a finite number")
    return value


def _identifier(value: Any) -> str | None:
    """An id that is not a text: a number as its text; None if there is none.

    Raises:
        Unusable: it is neither.
    """
    if value is None or value == "":
        return None
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    raise Unusable(f"an id of it is a {type(value).__name__}")


def _time(value: Any) -> str:
    """The time that an entry has, as samples have it.

    Raises:
        Unusable: it is not a time.
    """
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return timestamp_text(datetime.fromtimestamp(value, UTC))
        return timestamp_text(parse_datetime(value))
    except (ValueError, TypeError, OverflowError, OSError):
        raise Unusable("its timestamp_attribute is not a time") from None
