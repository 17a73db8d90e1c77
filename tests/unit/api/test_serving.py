"""The API on a socket: it answers, and errors have the form of Ceilometer's."""

from api_server import client
from builders import land_points, point

from meterhouse.site import Site


def test_meters_are_answered_to_whom_they_belong(site: Site) -> None:
    land_points(site, [point(1, meter="cpu", project="shop"), point(2, meter="memory", project="bank")])
    with client(site) as ask:
        assert [each["name"] for each in ask.get("/v2/meters").json()] == ["cpu", "memory"]
        own = ask.get("/v2/meters", headers={"X-Project-Id": "shop", "X-User-Id": "u"})
        assert [each["name"] for each in own.json()] == ["cpu"]
        assert ask.get("/v2/meters", headers={"X-Roles": "member"}).json() == []  # without a project


def test_an_unknown_path_is_answered_as_the_peers_do(site: Site) -> None:
    with client(site) as ask:
        found = ask.get("/v2/nothing")
    assert found.status_code == 404
    assert found.json() == {"error_message": {"faultcode": "Client", "faultstring": "Not Found", "debuginfo": None}}
