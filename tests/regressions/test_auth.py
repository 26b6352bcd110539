"""Tokens that were too old, or should not have been sent any more. The threads are in THREADS.md."""

import asyncio
import time
from typing import Any

import pytest

from mock_server.channel import Reply
from mock_server.reference import Room
from mock_server.server import MockServer
from rig.client import connect
from rig.phoenix.channel import ChannelState
from rig.phoenix.channels import TimerKey
from tests.client.talking import cut
from tests.running import run, until
from tests.stage import until as until_soon


class Door:
    """
    A channel that looks at the token in the join payload, as Supabase's does.

    Attributes:
        good: The one token that is let in.
        shown: Those that joins brought, None for a join without.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.good: str | None = "first"
        self.shown: list[str | None] = []
        monkeypatch.setattr(Room, "join", lambda channel, params: self._judge(params))

    def _judge(self, params: dict[str, Any]) -> Reply:
        token = params.get("access_token")
        self.shown.append(token)
        return Reply() if token == self.good and token is not None else Reply("error", {"reason": "token_expired"})


@pytest.fixture
def door(monkeypatch: pytest.MonkeyPatch) -> Door:
    """Let `room:*` look at tokens, and let providers be asked as often as these hasty tests need it."""
    monkeypatch.setattr("rig.auth.source._BETWEEN_RENEWALS", 0.0)
    return Door(monkeypatch)


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("how", ["cut", "crash"])
@pytest.mark.parametrize("slow_provider", [False, True])
def test_a_rejoin_brings_the_token_of_the_moment(door, how, slow_provider) -> None:
    """An expired token is not sent again for ever: the next join has the new one (supabase/supabase-py#1655, #1656)."""
    current = "first"

    async def slowly() -> str:
        await asyncio.sleep(0.01)
        return current

    async def test() -> None:
        nonlocal current
        auth = slowly if slow_provider else lambda: current
        async with MockServer() as server, connect(server.url, auth=auth, auth_mode="join:access_token") as client:
            await client.join("room:1", {"since": 1})
            for token in ("second", "third"):
                current = door.good = token
                if how == "cut":
                    await cut(server)
                else:
                    server.kill_channels("room:1")
                    await until(lambda: server.hub.subscribers("room:1"))
                await until(lambda: client._socket.channel_state("room:1") is ChannelState.JOINED)
                [joined] = server.hub.subscribers("room:1")
                assert joined.join_payload == {"since": 1, "access_token": token}

    run(test)


@pytest.mark.usefixtures("at_once")
def test_after_signing_out_the_old_token_is_never_sent_again(door) -> None:
    """And the refusals that follow do not go on every five seconds for ever (supabase/supabase-js#2596)."""
    current: str | None = "first"

    async def test() -> None:
        nonlocal current
        async with MockServer() as server, connect(server.url, auth=lambda: current, auth_mode="join:access_token") as client:
            await client.join("room:1")
            current = door.good = None
            server.kill_channels("room:1")
            await until(lambda: len(door.shown) == 3)
            await until(lambda: client._socket.channel_state("room:1") is ChannelState.ERRORED)

            assert door.shown == ["first", None, None]
            rejoins = [when for when, _, key in client._socket._timers._heap if key == TimerKey("rejoin", "room:1")]
            assert max(rejoins) - time.monotonic() > 55.0

    run(test)


@pytest.mark.usefixtures("at_once")
def test_after_signing_out_of_a_file_nothing_is_sent_until_somebody_signs_in(door, tmp_path) -> None:
    """Without a token there is no join that could only fail; with the next token there is (supabase/supabase-js#2596)."""
    file = tmp_path / "token"
    file.touch(0o600)
    file.write_text("first")

    async def test() -> None:
        async with MockServer() as server, connect(server.url, auth=f"file:{file}", auth_mode="join:access_token") as client:
            await client.join("room:1")
            file.unlink()
            server.kill_channels("room:1")
            await until(lambda: client._socket._channels._channels["room:1"].attempts >= 3)
            assert door.shown == ["first"]

            file.touch(0o600)
            file.write_text("second")
            door.good = "second"
            await until(lambda: server.hub.subscribers("room:1"))
            assert door.shown == ["first", "second"]

    run(test)


@pytest.mark.usefixtures("at_once")
def test_a_refused_reconnect_leads_to_a_fresh_token() -> None:
    """A 403 at a reconnect is no dead end that nobody hears of (mfeckie/phoenix_wings#39, realtime-csharp#11)."""
    current, asked = "first", 0

    def auth() -> str:
        nonlocal current, asked
        asked += 1
        given = current
        if asked > 1:
            current = "second"  # the provider notices only when it is asked that the one it just gave has ended
        return given

    async def test() -> None:
        async with MockServer() as server, connect(server.url, auth=auth) as client:
            await client.join("room:1")
            server.tokens.expire()
            await cut(server)

            [socket] = server.sockets.values()
            assert socket.identity.auth_token == "second"
            assert client.connected

    run(test)


def test_a_channel_that_is_closed_because_its_token_ended_comes_back(play) -> None:
    """Nobody has to load the page again, or to restart the worker (supabase/realtime-js#246, supabase/supabase#16684)."""

    async def test(stage):
        token = stage.folder / "token"
        token.touch(0o600)
        token.write_text("first")
        rig = await stage.run_worker("--auth", f"file:{token}", "--auth-mode", "join:access_token", topics=1, workers=1)
        token.write_text("second")
        for channel in stage.server.hub.subscribers("room:0"):
            channel.end("normal")
        await until_soon(lambda: stage.server.hub.subscribers("room:0"))

        assert [channel.join_payload["access_token"] for channel in stage.server.hub.subscribers("room:0")] == ["second"]
        await stage.flood("tick", 10)
        await until_soon(lambda: len(stage.ledger.all("tick")) == 10)
        await rig.drain()

    play(test)
