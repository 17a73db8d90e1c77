"""The API of a site, as its clients see it."""

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar

from meterhouse.verifying.findings import Failed

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")

AGAIN_SECONDS: Final = 0.5
"""How long to wait before the same is asked again."""

ANSWER_SECONDS: Final = 30.0


class Api:
    """The API of a site.

    Args:
        client: talks HTTP to it.
        seconds: how long to wait for what has to arrive.

    Attributes:
        headers: say who asks.
        renew: gets new headers, after a 401; None if there is no way.
    """

    def __init__(self, client: "httpx.Client", seconds: float) -> None:
        self._client, self.seconds = client, seconds
        self.headers: Mapping[str, str] = {}
        self.renew: Callable[[], Mapping[str, str]] | None = None

    @property
    def url(self) -> str:
        """Its address."""
        return str(self._client.base_url).rstrip("/")

    def send(self, method: str, path: str, **how: Any) -> "httpx.Response":
        """An answer, whatever its status is.

        Raises:
            Failed: there is none.
        """
        import httpx

        try:
            answer = self._client.request(method, path, headers=dict(self.headers), **how)
            if answer.status_code == 401 and self.renew is not None:
                self.headers = self.renew()
                answer = self._client.request(method, path, headers=dict(self.headers), **how)
        except httpx.HTTPError as error:
            raise Failed(
                f"{self.url} does not answer: {str(error) or type(error).__name__}",
                "Start `meterhouse api`, and check --api",
            ) from None
        return answer

    def ask(self, path: str, params: Any = None) -> Any:
        """The content of an answer; None if there is no such thing (404).

        Raises:
            Failed: the status is another than 200.
        """
        answer = self.send("GET", path, params=params)
        if answer.status_code == 404:
            return None
        if answer.status_code != 200:
            raise Failed(f"GET {path} was answered {answer.status_code}: {text_of(answer)}")
        return content_of(answer, f"GET {path}")

    def until(self, wanted: Callable[[], T | None], meanwhile: Callable[[], None] = lambda: None) -> T | None:
        """What `wanted` returns once it returns anything; None if it has not until the time is over.

        Errors that come meanwhile do not count, unless they last until then.
        """
        end = time.monotonic() + self.seconds
        while True:
            meanwhile()
            try:
                found = wanted()
            except Failed:
                if time.monotonic() >= end:
                    raise
                found = None
            if found is not None or time.monotonic() >= end:
                return found
            time.sleep(AGAIN_SECONDS)


def q(*conditions: tuple[str, str, str]) -> list[tuple[str, str]]:
    """Conditions (field, operator, value) as parameters of Ceilometer's simple queries."""
    return [
        (f"q.{part}", value) for each in conditions for part, value in zip(("field", "op", "value"), each, strict=True)
    ]


def content_of(answer: "httpx.Response", what: str) -> Any:
    """The JSON of an answer.

    Raises:
        Failed: it is none.
    """
    try:
        return answer.json()
    except ValueError:
        raise Failed(
            f"{what} was answered with something that is not JSON: {answer.text[:60]!r}",
            "Check --api: another server may answer there",
        ) from None


def text_of(answer: "httpx.Response") -> str:
    """The sentence of an error."""
    try:
        return str(answer.json()["error_message"]["faultstring"])[:500]
    except (ValueError, KeyError, TypeError):
        return answer.text[:200]
