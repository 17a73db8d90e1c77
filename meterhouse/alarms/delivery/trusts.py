"""Keystone trusts for `trust+http(s)://` actions: made with the alarm by the token of its owner, deleted with it.

A trust lets Meterhouse's own account (METERHOUSE_KEYSTONE_USERNAME) act as the user, in the user's project and with the
roles of the token. Its id is kept in the URL, as Aodh keeps it: `trust+https://TRUST_ID:delete@host/…`.
"""

from collections.abc import Iterable
from typing import Final

from meterhouse import keystone
from meterhouse.alarms.definitions.actions import trust_of, without_userinfo
from meterhouse.errors import MeterhouseError
from meterhouse.settings import Settings, variable

_PREFIX: Final = "trust+"


def needs_one(url: str) -> bool:
    """Whether a URL is to be called with a trust, and names neither a trust nor an application credential."""
    return url.startswith((f"{_PREFIX}http://", f"{_PREFIX}https://")) and not without_userinfo(url)[1]


def create(settings: Settings, token: str, url: str) -> str:
    """Make a trust as the owner of a token; return the URL with its id.

    Args:
        settings: the site's; its Keystone account is the trustee.
        token: of a user in a project.
        url: a `trust+` URL without user.

    Raises:
        Unavailable: Keystone does not answer.
        Refused: it refuses the token or the trust.
        MeterhouseError: the settings name no account that can be a trustee, or the token has no project.
    """
    if not settings.keystone_username:
        raise MeterhouseError(
            "a trust needs an account of Meterhouse that it is given to",
            hint=f"Set {variable('keystone_url')} and {variable('keystone_username')}",
        )
    with keystone.session(settings) as session:
        owner, own = session.described(token), session.log_in()
        project = owner.get("project")
        if not isinstance(project, dict):
            raise MeterhouseError("the token has no project, for which a trust could be", hint="Log in to a project")
        trust = {
            "trustor_user_id": owner["user"]["id"],
            "trustee_user_id": own["user"]["id"],
            "project_id": project["id"],
            "impersonation": True,
            "roles": [{"id": role["id"]} for role in owner.get("roles", [])],
        }
        trust_id = session.create_trust(token, trust)
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{trust_id}:delete@{rest}"


def delete(settings: Settings, urls: Iterable[str], token: str | None = None) -> list[str]:
    """Delete the trusts that were made for URLs; return what could not be done, in one line each.

    Args:
        settings: the site's.
        urls: actions; those without `TRUST_ID:delete` are left alone.
        token: of the owner; None: the settings' account deletes them, which takes an administrator of the system.
    """
    ids = []
    for url in urls:
        userinfo = without_userinfo(url)[1] if url.startswith(_PREFIX) else ""
        if userinfo.endswith(":delete") and (trust_id := trust_of(userinfo)):
            ids.append(trust_id)
    faults = []
    if ids:
        try:
            with keystone.session(settings) as session:
                for trust_id in dict.fromkeys(ids):
                    try:
                        session.delete_trust(trust_id, token)
                    except MeterhouseError as error:
                        faults.append(str(error).replace(trust_id, "***"))
        except MeterhouseError as error:
            faults.append(str(error))
    return faults
