"""What of a text is personal data of a user, and what is not."""

import json
from typing import Any

import pytest

from meterhouse.personal_data import ErasedUser, ErasedUsers, Person, digest, shape

ANA, BOB = "b0a1c2d3e4f5061728394a5b6c7d8e9f", "0f1e2d3c4b5a69788796a5b4c3d2e1f0"
SALT = "00112233445566778899aabbccddeeff"


def erased(message: Any, *texts: str) -> Any:
    """A message without Ana, who becomes X."""
    return json.loads(Person(ANA, "X", texts).body(json.dumps(message)))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"_context_user_id": ANA, "_context_user_name": "ana"}, {"_context_user_id": "X", "_context_user_name": "X"}),
        ({"_context_user_id": BOB, "_context_user_name": "ana"}, None),
        ({"_context_user_identity": f"{ANA} p - -", "_context_request_id": "req-1"}, {
            "_context_user_identity": "X p - -", "_context_request_id": "X"
        }),
        ({"payload": {"user_id": ANA, "display_name": "web", "email": "a@b.c"}}, {
            "payload": {"user_id": "X", "display_name": "web", "email": "X"}
        }),
        ({"_context_user_id": BOB, "_context_user_name": "bob", "payload": {"user_id": ANA}}, {
            "_context_user_id": BOB, "_context_user_name": "bob", "payload": {"user_id": "X"}
        }),
        ({"initiator": {"id": ANA, "name": "Ana", "host": {"address": "::1"}}, "target": {"id": "t", "name": "n"}}, {
            "initiator": {"id": "X", "name": "X", "host": {"address": "X"}}, "target": {"id": "t", "name": "n"}
        }),
        ({"samples": [{"user_id": ANA, "user_name": "ana"}, {"user_id": BOB, "user_name": "bob"}]}, {
            "samples": [{"user_id": "X", "user_name": "X"}, {"user_id": BOB, "user_name": "bob"}]
        }),
        ({"url": f"/v3/users/{ANA}?x", "key": f"user_{ANA}", "line": f"a\n{ANA}", ANA: 1}, {
            "url": "/v3/users/X?x", "key": "user_X", "line": "a\nX", "X": 1
        }),
        ({"id": f"{ANA}0", "other": f"a{ANA}"}, None),
        ({"numbers": [1e300, 12345678901234567890123, -0.0, True, None], "user": ANA}, {
            "numbers": [1e300, 12345678901234567890123, -0.0, True, None], "user": "X"
        }),
    ],
)  # fmt: skip
def test_what_describes_the_user_is_replaced_and_nothing_else(before: Any, after: Any) -> None:
    assert erased(before) == (before if after is None else after)


def test_further_texts_are_replaced_wherever_they_are_words() -> None:
    message = {"a": "Ana Łopez's", "b": "Ana Łopezova", "c": {"mails": ["ana@example.com", "jana@example.com"]}}
    wanted = {"a": "X's", "b": "Ana Łopezova", "c": {"mails": ["X", "jana@example.com"]}}
    assert erased(message, "Ana Łopez", "ana@example.com") == wanted
    raw = json.dumps(message, ensure_ascii=False)
    assert json.loads(Person(ANA, "X", ("Ana Łopez", "ana@example.com")).body(raw)) == wanted


def test_messages_in_envelopes_and_broken_ones_are_erased_too() -> None:
    message = json.dumps({"_context_user_id": ANA, "_context_user_name": 'ana "the" first'})
    envelope = json.dumps({"oslo.version": "2.0", "oslo.message": message})
    person = Person(ANA, "X")
    assert json.loads(json.loads(person.body(envelope))["oslo.message"])["_context_user_name"] == "X"
    for broken in (f'{{"user_id": "{ANA}", "user_name": "ana", ', rf"{{\"user_name\": \"ana\", \"user_id\": \"{ANA}"):
        without = person.body(broken)
        assert "ana" not in without
        assert ANA not in without


@pytest.mark.parametrize(
    "user_id",
    [ANA, "user-17", "CORP\\ana", "o'neil/7", 'ana "x"', "ana@example.com", "Łukasz", "0b6f2c1e-2f6e-4f39-9d0c"],
)
def test_an_erased_user_is_known_by_the_hash_of_the_id(user_id: str) -> None:
    user = ErasedUser("X", digest(user_id, SALT), SALT, shape(user_id))
    assert user_id not in json.dumps(vars(user))
    users = ErasedUsers([ErasedUser("Y", digest("somebody", SALT), SALT, shape("somebody")), user])
    message = {"user_id": user_id, "user_name": "n", "url": f"/users/{user_id}/x", "near": f"{user_id}0", "o": BOB}
    found = json.loads(users.body(json.dumps(message, ensure_ascii=False)))
    assert found == {**message, "user_id": "X", "user_name": "X", "url": "/users/X/x"}
    text = json.dumps({"user_id": user_id, "line": f"<{user_id}>, \u201c{user_id}\u201d"})
    html = "".join({each: f"\\u{ord(each):04X}" for each in "<>'"}.get(each, each) for each in text)
    for written in (text, html, text.replace("/", "\\/")):
        for whole in (written, json.dumps({"in": written})):
            for without in (users.body(whole), Person(user_id, "X").body(whole)):
                read = json.loads(without)
                assert json.loads(read.get("in", without)) == {"user_id": "X", "line": "<X>, \u201cX\u201d"}
    assert users.raw(b"\xff" + user_id.encode()) == b"\xffX"
    assert users.value(f"account/{user_id}") == "account/X"
    assert users.body(untouched := '{"user_id": "nobody"}') is untouched
