"""A join that is refused with the token of the connection leads to one new connection with a fresh token."""

import asyncio
import json

import pytest
import structlog

import rig
from rig.auth import TokenSource
from rig.auth.provider import NoToken
from rig.dialling import Dialler
from rig.endpoints import Candidate
from rig.errors import JoinRefused, TokenUnavailable
from rig.phoenix import events
from rig.renewal import Renewal
from rig.transport import Endpoint
from tests.auth.providing import Provider
from tests.running import run, until
from tests.transport.raw_server import RawServer, text


class Choice:
    """Takes the place of the network, and accepts everything."""

    fallback = ""

    async def dial(self, endpoint, owner, **limits):
        return object()


class Stage:
    """A connection that is open with the provider's first token, and a clock that is a number."""

    def __init__(self, provider, mode="subprotocol"):
        self.provider, self.now, self.reconnects = provider, 0.0, []
        self.dialler = Dialler(
            [Candidate(Endpoint("ws://localhost/socket"), Choice())],
            tokens=TokenSource(provider),
            token_mode=mode,
            connect_timeout=1.0,
            max_frame_bytes=1024,
        )
        self.renewal = Renewal(self.dialler, self.reconnects.append, clock=lambda: self.now)

    async def __aenter__(self):
        await self.dialler(object())
        return self

    async def __aexit__(self, *exc_info):
        await self.renewal.close()
        await self.dialler.close()

    async def refuse(self, *topics, unauthorized=True):
        for topic in topics:
            self.renewal.note(events.JoinRejected(topic, {}, 1.0, unauthorized))
        await self.settle()

    async def settle(self):
        for _ in range(20):
            await asyncio.sleep(0)


@pytest.mark.parametrize("mode", ["subprotocol", "param:token", "header"])
def test_a_join_that_is_refused_leads_to_a_connection_with_the_fresh_token(mode):
    """However the token travels with the connection: nothing else takes another one to the server."""

    async def test():
        async with Stage(Provider("old", "fresh"), mode) as stage:
            await stage.refuse("room:1")
            assert stage.reconnects == ["a fresh token"]

    run(test)


@pytest.mark.parametrize(
    ("provider", "mode", "unauthorized"),
    [
        (Provider("same"), "subprotocol", True),
        (Provider("old", "fresh"), "join:token", True),
        (Provider("old", "fresh"), "subprotocol", False),
        (Provider("old", TokenUnavailable("the test", "gone")), "subprotocol", True),
        (Provider("old", RuntimeError("a bug")), "subprotocol", True),
        (NoToken(), "subprotocol", True),
    ],
    ids=["same token", "token of the joins", "other refusal", "no new token", "broken provider", "no token"],
)
def test_where_a_new_connection_would_not_help_there_is_none(provider, mode, unauthorized):
    """The other topics are left in peace."""

    async def test():
        with structlog.testing.capture_logs():
            async with Stage(provider, mode) as stage:
                await stage.refuse("room:1", unauthorized=unauthorized)
                assert stage.reconnects == []

    run(test)


def test_topics_that_stay_refused_cost_one_reconnect():
    """Though the provider makes a new token each time that it is asked, and however often they are tried."""

    async def test():
        async with Stage(Provider(*map(str, range(1000)))) as stage:
            for _ in range(10):
                await stage.refuse("room:1", "room:2", "room:3")
                stage.now += 61.0
            assert stage.reconnects == ["a fresh token"]

    run(test)


def test_a_topic_that_was_joined_since_may_have_another():
    """The token has become too old again."""

    async def test():
        async with Stage(Provider(*map(str, range(1000)))) as stage:
            for forget in (events.Joined("room:1", {}, False), events.ChannelClosed("room:1", True)):
                await stage.refuse("room:1")
                stage.now += 61.0
                stage.renewal.note(forget)
            await stage.refuse("room:1")
            assert len(stage.reconnects) == 3

    run(test)


def test_there_is_no_more_than_one_reconnect_a_minute():
    """Topics that are refused one after the other do not keep cutting the rest."""

    async def test():
        async with Stage(Provider(*map(str, range(1000)))) as stage:
            for number in range(59):
                await stage.refuse(f"room:{number}")
                stage.now += 1.0
            assert len(stage.reconnects) == 1
            stage.now += 2.0
            await stage.refuse("room:59")
            assert len(stage.reconnects) == 2

    run(test)


def test_a_provider_is_not_asked_for_every_topic():
    """A thousand refusals at once start no thousand commands."""

    async def test():
        async with Stage(Provider("same")) as stage:
            await stage.refuse(*(f"room:{number}" for number in range(1000)))
            asked = stage.provider.asked
            assert asked <= 3
            stage.now += 4.0
            await stage.refuse("room:1")
            assert stage.provider.asked == asked
            stage.now += 2.0
            await stage.refuse("room:1")
            assert stage.provider.asked > asked

    run(test)


def test_a_closed_connection_asks_no_more():
    """Nothing is left running behind it."""

    async def test():
        class Silent(Provider):
            async def fetch(self):
                return await (super().fetch() if self.asked == 0 else asyncio.Event().wait())

        async with Stage(Silent("old")) as stage:
            await stage.refuse("room:1")
        assert stage.reconnects == []

    run(test)


def test_a_client_gets_into_a_topic_whose_server_found_the_token_too_old():
    """From the refusal to the join over the next connection, through a real one."""

    async def test():
        tokens, shown = iter(["old-token", "fresh-token"]), []

        async def phoenix(peer):
            await peer.upgrade(header=b"")
            good = peer.header("X-Token") == "fresh-token"
            shown.append(peer.header("X-Token"))
            while (received := await peer.receive()).opcode != 8:
                join_ref, ref, topic, event, _ = json.loads(received.payload)
                reply = {"status": "ok" if good or event != "phx_join" else "error", "response": {"reason": "token_expired"}}
                peer.write(text(json.dumps([join_ref, ref, topic, "phx_reply", reply]).encode()))
            peer.write(b"\x88\x02\x03\xe8")

        latest = "old-token"

        def token():
            nonlocal latest
            latest = next(tokens, latest)
            return latest

        async with RawServer(phoenix) as server:
            url = f"ws://127.0.0.1:{server.port}/socket"
            async with rig.connect(url, auth=token, auth_mode="header:X-Token") as client:
                with pytest.raises(JoinRefused) as refused:
                    await client.join("room:1")
                assert refused.value.unauthorized
                await until(lambda: len(shown) == 2 and client.connected)
                await client.join("room:1")
            assert shown == ["old-token", "fresh-token"]

    run(test)


def test_it_says_while_it_asks():
    """Whoever judges a refused join waits for the answer."""

    async def test():
        async with Stage(Provider("old", "fresh")) as stage:
            assert not stage.renewal.asking
            stage.renewal.note(events.JoinRejected("room:1", {}, 1.0, True))
            assert stage.renewal.asking
            await stage.settle()
            assert not stage.renewal.asking

    run(test)
