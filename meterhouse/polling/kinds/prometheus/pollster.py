"""Polls Prometheus exporters: the targets that the source's `resources` name, or the pollster's `targets`."""

import ipaddress
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from meterhouse import shipped, yaml_lines
from meterhouse.definitions.entries import Faults
from meterhouse.errors import DefinitionError
from meterhouse.polling.asking import Asking
from meterhouse.polling.asking.addresses import shown_url
from meterhouse.polling.discovery import discover
from meterhouse.polling.kinds.prometheus.exposition import ACCEPT, Malformed, read
from meterhouse.polling.kinds.prometheus.mapping import Mapping, compile_mapping
from meterhouse.polling.kinds.prometheus.samples import Made, make
from meterhouse.polling.kinds.shares import kept_name, share
from meterhouse.polling.polled import Permanent, Piece, Polled, PollError, Rest, Slot
from meterhouse.polling.pollster import Source
from meterhouse.untrusted import printable

FOLDER: Final = "prometheus.d"
"""The folder of mappings, in the configuration folder and among the shipped files."""

KEYS: Final = frozenset({"prometheus", "targets", "timeout", "headers"})
"""Of an entry of pollsters.d, beside those that all kinds have."""

TIMEOUT_SECONDS: Final = 30.0
MAX_WARNINGS: Final = 5


class Exporters:
    """Polls exporters.

    Args:
        mapping: says what becomes of their metrics.
        targets: `HOST:PORT` or URLs, polled where the source names none.
        timeout: seconds that an exporter has for its page.
        headers: to send besides.
    """

    def __init__(
        self, mapping: Mapping, targets: Sequence[str], timeout: float, headers: dict[str, str] | None = None
    ) -> None:
        self.mapping = mapping
        self.targets = tuple(targets)
        self.timeout = timeout
        self.headers = {**(headers or {}), "Accept": ACCEPT}

    def size(self, asking: Asking, source: Source) -> int:
        """The number of exporters."""
        return len(self._targets(asking, source))

    def poll(self, asking: Asking, slot: Slot, piece: Piece, source: Source) -> Polled:
        """Poll the exporters of this piece. Those that fail become a rest, unless all do.

        Raises:
            PollError: none can be polled.
        """
        targets = share(self._targets(asking, source), piece)
        polled = Polled(resources=len(targets))
        failed: list[tuple[str, Exception]] = []
        for target, result in zip(
            targets, asking.each(lambda target: self._one(asking, slot, target), targets), strict=True
        ):
            if isinstance(result, Made):
                polled.samples += result.samples
                polled.warnings += result.warnings(shown_url(target))
            elif isinstance(result, PollError):
                failed.append((target, result))
            else:
                raise result
        if failed and len(failed) == len(targets):
            raise _together([error for _, error in failed])
        if failed:
            error = _together([error for _, error in failed])
            polled.resources -= len(failed)
            polled.rests.append(Rest(Piece(resources=tuple(kept_name(target) for target, _ in failed)), str(error)))
        if len(polled.warnings) > MAX_WARNINGS:
            polled.warnings[MAX_WARNINGS:] = [f"and {len(polled.warnings) - MAX_WARNINGS:,} more warnings"]
        return polled

    def _targets(self, asking: Asking, source: Source) -> list[str]:
        """The exporters: those that the source names and discovers, or the pollster's own."""
        named = [*source.resources, *(target for each in source.discovery for target in discover(asking, each))]
        targets = list(dict.fromkeys(named or self.targets))
        if not targets:
            raise Permanent(
                "there are no exporters to ask", hint=f"Name them in `resources` of the source '{source.name}'"
            )
        return targets

    def _one(self, asking: Asking, slot: Slot, target: str) -> Made:
        url = url_of(target)
        answer = asking.get(url, seconds=asking.seconds(slot, self.timeout), headers=self.headers)
        received = asking.now().replace(tzinfo=None).isoformat()
        names = {"host": _host(url, slot), "target": urlsplit(url).netloc}
        try:
            page = read(answer.body.decode("utf-8"))
            return make(page, self.mapping, names, source=asking.settings.sample_source, received=received)
        except UnicodeDecodeError:
            raise PollError("its page is not UTF-8 text", where=shown_url(url)) from None
        except Malformed as error:
            raise PollError(f"its page is not Prometheus text: {printable(str(error))}", where=shown_url(url)) from None


def url_of(target: str) -> str:
    """The URL of a target, which may be only `HOST:PORT`, as in Prometheus' own configuration."""
    url = target if "://" in target else f"http://{target}"
    return f"{url.rstrip('/')}/metrics" if urlsplit(url).path in ("", "/") and "?" not in url else url


def _host(url: str, slot: Slot) -> str:
    """The host that the exporter tells of: that of the URL, or this one for its own address."""
    host = urlsplit(url).hostname or ""
    if not slot.host:
        return host
    try:
        own = ipaddress.ip_address(host).is_loopback
    except ValueError:
        own = host == "localhost"
    return slot.host if own else host


def _together(errors: Sequence[Exception]) -> PollError:
    """One error of several: the first, and how many more there are."""
    kind = Permanent if all(isinstance(error, Permanent) for error in errors) else PollError
    more = f" (and {len(errors) - 1:,} more exporters failed)" if len(errors) > 1 else ""
    return kind(f"{errors[0]}{more}")


def compile_poll(entry: dict[str, Any], faults: Faults, folder: Path | None) -> Exporters:
    """Compile the keys of an entry of pollsters.d that are this kind's.

    Args:
        entry: its content.
        faults: where faults go.
        folder: the configuration folder, if there is one.
    """
    given = entry["prometheus"]
    mapping = (
        _named(given, faults, folder) if isinstance(given, str) else compile_mapping(given, faults, ("prometheus",))
    )
    targets = entry.get("targets", [])
    if not isinstance(targets, list) or not all(isinstance(target, str) and target for target in targets):
        faults.add(("targets",), "is not a list of exporters: HOST:PORT, or a URL")
        targets = []
    timeout = entry.get("timeout", TIMEOUT_SECONDS)
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or timeout <= 0:
        faults.add(("timeout",), f"{timeout!r} is not a number of seconds above 0")
        timeout = TIMEOUT_SECONDS
    headers = entry.get("headers", {})
    if not isinstance(headers, dict):
        faults.add(("headers",), "is not a mapping of names to values")
        headers = {}
    return Exporters(mapping, targets, float(timeout), {str(key): str(value) for key, value in headers.items()})


def _named(name: str, faults: Faults, folder: Path | None) -> Mapping:
    """The mapping of a file in prometheus.d: the site's own, or the shipped one."""
    places = [place / FOLDER for place in (folder, shipped.DEFAULTS) if place is not None]
    path = next((path for place in places if (path := place / f"{name}.yaml").is_file()), None)
    if path is None or not name.replace("-", "_").isidentifier():
        known = sorted({path.stem for place in places for path in place.glob("*.yaml")})
        faults.add(("prometheus",), f"there is no {FOLDER}/{name}.yaml; there are {', '.join(known)}")
        return Mapping(())
    try:
        content = yaml_lines.read(path)
    except DefinitionError as error:
        faults.add(("prometheus",), str(error))
        return Mapping(())
    inner = Faults()
    mapping = compile_mapping(content, inner)
    for keys, reason in inner.found:
        faults.add(("prometheus",), f"{path}:{_line(content, keys)}: {' '.join(keys)}: {reason}")
    return mapping


def _line(content: Any, keys: Sequence[str]) -> int:
    """The line of the innermost mapping that the keys lead to."""
    line = getattr(content, "line", 1)
    for key in keys:
        try:
            content = content[int(key)] if isinstance(content, list) else content[key]
        except (KeyError, IndexError, ValueError, TypeError):
            break
        line = getattr(content, "line", line)
    return int(line)
