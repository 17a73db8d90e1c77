"""The types that clients of Ceilometer and Aodh give the values of conditions."""

from typing import Any, Final

from meterhouse import times

VALUE_TYPES: Final = ("integer", "float", "string", "boolean", "datetime")


def typed(value: str, kind: str) -> Any:
    """A value in its type, one of VALUE_TYPES; times as UTC.

    Raises:
        ValueError, UsageError: it is not of the type.
    """
    match kind:
        case "integer":
            return int(value)
        case "float":
            return float(value)
        case "boolean":
            if value.lower() not in ("true", "false", "1", "0"):
                raise ValueError(value)
            return value.lower() in ("true", "1")
        case "datetime":
            return times.parse(value)
        case _:
            return value
