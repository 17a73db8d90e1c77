"""Looks up more metadata about entries: by definitions within the definition, whose answers are kept for a while."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from meterhouse.polling.asking import Asking
from meterhouse.polling.discovery import endpoints
from meterhouse.polling.expressions import ExpressionError
from meterhouse.polling.kinds.dynamic.definition import Definition
from meterhouse.polling.kinds.dynamic.extraction import Extraction, Unusable
from meterhouse.polling.kinds.dynamic.gathering import Gathering, this_host
from meterhouse.polling.kinds.dynamic.warnings import Warnings
from meterhouse.polling.polled import PollError

Known = tuple[tuple[str, Any, Mapping[str, Any]], ...]
"""Name, value and metadata of each entry of an answer about an entry."""

MAX_KEPT: Final = 50_000
"""How many answers are kept; of more, those that were not used for the longest time are dropped."""

MAX_PAGES: Final = 100


class Kept:
    """Answers that are kept for a while. Threads that want the same one wait for the first that asks."""

    def __init__(self) -> None:
        self._answers: OrderedDict[tuple[object, ...], tuple[float, Future[Known]]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: tuple[object, ...], seconds: float, ask: Callable[[], Known]) -> Known:
        """An answer: one that is kept, or a new one.

        Args:
            key: of the answer.
            seconds: for how long a new one is kept; 0: it is not.
            ask: returns a new one.

        Raises:
            PollError: it cannot be asked.
        """
        if seconds <= 0:
            return ask()
        now = time.monotonic()
        with self._lock:
            known = self._answers.get(key)
            is_new = known is None or (known[0] <= now and known[1].done())
            if known is None or is_new:
                known = self._answers[key] = now + seconds, Future()
                while len(self._answers) > MAX_KEPT:
                    self._answers.popitem(last=False)
            self._answers.move_to_end(key)
        future = known[1]
        if is_new:
            try:
                future.set_result(ask())
            except BaseException as error:
                with self._lock:
                    if self._answers.get(key) is known:
                        del self._answers[key]
                future.set_exception(error)
        return future.result()


class ExtraMetadata:
    """Looks extra metadata up by the definitions of a pollster. It is used by several threads at the same time.

    Args:
        definition: of the pollster, or of extra metadata that itself has some.
        kept: answers that are kept.
    """

    def __init__(self, definition: Definition, kept: Kept) -> None:
        self._parts = tuple(
            (part, Extraction(part), ExtraMetadata(part, kept) if part.extra else None) for part in definition.extra
        )
        self._endpoint_type = definition.endpoint_type
        self._kept = kept

    def of(
        self,
        entries: list[dict[str, Any]],
        asking: Asking,
        seconds: Callable[[float], float],
        endpoint: str,
        warnings: Warnings,
    ) -> list[Mapping[str, Any]]:
        """The extra metadata of each entry. What cannot be looked up is left out, with a warning.

        Args:
            entries: with `metadata`.
            asking: what to ask with.
            seconds: returns how long a request may take, from a definition's limit.
            endpoint: that the entries are of.
            warnings: where warnings go.
        """

        def looked_up(entry: dict[str, Any]) -> tuple[Mapping[str, Any], Warnings]:
            own = Warnings()
            return self._of_entry(entry, _One(asking, seconds, endpoint, own)), own

        made: list[Mapping[str, Any]] = []
        for each in asking.each(looked_up, entries):
            if isinstance(each, Exception):
                raise each
            made.append(each[0])
            warnings.merge(each[1])  # in the order of the entries, whoever was answered first
        return made

    def _of_entry(self, entry: dict[str, Any], one: "_One") -> Mapping[str, Any]:
        captured: dict[str, Any] = {}
        by_name: dict[str, Any] = {}
        for part, extraction, inner in self._parts:
            if any(_is_part(skip, entry) for skip in part.extra_skips):
                continue
            variables = {"sample": entry, "extra_metadata_captured": captured, "extra_metadata_by_name": by_name}
            gathering = Gathering(part, one.asking, one.seconds, variables)
            try:
                known = self._known(part, extraction, inner, gathering, one)
            except (PollError, Unusable) as error:
                one.warnings.add(f"extra metadata '{part.name}': {error}", entry.get("id"))
                continue
            for name, value, metadata in known:
                captured[name] = value
                for key, each in metadata.items():
                    if each is not None or key not in captured:
                        captured[key] = each
                by_name[name] = {"value": value, "metadata": metadata}
        return captured

    def _known(
        self,
        part: Definition,
        extraction: Extraction,
        inner: "ExtraMetadata | None",
        gathering: Gathering,
        one: "_One",
    ) -> Known:
        made: list[tuple[str, Any, Mapping[str, Any]]] = []
        for endpoint in self._endpoints(part, one):
            key = (id(part), gathering.identity(endpoint))
            ask = partial(self._asked, part, extraction, inner, gathering, one, endpoint)
            made += self._kept.get(key, part.extra_seconds, ask)
        return tuple(made)

    def _endpoints(self, part: Definition, one: "_One") -> list[str]:
        if part.endpoint_type is None:
            return [this_host()]
        if part.endpoint_type == self._endpoint_type:
            return [one.endpoint]
        return endpoints(one.asking, part.endpoint_type)

    def _asked(
        self,
        part: Definition,
        extraction: Extraction,
        inner: "ExtraMetadata | None",
        gathering: Gathering,
        one: "_One",
        endpoint: str,
    ) -> Known:
        made = []
        for number, page in enumerate(gathering.pages(endpoint)):
            if number == MAX_PAGES:
                raise PollError(f"it has more than {MAX_PAGES} pages")
            for entry in page.entries:
                try:
                    missing = extraction.prepare(entry)
                    found = [(name, value, extraction.metadata(entry)[0]) for name, value in extraction.meters(entry)]
                except ExpressionError as error:
                    raise Unusable(str(error)) from None
                if missing is not None:
                    one.warnings.add(f"extra metadata '{part.name}': {missing}", entry.get("id"))
                if inner is not None and found:
                    entry["metadata"] = found[-1][2]
                    more = inner.of([entry], one.asking, one.seconds, endpoint, one.warnings)[0]
                    for _, _, metadata in found:
                        for key, value in more.items():
                            metadata.setdefault(key, value)
                made += found
        return tuple(made)


@dataclass(frozen=True)
class _One:
    """What is the same for all that is looked up for an entry."""

    asking: Asking
    seconds: Callable[[float], float]
    endpoint: str
    warnings: Warnings


def _is_part(skip: Any, entry: Any) -> bool:
    """Whether an entry has all that a mapping of `extra_metadata_fields_skip` has, at each level."""
    if skip == entry:
        return True
    if not isinstance(skip, dict) or not isinstance(entry, dict):
        return False
    return all(key in entry and _is_part(value, entry[key]) for key, value in skip.items())
