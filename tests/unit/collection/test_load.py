"""Loading files: samples and notifications get into the lake as if they were collected."""

import gzip
import json
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from builders import at, count, drop, notification, rows
from conftest import OpenSite
from reference_points import compact

from meterhouse import times
from meterhouse.catalog import catalog
from meterhouse.collection import load as loading
from meterhouse.collection import loaded_points
from meterhouse.collection.csv_files import read_csv
from meterhouse.collection.load import load
from meterhouse.errors import AlreadyRunning, Conflict
from meterhouse.queries.statistics import statistics
from meterhouse.scopes import EVERYTHING
from meterhouse.site import Site
from meterhouse.stores.lake import Lake
from meterhouse.stream import HEAD_BYTES


def write(path: Path, text: str) -> Path:
    path.write_bytes(gzip.compress(text.encode()) if path.name.endswith(".gz") else text.encode())
    return path


def test_csv_samples_take_their_defaults_from_the_name_of_the_file(site: Site, tmp_path: Path) -> None:
    path = write(tmp_path / "cpu.csv.gz", "timestamp,value\n2026-11-10T12:00:00Z,1.5\n2026-11-10T13:00:00+01:00,2\n")
    done = load(site, [path])
    assert (done.files, done.samples, done.known, done.collected.dead_letters) == (1, 2, 0, 0)
    found = rows(
        site, "samples", "meter, type, unit, resource_id, project_id, source, timestamp, volume", order="volume"
    )
    assert [tuple(row.values()) for row in found] == [
        ("cpu", "gauge", None, "cpu", None, "openstack", at(), 1.5),
        ("cpu", "gauge", None, "cpu", None, "openstack", at(), 2.0),
    ]


def test_every_column_of_a_csv_is_taken(open_site: OpenSite, tmp_path: Path) -> None:
    site = open_site(sample_source="mine")
    path = write(
        tmp_path / "a.csv",
        "\ufefftimestamp, meter ,resource_id,volume,type,unit,project_id,user_id,source,monotonic_time\r\n"
        '2026-11-10 12:00:00,"a,b",r,1,cumulative,B,p,u,s,x\r\n2026-11-10T12:01:00,"m",,2,,,"",,,\r\n',
    )
    load(site, [path])
    found = rows(site, "samples", "meter, resource_id, type, unit, project_id, user_id, source", order="volume")
    assert [tuple(row.values()) for row in found] == [
        ("a,b", "r", "cumulative", "B", "p", "u", "s"),
        ("m", "a", "gauge", None, None, None, "mine"),
    ]


def test_a_row_that_is_not_a_sample_is_a_dead_letter_with_its_line(site: Site, tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.csv",
        "timestamp,value,type\n2026-11-10T12:00:00Z,1,\nyesterday,1,\n2026-11-10T12:00:00Z,much,\n"
        "2026-11-10T12:00:00Z,,\n2026-11-10T12:00:00Z,1,odd\ninfinity,1,\n1969-12-31,1,\n9999-01-01,2,\n",
    )
    done = load(site, [path])
    assert (done.samples, done.collected.dead_letters) == (1, 7)
    found = {row["queue"]: row["reason"] for row in rows(site, "dead_letters")}
    assert found == {
        "load:a.csv:3": "the timestamp is not ISO 8601",
        "load:a.csv:4": "the volume is no number",
        "load:a.csv:5": "the volume is missing",
        "load:a.csv:6": "the type is none of gauge, delta, cumulative",
        "load:a.csv:7": "the timestamp is not ISO 8601",
        "load:a.csv:8": "the timestamp is outside 1970 to 2261",
        "load:a.csv:9": "the timestamp is outside 1970 to 2261",
    }


def test_a_file_that_is_loaded_twice_counts_once_and_a_longer_one_adds_the_rest(site: Site, tmp_path: Path) -> None:
    lines = [f"2026-11-10T12:00:00.0005Z,{value},{type}" for value in (1, 1, 2) for type in ("gauge", "delta")]
    path = write(tmp_path / "a.csv", "\n".join(["timestamp,value,type", *lines, ""]))
    done = load(site, [path])
    assert (done.samples, done.known) == (5, 1), "two equal samples of a gauge are one point, two of a delta are two"
    for stored in (lambda: None, lambda: compact(site)):
        stored()
        done = load(site, [path])
        assert (done.samples, done.known) == (0, 6)
    write(path, path.read_text() + "2026-11-10T12:00:00.0005Z,1,delta\n2026-11-10T11:00:00Z,1,gauge\n")
    done = load(site, [path])
    assert (done.samples, done.known) == (2, 6)
    assert count(site, "samples") == 7


def test_of_several_rows_with_one_time_the_last_counts(site: Site, tmp_path: Path) -> None:
    lines = [f"2026-11-10T12:00:00Z,{n}" for n in (5, 9, 2, 7, 3)]
    load(site, [write(tmp_path / "a.csv", "\n".join(["timestamp,value", *lines]))])
    catalog(site)
    (found,) = statistics(site, EVERYTHING, "a")
    assert (found["count"], found["sum"]) == (1, 3.0)


def test_samples_from_json_lines_equal_those_from_csv(site: Site, tmp_path: Path) -> None:
    lines = [
        {"timestamp": "2026-11-10T12:00:00Z", "counter_name": "m", "counter_volume": 1.5, "counter_type": "delta"},
        {
            "timestamp": "2026-11-10T12:00:00Z",
            "meter": "m",
            "volume": 2,
            "resource_id": "r",
            "resource_metadata": {"a": 1},
        },
        {"timestamp": "soon", "volume": 2},
    ]
    lines = [{"meter": one.pop("counter_name", one.get("meter")), **one} for one in lines]
    path = write(tmp_path / "a.jsonl", "".join(json.dumps(line) + "\n" for line in lines[1:]))
    one = write(tmp_path / "b.json", json.dumps(lines[0]) + "\n")
    done = load(site, [path, one])
    assert (done.samples, done.collected.dead_letters) == (2, 1)
    found = rows(site, "samples", "meter, type, resource_id, volume", order="volume")
    assert [tuple(row.values()) for row in found] == [("m", "delta", "b", 1.5), ("m", "gauge", "r", 2.0)]
    assert rows(site, "dead_letters", "queue") == [{"queue": "load:a.jsonl:2"}]


def test_json_numbers_for_times_are_dead_letters_not_a_failure(site: Site, tmp_path: Path) -> None:
    done = load(site, [write(tmp_path / "a.jsonl", '{"timestamp": 1794312000, "volume": 1}\n')])
    assert (done.samples, done.collected.dead_letters) == (0, 1)


def test_notifications_are_landed_as_if_collected(site: Site, tmp_path: Path) -> None:
    path = drop(tmp_path, "a.jsonl.gz", [notification("m1"), b"", notification("m1"), b"bad", notification("m2")])
    done = load(site, [path]).collected
    assert (done.messages, done.landed, done.redelivered, done.dead_letters) == (4, 2, 1, 1)
    assert rows(site, "dead_letters", "queue") == [{"queue": "load:a.jsonl.gz:4"}]
    assert path.exists()
    assert load(site, [path]).collected.landed == 0


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.csv", "time,value\n1,2\n", r"a\.csv:1: has an unknown column 'time'\. Did you mean timestamp"),
        ("a.csv", "meter,unit\n1,2\n", "has no column timestamp and no column volume.*Columns: timestamp,volume"),
        ("a.csv", "timestamp,vlaue\n1,2\n", "unknown column 'vlaue'. Did you mean value"),
        ("a.csv", "timestamp,value,nmae\n1,2,cpu\n", "unknown column 'nmae'. Did you mean name"),
        ("a.csv", "timestamp,value,\n1,2,\n", "has no name for column 3"),
        ("a.csv", "timestamp,value,volume\n1,2,3\n", "has two columns for volume: value and volume"),
        ("a.csv", "timestamp,value,name,Counter Name\n1,2,3,4\n", "two columns for meter: name and Counter Name"),
        ("a.csv", "timestamp;Timestamp;value\n1;2;3\n", "two columns for timestamp: timestamp and Timestamp"),
        ("a.jsonl", '{"timestamp": "2026-11-10", "vlaue": 1, "meter": "m"}', "unknown column 'vlaue'. Did you mean"),
        ("a.jsonl", '{"timestamp": "2026-11-10", "value": 1, "name": "m", "meter": "n"}', "two columns for meter"),
        ("a.json", '[\n{"timestamp": "2026-11-10", "value": 1}', "is not a JSON array of samples"),
        ("a.json", '[{"timestamp": "2026-11-10", "value": 1, "x": 2}]', "unknown column 'x'"),
        ("a.csv", "timestamp,value\n".encode("utf-16"), "cannot be read: the file is UTF-16, not UTF-8"),
        ("a.csv", "timestamp" * 10_000, "cannot be read: it has 90,000 bytes"),
        ("a.csv.gz", b"no gzip", "cannot be read: the file is damaged"),
        ("a.xlsx", "x", "unknown ending"),
        ("a.csv", None, "is not a file"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_and_the_others_are_loaded(
    open_site: OpenSite, tmp_path: Path, name: str, text: str | bytes | None, said: str
) -> None:
    site, path = open_site(message_bytes=1 << 16), tmp_path / name
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    good = write(tmp_path / "good.csv", "timestamp,value\n2026-11-10,1\n")
    done = load(site, [path, good])
    (refused,) = done.refused
    assert re.search(said, str(refused))
    assert name in str(refused)
    assert (done.files, done.samples) == (1, 1)
    assert {row["meter"] for row in rows(site, "samples", "meter")} == {"good"}


def test_the_spellings_of_ceilometer_its_client_and_gnocchi_are_understood(site: Site, tmp_path: Path) -> None:
    when = "2026-11-10T12:00:00+00:00"
    published = {
        "id": "a-0", "name": "memory.usage", "type": "gauge", "unit": "MiB", "volume": 512.0, "user_id": "u",
        "project_id": "p", "resource_id": "file", "timestamp": when, "resource_metadata": {"a": {}}, "source": "s",
        "monotonic_time": None,
    }  # fmt: skip
    agents = {
        "counter_name": "cpu", "counter_type": "cumulative", "counter_unit": "ns", "counter_volume": 5, "user_id": "u",
        "project_id": "p", "resource_id": "agent", "timestamp": when, "resource_metadata": {}, "source": "s",
        "message_id": "1", "message_signature": "0", "recorded_at": when,
    }  # fmt: skip
    gnocchi = [{"timestamp": when, "granularity": 300.0, "value": 7.5}, {"timestamp": "2026-11-11", "value": 8}]
    files = [
        write(tmp_path / "dump.jsonl", json.dumps(published)),
        write(tmp_path / "agents.jsonl", json.dumps(agents)),
        write(tmp_path / "usage.json", json.dumps(gnocchi, indent=2)),
        write(tmp_path / "nothing.json", "[]\n"),
        write(
            tmp_path / "client.csv",
            f"sep=,\nResource ID,Name,Type,Volume,Unit,Timestamp\nclient,disk.read.bytes,Delta,9,B,{when}\n",
        ),
        write(tmp_path / "measures.csv", f'"timestamp","granularity","value"\n"{when}",300.0,3\n'),
    ]
    done = load(site, files)
    assert (done.refused, done.collected.dead_letters) == ([], 0)
    found = rows(site, "samples", "resource_id, meter, type, unit, volume", order="volume")
    assert [tuple(row.values()) for row in found] == [
        ("measures", "measures", "gauge", None, 3.0),
        ("agent", "cpu", "cumulative", "ns", 5.0),
        ("usage", "usage", "gauge", None, 7.5),
        ("usage", "usage", "gauge", None, 8.0),
        ("client", "disk.read.bytes", "delta", "B", 9.0),
        ("file", "memory.usage", "gauge", "MiB", 512.0),
    ]


def test_the_name_of_a_file_is_the_meter_of_no_row_if_the_file_names_meters(site: Site, tmp_path: Path) -> None:
    lines = ['{"timestamp": "2026-11-10", "value": 1}', '{"timestamp": "2026-11-10", "value": 2, "name": "m"}']
    files = [
        write(tmp_path / "a.jsonl", "\n".join(lines)),
        write(tmp_path / "b.csv", "timestamp,value,meter\n2026-11-10,1,\n2026-11-10,2,m\n2026-11-10,3,  \n"),
    ]
    done = load(site, files)
    assert {row["meter"] for row in rows(site, "samples", "meter")} == {"m"}
    assert (done.samples, done.collected.dead_letters, done.messages) == (2, 3, 5)
    letters = rows(site, "dead_letters", "queue, reason, decode(body) AS body", order="queue")
    assert [row["queue"] for row in letters] == ["load:a.jsonl:1", "load:b.csv:2", "load:b.csv:4"]
    assert {row["reason"] for row in letters} == {"the meter is missing"}
    assert letters[0]["body"] == lines[0]


def test_values_over_several_granularities_are_refused(site: Site, tmp_path: Path) -> None:
    text = "timestamp,granularity,value\n2026-11-10,3600.0,1\n2026-11-10,300.0,2\n"
    (refused,) = load(site, [write(tmp_path / "cpu.csv", text)]).refused
    assert "2 granularities: 300.0, 3600.0" in str(refused)
    assert count(site, "samples") == 0


def test_a_key_that_is_not_known_only_rejects_its_line_if_the_first_sample_is_right(site: Site, tmp_path: Path) -> None:
    lines = ['{"timestamp": "2026-11-10", "value": 1}', '{"timestamp": "2026-11-10", "value": 2, "nmae": "m"}']
    done = load(site, [write(tmp_path / "a.jsonl", "\n".join(lines))])
    assert (done.samples, done.collected.dead_letters) == (1, 1)
    (letter,) = rows(site, "dead_letters")
    assert letter["reason"].startswith("has an unknown column 'nmae'. Did you mean name")


def test_a_quote_that_is_not_closed_only_rejects_its_line(site: Site, tmp_path: Path) -> None:
    good = [f"2026-11-10T00:{minute:02}:00Z,{minute},r," for minute in range(60)]
    text = ["timestamp,value,resource_id,metadata", *good[:2], '2026-11-10,1,"r,', *good[2:]]
    files = [
        write(tmp_path / "a.csv", "\n".join(text)),
        write(tmp_path / "b.csv", "\n".join([*text, *good[2:] * 100])),  # longer than a value may be
        write(tmp_path / "c.csv", "\n".join([text[0], '2026-11-10,7,s,"{', '}"', *good])),
    ]
    done = load(site, files)
    assert done.samples + done.known == 60 + 5860 + 61
    found = rows(site, "dead_letters", "queue, reason")
    assert {row["queue"] for row in found} == {"load:a.csv:4", "load:b.csv:4"}
    assert {row["reason"] for row in found} == {"a quote is not closed"}
    assert {row["resource_id"] for row in rows(site, "samples", "resource_id")} == {"r", "s"}


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.jsonl", "notifications.jsonl"])
def test_a_line_that_is_too_long_is_a_dead_letter_with_its_head_once(
    open_site: OpenSite, tmp_path: Path, name: str
) -> None:
    site = open_site(message_bytes=1 << 16)
    if "csv" in name:
        lines = ["timestamp,value,unit", "2026-11-10,1,", f"2026-11-10,2,{'x' * 70_000}", "2026-11-10,3,"]
    elif name == "a.jsonl":
        lines = [json.dumps({"timestamp": "2026-11-10", "value": 1, "unit": "x" * size}) for size in (1, 70_000, 2)]
    else:
        lines = [json.dumps(notification(f"m{size}", x="x" * size)) for size in (1, 70_000, 2)]
    path = write(tmp_path / name, "\n".join(lines))
    for dead, known in ((1, 1), (0, 2)):
        done = load(site, [path, path])
        assert (done.collected.dead_letters, done.collected.dead_letters_known) == (dead, known)
        assert done.messages == 6
    (letter,) = rows(site, "dead_letters")
    assert letter["body"] == lines[-2].encode()[:HEAD_BYTES]
    assert letter["reason"].startswith(f"it has {len(lines[-2]):,} bytes, more than METERHOUSE_MESSAGE_BYTES allows")
    assert count(site, "samples") + count(site, "notifications") == 2


BOUNDED = """
import resource, sys
from pathlib import Path
from meterhouse.collection import load as loading
from meterhouse.settings import read_settings
from meterhouse.site import Site
site = Site.open(read_settings(home=Path(sys.argv[1]), memory_limit="256MB"))
loading.load(site, [Path(sys.argv[2])])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
done = loading.load(site, [Path(each) for each in sys.argv[3:]])
print(done.messages, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)
"""


def test_memory_of_a_load_is_bounded_however_many_lines_a_small_file_has(tmp_path: Path, migrated: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "warehouse.db").write_bytes(migrated.read_bytes())
    text = "timestamp,value,monotonic_time\n" + f"2026-11-10T12:00:00Z,{'1' * 300},{'0' * 30_000}\n" * 4_000
    small, large = write(tmp_path / "a.csv.gz", text[:100_000]), write(tmp_path / "b.csv.gz", text)
    command = [sys.executable, "-c", BOUNDED, *map(str, (tmp_path / "home", small, large))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    messages, grown = map(int, done.stdout.split())
    assert messages == 4_000
    assert grown < 80, f"{grown} MiB more for {len(text) >> 20} MiB of lines"


def test_many_lines_that_are_too_long_are_landed_in_pieces(open_site: OpenSite, tmp_path: Path) -> None:
    site = open_site(message_bytes=1 << 16)
    path = write(tmp_path / "a.csv", "timestamp,value\n" + f"{'x' * 70_000}\n" * 600 + "2026-11-10,1\n")
    letters = [sum(len(piece.letters) for piece in part()) for part in read_csv(path, 1 << 16)]
    assert sum(letters) == 600
    assert max(letters) <= 256
    done = load(site, [path])
    assert (done.samples, done.collected.dead_letters) == (1, 600)


def test_line_feeds_without_which_no_row_ends_are_a_dead_letter(site: Site, tmp_path: Path) -> None:
    done = load(site, [write(tmp_path / "a.csv", "timestamp,value\n2026-11-10,1\r2026-11-10,2\n2026-11-11,3\n")])
    assert (done.samples, done.collected.dead_letters) == (1, 1)


def test_rows_of_another_width_do_not_affect_others_and_keep_their_line(site: Site, tmp_path: Path) -> None:
    text = "timestamp,value\n2026-11-10,1\n2026-11-10\n\n2026-11-10T01:00,x\n2026-11-10T02:00,2,3\n2026-11-10T03:00,4\n"
    done = load(site, [write(tmp_path / "a.csv", text)])
    assert (done.samples, done.collected.dead_letters) == (2, 3)
    assert rows(site, "dead_letters", "queue, reason", order="queue") == [
        {"queue": "load:a.csv:3", "reason": "1 columns where the header has 2"},
        {"queue": "load:a.csv:5", "reason": "the volume is no number"},
        {"queue": "load:a.csv:6", "reason": "3 columns where the header has 2"},
    ]


def test_lines_that_are_not_json_do_not_affect_others(site: Site, tmp_path: Path) -> None:
    lines = ['{"timestamp": "2026-11-10", "volume": 1}', "{", "[1]", '{"timestamp": "2026-11-11", "volume": 2}']
    done = load(site, [write(tmp_path / "a.jsonl", "\n".join(lines) + "\n")])
    assert (done.samples, done.collected.dead_letters) == (2, 2)
    assert [row["queue"] for row in rows(site, "dead_letters", "queue", order="queue")] == [
        "load:a.jsonl:2",
        "load:a.jsonl:3",
    ]


def test_each_line_of_json_has_its_own_columns_and_its_texts_as_they_are(site: Site, tmp_path: Path) -> None:
    lines = [
        '{"timestamp": "2026-11-10", "volume": 1, "meter": "m"}',
        '{"timestamp": "2026-11-10", "volume": NaN, "meter": "m", "resource_id": "2026-11-20", "type": "cumulative"}',
        '{"timestamp": "2026-11-10", "volume": "x", "meter": "m"}',
        '{"event_type": "compute.instance.create.end", "message_id": "1"}',
        '{"timestamp": "2026-11-10", "volume": 4, "type": {"a": 1}, "project_id": true}',
    ]
    done = load(site, [write(tmp_path / "a.jsonl", "\ufeff" + "\n".join(lines))])
    found = rows(site, "samples", "resource_id, type, isnan(volume) AS nan", order="resource_id")
    assert found == [
        {"resource_id": "2026-11-20", "type": "cumulative", "nan": True},
        {"resource_id": "a", "type": "gauge", "nan": False},
    ]
    assert (done.samples, done.collected.dead_letters) == (2, 3)
    letters = rows(site, "dead_letters", "reason, decode(body) AS body", order="queue")
    assert [row["body"] for row in letters] == lines[2:]
    assert letters[1]["reason"] == "a notification in a file of samples"


def test_a_csv_may_have_quotes_capitals_spaces_and_other_separators(site: Site, tmp_path: Path) -> None:
    quoted = '"Timestamp","Meter","Value"\n"2026-11-10T01:00Z"," m ","1"\n'
    done = load(site, [write(tmp_path / "a.csv", quoted), write(tmp_path / "b.csv", quoted.replace(",", " ; "))])
    assert (done.samples, done.collected.dead_letters) == (2, 0)
    assert {row["meter"] for row in rows(site, "samples", "meter")} == {"m"}


def test_bytes_that_are_not_utf8_only_affect_their_row(site: Site, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"timestamp,meter,value\n2026-11-10,\xff\xfe,1\n2026-11-10,m\xc3\xa9,2\n")
    done = load(site, [path])
    assert [row["meter"] for row in rows(site, "samples", "meter")] == ["mé"]
    assert rows(site, "dead_letters", "reason, body") == [{"reason": "not UTF-8", "body": b"2026-11-10,\xff\xfe,1"}]
    assert done.samples == 1


@pytest.mark.parametrize("name", ["a.csv.gz", "a.jsonl.gz"])
def test_the_readable_part_of_a_damaged_file_is_loaded(site: Site, tmp_path: Path, name: str) -> None:
    import gzip

    header, each = (
        ("timestamp,value\n", "2026-11-10,{}\n") if "csv" in name else ("", '{{"timestamp":"2026-11-10","value":{}}}\n')
    )
    text = header + "".join(each.format(number) for number in range(20_000))
    path = tmp_path / name
    path.write_bytes(gzip.compress(text.encode())[:-2_000])
    done = load(site, [path])
    assert 0 < done.samples < 20_000
    assert any("damaged" in row["reason"] for row in rows(site, "dead_letters", "reason"))


def test_a_known_letter_is_counted_as_known(site: Site, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "timestamp,value\nyesterday,1\n")
    assert load(site, [path]).collected.dead_letters == 1
    again = load(site, [path]).collected
    assert (again.messages, again.dead_letters, again.dead_letters_known) == (1, 0, 1)


def test_empty_files_load_as_nothing(site: Site, tmp_path: Path) -> None:
    done = load(site, [write(tmp_path / "a.jsonl", "\n\n"), write(tmp_path / "b.csv", "timestamp,value\n")])
    assert (done.files, done.samples) == (2, 0)


def test_loading_fails_while_another_load_is_running(site: Site, tmp_path: Path) -> None:
    with site.warehouse.lease("load"), pytest.raises(AlreadyRunning):
        load(site, [write(tmp_path / "a.csv", "timestamp,value\n2026-11-10,1\n")])


def test_arrival_is_now_whatever_the_time_of_the_samples(site: Site, tmp_path: Path) -> None:
    begun = times.now()
    load(site, [write(tmp_path / "a.csv", "timestamp,value\n1999-01-01,1\n")])
    (found,) = rows(site, "samples")
    assert begun <= found["recorded_at"] <= times.now()
    assert found["arrival_hour"] == times.arrival_hour(found["recorded_at"])
    assert found["timestamp"] == datetime(1999, 1, 1, tzinfo=UTC)


HISTORY = "timestamp,meter,resource_id,volume,type\n" + "".join(
    f"2026-11-{day:02}T{hour:02}:00:00Z,m,r{n},{n},{kind}\n"
    for day in (3, 1, 2)
    for hour in (5, 0)
    for n, kind in enumerate(("gauge", "delta", "delta", "cumulative"))
)


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few points in each file and commit, and in memory."""
    monkeypatch.setattr(loading, "POINTS_AT_ONCE", 4)
    monkeypatch.setattr(loading, "COMMIT_POINTS", 5)
    monkeypatch.setattr(loaded_points, "RUN_ROWS", 6)
    monkeypatch.setattr(loaded_points, "HELD_ROWS", 6)


@pytest.mark.usefixtures("small_parts")
def test_a_file_that_is_written_in_parts_is_loaded_whole_and_once(any_site: Site, tmp_path: Path) -> None:
    site = any_site
    path = write(tmp_path / "a.csv", HISTORY + HISTORY.partition("\n")[2])
    for expected in ((36, 12), (0, 48)):
        done = load(site, [path])
        assert (done.samples, done.known) == expected
    found = rows(site, "samples", "timestamp, resource_id, volume, type")
    assert len(found) == 36, "each delta twice, each gauge and counter once"
    assert len({(row["timestamp"], row["resource_id"]) for row in found}) == 24
    assert site.lake.version("samples") > 4
    assert catalog(site).hours == 6
    assert not list((site.settings.home_path / "spill").glob("*"))


@pytest.mark.usefixtures("small_parts")
def test_a_load_that_failed_midway_leaves_no_files_behind_and_the_next_adds_the_rest(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.csv", HISTORY)
    commit, commits = Lake.commit, []

    def failing(lake: Lake, name: str, *given: Any, **more: Any) -> int:
        commits.append(name)
        if commits.count("samples") == 2:
            raise Conflict("another process has taken the lease over")
        return commit(lake, name, *given, **more)

    with monkeypatch.context() as patched:
        patched.setattr(Lake, "commit", failing)
        with pytest.raises(Conflict):
            load(site, [path])
    there = {
        str(file.relative_to(site.lake.uri("samples"))) for file in Path(site.lake.uri("samples")).rglob("*.parquet")
    }
    assert there == site.lake.live("samples")
    before = count(site, "samples")
    done = load(site, [path])
    assert 0 < before == done.known
    assert (done.samples, count(site, "samples")) == (24 - before, 24)


@pytest.mark.usefixtures("small_parts")
def test_a_point_of_the_future_that_is_loaded_again_is_recorded_again_as_collected_ones_are(
    site: Site, tmp_path: Path
) -> None:
    """Of copies that all came before their own time, the last counts."""
    path = write(tmp_path / "a.csv", "timestamp,value\n2200-01-01,1\n2000-01-01,1\n")
    assert [load(site, [path]).samples for _ in range(2)] == [2, 1]


def test_a_loaded_delta_has_an_id_of_its_content_and_others_have_none(site: Site, tmp_path: Path) -> None:
    load(site, [write(tmp_path / "a.csv", HISTORY)])
    found = rows(site, "samples", "type, count(*) AS n, count(DISTINCT sample_id) AS ids", "true GROUP BY type")
    assert found == [
        {"type": "cumulative", "n": 6, "ids": 0},
        {"type": "delta", "n": 12, "ids": 12},
        {"type": "gauge", "n": 6, "ids": 0},
    ]
