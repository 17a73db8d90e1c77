"""The API without authentication is served to this machine alone, unless the operator insists."""

import pytest
from command_line import Run
from conftest import OpenSite

from meterhouse.api.server import server
from meterhouse.errors import SettingsError
from meterhouse.site import Site


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "fe80::1", "no.such.host.invalid", ""])
def test_other_machines_do_not_reach_an_api_that_knows_nobody(site: Site, host: str) -> None:
    with pytest.raises(SettingsError, match="Set METERHOUSE_API_AUTH=keystone, listen on"):
        server(site, host, 0)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_this_machine_does(site: Site, host: str) -> None:
    assert server(site, host, 0).config.host == host


def test_with_tokens_or_if_told_to_it_is_served_anywhere(open_site: OpenSite) -> None:
    keystone = {"keystone_url": "http://k:5000", "keystone_username": "u", "keystone_password": "p"}
    for settings in ({"api_insecure": True}, {"api_auth": "keystone", **keystone}):
        assert server(open_site(**settings), "0.0.0.0", 0).config.host == "0.0.0.0"


def test_the_command_says_so(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert str(run("api", "--host", "0.0.0.0").exception).startswith("0.0.0.0 is an address that other machines reach")
    monkeypatch.setenv("METERHOUSE_API_AUTH", "keystone")
    assert "METERHOUSE_API_AUTH=keystone needs METERHOUSE_KEYSTONE_URL" in str(run("api").exception)
