"""Tokens of Keystone, and its catalogue of endpoints, shared by the threads of a member."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from meterhouse import keystone
from meterhouse.errors import MeterhouseError, Unavailable, near_misses
from meterhouse.polling.asking.addresses import Origin, origin
from meterhouse.polling.asking.endpoints import Endpoints, secret
from meterhouse.polling.polled import Permanent, PollError
from meterhouse.settings import Settings, variable

CATALOGUE_SECONDS: Final = 300.0
"""How old the catalogue gets before it is read again, by another login."""

REFUSED_SECONDS: Final = 15.0
"""For how long a login that failed is not repeated, so that Keystone does not lock the account."""

LOGIN_SECONDS: Final = 20.0


@dataclass(frozen=True)
class Credential:
    """An application credential; its secret is in a file."""

    id: str
    secret_file: str


class Catalogue:
    """The endpoints that Keystone names.

    Args:
        entries: `catalog` of a token.
    """

    def __init__(self, entries: Any) -> None:
        self._found: list[tuple[str, Mapping[str, Any]]] = []
        self.origins: set[Origin] = set()
        for service in entries if isinstance(entries, list) else []:
            for endpoint in service.get("endpoints") or [] if isinstance(service, dict) else []:
                if isinstance(endpoint, dict) and isinstance(endpoint.get("url"), str):
                    self._found.append((str(service.get("type")), endpoint))
                    try:
                        self.origins.add(origin(endpoint["url"]))
                    except Permanent:
                        continue

    def endpoints(self, service_type: str, region: str | None, interface: str) -> list[str]:
        """The URLs of a type of service, each once."""
        return list(
            dict.fromkeys(
                each["url"]
                for kind, each in self._found
                if kind == service_type
                and each.get("interface") == interface
                and region in (None, each.get("region"), each.get("region_id"))
            )
        )

    def near(self, service_type: str) -> list[str]:
        """Types of services that may be meant."""
        types = sorted({kind for kind, _ in self._found})
        return near_misses(service_type, types) or types[:10]


ALIASES: Final = {"volumev3": "block-storage", "sharev2": "shared-file-system"}
"""Older types of services, to their official ones (OpenStack's service types authority)."""


@dataclass
class _Account:
    """What is known of an account."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    token: str | None = None
    catalogue: Catalogue | None = None
    at: float = 0.0
    error: PollError | None = None


class Tokens:
    """Tokens of the settings' account and of application credentials.

    Args:
        settings: where Keystone is, and the account.
        endpoints: of which region and interface the endpoints are.
    """

    def __init__(self, settings: Settings, endpoints: Endpoints) -> None:
        self._settings = settings
        self._endpoints = endpoints
        self._accounts: dict[Credential | None, _Account] = {}
        self._lock = threading.Lock()

    @property
    def configured(self) -> bool:
        """Whether the settings name a Keystone."""
        return bool(self._settings.keystone_url)

    def token(self, of: Credential | None) -> str:
        """A token.

        Args:
            of: the application credential; None: the settings' account.

        Raises:
            PollError: Keystone does not answer.
            Permanent: it refuses the account, or the settings name no Keystone.
        """
        return self._known(of, lambda account: account.token is not None)

    def renewed(self, of: Credential | None, refused: str) -> str:
        """Another token, because a service refused this one; threads that it refused get the same new one."""
        return self._known(of, lambda account: account.token not in (None, refused))

    def catalogue(self) -> Catalogue:
        """Keystone's catalogue as the settings' account sees it, at most five minutes old."""
        self._known(None, lambda known: known.token is not None and known.at > time.monotonic() - CATALOGUE_SECONDS)
        found = self._of(None).catalogue
        return found if found is not None else Catalogue([])

    def endpoints(self, service_type: str) -> list[str]:
        """The URLs of a type of service in the catalogue, in the region and interface of polling_endpoints.yaml.

        Raises:
            Permanent: there are none.
        """
        catalogue = self.catalogue()
        interface, region = self._endpoints.interface, self._endpoints.region
        found = catalogue.endpoints(service_type, region, interface)
        if not found and service_type in ALIASES:
            found = catalogue.endpoints(ALIASES[service_type], region, interface)
        if not found:
            near = ", ".join(catalogue.near(service_type))
            of = f"{interface} endpoint" + (f" in the region '{region}'" if region else "")
            raise Permanent(
                f"Keystone's catalogue has no {of} of the type '{service_type}'",
                hint=f"It has: {near}" if near else "It is empty: give the account a role in a project",
            )
        return found

    def projects(self, **wanted: str) -> list[str]:
        """The ids of the projects that the settings' account sees.

        Args:
            wanted: filters of Keystone's list.

        Raises:
            PollError: Keystone does not answer.
            Permanent: it refuses the list, or the settings name no Keystone.
        """
        self.token(None)  # so that logins that fail are not repeated at once
        with _as_poll_errors(), keystone.session(self._settings, LOGIN_SECONDS) as session:
            return [each["id"] for each in session.listed("/projects", "projects", **wanted) if "id" in each]

    def _of(self, of: Credential | None) -> _Account:
        with self._lock:
            return self._accounts.setdefault(of, _Account())

    def _known(self, of: Credential | None, is_good: Callable[[_Account], bool]) -> str:
        account = self._of(of)
        with account.lock:  # one login at a time: the others wait for its token
            if not is_good(account) or account.token is None:
                if account.error is not None and time.monotonic() < account.at + REFUSED_SECONDS:
                    raise account.error
                try:
                    token, described = self._log_in(of)
                except PollError as error:
                    account.error, account.at = error, time.monotonic()
                    raise
                account.token, account.error, account.at = token, None, time.monotonic()
                account.catalogue = Catalogue(described.get("catalog"))
            return account.token

    def _log_in(self, of: Credential | None) -> tuple[str, dict[str, Any]]:
        if not self.configured:
            raise Permanent("no Keystone is configured", hint=f"Set {variable('keystone_url')} and its account")
        if of is None:
            auth, what = keystone.login(self._settings), f"the account {keystone.account(self._settings)}"
        else:
            auth, what = keystone.of_credential(of.id, secret(of.secret_file)), f"the application credential {of.id}"
        with _as_poll_errors(), keystone.session(self._settings, LOGIN_SECONDS) as session:
            return session.granted(auth, what)


@contextmanager
def _as_poll_errors() -> Iterator[None]:
    """Keystone's errors as those of polling."""
    try:
        yield
    except PollError:
        raise
    except Unavailable as error:
        raise PollError(error.what, where=error.where, hint=error.hint) from None
    except MeterhouseError as error:
        raise Permanent(error.what, where=error.where, hint=error.hint) from None
