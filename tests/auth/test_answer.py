"""What commands print about tokens."""

import json

import pytest

from rig.auth.answer import read_answer
from rig.errors import TokenUnavailable

NOW = 1_000_000.0


def read(output):
    text = output if isinstance(output, bytes) else (output if isinstance(output, str) else json.dumps(output)).encode()
    return read_answer(text, provider="command:test", now=NOW)


def test_text_alone_is_the_token():
    """As `gcloud auth print-access-token` prints it."""
    token = read("hunter2\n")

    assert (token.value, token.expires_at) == ("hunter2", None)


def test_a_json_string_is_the_token():
    """As `az … --query accessToken` prints it."""
    assert read('"hunter2"\n').value == "hunter2"


@pytest.mark.parametrize("field", ["token", "access_token", "id_token"])
def test_the_token_is_a_field_of_an_object(field):
    """Each of the three names is known."""
    assert read({field: "hunter2", "more": 1}).value == "hunter2"


@pytest.mark.parametrize(
    ("fields", "end"),
    [
        ({"expires_in": 60}, NOW + 60),
        ({"expires_in": "60"}, NOW + 60),
        ({"expires_at": 2_000_000}, 2_000_000),
        ({"expires_at": 1_700_000_000_000}, 1_700_000_000),
        ({"expires_at": "1700000000"}, 1_700_000_000),
        ({"expiry": "2023-11-14T22:13:20Z"}, 1_700_000_000),
        ({"expiration": "2023-11-14T23:13:20+01:00"}, 1_700_000_000),
        ({"expiration": "2023-11-14T22:13:20.500Z"}, 1_700_000_000.5),
        ({"expiry": "2023-11-14 22:13:20"}, 1_700_000_000),
        ({"expires_in": 60, "expires_at": 2_000_000}, NOW + 60),
        ({"expires_in": -5}, NOW - 5),
        ({}, None),
        ({"expires_in": True}, None),
        ({"expires_in": None}, None),
        ({"expires_at": "soon"}, None),
        ({"expires_at": "nan"}, None),
        ({"expires_at": [1]}, None),
        ({"expires_at": 10**400}, None),
    ],
    ids=str,
)
def test_the_end_is_read_in_every_usual_form(fields, end):
    """Seconds from now, seconds or milliseconds since 1970, or a time; what cannot be read is unknown."""
    assert read({"token": "t", **fields}).expires_at == end


def test_the_credential_of_a_kubectl_plugin_is_understood():
    """What works in a kubeconfig works here."""
    token = read(
        {
            "kind": "ExecCredential",
            "apiVersion": "client.authentication.k8s.io/v1",
            "status": {"token": "hunter2", "expirationTimestamp": "2023-11-14T22:13:20Z"},
        }
    )

    assert (token.value, token.expires_at) == ("hunter2", 1_700_000_000)


@pytest.mark.parametrize(
    "output",
    [
        b"", b"\n", b"hunter2\nhunter2\n", b"\xff hunter2", b'{"token": "hunter2"', b'{"secret": "hunter2"}',
        b'{"token": {"a": "hunter2"}}', b'{"token": ""}', b'{"status": {"x": "hunter2"}}', b'"hunter2', b"{" * 100_000,
    ],
    ids=lambda output: repr(output[:30]),
)  # fmt: skip
def test_an_answer_without_a_token_is_refused_without_being_shown(output):
    """The message names the command, and nothing that it printed."""
    with pytest.raises(TokenUnavailable) as refused:
        read(output)

    assert str(refused.value).startswith("no token from command:test: ")
    assert "hunter2" not in f"{refused.value} {refused.value!r} {refused.value.__context__!r}"
