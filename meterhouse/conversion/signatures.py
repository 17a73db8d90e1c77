"""Signatures of polled samples: HMAC-SHA256 with a secret that the polling agents share.

The form is that of Ceilometer's `[publisher] telemetry_secret` (once `metering_secret`), field `message_signature`: the
hex digest over the sample's names and values as text, without separators. Keys are sorted at each level; those of
nested mappings are joined with `:`. A value is the result of Python's `str`. In a list, texts are bytes first
(`[b'a', 1, None]`). The signature itself is left out.
"""

import hmac
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

FIELD: Final = "message_signature"
"""The field that holds a sample's signature."""


def signature(sample: Mapping[Any, Any], secret: str) -> str:
    """The signature that a sample should have, 64 hex digits; `secret` is not empty.

    Raises:
        UnicodeEncodeError: a text has a lone surrogate; Ceilometer signs no such sample.
        RecursionError: the sample is nested several hundred levels deep.
        TypeError: the keys of a mapping cannot be sorted, which cannot happen with JSON.
    """
    return hmac.digest(secret.encode(), canonical(sample).encode(), "sha256").hex()


def canonical(sample: Mapping[Any, Any]) -> str:
    """The text of a sample that is signed; for what cannot be signed see `signature`."""
    parts: list[str] = []
    _add(sample, "", parts)
    return "".join(parts)


def is_valid(sample: Any, secret: str) -> bool:
    """Whether a sample has a valid signature. False if it has none, or cannot be signed."""
    given = sample.get(FIELD) if isinstance(sample, dict) else None
    if not isinstance(given, str):
        return False
    try:
        wanted = signature(sample, secret)
    except (UnicodeEncodeError, RecursionError, TypeError):
        return False
    return hmac.compare_digest(wanted.encode(), given.encode("utf-8", "replace"))


def unsigned(samples: Sequence[Any], secret: str, as_sent: Callable[[], Sequence[Any]]) -> list[int]:
    """The indexes of the samples in a batch that have no valid signature.

    Args:
        samples: the samples as they are converted.
        secret: the secret, not empty.
        as_sent: returns the same batch as Python's own `json` reads it from the message. It is called if a signature
            is wrong, because reading for conversion removes or rounds values that were signed (NUL characters, integers
            of more than 64 bits). If it raises ValueError or RecursionError, the signatures are wrong.
    """
    wrong = [at for at, sample in enumerate(samples) if not is_valid(sample, secret)]
    if not wrong:
        return []
    try:
        sent = as_sent()
    except (ValueError, RecursionError):
        return wrong
    return [at for at in wrong if not (at < len(sent) and is_valid(sent[at], secret))]


def signed_again(before: str, after: str, secret: str) -> str:
    """The JSON text of a message that was changed, in which those samples are signed again that were before.

    Args:
        before: the message as it came.
        after: as it is now, with the same samples.
        secret: the secret; empty if there is none, and nothing is signed.
    """
    if not secret or FIELD not in after:
        return after
    try:
        sent, changed = (_samples(json.loads(text)) for text in (before, after))
    except (ValueError, RecursionError):
        return after
    for old, new in zip(sent, changed, strict=False):
        if old != new and is_valid(old, secret):
            after = after.replace(f'"{old[FIELD]}"', f'"{signature(new, secret)}"')
    return after


def _samples(message: Any) -> list[Any]:
    payload = message.get("payload") if isinstance(message, dict) else None
    samples = payload.get("samples") if isinstance(payload, dict) else payload
    return samples if isinstance(samples, list) else []


def as_json(sample: Any) -> bytes:
    """A sample as JSON, for a dead letter. If it is nested too deeply, without its nested values."""
    try:
        return json.dumps(sample).encode()
    except RecursionError:
        fields = sample.items() if isinstance(sample, dict) else ()
        return json.dumps({name: value for name, value in fields if not isinstance(value, (dict, list))}).encode()


def _add(mapping: Mapping[Any, Any], prefix: str, parts: list[str]) -> None:
    for name in sorted(mapping):
        value = mapping[name]
        if type(value) is str and prefix:  # what nearly all are
            parts.append(prefix + name + value)
        elif isinstance(value, dict):
            _add(value, f"{prefix}{name}:", parts)
        elif prefix or name != FIELD:
            parts.append(f"{prefix}{name}{_in_list(value) if isinstance(value, (list, tuple)) else value}")


def _in_list(value: Any) -> Any:
    """A value in a list, with texts as bytes and mappings sorted by key."""
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, (list, tuple)):
        return [_in_list(each) for each in value]
    if isinstance(value, dict):
        return {_in_list(name): _in_list(value[name]) for name in sorted(value)}
    return value
