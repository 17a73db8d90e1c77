"""Gets credentials from Barbican, OpenStack's store of secrets ("Get a secret's payload" of its API)."""

from urllib.parse import quote

from meterhouse.polling.asking.addresses import joined, shown_url
from meterhouse.polling.asking.asking import Asking
from meterhouse.polling.polled import PollError

SERVICE_TYPE = "key-manager"


def barbican_secret(asking: Asking, secret_id: str, seconds: float) -> str:
    """The payload of a secret.

    Raises:
        PollError: it cannot be got.
    """
    url = joined(asking.tokens.endpoints(SERVICE_TYPE)[0], f"/v1/secrets/{quote(secret_id, safe='')}/payload")
    answer = asking.get(url, seconds=seconds, headers={"Accept": "text/plain, */*;q=0.5"})
    try:
        return answer.body.decode().strip()
    except ValueError:
        raise PollError("the secret is not a text", where=shown_url(url)) from None
