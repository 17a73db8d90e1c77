"""The check of who may use the HTTP API."""

from collections.abc import Iterator

from meterhouse.doctor.findings import Finding
from meterhouse.settings import variable
from meterhouse.site import Site


def api(site: Site) -> Iterator[Finding]:
    """Whether the account can validate tokens, or everybody may do everything; no finding if neither is set up."""
    if site.settings.api_auth == "keystone":
        yield _of_keystone(site)
    elif site.settings.api_insecure:
        found = "whoever reaches the API may do everything, from other machines too"
        yield Finding("api", "warning", found, f"set {variable('api_auth')}=keystone")


def _of_keystone(site: Site) -> Finding:
    from meterhouse.keystone import account, session

    with session(site.settings) as asked:
        found = asked.log_in()
    given = found.get("roles")
    roles = {each.get("name") for each in given if isinstance(each, dict)} if isinstance(given, list) else set()
    who = f"the account {account(site.settings)}"
    if roles & {"admin", "service"} or (found.get("system") and "reader" in roles):
        return Finding("api", "ok", f"{who} can validate tokens")
    to_do = "give it the role service or admin in its project, or reader on the system"
    return Finding("api", "warning", f"{who} cannot validate tokens by Keystone's usual rules", to_do)
