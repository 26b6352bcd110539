"""Tokens, and what a JWT says of itself."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rig.auth import Token
from rig.auth.token import claims, expiry
from rig.errors import TokenUnavailable


def read(text, **more):
    return Token.read(text, provider="the test", **more)


def test_a_token_does_not_show_itself():
    """Neither print, nor a log line, nor a traceback has the secret."""
    token = Token("hunter2", 17.0)

    assert "hunter2" not in f"{token} {token!r} {[token]}"
    assert "17.0" in repr(token)


def test_blanks_around_a_token_are_left_out():
    """A file ends with a line break."""
    assert read(" \thunter2\r\n").value == "hunter2"


@pytest.mark.parametrize("text", ["", " \n", "hunter2\nhunter2", "hunter2\x00", "hunter2\x1b[2J", "hunter2\udcff", "\ufeffhunter2"])
def test_what_cannot_be_a_token_is_refused_without_being_shown(text):
    """A line break would begin another header, and nothing good begins with a control character."""
    with pytest.raises(TokenUnavailable) as refused:
        read(text)

    assert "hunter2" not in str(refused.value)
    assert str(refused.value).startswith("no token from the test: ")


def test_a_jwt_says_itself_when_it_expires(jwt):
    """The claim exp is read without a key."""
    assert read(jwt(sub="alice", exp=1_700_000_000)).expires_at == 1_700_000_000


def test_the_earlier_end_counts(jwt):
    """The provider and the token need not agree."""
    assert read(jwt(exp=200), expires_at=100.0).expires_at == 100
    assert read(jwt(exp=200), expires_at=300.0).expires_at == 200
    assert read("opaque", expires_at=300.0).expires_at == 300


def test_a_token_is_expired_from_its_end_on():
    """RFC 7519: on or after exp it must not be accepted."""
    assert Token("t", 100.0).expired(100.0)
    assert not Token("t", 100.0).expired(99.9)
    assert not Token("t").expired(1e12)


@pytest.mark.parametrize("exp", ["soon", True, None, [1], {"a": 1}, 10**400])
def test_a_claim_that_makes_no_sense_is_no_end(jwt, exp):
    """Then the server is the one who knows."""
    assert read(jwt(exp=exp)).expires_at is None


@pytest.mark.parametrize(
    "payload", ["", "!!!", "e30", "W10", "bnVsbA", "x" * 5, base64.urlsafe_b64encode(b"\xff{").decode().rstrip("=")]
)
def test_what_only_looks_like_a_jwt_has_no_claims(payload):
    """Three parts with dots between them are not yet a JWT."""
    assert claims(f"eyJhbGciOiJIUzI1NiJ9.{payload}.c2ln") == {}


def test_url_safe_characters_in_a_jwt_are_understood(jwt):
    """Base64url has - and _ where base64 has + and /."""
    subject = "\N{LATIN SMALL LETTER Y WITH DIAERESIS}?>~" * 5
    token = jwt(sub=subject, x="???>>>~~~")

    assert claims(token)["sub"] == subject


@given(st.text())
def test_no_text_is_too_strange_to_be_looked_at(text):
    """Whatever a provider gives, reading its claims does not raise."""
    found = claims(text)

    assert isinstance(found, dict)
    assert expiry(found) is None or isinstance(expiry(found), float)


@given(st.binary())
def test_no_payload_is_too_strange_to_be_looked_at(payload):
    """The middle part is somebody else's JSON."""
    assert isinstance(claims(f"a.{base64.urlsafe_b64encode(payload).decode().rstrip('=')}.b"), dict)
