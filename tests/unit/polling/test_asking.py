"""What pollsters ask with: polling_endpoints.yaml, rates, tokens, other APIs, and commands of the host."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from meterhouse.definitions.entries import InvalidEntry
from meterhouse.errors import DefinitionError
from meterhouse.polling.asking import Asking
from meterhouse.polling.asking.endpoints import load
from meterhouse.polling.asking.rates import Rate
from meterhouse.polling.discovery import discover
from meterhouse.polling.polled import Permanent, Piece, PollError
from meterhouse.settings import read_settings
from tests.dynamic_pollsters import compiled, keystone_routes, polled, slot, source
from tests.web import Raw, Request, Web, web


@pytest.fixture
def server() -> Iterator[Web]:
    with web({}) as made:
        yield made


@pytest.fixture(scope="module")
def commanding() -> Iterator[Asking]:
    """What asks, and may execute commands."""
    made = Asking(read_settings(poll_commands=True))
    yield made
    made.close()


def test_the_longest_entry_of_the_file_says_how_an_address_is_asked(server: Web, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("hunter2\n")
    (tmp_path / "polling_endpoints.yaml").write_text(
        f"""
catalogue: {{region: here, interface: internal}}
endpoints:
  - url: {server.url}
    requests_per_second: 1000
  - url: {server.url}/exporter/
    username: prometheus
    password_file: {tmp_path}/password
"""
    )
    found = load(tmp_path)
    assert (found.region, found.interface, found.of(f"{server.url}/exporters").username) == ("here", "internal", None)
    asking = Asking(read_settings(config_dir=tmp_path))
    server.routes.update({"/exporter/volumes": [], "/exporters/volumes": []})
    polled(asking, f"{server.url}/exporter")
    polled(asking, f"{server.url}/exporters")
    assert [each.headers.get("authorization") for each in server.requests] == ["Basic cHJvbWV0aGV1czpodW50ZXIy", None]
    (tmp_path / "password").write_text("two\nlines\n")
    with pytest.raises(Permanent, match="password: the file does not have a secret in one line"):
        polled(asking, f"{server.url}/exporter")
    asking.close()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("- url: http://a", "is not a mapping"),
        ("endpoint: []", r":1: unknown key 'endpoint'\. Did you mean endpoints\?"),
        ("catalogue: {interface: private}", ":1: the interface is one of public, internal, admin"),
        ("endpoints:\n  - url: http://a\n    tokn: true", r":2: unknown key 'tokn'\. Did you mean token\?"),
        ("endpoints:\n  - token: true", ":2: the entry has no url"),
        ("endpoints:\n  - url: http://u:hunter2@a", ":2: the URL has a user or a password"),
        ("endpoints:\n  - url: http://a\n    username: x", ":2: username and password_file go together"),
        ("endpoints:\n  - url: http://a\n    requests_per_second: 0", ":2: requests_per_second is not a number"),
        ("endpoints:\n  - url: http://a\n    max_mib: 1.5", ":2: max_mib is not an integer from 1 to 4096"),
        (
            "endpoints:\n  - {url: http://a, token: true, username: x, password_file: y}",
            ":2: only one of token, credential_id and username can be used",
        ),
    ],
)
def test_a_fault_of_the_file_is_named_with_its_line(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "polling_endpoints.yaml").write_text(text)
    with pytest.raises(DefinitionError, match=reason) as error:
        load(tmp_path)
    assert "hunter2" not in str(error.value)


def test_certificates_that_are_none_are_named(server: Web, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    (tmp_path / "polling_endpoints.yaml").write_text(
        f"endpoints: [{{url: '{server.url}', ca_file: {tmp_path}/ca.pem}}]"
    )
    asking = Asking(read_settings(config_dir=tmp_path))
    with pytest.raises(Permanent, match=r"ca\.pem: no certificates can be read"):
        polled(asking, server.url)
    asking.close()


def test_requests_are_spread_and_those_without_time_are_not_sent() -> None:
    rate = Rate(50)
    began = time.monotonic()
    waited = [rate.wait(60) for _ in range(6)]
    assert None not in waited
    assert time.monotonic() - began >= 0.099
    assert [rate.wait(0.0) for _ in range(2)] == [None, None]


def test_threads_that_are_refused_share_one_new_token(server: Web) -> None:
    server.routes.update(keystone_routes(volumev3=f"{server.url}/v3x"))
    good = ["token-1"]

    def volumes(request: Request) -> object:
        return [] if request.headers["x-auth-token"] in good else Raw(401)

    server.routes["/v3x/volumes"] = volumes
    asking = Asking(read_settings(keystone_url=f"{server.url}/v3", keystone_username="u", keystone_password="p"))
    poll = compiled()
    poll.poll(asking, slot(), Piece(), source())
    good[:] = ["token-2"]
    asking.each(lambda _: poll.poll(asking, slot(), Piece(), source()), range(8))
    assert server.paths().count("/v3/auth/tokens") == 2
    good.clear()
    with pytest.raises(PollError, match=r"it answers with status 401\. The account of the token may not ask for this"):
        poll.poll(asking, slot(), Piece(), source())
    asking.close()


def test_a_login_that_is_refused_is_not_repeated_at_once(server: Web) -> None:
    server.routes["/v3/auth/tokens"] = Raw(401, b"{}")
    settings = read_settings(keystone_url=f"{server.url}/v3", keystone_username="u", keystone_password="hunter2")
    asking = Asking(settings)
    for _ in range(3):
        with pytest.raises(Permanent, match="Keystone refuses the account 'u'") as error:
            compiled().poll(asking, slot(), Piece(), source())
        assert "hunter2" not in str(error.value)
    assert len(server.requests) == 1
    asking.close()
    with pytest.raises(Permanent, match=r"no Keystone is configured\. Set METERHOUSE_KEYSTONE_URL"):
        compiled().poll(Asking(read_settings()), slot(), Piece(), source())


def test_many_endpoints_are_asked_at_the_same_time(commanding: Asking, server: Web) -> None:
    together = threading.Barrier(8)

    def volumes(_: Request) -> object:
        together.wait(30)  # breaks unless eight requests are waiting
        return [{"id": "v", "size": 1}]

    server.routes.update({f"/{number}/volumes": volumes for number in range(16)})
    urls = [f"{server.url}/{number}" for number in range(16)]
    found = compiled().poll(commanding, slot(), Piece(), source(*urls))
    assert (len(found.samples), found.rests) == (16, [])


def test_lists_are_discovered(commanding: Asking, server: Web) -> None:
    server.routes["/targets"] = {"targets": [{"address": f"{server.url}/a"}, {"address": f"{server.url}/b"}]}
    server.routes["/texts"] = ["x", "y", "x"]
    assert discover(commanding, f"list:{server.url}/texts") == ["x", "y"]
    found = discover(commanding, f"list:{server.url}/targets#address")
    assert found == [f"{server.url}/a", f"{server.url}/b"]
    server.routes.update({"/a/volumes": [{"id": "a", "size": 1}], "/b/volumes": [{"id": "b", "size": 1}]})
    by_list = source(discovery=(f"list:{server.url}/targets#address",))
    assert compiled().size(commanding, by_list) == 2
    samples = compiled().poll(commanding, slot(), Piece(), by_list).samples
    assert [each["resource_id"] for each in samples] == ["a", "b"]
    with pytest.raises(PollError, match="entry 1 of the list has no text under 'name'"):
        discover(commanding, f"list:{server.url}/targets#name")
    with pytest.raises(Permanent, match=r"there is no discovery 'tenants'\. Did you mean tenant\?"):
        discover(commanding, "tenants")


def test_another_api_is_asked_with_basic_authentication(commanding: Asking, server: Web) -> None:
    keys = {
        "module": "requests.auth",
        "authentication_object": "HTTPBasicAuth",
        "authentication_parameters": "user, hunter2",
        "url_path": f"{server.url}/usage?show=all",
        "endpoint_type": None,
        "next_sample_url_attribute": "next",
        "response_entries_key": "volumes",
    }
    server.routes["/usage?show=all"] = {"volumes": [{"id": "a", "size": 1}], "next": "?page=2"}
    server.routes["/usage?page=2"] = server.routes["/usage/?page=2"] = {"volumes": [{"id": "b", "size": 2}]}
    found = compiled(**keys).poll(commanding, slot(), Piece(), source())
    assert [each["counter_volume"] for each in found.samples] == [1, 2]
    assert {each.headers["authorization"] for each in server.requests} == {"Basic dXNlcjpodW50ZXIy"}
    digest = {**keys, "authentication_object": "HTTPDigestAuth"}
    assert len(compiled(**digest).poll(commanding, slot(), Piece(), source()).samples) == 2
    for module, name, reason in (
        ("os", "system", "'os' has no class 'system' that authenticates requests"),
        ("no_such_module", "Auth", "the Python module 'no_such_module' is not installed"),
        ("requests.auth", "HTTPProxyAuth", "'HTTPProxyAuth' does not take these credentials"),
    ):
        faulty = {**keys, "module": module, "authentication_object": name, "authentication_parameters": "a,hunter2,c"}
        with pytest.raises(Permanent, match=reason) as error:
            compiled(**faulty).poll(commanding, slot(), Piece(), source())
        assert "hunter2" not in str(error.value)
    with pytest.raises(Permanent, match=r"modules of definitions are not imported\. Set METERHOUSE_POLL_COMMANDS"):
        compiled(**digest).poll(Asking(read_settings()), slot(), Piece(), source())


COMMAND = {"endpoint_type": None, "url_path": None, "resource_id_attribute": "id"}


def test_the_output_of_a_command_is_an_answer(commanding: Asking) -> None:
    found = compiled(**COMMAND, host_command="""echo '[{"id": "a", "size": 4}]'""").poll(
        commanding, slot(), Piece(), source()
    )
    assert [(each["resource_id"], each["counter_volume"]) for each in found.samples] == [("a", 4)]
    for command, reason in (
        ("echo '[]'; exit 3", "the command 'echo' ended with status 3"),
        ("sleep 600 & sleep 600", r"the command 'sleep' has not ended within 0\.3 s"),
        ("yes", "the command 'yes' "),
        ("true", "the output of the command: the answer cannot be read: it is empty"),
    ):
        with pytest.raises(PollError, match=reason):
            compiled(**COMMAND, host_command=command, timeout=0.3).poll(commanding, slot(), Piece(), source())
    with pytest.raises(Permanent, match=r"may not execute commands of the host\. Set METERHOUSE_POLL_COMMANDS=true"):
        compiled(**COMMAND, host_command="true").poll(Asking(read_settings()), slot(), Piece(), source())
    with pytest.raises(InvalidEntry, match="the next command would be one that the output has"):
        compiled(**COMMAND, host_command="true", next_sample_url_attribute="next")


def test_the_pages_of_a_command_are_followed_and_their_output_chooses_no_program(
    commanding: Asking, tmp_path: Path
) -> None:
    for name, content in {
        "1": '{"found": [{"id": "a", "size": 1}], "next": "2"}',
        "2": '{"found": [{"id": "b", "size": 2}], "next": null}',
        "odd": '{"found": [], "next": "x; touch owned"}',
        "other": '{"found": [], "next": "touch owned"}',
    }.items():
        (tmp_path / name).write_text(content)
    more = f"next | 'cat {tmp_path}/' + value"

    def names(page: str, following: str) -> list[str]:
        poll = compiled(**COMMAND, host_command=f"cat {tmp_path}/{page}", next_sample_url_attribute=following)
        return [each["resource_id"] for each in poll.poll(commanding, slot(), Piece(), source()).samples]

    assert names("1", more) == ["a", "b"]
    assert names("2", more) == ["b"]
    with pytest.raises(Permanent, match="characters that the shell would obey"):
        names("odd", more)
    with pytest.raises(Permanent, match="the output says which program is next"):
        names("other", "next | value.strip()")
    assert not (tmp_path / "owned").exists()


def test_no_answer_says_what_the_shell_does(commanding: Asking, server: Web, tmp_path: Path) -> None:
    server.routes["/volumes"] = [
        {"id": "v1", "size": 1, "host": "node-1.example"},
        {"id": "v2", "size": 2, "host": f"x; touch {tmp_path}/owned"},
        {"id": "v3", "size": 3, "host": f"$(touch {tmp_path}/owned)"},
    ]
    extra = {"name": "rack", "host_command": "'echo rack-of-' + sample['host']", "response_handlers": ["text"]}
    extra |= {"value": "out | value.strip()"}
    found = polled(commanding, server.url, extra_metadata_fields=[extra])
    assert [each["resource_metadata"] for each in found.samples] == [{"rack": "rack-of-node-1.example"}, {}, {}]
    assert found.warnings == [
        "2 entries, first v2: extra metadata 'rack': an answer has characters that the shell would obey; "
        "the command is not executed"
    ]
    assert list(tmp_path.iterdir()) == []


def test_headers_are_sent_and_can_be_the_answer(commanding: Asking, server: Web) -> None:
    server.routes["/AUTH_p1"] = Raw(204, headers={"X-Account-Bytes-Used": "12"})
    found = polled(
        commanding,
        server.url,
        url_path="AUTH_p1",
        headers=[{"X-Newest": "true"}],
        response_handlers=["headers"],
        value_attribute="x-account-bytes-used",
    )
    assert [(each["resource_id"], each["counter_volume"]) for each in found.samples] == [(server.url, 12)]
    assert (server.requests[0].method, server.requests[0].headers["x-newest"]) == ("HEAD", "true")


def test_the_time_of_an_entry_can_be_its_own_and_variables_have_the_slot(commanding: Asking, server: Web) -> None:
    server.routes["/usage"] = [
        {"id": "a", "size": 1, "at": "2026-11-20T10:00:00+02:00"},
        {"id": "b", "size": 1, "at": 1763629200},
        {"id": "c", "size": 1, "at": "yesterday"},
    ]
    keys = {"url_path": "'usage?from=' + slot_start + '&to=' + slot_end", "timestamp_attribute": "at"}
    found = polled(commanding, server.url, **keys)
    assert [each["timestamp"] for each in found.samples] == ["2026-11-20T08:00:00", "2025-11-20T09:00:00"]
    assert found.warnings == ["c: its timestamp_attribute is not a time"]
    assert server.paths()[0].startswith("/usage?from=20")


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({"name": "a b"}, "name: 'a b' is not a meter's name"),
        ({"sample_type": "counter"}, "sample_type: 'counter' is none of gauge, delta, cumulative"),
        ({"unit": None}, "unit: is missing"),
        ({"value_attribute": None, "url_path": None}, "url_path: is missing; value_attribute: is missing"),
        ({"value_attribute": "size | 2"}, "does not use the variable value"),
        ({"value_attribute": "size | __import__('os') or value"}, "value_attribute: "),
        ({"name": "a.{b}"}, r"for several meters it is like \[list\].value, not 'size'"),
        ({"response_handlers": ["yaml"]}, "'yaml' is none of json, xml, text, headers"),
        ({"timeout": 0}, "timeout: 0 is not a number of seconds from 0.1"),
        ({"headers": {"X\n": "1"}}, "cannot be sent"),
        ({"skip_sample_values": 3}, "skip_sample_values: 3 is not a list"),
        ({"extra_metadata_fields_skip": ["x"]}, "'x' is not a mapping"),
        ({"extra_metadata_fields": [{"name": "x", "url_path": "y"}]}, "endpoint_type: is missing"),
        ({"module": "x", "authentication_parameters": "y"}, "authentication_object: is missing"),
        ({"value_mapping": [1]}, r"value_mapping: \[1\] is not a mapping"),
    ],
)
def test_faults_of_a_definition_are_named(keys: dict[str, object], reason: str) -> None:
    with pytest.raises(InvalidEntry, match=reason):
        compiled(**keys)
