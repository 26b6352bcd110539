"""How a token gets to the server, and what follows when the server refuses it."""

import asyncio

import pytest

from rig.auth import Token, TokenSource
from rig.dialling import Dialler
from rig.errors import AuthenticationRefused, ConfigError, HandshakeRefused, TokenUnavailable
from rig.transport import Endpoint

OWNER = object()
TRANSPORT = object()


class Provider:
    """Gives out tokens one after the other; an exception among them is raised."""

    name = "the test"

    def __init__(self, *tokens):
        self.tokens, self.asked = list(tokens), 0

    async def fetch(self):
        self.asked += 1
        token = self.tokens.pop(0) if len(self.tokens) > 1 else self.tokens[0]
        if isinstance(token, Exception):
            raise token
        return None if token is None else Token(token)


class Choice:
    """Takes the place of the network: accepts the tokens that it is told, refuses the others."""

    def __init__(self, *good, refusal=AuthenticationRefused):
        self.good, self.refusal, self.endpoints = good, refusal, []

    async def dial(self, endpoint, owner, **limits):
        assert owner is OWNER
        self.endpoints.append(endpoint)
        if endpoint.auth_token not in self.good:
            raise self.refusal("ws://localhost/socket", 403 if self.refusal is AuthenticationRefused else 500)
        return TRANSPORT


def dialler(provider, choice, *, url="ws://localhost/socket", mode="subprotocol"):
    return Dialler(
        Endpoint(url), tokens=TokenSource(provider), token_mode=mode, choice=choice, connect_timeout=1.0, max_frame_bytes=1024
    )


def test_the_provider_is_asked_before_every_connect(run):
    """A token that is replaced between two connections is the one that the second connection shows."""

    async def main():
        choice = Choice("first", "second")
        dial = dialler(Provider("first", "second"), choice)

        assert await dial(OWNER) is TRANSPORT
        assert await dial(OWNER) is TRANSPORT

        assert [endpoint.auth_token for endpoint in choice.endpoints] == ["first", "second"]

    run(main)


def test_a_refused_token_is_replaced_once_and_tried_again(run):
    """A token that became too old just now costs one round trip, not a minute."""

    async def main():
        choice = Choice("fresh")
        dial = dialler(Provider("old", "fresh"), choice)

        assert await dial(OWNER) is TRANSPORT

        assert [endpoint.auth_token for endpoint in choice.endpoints] == ["old", "fresh"]

    run(main)


def test_a_server_that_refuses_the_fresh_token_too_is_not_asked_a_third_time(run):
    """What is refused twice waits for the slow lane."""

    async def main():
        choice = Choice()
        with pytest.raises(AuthenticationRefused):
            await dialler(Provider("old", "fresh", "fresher"), choice)(OWNER)
        assert len(choice.endpoints) == 2

    run(main)


def test_the_same_token_is_not_tried_again(run):
    """A provider that has nothing better spares the server the second attempt."""

    async def main():
        choice = Choice()
        with pytest.raises(AuthenticationRefused):
            await dialler(Provider("same"), choice)(OWNER)
        assert len(choice.endpoints) == 1

    run(main)


def test_other_refusals_do_not_ask_for_another_token(run):
    """A server that fails says nothing about the token."""

    async def main():
        provider = Provider("token")
        with pytest.raises(HandshakeRefused):
            await dialler(provider, Choice(refusal=HandshakeRefused))(OWNER)
        assert provider.asked == 1

    run(main)


def test_without_a_token_nothing_is_dialled(run):
    """A provider that fails ends the attempt before the server hears of it."""

    async def main():
        choice = Choice("token")
        with pytest.raises(TokenUnavailable):
            await dialler(Provider(TokenUnavailable("the test", "it is gone")), choice)(OWNER)
        assert choice.endpoints == []

    run(main)


def test_a_provider_may_have_no_token(run):
    """A server that asks for none is dialled without one."""

    async def main():
        assert await dialler(Provider(None), Choice(None))(OWNER) is TRANSPORT

    run(main)


def test_a_token_does_not_travel_unencrypted_to_another_host():
    """The mistake is found before the first attempt, with what to do."""
    with pytest.raises(ConfigError, match="wss://"):
        dialler(Provider("token"), Choice(), url="ws://example.com/socket")


def test_a_token_in_joins_stays_out_of_the_connection(run):
    """With join:NAME the server sees the token in the payload of each join, and nowhere else."""

    async def main():
        provider, choice = Provider("one"), Choice(None)
        dial = dialler(provider, choice, mode="join:access_token")
        payload = dial.join_payload({"since": 41})
        assert await dial(OWNER) is TRANSPORT

        assert payload() == {"since": 41, "access_token": "one"}

    run(main)


def test_each_join_shows_the_token_of_that_moment(run):
    """A rejoin after a renewal shows the new token, and a payload that is asked for at each join still is."""

    async def main():
        dial = dialler(Provider("one", "two"), Choice(None), mode="join:token")
        payload = dial.join_payload(lambda: {"since": 42})
        await dial(OWNER)
        assert payload() == {"since": 42, "token": "one"}

        dial.renew(refused=True)
        async with asyncio.timeout(5):
            while payload()["token"] == "one":
                await asyncio.sleep(0)

        assert payload() == {"since": 42, "token": "two"}
        await dial.close()

    run(main)


def test_join_payloads_stay_as_they_are_where_the_token_travels_otherwise():
    """Only join:NAME touches them."""
    payload = {"since": 41}
    assert dialler(Provider("one"), Choice()).join_payload(payload) is payload
