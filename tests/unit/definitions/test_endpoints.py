import json

import pytest

from meterhouse.conversion.convert import Converter
from meterhouse.definitions.endpoints import ENDPOINTS
from meterhouse.definitions.loading import load

SENSORS = {
    "Temperature": {"t1": {"Sensor ID": "CPU 1 Temp (0x33)", "Sensor Reading": "16 (+/- 2) degrees C"}},
    "Voltage": {"v1": {"Sensor ID": "VCore (0x1)", "Sensor Reading": "2.75 (+/- 0) Volts", "Status": "ok"}},
    "Fan": {
        "f1": {"Sensor ID": "Fan 4", "Sensor Reading": "6900 (+/- 300) RPM"},
        "f2": {"Sensor ID": "Fan 5", "Sensor Reading": "Disabled"},
    },
    "Current": {
        "c1": {"Sensor ID": "Avg Power (0x2e)", "Sensor Reading": "70 Watts"},
        "c2": {"Sensor ID": "Pwr Consumption (0x76)", "Sensor Reading": "154 (+/- 7) Watts"},
    },
    "Power": {"p1": {"Sensor ID": "PSU", "Sensor Reading": "5 Watts"}},
}


def sensors(**changes):
    return {
        "message_id": "m",
        "event_type": "hardware.ipmi.metrics.update",
        "publisher_id": "ironic-conductor.host",
        "priority": "INFO",
        "timestamp": "2026-01-01 00:00:10",
        "payload": {
            "node_uuid": "node-1",
            "timestamp": "2026-01-01 00:00:00",
            "event_type": "hardware.ipmi.metrics.update",
            "payload": SENSORS,
            **changes,
        },
    }


def request(event_type="http.request", **payload):
    return {
        "message_id": "m",
        "event_type": event_type,
        "publisher_id": "api",
        "priority": "info",
        "timestamp": "2026-01-01 00:00:00",
        "payload": payload or {"request": {"HTTP_X_USER_ID": "u", "HTTP_X_PROJECT_ID": "p", "PATH_INFO": "/"}},
    }


def read(message):
    """The results of the endpoints for a message: samples, warnings, and the names of those that failed."""
    samples, warn, failed = [], [], []
    for endpoint in ENDPOINTS:
        if endpoint.matches(message["event_type"]):
            try:
                samples += endpoint.read(message, warn)
            except Exception:
                failed.append(endpoint.name)
    return samples, warn, failed


def test_each_sensor_is_a_gauge_of_its_node():
    samples, warn, failed = read(sensors())
    assert [(sample.name, sample.volume, sample.unit, sample.resource_id) for sample in samples] == [
        ("hardware.ipmi.current", 70.0, "W", "node-1-avg_power_(0x2e)"),
        ("hardware.ipmi.fan", 6900.0, "RPM", "node-1-fan_4"),
        ("hardware.ipmi.temperature", 16.0, "C", "node-1-cpu_1_temp_(0x33)"),
        ("hardware.ipmi.voltage", 2.75, "V", "node-1-vcore_(0x1)"),
    ]
    assert (warn, failed) == ([], [])
    voltage = samples[-1]
    assert (voltage.type, voltage.timestamp, voltage.project_id) == ("gauge", "2026-01-01 00:00:00", None)
    assert voltage.metadata == {
        **SENSORS["Voltage"]["v1"],
        "node": "node-1",
        "event_type": "hardware.ipmi.metrics.update",
        "host": "ironic-conductor.host",
    }


def test_the_message_stays_as_it_is():
    message = sensors()
    before = json.dumps(message)
    read(message)
    assert json.dumps(message) == before


@pytest.mark.parametrize(
    ("sensor", "reason"),
    [
        ({"Sensor ID": "A b"}, "node-1-a_b: missing 'Sensor Reading' in payload"),
        ({"Sensor Reading": "1 C"}, "missing id: missing key in payload: 'Sensor ID'"),
        ({"Sensor ID": "A", "Sensor Reading": "No Reading"}, "node-1-a: unable to parse sensor reading: No Reading"),
        ({"Sensor ID": "A", "Sensor Reading": "70"}, "node-1-a: unable to parse sensor reading: 70"),
    ],
)
def test_an_unusable_sensor_is_a_warning_and_does_not_affect_others(sensor, reason):
    good = {"Sensor ID": "B", "Sensor Reading": "1 C"}
    samples, warn, failed = read(sensors(payload={"Temperature": {"bad": sensor, "good": good}}))
    assert [sample.resource_id for sample in samples] == ["node-1-b"]
    assert warn == [f"invalid sensor data for {reason}"]
    assert failed == []


@pytest.mark.parametrize("changes", [{"timestamp": ""}, {"timestamp": "20140223134852"}, {"payload": None}])
def test_a_notification_of_another_form_yields_nothing(changes):
    samples, _, failed = read(sensors(**changes))
    assert samples == []
    assert "hardware.ipmi.temperature" in failed


def test_a_request_is_one_delta():
    for kind in ("request", "response"):
        [sample], warn, failed = read(request(f"http.{kind}"))
        assert sample[:4] == (f"http.{kind}", "delta", kind, 1)
        assert (sample.user_id, sample.project_id, sample.resource_id) == ("u", "p", None)
        assert sample.metadata["request"]["PATH_INFO"] == "/"
        assert (sample.metadata["event_type"], sample.metadata["host"]) == (f"http.{kind}", "api")
        assert (warn, failed) == ([], [])
    assert read(request(other={})) == ([], [], ["http.request"])


@pytest.mark.parametrize("event_type", ["http.other", "hardware.other", "x.http.request"])
def test_other_types_are_left_to_the_definitions(event_type):
    assert not any(endpoint.matches(event_type) for endpoint in ENDPOINTS)


def test_samples_equal_those_recorded_from_ceilometer(shared):
    def lines_of(path):
        return [json.loads(line) for line in path.read_text("utf-8").splitlines()]

    converter = Converter(load(None))
    files = sorted((shared / "notifications").glob("legacy-*.jsonl"))
    messages = {message["message_id"]: message for path in files for message in lines_of(path)}
    lines = lines_of(shared / "expected_samples.jsonl")
    mine = [line for line in lines if any(endpoint.matches(line["event_type"]) for endpoint in ENDPOINTS)]
    assert len(mine) >= 9
    for line in mine:
        assert json.loads(json.dumps(converter.samples_line(messages[line["message_id"]]))) == line
