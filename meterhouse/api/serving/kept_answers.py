"""Answers that are kept, to be given again while nothing that they are made of has changed."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Final

from meterhouse.api.serving.store_states import state_of
from meterhouse.site import Site

BYTES: Final = 64 << 20
"""How many bytes of answers are kept."""

ENTRY: Final = 1_000
"""About how many bytes an answer takes besides its text and its question."""


_Key = tuple[bytes, Hashable]


class KeptAnswers:
    """Answers that are kept, those that were asked for last.

    Args:
        site: that the answers are of.
        limit: how many bytes are kept.
    """

    def __init__(self, site: Site, limit: int = BYTES) -> None:
        self._site, self._limit = site, limit
        self._answers: OrderedDict[_Key, tuple[Hashable, bytes]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def of(self, question: bytes, asker: Hashable, make: Callable[[], bytes]) -> bytes:
        """The answer to a question: a kept one, or one that is made, and kept.

        The stores' state is looked at before: so an answer that is given is never older than its request, and one that
        is kept never newer than the state that it is kept for.

        Args:
            question: all that the answer depends on besides the site and who asks.
            asker: who asks.
            make: makes the answer.
        """
        state, key = state_of(self._site), (question, asker)
        with self._lock:
            known = self._answers.get(key)
            if known is not None and known[0] == state:
                self._answers.move_to_end(key)
                return known[1]
        found = make()
        size = len(found) + len(question) + ENTRY
        if 8 * size <= self._limit:
            with self._lock:
                self._forget(key)
                self._answers[key] = (state, found)
                self._bytes += size
                while self._bytes > self._limit:
                    self._forget(next(iter(self._answers)))
        return found

    @property
    def bytes(self) -> int:
        """How many bytes are kept."""
        return self._bytes

    def _forget(self, key: _Key) -> None:
        gone = self._answers.pop(key, None)
        if gone is not None:
            self._bytes -= len(gone[1]) + len(key[0]) + ENTRY
