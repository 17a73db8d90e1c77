"""Compiles an entry of pollsters.d: every key of Ceilometer's dynamic pollsters, and those that are ours."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from meterhouse.definitions.entries import Faults, Keys
from meterhouse.errors import shown
from meterhouse.polling.expressions import ANSWER_STEPS, Attribute, Text, compile_attribute, compile_text
from meterhouse.polling.kinds.dynamic.handlers import HANDLERS, HEADERS

NAME: Final = re.compile(r"([\w-]+)(\.[\w-]+)*(\.{[\w-]+})?")
_MULTI_NAME: Final = re.compile(r".*\.{(\w+)}")
_MULTI_VALUE: Final = re.compile(r"\[(\w+)\]((?:\.\w+)+)")

TYPES: Final = ("gauge", "delta", "cumulative")

KEYS: Final = frozenset(
    (
        "authentication_object",
        "authentication_parameters",
        "barbican_secret_id",
        "base_metadata",
        "default_value",
        "discovery",
        "endpoint_type",
        "extra_metadata_fields",
        "extra_metadata_fields_cache_seconds",
        "extra_metadata_fields_skip",
        "headers",
        "host_command",
        "metadata_fields",
        "metadata_mapping",
        "module",
        "name",
        "next_sample_url_attribute",
        "preserve_mapped_metadata",
        "project_id_attribute",
        "resource_id_attribute",
        "response_entries_key",
        "response_handlers",
        "sample_type",
        "skip_sample_values",
        "timeout",
        "timestamp_attribute",
        "unit",
        "url_path",
        "user_id_attribute",
        "value",
        "value_attribute",
        "value_mapping",
    )
)
"""The keys that are compiled here; those of every kind (`namespaces`, `description`, …) are not among them."""

SLOT_NAMES: Final = frozenset({"previous_slot_start", "slot_start", "slot_end", "resource"})
"""Variables of `url_path` and `host_command`: the slot's bounds and the start of the one before (ISO 8601, UTC), and
what discovery found if that is not a URL."""

EXTRA_NAMES: Final = frozenset({"sample", "extra_metadata_captured", "extra_metadata_by_name"})
"""Variables of those of extra metadata."""

MAX_NESTING: Final = 5
"""How many levels deep extra metadata can have extra metadata."""

_DEFAULT_TIMEOUT: Final = 30.0
_DEFAULT_CACHE_SECONDS: Final = 3600.0


@dataclass(frozen=True)
class Api:
    """An API that is not OpenStack's: what authenticates there, and with which credentials."""

    module: str
    authentication_object: str
    authentication_parameters: str
    barbican_secret_id: str


@dataclass(frozen=True)
class Definition:
    """A compiled entry.

    Attributes:
        name: of the meter; of several, that ends with `.{attribute}`, what stands before it.
        sub_name: the attribute that names each of several meters; None for one meter.
        sub_list: the attribute with their list.
        sample_type, unit: of the samples.
        value: of an entry, or of a part of several meters.
        endpoint_type: of OpenStack's service; None: no endpoint is discovered.
        discovery: what is polled of the service, such as `tenant`; None: its endpoints.
        url_path: the path below the endpoint, or the URL of another API.
        host_command: the command that is executed; None: an API is asked.
        api: the API that is not OpenStack's; None: it is.
        headers: that are sent.
        timeout: seconds.
        handlers: names of what reads the answer, in the order in which they are tried.
        entries: where the entries of an answer are; None: under its first key.
        next_url: where the URL of the next page is, or its command; None: there are no pages.
        user_id, project_id, resource_id: where they are, if they are not under these names (`id` for the resource's).
        timestamp: where an entry's time is; None: it is when the answer came.
        metadata: names and where their values are.
        mapping: names of metadata to further names.
        keeps_mapped: whether the names that have further ones stay.
        skipped: values, and names of several meters, that give no sample.
        values: to what values are translated; empty: they are not.
        default: what stands for a value that has no translation.
        extra: what else is asked about each entry.
        extra_skips: entries about which nothing else is asked: mappings that are part of them.
        extra_seconds: for how long answers about entries are kept.
        variables: `base_metadata`: variables of expressions.
    """

    name: str
    sub_name: str | None
    sub_list: str | None
    sample_type: str
    unit: str
    value: Attribute
    endpoint_type: str | None
    discovery: str | None
    url_path: Text | None
    host_command: Text | None
    api: Api | None
    headers: Mapping[str, str]
    timeout: float
    handlers: tuple[str, ...]
    entries: Attribute | None
    next_url: Attribute | None
    user_id: Attribute | None
    project_id: Attribute | None
    resource_id: Attribute | None
    timestamp: Attribute | None
    metadata: tuple[tuple[str, Attribute], ...]
    mapping: Mapping[str, str]
    keeps_mapped: bool
    skipped: Sequence[Any]
    values: Mapping[Any, Any]
    default: Any
    extra: tuple["Definition", ...]
    extra_skips: Sequence[Mapping[str, Any]]
    extra_seconds: float
    variables: Mapping[str, Any] = field(default_factory=dict)


def compile_definition(entry: Mapping[str, Any], faults: Faults) -> Definition | None:
    """Compile an entry.

    Args:
        entry: of pollsters.d.
        faults: where its faults go.

    Returns:
        The definition; None if there are faults that leave none.
    """
    return _Compiler(entry, faults, (), None, 0).made()


class _Compiler:
    """Compiles an entry, or extra metadata of one, which has defaults from its `parent`."""

    def __init__(
        self, entry: Mapping[str, Any], faults: Faults, keys: Keys, parent: Mapping[str, Any] | None, depth: int
    ) -> None:
        self._entry = dict(entry)
        self._faults = faults
        self._keys = keys
        self._depth = depth
        self._is_extra = parent is not None
        if parent is not None:
            for key in ("extra_metadata_fields_skip", "sample_type", "unit"):
                self._entry.setdefault(key, parent.get(key))
            if "extra_metadata_fields_cache_seconds" not in self._entry:
                seconds = parent.get("extra_metadata_fields_cache_seconds")
                self._entry["extra_metadata_fields_cache_seconds"] = seconds
            self._entry.setdefault("value_attribute", self._entry.get("value", parent.get("value_attribute")))
        self._sound = True

    def made(self) -> Definition | None:
        name = self._text("name", required=True)
        if name is not None and not NAME.fullmatch(name):
            self._fault("name", f"{shown(name)} is not a meter's name: letters, digits, - and _, in parts with dots")
        kind = self._text("sample_type", required=True)
        if kind is not None and kind not in TYPES:
            self._fault("sample_type", f"{shown(kind)} is none of {', '.join(TYPES)}")
        unit = self._text("unit", required=True)
        command, module = self._text("host_command"), self._text("module")
        is_openstack = command is None and module is None
        endpoint_type = self._text("endpoint_type", required=is_openstack)
        path = self._text("url_path", required=command is None)
        names = SLOT_NAMES | (EXTRA_NAMES if self._is_extra else frozenset())
        variables = self._mapping("base_metadata") if not self._is_extra else {}
        names |= {str(each) for each in variables}
        api = self._api(module)
        multi = _MULTI_NAME.fullmatch(name) if name is not None else None
        written = self._text("value_attribute", required=True)
        sub_list = None
        if multi is not None and written is not None:
            parts = _MULTI_VALUE.fullmatch(written)
            if parts is None:
                self._fault("value_attribute", f"for several meters it is like [list].value, not {shown(written)}")
            else:
                sub_list, written = parts[1], parts[2][1:]
        value = self._attribute("value_attribute", written)
        made = (name, kind, unit, value)
        next_url = self._attribute("next_sample_url_attribute", self._text("next_sample_url_attribute"), ANSWER_STEPS)
        if command is not None and next_url is not None and not next_url.operations:
            self._fault("next_sample_url_attribute", "the next command would be one that the output has")
        handlers = self._handlers()
        resource_id = self._id("resource_id_attribute", "id")
        known = {
            "discovery": self._text("discovery"),
            "url_path": self._expression("url_path", path, names) if command is None and path is not None else None,
            "host_command": self._expression("host_command", command, names) if command is not None else None,
            "headers": self._headers(),
            "timeout": self._seconds("timeout", _DEFAULT_TIMEOUT, least=0.1),
            "handlers": handlers,
            "entries": self._attribute("response_entries_key", self._text("response_entries_key"), ANSWER_STEPS),
            "next_url": next_url,
            "user_id": self._id("user_id_attribute", "user_id"),
            "project_id": self._id("project_id_attribute", "project_id"),
            "resource_id": resource_id,
            "timestamp": self._attribute("timestamp_attribute", self._text("timestamp_attribute")),
            "metadata": self._metadata(),
            "mapping": self._renamed(),
            "keeps_mapped": self._flag("preserve_mapped_metadata", True),
            "skipped": self._list("skip_sample_values"),
            "values": self._mapping("value_mapping"),
            "default": -1 if self._entry.get("default_value") is None else self._entry["default_value"],
            "extra": self._extra(),
            "extra_skips": self._skips(),
            "extra_seconds": self._seconds("extra_metadata_fields_cache_seconds", _DEFAULT_CACHE_SECONDS, least=0),
        }
        if not self._sound or None in made:
            return None
        assert name is not None
        assert kind is not None
        assert unit is not None
        assert value is not None
        return Definition(
            name=name.rpartition(".")[0] if multi else name,
            sub_name=multi[1] if multi else None,
            sub_list=sub_list,
            sample_type=kind,
            unit=unit,
            value=value,
            endpoint_type=endpoint_type if is_openstack else None,
            api=api,
            variables=variables,
            **known,  # type: ignore[arg-type]  # each of its own type, by name
        )

    def _fault(self, key: str, reason: str) -> None:
        self._sound = False
        self._faults.add((*self._keys, key), reason)

    def _text(self, key: str, *, required: bool = False) -> str | None:
        value = self._entry.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool):
            value = str(value)  # a unit of 1, a path of 2.1
        if value is None or (value == "" and not required):
            if required:
                self._fault(key, "is missing")
            return None
        if not isinstance(value, str):
            self._fault(key, f"{shown(value)} is not a text")
            return None
        if value == "" and key != "unit":
            self._fault(key, "is empty")
            return None
        return value

    def _attribute(self, key: str, text: str | None, steps: int | None = None) -> Attribute | None:
        if text is None:
            return None
        try:
            return compile_attribute(text) if steps is None else compile_attribute(text, steps)
        except ValueError as error:
            self._fault(key, str(error))
            return None

    def _id(self, key: str, own: str) -> Attribute | None:
        text = self._text(key)
        return None if text == own else self._attribute(key, text)

    def _expression(self, key: str, text: str, names: frozenset[str]) -> Text | None:
        try:
            return compile_text(text, names)
        except ValueError as error:
            self._fault(key, str(error))
            return None

    def _mapping(self, key: str) -> dict[Any, Any]:
        value = self._entry.get(key)
        if value is None:
            return {}
        if not isinstance(value, dict):
            self._fault(key, f"{shown(value)} is not a mapping")
            return {}
        return dict(value)

    def _renamed(self) -> dict[str, str]:
        found = self._mapping("metadata_mapping")
        for name, other in found.items():
            if not isinstance(name, str) or not isinstance(other, str):
                self._fault("metadata_mapping", f"{shown(name)}: {shown(other)} are not two names")
                return {}
        return found

    def _list(self, key: str) -> list[Any]:
        value = self._entry.get(key)
        if value is None:
            return []
        if not isinstance(value, list):
            self._fault(key, f"{shown(value)} is not a list")
            return []
        return list(value)

    def _flag(self, key: str, default: bool) -> bool:
        value = self._entry.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            self._fault(key, f"{shown(value)} is neither true nor false")
            return default
        return value

    def _seconds(self, key: str, default: float, *, least: float) -> float:
        value = self._entry.get(key)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value < 1e9:
            self._fault(key, f"{shown(value)} is not a number of seconds from {least:g}")
            return default
        return float(value)

    def _headers(self) -> dict[str, str]:
        value = self._entry.get("headers")
        if value is None:
            return {}
        parts = value if isinstance(value, list) else [value]
        made: dict[str, str] = {}
        for part in parts:
            if not isinstance(part, dict):
                self._fault("headers", f"{shown(part)} is not a mapping of header to value")
                return {}
            for name, content in part.items():
                text = str(content)
                if not re.fullmatch(r"[!#$%&'*+.^_`|~\w-]+", str(name), re.ASCII) or not text.isprintable():
                    self._fault("headers", f"{shown(name)} cannot be sent")
                    return {}
                made[str(name)] = text
        return made

    def _handlers(self) -> tuple[str, ...]:
        value = self._entry.get("response_handlers")
        if value is None:
            return ("json",)
        names = (*HANDLERS, *HEADERS)
        if not isinstance(value, list) or not value:
            self._fault("response_handlers", f"{shown(value)} is not a list of {', '.join(names)}")
            return ("json",)
        for each in value:
            if each not in names:
                self._fault("response_handlers", f"{shown(each)} is none of {', '.join(names)}")
        if HEADERS[0] in value and len(value) > 1:
            self._fault("response_handlers", "headers can be read alone only")
        return tuple(str(each) for each in value)

    def _metadata(self) -> tuple[tuple[str, Attribute], ...]:
        made = []
        for text in self._list("metadata_fields"):
            if not isinstance(text, str):
                self._fault("metadata_fields", f"{shown(text)} is not a text")
                continue
            attribute = self._attribute("metadata_fields", text)
            if attribute is not None:
                made.append((text, attribute))
        return tuple(made)

    def _skips(self) -> list[Mapping[str, Any]]:
        skips = self._list("extra_metadata_fields_skip")
        for each in skips:
            if not isinstance(each, dict):
                self._fault("extra_metadata_fields_skip", f"{shown(each)} is not a mapping")
                return []
        return [each for each in skips if each]

    def _extra(self) -> tuple[Definition, ...]:
        found = self._entry.get("extra_metadata_fields")
        if not found:
            return ()
        if self._depth == MAX_NESTING:
            self._fault("extra_metadata_fields", f"is more than {MAX_NESTING} levels deep")
            return ()
        made = []
        several = found if isinstance(found, list) else [found]
        for place, each in enumerate(several):
            where = ("extra_metadata_fields", str(place)) if isinstance(found, list) else ("extra_metadata_fields",)
            if not isinstance(each, dict):
                self._sound = False
                self._faults.add((*self._keys, *where), f"{shown(each)} is not a mapping")
                continue
            inner = _Compiler(each, self._faults, (*self._keys, *where), self._entry, self._depth + 1).made()
            if inner is None:
                self._sound = False
            else:
                made.append(inner)
        return tuple(made)

    def _api(self, module: str | None) -> Api | None:
        if module is None or self._text("host_command") is not None:
            return None
        name = self._text("authentication_object", required=True)
        parameters, secret = self._text("authentication_parameters"), self._text("barbican_secret_id")
        if parameters is None and secret is None:
            self._fault("authentication_parameters", "is missing, and barbican_secret_id too")
        if name is None:
            return None
        return Api(module, name, parameters or "", secret or "")
