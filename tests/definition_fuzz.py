"""Random definition files and messages over the whole dialect of Ceilometer's definitions, good and bad ones.

What is documented as a difference on purpose (docs/ceilometer-differences.md) is not generated.
"""

import random
import string
from typing import Any

from meterhouse.definitions.entries import InvalidEntry
from meterhouse.definitions.meters import compile_meter
from meterhouse.definitions.values import compile_value

Message = dict[str, Any]

EVENT_TYPES = (
    "compute.instance.exists",
    "compute.instance.create.end",
    "image.update",
    "volume.exists",
    "odd",
    "x.y-z",
)
NAMES = ("a", "b", "c", "name", "value", "items", "meta", "size", "when", "text", "flag", "metering.x", "x y", "é")
TEXTS = (
    "",
    "a",
    "b.c.d",
    "5",
    "1.5",
    " 7 ",
    "-3",
    "nan",
    "inf",
    "1e3",
    "0x10",
    "True",
    "ACTIVE",
    "Straße",
    "STRASSE",
    "host#pool@x",
    "x" * 300,
    "2026-01-02 03:04:05.678901",
    "2026-01-02T03:04:05Z",
    "2026-01-02T03:04:05+05:30",
    "2026-01-02T03:04:05.123456789-0330",
    "2026-01-02T03:04:05+05:30:15",
    "20260102T030405Z",
    "20260102",
    "2026-1-2",
    "2026",
    "2026-01-02T24:00:00",
    "2026-01-02 03:04:05,5",
    "2026-01-02 03:04",
    "2026-01-02t03:04:05z",
    "2026-13-02 03:04:05",
    "0001-01-01T00:00:00+05:00",
    "9999-12-31 23:59:59-05:00",
    "2026-01-02 03:04:05 ",
    "2026-W01-1",
    "2015-06-1909:19:35.786893",
    "１２",
)
QUIRKS = (
    "$.payload.items + $.payload.items",
    "$.payload.value + $.payload.c",
    "$.payload.items[*].value + $.payload.items[*].size",
    "$.payload.items[*].value * $.payload.items[*].value",
    "(payload.name)|(payload.a[0])",
    "(payload.items)|(payload.b.`sub(/a/, b)`)",
    "payload.name|items",
    "payload.items|meta.name",
    "payload.items[?value = 2].name",
    "payload.items[?value > 1.5].name",
    "payload.items[?name = cpu & value > 0].size * 2 - 1",
    "payload.items[/name,\\value][0].size",
    "payload.items[*].name.`parent`.value",
    "$.payload.size * 2 - 1 + $.payload.size",
    "payload..name.`len`",
    "payload.text.`sub(/^(.)(.*)$/, \\\\2\\\\1)`",
    "payload.'metering.x'",
    "payload.*.name",
    "$.*.user_id",
)
NUMBERS = (0, 1, 5, -3, 2**31, 2**70, 0.0, 1.5, -2.25, 1e300)


class Generator:
    """Makes definitions and messages from a seed and some real messages to mutate."""

    def __init__(self, seed: int, real: list[Message]) -> None:
        self._random = random.Random(seed)
        self._real = real
        self._paths: list[str] = []
        self._careful = False
        self.renames = True
        """Whether most mutated messages get a type that the definitions mention."""

    # -- messages ---------------------------------------------------------------------------------------------

    def messages(self, count: int) -> list[Message]:
        """Messages, half of them mutated real ones. Expressions that are made from now on also use their fields."""
        made = [self._mutated() if self._random.random() < 0.5 else self._invented() for _ in range(count)]
        self._paths = [path for message in made[:8] for path in _paths_of(message.get("payload"), "payload")][:200]
        return made

    def _mutated(self) -> Message:
        message: Message = _copied(self._random.choice(self._real))
        for _ in range(self._random.choice((0, 0, 1, 2, 5))):
            self._spoil(message)
        if self.renames and self._random.random() < 0.7:
            message["event_type"] = self._random.choice(EVENT_TYPES)
        return message

    def _spoil(self, message: Message) -> None:
        """Replace or remove a part of a message, as often deep in it as at the top."""
        place: Any = message if self._random.random() < 0.3 else message.get("payload")
        while isinstance(place, (dict, list)) and place:
            key = self._random.choice(sorted(place)) if isinstance(place, dict) else self._random.randrange(len(place))
            inner = place[key]
            if isinstance(inner, (dict, list)) and inner and self._random.random() < 0.7:
                place = inner
                continue
            if isinstance(key, str) and key.startswith("_context_"):
                place[key] = self._random.choice(("x", "", None, 5))
            elif isinstance(place, dict) and key != "event_type" and self._random.random() < 0.3:
                del place[key]
            elif place is not message or key in ("payload", "timestamp", "publisher_id"):
                place[key] = self.json(2)
            return

    def _invented(self) -> Message:
        pick = self._random.choice
        message: Message = {
            "message_id": f"m-{self._random.randrange(10**9)}",
            "event_type": pick(EVENT_TYPES),
            "publisher_id": pick(("compute.host-1", "a.b.c", "", None)),
            "priority": pick((*["INFO"] * 8, "info", "Info", "SAMPLE", "ERROR", "error", "WARN", "", "audit")),
            "timestamp": pick(TEXTS) if self._random.random() < 0.2 else "2026-01-02 03:04:05.678901",
            "_context_user_id": pick(("u", "", None)),
            "_context_project_id": pick(("p", None, 7)),
            "_context_tenant": "t",
            "payload": {name: self.json(3) for name in NAMES if self._random.random() < 0.6},
        }
        if self._random.random() < 0.15:
            message["payload"] = pick((None, [], "text", 5, [{"a": 1}], {}))
        if self._random.random() < 0.15:
            del message[pick(("payload", "timestamp", "publisher_id", "priority", "_context_user_id", "message_id"))]
        if isinstance(message.get("payload"), dict) and self._random.random() < 0.7:
            message["payload"]["text"] = pick(("Straße", "STRASSE", "ACTIVE", "b.c.d", "5", "x" * 300))
            message["payload"]["items"] = [
                {"name": pick(("cpu", "ram", "5", 5)), "value": pick((1, 2.5, "3", "x", None, True)), "size": 7}
                for _ in range(self._random.randrange(4))
            ]
            message["payload"]["meta"] = {"metering.a.b": pick(TEXTS), "metering.x": self.json(1), "other": 1}
        return message

    def json(self, depth: int) -> Any:
        """Any JSON value."""
        kind = self._random.randrange(8 if depth else 6)
        if kind <= 2:
            return self._random.choice(TEXTS)
        if kind == 3:
            return self._random.choice(NUMBERS)
        if kind == 4:
            return self._random.choice((None, True, False))
        if kind == 5:
            return self._random.choice((3, 40, "40", 2.5))
        if kind == 6:
            return [self.json(depth - 1) for _ in range(self._random.randrange(4))]
        return {self._random.choice(NAMES): self.json(depth - 1) for _ in range(self._random.randrange(4))}

    # -- expressions ------------------------------------------------------------------------------------------

    def expression(self, depth: int = 0) -> str:
        """A JSONPath, which is usually valid."""
        if self._random.random() < 0.15:
            return self._random.choice(QUIRKS)
        pick, kind = self._random.choice, self._random.randrange(20 if depth < 3 and self._random.random() < 0.6 else 8)
        if kind <= 3 or (kind <= 7 and not self._paths):
            return pick(("", "$.")) + "payload." + ".".join(self._name() for _ in range(pick((1, 1, 1, 2, 3))))
        if kind <= 6:
            return pick(("", "", "$.")) + pick(self._paths)
        if kind == 7:
            return pick(
                (
                    "ctxt.user_id",
                    "$.ctxt.project_id",
                    "publisher_id",
                    "metadata.timestamp",
                    "metadata.message_id",
                    "event_type",
                    "priority",
                    "payload",
                    "$",
                    "$.*",
                    "ctxt.`len`",
                    "ctxt.*",
                    "ctxt.client_timeout",
                    "_context_tenant",
                    "message_id",
                    "payload.items[*].name",
                    "payload.items[*].value",
                    "payload.items.[*].size",
                    "payload.meta",
                    "payload..name",
                )
            )
        return self._compound(kind, depth)

    def _compound(self, kind: int, depth: int) -> str:
        pick = self._random.choice
        inner = self.expression(depth + 1)
        if kind <= 9:
            return inner + pick(
                ("[*]", ".[*]", "[0]", "[-1]", "[5]", "[1:]", "[:2]", "[0:1]", ".*", "['a','b']", "[a,b]")
            )
        if kind == 10:
            return f"{inner}[?{self._condition()}]" + pick(("", ".value", ".name", ".size * 2", ".[*].value", ".`len`"))
        if kind == 11:
            return (
                f"{inner} {pick('+-*')} {pick((self.expression(depth + 1), '2', '-1', '1.5', '100', '_', chr(34) * 2))}"
            )
        if kind == 12:
            return f"{pick(('2', '1.5', chr(39) + 'x-' + chr(39)))} {pick('+-*')} {inner}"
        if kind <= 15:
            return inner + pick(
                (
                    ".`len`",
                    ".`sorted`",
                    ".`parent`",
                    ".`this`",
                    ".`split(., 0, -1)`",
                    ".`split(., 1, 1)`",
                    ".`split(#, 0, 1)`",
                    ".`split(ab, 0, 1)`",
                    ".`sub(/a/, z)`",
                    ".`sub(/.*/, )`",
                    ".`sub(/([a-z])\\\\.([a-z])/, \\\\2-\\\\1)`",
                    ".`parent`.name",
                    ".`sorted`[0]",
                    "[/name]",
                    "[\\value,/name]",
                    ".`keys`",
                )
            )
        if kind == 16:
            return f"({inner})|({self.expression(depth + 1)})" + pick(("", "", ".a", "[0]"))
        if kind == 17:
            return f"{inner}{pick(('|', '..', ' where ', '.', '&'))}{self.expression(depth + 1)}"
        if kind == 18:
            return f"{inner}..{self._name()}"
        return "".join(pick(string.ascii_letters + ".[]*()'`$@ 12+|?=") for _ in range(pick((1, 3, 8))))

    def _name(self) -> str:
        name = self._random.choice(NAMES)
        return name if name.isidentifier() and name.isascii() else self._random.choice((f"'{name}'", f'"{name}"'))

    def _condition(self) -> str:
        pick = self._random.choice
        one = pick(
            ("@.name", "name", "value", "size", "a", "@", "$.name", "@.`len`", "value[0]", "(name)", "a.b", "'x y'")
        )
        test = one + pick(
            ("", "='cpu'", " = cpu", "=5", " == 'ram'", " > 1", " >= 1.5", " != 7", " < x", "=true", " ~ 'c.*'", "=")
        )
        if self._random.random() < 0.25:
            test += " & " + self._condition()
        return f"({test})" if self._random.random() < 0.3 else test

    def value(self, *, plugins: bool = True, constants: bool = True) -> Any:
        """The definition of an attribute, of metadata or of a trait; in a careful file it is valid."""
        while True:
            made = self._any_value(plugins=plugins, constants=constants)
            if not self._careful:
                return made
            try:
                compile_value(made)
            except ValueError:
                continue
            return made

    def _any_value(self, *, plugins: bool, constants: bool) -> Any:
        pick, kind = self._random.choice, self._random.randrange(14)
        if kind <= 7:
            return self.expression()
        if kind == 8:
            return pick((1, 5, True, 0, 1.5, None, "", "B", "packet")) if constants else "B"
        if kind == 9:
            return [self.expression() for _ in range(pick((1, 2, 3)))]
        if kind == 10:
            return pick(([], [None, "payload.a"], {"fields": "payload.a"}, {"field": "x"}, [["payload.a"]], {}))
        fields = (
            [self.expression() for _ in range(pick((1, 2, 2)))] if self._random.random() < 0.7 else self.expression()
        )
        if self._random.random() < 0.4:
            fields = pick(
                ("payload.text", ["payload.when", "payload.text"], ["payload.a", "payload.b"], "payload.items[*].name")
            )
        plugin = self._plugin() if plugins else pick(("split", {"name": "split", "parameters": {"segment": 1}}))
        return {"fields": fields, "plugin": plugin}

    def _plugin(self) -> Any:
        pick = self._random.choice
        parameters: Any = {}
        name = pick(("split", "bitfield", "timedelta", "map", "split", "bitfield", "timedelta", "map", "nope"))
        if name == "split":
            options = {
                "separator": (".", "#", "", None, 5),
                "segment": (0, 1, -1, 9, "1", True),
                "max_split": (None, 1, 0),
            }
            parameters = self._some(options)
        elif name == "bitfield":
            flag = {
                "path": pick((*self._paths[:20], "payload.a", "payload.flag", "$.payload.a")),
                "bit": pick((0, 3, "2")),
            }
            if self._random.random() < 0.5:
                flag["value"] = self.json(0)
            parameters = {"flags": [flag, {"path": "payload.b", "bit": 5}], "initial_bitfield": pick((0, 4, 4))}
        elif name == "map":
            values = {
                pick(TEXTS): 1,
                "active": "on",
                5: "five",
                True: 3,
                "straße": 9,
                "ACTIVE": None,
                "a": pick(NUMBERS),
            }
            parameters = {
                "values": values,
                **self._some({"default": (0, None, "none"), "case_sensitive": (True, False)}),
            }
        if self._random.random() < 0.1:
            parameters = {**parameters, "unknown": 1}
        return pick((name, {"name": name, "parameters": parameters}, {"name": name, "parameters": parameters}))

    def _some(self, options: dict[str, tuple[Any, ...]]) -> dict[str, Any]:
        return {key: self._random.choice(among) for key, among in options.items() if self._random.random() < 0.5}

    # -- definition files -------------------------------------------------------------------------------------

    def meters(self) -> dict[str, Any]:
        """The content of a meters file; one file in four is careless, and full of mistakes."""
        self._careful = self._random.random() < 0.75
        return {"metric": [self.meter() for _ in range(self._random.randrange(1, 12))]}

    def meter(self) -> Any:
        """An entry of a meters file."""
        while True:
            made = self._any_meter()
            if not self._careful:
                return made
            try:
                compile_meter(made)
            except InvalidEntry:
                continue
            return made

    def _any_meter(self) -> Any:
        pick, chance = self._random.choice, self._random.random
        entry: dict[str, Any] = {
            "name": pick(("cpu", "ram", "disk.size", "a_b", "x-y", "m1", "m2", "m3", "payload.name", "payload.a")),
            "event_type": pick(
                (
                    EVENT_TYPES[0],
                    "compute",
                    "image|volume",
                    ".*",
                    list(EVENT_TYPES[1:4]),
                    r"^odd$",
                    "exists",
                    ".*exists",
                    [],
                )
            ),
            "type": pick(("gauge", "gauge", "delta", "cumulative", "Gauge", "payload.a", 5)),
            "unit": pick(("B", "packet/s", "$.payload.text", "payload.text", "%", 5, ["payload.a", "payload.b"])),
            "volume": pick((1, "$.payload.size", 0, 3, True, "1 * 2", self.value(), self.value())),
            "resource_id": pick(("$.payload.name", "$.payload.a + '_' + $.payload.b", self.value())),
        }
        if entry["unit"] == "packet/s" or entry["unit"] == "%":
            entry["unit"] = pick((entry["unit"], "B"))
        lookup = chance() < 0.35
        if lookup:
            entry.update(self._looked_up())
        for name in ("project_id", "user_id", "timestamp"):
            if chance() < 0.4:
                entry[name] = self.value(plugins=not lookup, constants=not lookup)
        if chance() < 0.2:
            entry["timestamp"] = pick(("payload.when", "payload.text", "metadata.timestamp"))
        if chance() < 0.5:
            entry["metadata"] = {pick((*NAMES, "user_metadata", "x")): self.value() for _ in range(pick((0, 1, 2, 4)))}
        if chance() < 0.4:
            entry["user_metadata"] = pick(("payload.meta", "payload.meta", self.value(), "", None))
        if chance() < 0.08:
            del entry[pick(sorted(entry))]
        return entry

    def _looked_up(self) -> dict[str, Any]:
        pick = self._random.choice
        names = [
            "name",
            "type",
            "unit",
            "volume",
            "resource_id",
            "project_id",
            "user_id",
            "timestamp",
            "other",
            "metadata",
        ]
        base = pick(("payload.items[*]", "$.payload.items[*]", "payload.items.[*]", "payload.items[?value]"))
        entry: dict[str, Any] = {
            "name": pick((f"{base}.name", "$.payload.items[*].name", "cpu", f"'n.' + {base}.name", self.expression())),
            "type": pick(("gauge", "gauge", "delta", f"{base}.name", "nope")),
            "unit": pick(("B", f"{base}.name", "payload.text")),
            "volume": pick((f"{base}.value", f"{base}.value * 2", "$.payload.items[*].size", self.expression())),
            "resource_id": pick(("payload.name", f"{base}.name", self.value(plugins=False, constants=False))),
            "lookup": pick(
                ("name", ["name", "volume"], self._random.sample(names, 3), ["volume"], [], "volume", ["type"])
            ),
        }
        if not entry["lookup"]:
            entry["volume"] = "$.payload.size"
        return entry

    def events(self) -> list[Any]:
        """The content of an event definitions file; one file in four is careless, and full of mistakes."""
        self._careful = self._random.random() < 0.75
        return [self.event() for _ in range(self._random.randrange(1, 6))]

    def event(self) -> dict[str, Any]:
        """An entry of an event definitions file."""
        pick = self._random.choice
        globs = (
            *EVENT_TYPES,
            "compute.*",
            "*",
            "*",
            "*",
            "*.exists",
            "!image.*",
            "!*.end",
            "[ci]*",
            "o?d",
            "compute",
            "!*",
        )
        entry: dict[str, Any] = {
            "event_type": pick(globs) if self._random.random() < 0.5 else [pick(globs) for _ in range(pick((1, 2, 3)))],
            "traits": {
                pick(("t1", "t2", "t3", "t4", "t5", "t6", "service", "tenant_id", "user_id")): self.trait()
                for _ in range(self._random.randrange(9))
            },
        }
        return entry

    def trait(self) -> Any:
        """The definition of a trait."""
        pick = self._random.choice
        value = self.value(constants=self._random.random() < 0.2)
        if self._random.random() < 0.6:
            given = value if isinstance(value, dict) else {"fields": value}
            return {"type": pick(("text", "int", "float", "datetime", "INT", "Datetime", "none")), **given}
        return value


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copied(inner) for key, inner in value.items()}
    return [_copied(inner) for inner in value] if isinstance(value, list) else value


def _paths_of(value: Any, path: str) -> list[str]:
    """Paths to the values in a payload."""
    found: list[str] = []
    if isinstance(value, dict):
        for name, inner in value.items():
            step = f"{path}.{name}" if name.isascii() and name.isidentifier() else f"{path}.'{name}'"
            if "'" not in name:
                found += [step, *_paths_of(inner, step)]
    elif isinstance(value, list) and value:
        for step in (f"{path}[0]", f"{path}[*]"):
            found += [step, *_paths_of(value[0], step)]
    return found
