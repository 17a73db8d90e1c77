"""Samples that no definition can express: Ironic's sensor readings, and the requests that services' middleware reports.

Each endpoint has the name of Ceilometer's and returns the same samples and warnings. The last one is ours: the sample
of the notification by which `meterhouse verify` tries a site, whatever its definitions are. They read notifications of
the priorities info and sample. If a notification does not have the endpoint's form, the endpoint raises, and the
notification yields no samples.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from meterhouse.definitions.expressions import Message
from meterhouse.definitions.meters import RawSample
from meterhouse.timestamps import parse_datetime
from meterhouse.verification import VERIFY_EVENT, VERIFY_METER

_UNITS: Final = {"Watts": "W", "Volts": "V"}
_POWER_OF_CURRENT: Final = "Pwr Consumption"  # one of the sensors of current measures power


@dataclass(frozen=True)
class Endpoint:
    """A reader of notifications.

    Attributes:
        name: its name in Ceilometer.
        matches: whether it reads notifications of an event type.
        read: from a notification to its samples; warnings are appended to the list.
    """

    name: str
    matches: Callable[[str], bool]
    read: Callable[[Message, list[str]], list[RawSample]]


class _InvalidSensor(ValueError):
    """A sensor reading that cannot be used; the other readings of the notification can."""


def _sensors(kind: str, message: Message, warn: list[str]) -> list[RawSample]:
    """The samples of a kind of sensor, from `payload.payload.<kind>.<sensor>`."""
    payload: Any = message.get("payload")
    try:
        sensors = payload["payload"][kind].values()
    except KeyError:
        return []
    return list(_readings(kind, sensors, payload, message.get("publisher_id"), warn))


def _readings(kind: str, sensors: Any, payload: dict[str, Any], host: Any, warn: list[str]) -> Iterator[RawSample]:
    for sensor in sensors:
        resource_id = "missing id"
        try:
            resource_id = _sensor_id(payload, sensor)
            if kind == "Current" and _POWER_OF_CURRENT in sensor["Sensor ID"]:
                continue
            moment, event_type = payload["timestamp"], payload["event_type"]
            if "Sensor Reading" not in sensor:
                raise _InvalidSensor("missing 'Sensor Reading' in payload")
            if sensor["Sensor Reading"] == "Disabled":
                continue
            volume, unit = _reading(sensor["Sensor Reading"])
        except _InvalidSensor as error:
            warn.append(f"invalid sensor data for {resource_id}: {error}")
            continue
        parse_datetime(moment)  # if it is malformed, the whole notification yields nothing, and no more warnings
        yield RawSample(
            name=f"hardware.ipmi.{kind.lower()}",
            type="gauge",
            unit=unit,
            volume=volume,
            resource_id=resource_id,
            project_id=payload.get("project_id"),
            user_id=payload.get("user_id"),
            timestamp=moment,
            metadata={**sensor, "node": payload["node_uuid"], "event_type": event_type, "host": host},
        )


def _sensor_id(payload: dict[str, Any], sensor: Any) -> str:
    try:
        return f"{payload['node_uuid']}-{sensor['Sensor ID'].lower().replace(' ', '_')}"
    except KeyError as error:
        raise _InvalidSensor(f"missing key in payload: {error}") from None


def _reading(text: Any) -> tuple[float, str]:
    """The number and the unit of a text such as `2.75 (+/- 0) Volts`."""
    number, _, rest = text.partition(" ")
    try:
        volume = float(number) if rest or text.endswith(" ") else None
    except ValueError:
        volume = None
    if volume is None:
        raise _InvalidSensor(f"unable to parse sensor reading: {text}")
    unit = rest.rsplit(" ", 1)[-1]
    return volume, _UNITS.get(unit, unit)


def _request(message: Message, warn: list[str]) -> list[RawSample]:
    """The one sample of a request or a response."""
    payload: Any = message.get("payload")
    event_type: str = message["event_type"]
    request = payload["request"]
    return [
        RawSample(
            name=event_type,
            type="delta",
            unit=event_type.split(".")[1],
            volume=1,
            resource_id=request.get("HTTP_X_SERVICE_NAME"),
            project_id=request.get("HTTP_X_PROJECT_ID"),
            user_id=request.get("HTTP_X_USER_ID"),
            timestamp=message.get("timestamp"),
            metadata={**payload, "event_type": event_type, "host": message.get("publisher_id")},
        )
    ]


def _verify(message: Message, warn: list[str]) -> list[RawSample]:
    """The one sample of a notification of `meterhouse verify`."""
    payload: Any = message.get("payload")
    return [
        RawSample(
            name=VERIFY_METER,
            type="gauge",
            unit="notification",
            volume=payload["volume"],
            resource_id=payload["resource_id"],
            project_id=payload.get("tenant_id"),
            user_id=payload.get("user_id"),
            timestamp=message.get("timestamp"),
            metadata={"run": payload["run"]},
        )
    ]


def _beginning(regex: str) -> Callable[[str], bool]:
    pattern = re.compile(regex)
    return lambda event_type: pattern.match(event_type) is not None


# As in Ceilometer's filters, a dot matches any character. The sensors are those that Ceilometer loads.
ENDPOINTS: Final[tuple[Endpoint, ...]] = (
    *(
        Endpoint(f"hardware.ipmi.{kind.lower()}", _beginning("hardware.ipmi.*"), partial(_sensors, kind))
        for kind in ("Current", "Fan", "Temperature", "Voltage")
    ),
    Endpoint("http.request", _beginning("http.request"), _request),
    Endpoint("http.response", _beginning("http.response"), _request),
    Endpoint(VERIFY_METER, VERIFY_EVENT.__eq__, _verify),
)
