"""The ordering key of an event, read from its payload."""

import msgspec
import pytest

from rig.keys import payload_key


@pytest.mark.parametrize(
    ("path", "payload", "key"),
    [
        ("payload.id", b'{"id":7}', b"7"),
        ("payload.id", b'{"name":"x","id":"a b","more":[1,{"id":2}]}', b'"a b"'),
        ("payload.user.id", b'{"user":{"id":7}}', b"7"),
        ("payload.a.b.c", b'{"a":{"b":{"c":null}}}', b"null"),
        ("payload.user", b'{"user":{"id":7}}', b'{"id":7}'),
        ("payload.class", b'{"class":1}', b"1"),
        ("payload.user-id", b'{"user-id":1}', b"1"),
        ("payload.user.user", b'{"user":{"user":1}}', b"1"),
    ],
)
def test_field_is_the_key(path: str, payload: bytes, key: bytes) -> None:
    """The key is the JSON text of the field, whatever it holds."""
    assert payload_key(path)(msgspec.Raw(payload)) == key


@pytest.mark.parametrize(
    "payload", [b"{}", b"[]", b"null", b"7", b'{"user":7}', b'{"user":null}', b'{"user":{}}', b'{"user":', b""]
)
def test_event_without_the_field_has_no_key(payload: bytes) -> None:
    """Where the field is missing there is no key, and nothing is raised: the event is ordered by its topic."""
    assert payload_key("payload.user.id")(msgspec.Raw(payload)) is None


def test_binary_payload_has_no_key() -> None:
    """A binary payload has no fields, even if its bytes look like JSON."""
    assert payload_key("payload.id")(b'{"id":7}') is None


def test_deep_nesting_is_no_failure() -> None:
    """A payload that is nested too deeply to be read gives no key."""
    assert payload_key("payload.id")(msgspec.Raw(b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}")) is None


def test_invalid_utf8_is_no_failure() -> None:
    """A payload that is no text gives no key."""
    assert payload_key("payload.id")(msgspec.Raw(b'{"\xff":1}')) is None
