"""Which addresses a webhook may reach, in whatever spelling, and which URLs an alarm can have as actions."""

from ipaddress import ip_address

import pytest

from meterhouse.alarms.definitions import actions, addresses
from meterhouse.alarms.definitions.actions import refusal, shown_url, without_userinfo
from meterhouse.settings import networks, read_settings

PUBLIC = ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "172.32.0.1", "100.128.0.1", "::ffff:8.8.8.8", "64:ff9b::808:808"]
INNER = {
    "127.0.0.1": "loopback",
    "127.255.255.254": "loopback",
    "::1": "loopback",
    "::ffff:127.0.0.1": "loopback",
    "64:ff9b::7f00:1": "loopback",
    "64:ff9b:1::7f00:1": "loopback",
    "2002:7f00:1::": "loopback",
    "::127.0.0.1": "loopback",
    "2a00:1::5efe:127.0.0.1": "loopback",
    "0.0.0.0": "unspecified",
    "0.1.2.3": "unspecified",
    "::": "unspecified",
    "10.0.0.1": "private",
    "172.16.0.1": "private",
    "172.31.255.255": "private",
    "192.168.1.1": "private",
    "fd12:3456::1": "private",
    "fec0::1": "private",
    "::ffff:10.1.2.3": "private",
    "2002:a00:1::1": "private",
    "169.254.1.1": "link-local",
    "fe80::1": "link-local",
    "100.64.0.1": "provider",
    "224.0.0.1": "multicast",
    "ff02::1": "multicast",
    "240.0.0.1": "reserved",
    "255.255.255.255": "reserved",
    "198.18.0.1": "reserved",
    "192.0.2.1": "reserved",
    "2001:db8::1": "reserved",
}
METADATA = ["169.254.169.254", "fd00:ec2::254", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1"]


@pytest.mark.parametrize("address", PUBLIC)
def test_an_address_of_the_internet_may_be_reached(address: str) -> None:
    for origin in ("file", "outside"):
        assert addresses.refused(ip_address(address), origin, ()) is None


@pytest.mark.parametrize("address", INNER)
def test_an_inner_address_may_be_reached_by_alarms_of_files_alone(address: str) -> None:
    found = ip_address(address)
    assert INNER[address] in str(addresses.refused(found, "outside", ()))
    assert addresses.refused(found, "file", ()) is None


@pytest.mark.parametrize("address", METADATA)
def test_a_metadata_address_may_be_reached_by_nobody_unless_it_is_named_itself(address: str) -> None:
    found = ip_address(address)
    for origin in ("file", "outside"):
        for wide in ("", "169.254.0.0/16,fd00::/8,::/0,0.0.0.0/0"):
            assert addresses.refused(found, origin, networks(wide)) == "the address of a metadata service"
    assert addresses.refused(ip_address(METADATA[0]), "file", networks("169.254.169.254")) is None
    assert addresses.refused(ip_address(METADATA[0]), "outside", networks("169.254.169.254")) is None


def test_networks_that_are_named_may_be_reached() -> None:
    allowed = networks("10.1.0.0/16, fd12::/16")
    assert addresses.refused(ip_address("10.1.2.3"), "outside", allowed) is None
    assert addresses.refused(ip_address("::ffff:10.1.2.3"), "outside", allowed) is None
    assert addresses.refused(ip_address("fd12::1"), "outside", allowed) is None
    assert addresses.refused(ip_address("10.2.0.1"), "outside", allowed) == "a private address"
    with pytest.raises(ValueError, match=r"'10\.1\.0\.1/16' is not a network"):
        networks("10.1.0.1/16")


def test_a_setting_with_a_wrong_network_is_refused() -> None:
    with pytest.raises(
        Exception, match=r"METERHOUSE_WEBHOOK_ALLOW='10\.0\.0\.0/99': '10\.0\.0\.0/99' is not a network"
    ):
        read_settings(webhook_allow="10.0.0.0/99")


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "127.1", "127.0.1", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "017700000001"),
        *("127.0.0.1.", "[::ffff:7f00:1]", "[::1]", "localhost", "LOCALHOST.", "a.localhost", "①②⑦.⓪.⓪.①", "0"),
        *("user@127.0.0.1", "8.8.8.8@127.0.0.1"),
    ],
)
def test_this_machine_is_refused_in_any_spelling(host: str) -> None:
    for scheme in ("http", "https", "trust+http", "trust+https"):
        refused = refusal(f"{scheme}://{host}:8000/path", "outside")
        assert refused is not None
        assert "METERHOUSE_WEBHOOK_ALLOW" in refused[1]


@pytest.mark.parametrize(
    "url",
    [
        *("http://", "https:///path", "http://[::1", "http://h:port/", "http://h:0/", "http:host", "http://h h/"),
        *("http://127%2e0%2e0%2e1/", "http://[fe80::1%25eth0]/", "http://h\\@127.0.0.1/", "http://h/\r\nx: y"),
        *("ftp://h/", "file:///etc/passwd", "gopher://h/", "javascript:alert(1)", "h", "", "http", "//h/", 7, None),
    ],
)
def test_what_is_no_url_that_can_be_called_is_refused(url: object) -> None:
    for origin in ("file", "outside"):
        assert refusal(url, origin) is not None


@pytest.mark.parametrize(
    "url",
    [
        *("http://h.example/", "https://h.example:8443/a?b=c", "log://", "log://x", "log:", "test://", "HTTP://h/"),
        *("trust+https://heat.example:8004/v1/t/stacks/s/i/resources/r/signal", "https://user:p@h.example/"),
        *("https://xn--bcher-kva.example/", "https://bücher.example/", "https://8.8.8.8/", "http://[2606:4700::1111]/"),
    ],
)
def test_what_can_be_called_is_accepted(url: str) -> None:
    for origin in ("file", "outside"):
        assert refusal(url, origin) is None


@pytest.mark.parametrize("url", ["zaqar://?topic=t", "trust+zaqar://?queue_name=q", "trust+heat://h"])
def test_actions_of_aodh_that_are_not_supported_are_refused_with_the_reason(url: str) -> None:
    refused = refusal(url)
    assert refused is not None
    assert "are not supported" in refused[0]


@pytest.mark.parametrize(
    ("url", "shown", "userinfo"),
    [
        ("https://user:pass@host/p?q=a@b", "https://host/p?q=a@b", "user:pass"),
        ("trust+https://trust:delete@host:1/p", "trust+https://host:1/p", "trust:delete"),
        ("https://a@b@host/", "https://host/", "a@b"),
        ("https://host/p@q", "https://host/p@q", ""),
        ("https://host?x=a@b", "https://host?x=a@b", ""),
        ("log://x", "log://x", ""),
        ("log:", "log:", ""),
    ],
)
def test_user_and_password_are_taken_out_of_a_url_and_nothing_else(url: str, shown: str, userinfo: str) -> None:
    assert without_userinfo(url) == (shown, userinfo)
    assert shown_url(url) == shown


def test_a_refusal_does_not_show_the_secret() -> None:
    refused = refusal("https://user:hunter2@127.0.0.1/", "outside")
    assert refused is not None
    assert "hunter2" not in str(refused)


SIGNED = (
    "http://heat:8000/v1/signal/arn%3Aopenstack%3Aheat%3A%3Aproject%3Astacks/s/id/resources/up?"
    "Timestamp=2026-11-01T00%3A00%3A00Z&SignatureMethod=HmacSHA256&AWSAccessKeyId=k&SignatureVersion=2&Signature=s%3D"
)
TOKEN = "trust+http://heat:8004/v1/project/stacks/s/id/resources/up/signal"


def test_an_ok_action_that_signals_a_scaling_policy_is_warned_of() -> None:
    for url in (SIGNED, TOKEN):
        (said,) = actions.warnings("a", {"ok_actions": (url,), "alarm_actions": (url,)})
        assert "a scaling policy scales on any signal" in said
        assert actions.warnings("a", {"alarm_actions": (url,), "ok_actions": ("http://h/signal/x",)}) == []


def test_a_definition_is_shown_without_secrets() -> None:
    given = {"name": "a@b", "ok_actions": ["trust+http://t:delete@h/"], "rule": {"x": "http://u:p@h/"}}
    assert actions.shown_definition(given)["ok_actions"] == ["trust+http://h/"]
    assert actions.shown_json('{"ok_actions": ["trust+http://t:delete@h/"]}') == '{"ok_actions": ["trust+http://h/"]}'
    assert "delete" not in actions.shown_json('{"ok_actions": ["trust+http://t:delete@h/"')


def test_a_url_that_is_written_back_as_it_was_shown_keeps_its_user() -> None:
    before = ["trust+http://t:delete@h/", "http://h/"]
    assert actions.with_known_userinfo(["trust+http://h/", "http://h/", "http://n/"], before) == (*before, "http://n/")
