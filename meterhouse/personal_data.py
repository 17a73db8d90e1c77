"""Finds the personal data of a user in texts, and puts a pseudonym in its place.

The id is replaced wherever it is a word of its own: in a value, within a longer one such as a URL, or in a key. Beside
a field that names the user, the fields that describe a person are emptied too (`RELATED`, `SELF`): those of the same
JSON object with the same prefix, such as `_context_user_name` beside `_context_user_id`. So what a message says of
other people stays, as do its numbers and everything that a meter is made of.

Users that were erased earlier are known by a salted hash of their ids only (`ErasedUsers`).
"""

import functools
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

RELATED: Final = frozenset(
    {
        *("user", "user_name", "username", "user_email", "email", "mail", "user_agent"),
        *("request_id", "global_request_id", "auth_token", "remote_address"),
    }
)
"""Fields that say something of the user whom a field of the same object and prefix names.

The ids of requests are among them: they lead to the person through the logs of the services.
"""

SELF: Final = RELATED | {"name", "full_name", "first_name", "last_name", "display_name", "description", "phone"}
"""Fields of an object that is the user: its `id` is the user's."""

HOST: Final = frozenset({"address", "agent"})
"""Fields of an object `host` or `credential` within one that is the user (CADF's initiator)."""

OWN_IDS: Final = ("id", "resource_info")
"""Keys of the user's id in an object that is the user; the latter is Keystone's basic notification."""

WORD: Final = r"[^\W_]"
"""A character of a word: a letter or digit."""

_ESCAPED: Final = r"\\u(?:00(?:[0-2][0-9a-fA-F]|3[a-fA-F]|[46aA]0|[57][b-fB-F])|20[0-6][0-9a-fA-F])"
"""A character of ASCII that is none of a word, a space or a punctuation mark, as JSON may have it."""

_START, _END = rf"(?:(?<!{WORD})|(?<=\\[nrtbf])|(?<={_ESCAPED}))", rf"(?!{WORD})"

_FIELD: Final = re.compile(r'"((?:[^"\\]|\\.)*)"\s*:\s*"((?:[^"\\]|\\.)*)"', re.DOTALL)

_BROKEN_FIELD: Final = re.compile(r'(\\*)"([^"\\]*)\1"\s*:\s*\1"([^"\\]*)\1"')
"""A field of a text that is no JSON, but may have been, or be in a string of one."""

_ENVELOPED: Final = '"oslo.message"'

_ENVELOPE: Final = re.compile(r'("oslo\.message"\s*:\s*)("(?:[^"\\]|\\.)*")', re.DOTALL)

_SEPARATORS: Final = bytes(each if each >= 128 or chr(each).isalnum() else 32 for each in range(256))

_WORDS: Final = re.compile(f"{WORD}+")

_ESCAPE: Final = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)

_CONTROLS: Final = dict(zip("nrtbf", "\n\r\t\b\f", strict=True))

_HTML: Final = str.maketrans({each: f"\\u{ord(each):04x}" for each in "<>&'"})
"""What JSON may have instead of these, so that it can be put into a page."""

_LEVELS: Final = 2
"""How often a text may be escaped: as JSON, and as JSON in JSON."""

_MEMO: Final = 1 << 17


def is_plain(user_id: str) -> bool:
    """Whether an id is one word of ASCII letters and digits, as those of Keystone are."""
    return user_id.isascii() and user_id.isalnum()


@dataclass(frozen=True)
class Person:
    """A user whose data is erased.

    Args:
        user_id: the id.
        pseudonym: what comes in its place.
        texts: further texts that are personal data of the user, such as a name or an e-mail address: they are replaced
            wherever they are words of their own.
    """

    user_id: str
    pseudonym: str
    texts: tuple[str, ...] = ()

    @cached_property
    def id_forms(self) -> tuple[str, ...]:
        """How the id may be written in a text: as it is, or escaped as in JSON, once or twice."""
        return forms(self.user_id)

    @cached_property
    def needles(self) -> tuple[str, ...]:
        """All texts of which a text that has personal data contains at least one."""
        return tuple(dict.fromkeys(form for text in (self.user_id, *self.texts) for form in forms(text)))

    @cached_property
    def _id(self) -> re.Pattern[str]:
        return words([self.user_id])

    @cached_property
    def _all(self) -> re.Pattern[str]:
        return words([self.user_id, *self.texts])

    def is_in(self, text: str) -> bool:
        """Whether a text has the id or one of the texts, as words of their own."""
        return any(needle in text for needle in self.needles) and self._all.search(text) is not None

    def names(self, text: str) -> bool:
        """Whether a text has the id."""
        return any(form in text for form in self.id_forms) and self._id.search(text) is not None

    def value(self, text: str) -> str:
        """A text that is no JSON, without the id and the texts."""
        if not any(needle in text for needle in self.needles):
            return text
        return self._all.sub(self.pseudonym, text)

    def body(self, text: str) -> str:
        """A JSON text, or what may have been one, without the user's personal data. All else stays as it is."""
        if _ENVELOPED in text and self.is_in(text):
            text = _ENVELOPE.sub(self._message_without, text)
        return self.without(text, self.personal(text))

    def _message_without(self, found: "re.Match[str]") -> str:
        """A message in oslo.messaging's envelope, which is JSON in JSON."""
        try:
            before = json.loads(found[2])
        except ValueError:
            return found[0]
        after = self.body(before)
        return found[0] if after == before else f"{found[1]}{json.dumps(after)}"

    def personal(self, text: str) -> frozenset[tuple[str, str]]:
        """The fields of a JSON text that are personal data of the user: keys and values."""
        if not self.names(text):
            return frozenset()
        try:
            parsed = json.loads(text)
        except (ValueError, RecursionError):
            return frozenset((found[2], found[3]) for found in _BROKEN_FIELD.finditer(text) if _describes(found[2]))
        return frozenset(personal_fields(parsed, self.names))

    def without(self, text: str, fields: frozenset[tuple[str, str]]) -> str:
        """A text without these fields' values, the id and the texts."""
        if not any(needle in text for needle in self.needles):
            return text
        if fields:
            text = _FIELD.sub(functools.partial(self._emptied, fields), text)
            if '\\"' in text:
                text = _BROKEN_FIELD.sub(functools.partial(self._emptied_broken, fields), text)
        return self._all.sub(self.pseudonym, text)

    def _emptied(self, fields: frozenset[tuple[str, str]], found: "re.Match[str]") -> str:
        if (_unescaped(found[1]), _unescaped(found[2])) not in fields:
            return found[0]
        return f'{found[0][: found.start(2) - found.start()]}{self.pseudonym}"'

    def _emptied_broken(self, fields: frozenset[tuple[str, str]], found: "re.Match[str]") -> str:
        if (found[2], found[3]) not in fields:
            return found[0]
        return f'{found[0][: found.start(3) - found.start()]}{self.pseudonym}{found[1]}"'


def forms(text: str) -> tuple[str, ...]:
    """How a text may be written: as it is, and escaped as in JSON, once or twice, with ASCII only or not."""
    found = [text]
    for _ in range(_LEVELS):
        found = list(dict.fromkeys([*found, *(form for each in found for form in _escaped(each))]))
    return tuple(found)


def _escaped(text: str) -> Iterator[str]:
    """How a text may be escaped in JSON: also with what is special in HTML, or a slash, escaped."""
    for ascii_only in (False, True):
        plain = json.dumps(text, ensure_ascii=ascii_only)[1:-1]
        for each in (plain, plain.translate(_HTML), plain.replace("/", "\\/")):
            yield each
            yield re.sub(r"\\u[0-9a-f]{4}", lambda code: "\\u" + code[0][2:].upper(), each)


def _decoded(text: str) -> str:
    """A text in which what is escaped as in JSON is as it was before."""
    found = _ESCAPE.sub(lambda each: chr(int(each[1], 16)) if each[1] else _CONTROLS.get(each[2], each[2]), text)
    return found if found.isascii() else found.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def words(texts: Iterable[str]) -> re.Pattern[str]:
    """What finds these texts, in any of their forms, as words of their own; of two, the longer."""
    found = {form for text in texts for form in forms(text)}
    either = "|".join(re.escape(form) for form in sorted(found, key=len, reverse=True))
    return re.compile(f"{_START}(?:{either}){_END}")


def personal_fields(parsed: Any, names: Callable[[str], bool]) -> set[tuple[str, str]]:
    """The fields that describe the user: their keys and values. Values that are no texts are none of them.

    Args:
        parsed: JSON as Python's values.
        names: whether a text has the user's id.
    """
    found: set[tuple[str, str]] = set()
    waiting: list[Any] = [parsed]
    while waiting:
        each = waiting.pop()
        if isinstance(each, list):
            waiting += each
        elif isinstance(each, dict):
            waiting += each.values()
            _add_fields(each, names, found)
        elif isinstance(each, str) and each[:1] == "{" and names(each):  # JSON in JSON, as oslo.messaging's envelope
            try:
                waiting.append(json.loads(each))
            except (ValueError, RecursionError):
                found.update((key[2], key[3]) for key in _BROKEN_FIELD.finditer(each) if _describes(key[2]))
    return found


def _add_fields(fields: Mapping[str, Any], names: Callable[[str], bool], found: set[tuple[str, str]]) -> None:
    naming = [key for key, value in fields.items() if isinstance(value, str) and names(value)]
    if not naming:
        return
    prefixes = {key[: key.index("user")] for key in naming if "user" in key}
    is_user = any(key in OWN_IDS for key in naming)
    for key, value in fields.items():
        if isinstance(value, str) and value and key not in naming:
            if (is_user and key in SELF) or any(_describes(key, prefix) for prefix in prefixes):
                found.add((key, value))
        elif is_user and isinstance(value, dict) and key in ("host", "credential"):
            found |= {(name, text) for name, text in value.items() if name in HOST and isinstance(text, str) and text}


def _describes(key: str, prefix: str | None = None) -> bool:
    """Whether a field is one of RELATED, after a prefix; None for any prefix."""
    if prefix is not None:
        return key.startswith(prefix) and key[len(prefix) :] in RELATED
    return any(key == name or key.endswith(f"_{name}") for name in RELATED)


def _unescaped(text: str) -> str:
    if "\\" not in text:
        return text
    try:
        return str(json.loads(f'"{text}"', strict=False))
    except ValueError:
        return text


# -- users that were erased -----------------------------------------------------------------------------------


def digest(user_id: str, salt: str) -> str:
    """The hash of an id by which an erased user is known: BLAKE2b of 128 bits, keyed with the salt (hex)."""
    return hashlib.blake2b(user_id.encode("utf-8", "replace"), digest_size=16, key=bytes.fromhex(salt)).hexdigest()


def shape(user_id: str) -> str:
    """The form of an id, by which candidates are found in a text: `w` for each letter or digit, all else as it is."""
    return re.sub(WORD, "w", user_id)


@dataclass(frozen=True)
class ErasedUser:
    """A user whose data was erased.

    Attributes:
        pseudonym: what came in place of the id.
        digest: the hash of the id; see `digest`.
        salt: its key, hex.
        shape: the form of the id; see `shape`.
    """

    pseudonym: str
    digest: str
    salt: str
    shape: str


@dataclass
class ErasedUsers:
    """Users that were erased, found again by the hashes of the words of a text.

    Args:
        users: the users.
    """

    users: Sequence[ErasedUser]
    _known: dict[str, str | None] = field(default_factory=dict, repr=False)

    @cached_property
    def _by_salt(self) -> dict[str, dict[str, str]]:
        found: dict[str, dict[str, str]] = {}
        for user in self.users:
            found.setdefault(user.salt, {})[user.digest] = user.pseudonym
        return found

    @cached_property
    def _lengths(self) -> frozenset[int]:
        """How long the ids are that are one word."""
        return frozenset(len(user.shape) for user in self.users if set(user.shape) == {"w"})

    @cached_property
    def _escapes(self) -> tuple[str, ...]:
        """What a text has in which an id may be escaped so that its form is another one."""
        forms_of = {user.shape for user in self.users}
        return ("\\",) if any(json.dumps(form)[1:-1] != form for form in forms_of) else ("\\u", "\\/")

    @cached_property
    def _patterns(self) -> tuple[re.Pattern[str], ...]:
        """What finds candidates of other forms."""
        made = []
        for form in sorted({user.shape for user in self.users if set(user.shape) != {"w"}}):
            parts = (f"{WORD}{{{len(part)}}}" if part[0] == "w" else re.escape(part) for part in _runs(form))
            made.append(re.compile(f"{_START}(?=({''.join(parts)}){_END})"))
        return tuple(made)

    def pseudonym(self, word: str) -> str | None:
        """The pseudonym of an id; None if it is that of nobody who was erased."""
        if word not in self._known:
            if len(self._known) >= _MEMO:
                self._known.clear()
            found = (of_salt.get(digest(word, salt)) for salt, of_salt in self._by_salt.items())
            self._known[word] = next((each for each in found if each is not None), None)
        return self._known[word]

    def found(self, text: str) -> dict[str, str]:
        """The ids of erased users in a text, as it is or escaped as in JSON, and their pseudonyms."""
        candidates = self._candidates(text)
        for _ in range(_LEVELS):
            if not any(each in text for each in self._escapes):
                break
            text = _decoded(text)
            candidates |= self._candidates(text)
        return {word: name for word in candidates if (name := self.pseudonym(word)) is not None}

    def _candidates(self, text: str) -> set[str]:
        """The words that have the form of an id."""
        # In JSON, a word may follow an escaped line break or tab.
        plain = text.encode("utf-8", "replace")
        if b"\\" in plain:
            plain = re.sub(rb"\\+[nrtbf]", b" ", plain)
        lengths, found = self._lengths, set[str]()
        for word in plain.translate(_SEPARATORS).split():
            if not word.isascii():
                found.update(_WORDS.findall(word.decode("utf-8", "replace")))
            elif len(word) in lengths:
                found.add(word.decode())
        for pattern in self._patterns:
            found.update(match[1] for match in pattern.finditer(text))
        return found

    def body(self, text: str) -> str:
        """A JSON text without the personal data of erased users."""
        for user_id, pseudonym in sorted(self.found(text).items()):
            text = Person(user_id, pseudonym).body(text)
        return text

    def raw(self, text: bytes) -> bytes:
        """A text that came from elsewhere, in whatever encoding, without the personal data of erased users."""
        decoded = text.decode("utf-8", "surrogateescape")
        without = self.body(decoded)
        return text if without is decoded else without.encode("utf-8", "surrogateescape")

    def value(self, text: str) -> str:
        """A text that is no JSON, such as the id of a resource, without the ids of erased users."""
        for user_id, pseudonym in sorted(self.found(text).items()):
            text = Person(user_id, pseudonym).value(text)
        return text


def _runs(form: str) -> list[str]:
    return re.findall(r"w+|[^w]+", form)
