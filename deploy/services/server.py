"""The interface of a server: what each file in `servers/` provides."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple
from urllib.parse import SplitResult, urlsplit

from processes import Spawned
from record import Folder


@dataclass
class Starting:
    """A server that was started but does not answer yet: the variables it will have, and its process."""

    env: dict[str, str]
    spawned: Spawned


class Listener(NamedTuple):
    """A second port of a server: its URL, with `{port}`, and the port in compose.yaml."""

    url: str
    container_port: int


class Server(ABC):
    """One kind of server: how to find its programs, start it, and ask whether it answers."""

    name: ClassVar[str]  # on the command line, in the record and in compose.yaml
    kind: ClassVar[str] = "a running server"  # that the user can name in the environment instead
    variables: ClassVar[tuple[str, ...]]  # that lead to it; the first holds its URL or path
    packages: ClassVar[tuple[str, ...]]  # of Debian
    uses: ClassVar[tuple[str, ...]] = ()  # programs that it does without if need be; each in a package of its name
    needs: ClassVar[tuple[str, ...]] = ()  # the servers that it runs on; `Folder.available` has their variables
    on_request: ClassVar[bool] = False  # whether it is started only where --only names it

    @abstractmethod
    def find(self) -> Path | None:
        """Return where the server's programs are on this machine; None if one is missing."""

    @abstractmethod
    def start(self, folder: Folder, found: Path) -> Starting | None:
        """Start the server from what `find` returned.

        Returns None if there is nothing to wait for; the service is then recorded already.

        Raises:
            ServiceError: the server cannot be started.
        """

    @abstractmethod
    def answers(self, env: dict[str, str]) -> bool:
        """Return whether the server that these variables lead to is ready."""


class Daemon(Server):
    """A server that runs in the background and listens on a port."""

    container_port: ClassVar[int | None]  # in compose.yaml; None if it is not there
    further: ClassVar[dict[str, Listener]] = {}  # variable → what else it listens for; a server of the user's may not

    @abstractmethod
    def env(self, port: int) -> dict[str, str]:
        """Return the variables that lead to a server on this loopback port."""

    @abstractmethod
    def responds(self, url: SplitResult) -> bool:
        """Return whether the server at a URL is ready."""

    def answers(self, env: dict[str, str]) -> bool:
        url = urlsplit(env[self.variables[0]])
        if not url.hostname:
            return True  # a folder of sockets or a service name, which only the client library can check
        return self.responds(url)
