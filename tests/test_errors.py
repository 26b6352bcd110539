"""What an answer to a join says about the token."""

import pytest

from rig.errors import JoinRefused, says_unauthorized

ABOUT_THE_TOKEN = [
    "unauthorized", "unauthorised", "forbidden", "unauthenticated", "Unauthorized", "UNAUTHORIZED", " unauthorized ",
    "unauthorized: the token is too old", "Unauthorized: You do not have permissions to read from this Channel topic",
    "unauthorized to join", "forbidden.", "not authorized", "not_authorized", "Not authorised to join room:1", "not-authenticated",
    "you are not authorized", "user is not authorized", "access denied", "permission_denied",
    "authentication failed", "authentication_required", "authorization required",
    "token_expired", "token expired", "Token has expired", "Token has expired 12 seconds ago", "the token is expired",
    "token is invalid", "token not valid", "token_revoked", "token missing", "token required", "access_token_expired",
    "expired_token", "invalid_token", "invalid token", "Invalid token: claim exp", "INVALID-TOKEN", "invalid access token",
    "invalid token provided", "bad token", "missing token", "no token", "no token given", "malformed token", "invalid credentials",
    "jwt expired", "jwt malformed", "JWT expired at 2026-03-02", "invalid jwt", "invalid signature", "Signature has expired",
    "InvalidJWTToken: Token has expired 12 seconds ago", "error: unauthorized",
]  # fmt: skip

ABOUT_SOMETHING_ELSE = [
    "", "room expired", "room_expired", "the room has expired", "expired", "invalid", "invite token expired", "game token invalid",
    "invalid topic", "invalid payload", "unmatched topic", "join crashed", "invalid token count",
    "token_expired_handler is missing",
    "token missing in template", "tokenizer invalid", "no tokens left", "out of tokens", "bad tokenizer", "session full",
    "unauthorizedness", "forbiddens", "not allowed here", "denied", "rate limited", "too many tokens", "notification failed",
]  # fmt: skip


@pytest.mark.parametrize("reason", ABOUT_THE_TOKEN)
def test_the_words_of_servers_for_a_token_that_is_not_good_are_understood(reason):
    """A token is fetched for each of them, however it is written."""
    assert says_unauthorized({"reason": reason})
    assert says_unauthorized(reason)
    assert JoinRefused("room:1", {"reason": reason}).unauthorized


@pytest.mark.parametrize("reason", ABOUT_SOMETHING_ELSE)
def test_what_is_not_about_the_token_is_not_taken_for_it(reason):
    """A channel that another token would not open is tried again at its usual pace."""
    assert not says_unauthorized({"reason": reason})
    assert not says_unauthorized(reason)


@pytest.mark.parametrize("response", [None, 401, {}, [], ["unauthorized"], {"reason": None}, {"reason": {"x": "unauthorized"}}])
def test_an_answer_without_a_reason_is_not_about_the_token(response):
    """A server may answer anything at all."""
    assert not says_unauthorized(response)


@pytest.mark.parametrize("piece", ["a", "token ", "not ", "invalid ", " ", "_", "a: ", "invalidjwt"])
def test_a_reason_of_megabytes_is_judged_by_its_beginning(piece):
    """A server cannot keep us busy with the words of one refusal."""
    assert not says_unauthorized({"reason": piece * 1_000_000 + "unauthorized"})
