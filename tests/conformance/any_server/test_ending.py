"""How channels end: crashed, stopped, left."""

import asyncio
from typing import Any

import pytest

from rig.errors import ConnectionLost, LocalProtocolError
from tests.conformance.any_server.joins import Joins


@pytest.mark.parametrize("event", ["crash", "exit", "kill", "stop_abnormal", "no_such_event"])
def test_a_crashed_channel_is_joined_again(against: Any, event: str) -> None:
    """The push that crashed it is lost; the next is sent once the topic is joined again, and other topics notice nothing."""

    async def test(site: Any) -> None:
        joins = Joins()
        async with site.connect() as client:
            channel = await client.join(site.room, joins)
            other = await client.join(f"{site.room}-other")
            with pytest.raises(ConnectionLost):
                await channel.push(event)

            assert await channel.push("echo", {"n": 1}) == {"n": 1}
            assert await other.push("echo", {"n": 2}) == {"n": 2}
            assert joins.count == 2

    against(test)


def test_events_of_a_channel_go_on_after_its_crash(against: Any) -> None:
    """The iteration is not interrupted."""

    async def test(site: Any) -> None:
        async with site.connect() as client:
            channel = await client.join(site.room)
            await channel.push("push_n", {"n": 2})
            with pytest.raises(ConnectionLost):
                await channel.push("crash")
            await channel.push("push_n", {"n": 2})

            events = aiter(channel)
            assert [(await anext(events)).payload["i"] for _ in range(4)] == [1, 2, 1, 2]

    against(test)


def test_a_channel_killed_on_the_server_is_joined_again(against: Any) -> None:
    """Without any push that could be to blame."""

    async def test(site: Any) -> None:
        joins = Joins()
        async with site.connect() as client:
            channel = await client.join(site.room, joins)
            assert "killed 1" in await site.get(f"kill_channels/{site.room}")
            await joins.reach(2)

            assert await channel.push("echo", {"n": 1}) == {"n": 1}

    against(test)


@pytest.mark.parametrize("event", ["stop", "stop_shutdown"])
def test_a_stopped_channel_is_closed(against: Any, event: str) -> None:
    """The iteration ends, pushes are the caller's error, and the topic can be joined anew."""

    async def test(site: Any) -> None:
        async with site.connect() as client:
            channel = await client.join(site.room)
            with pytest.raises(ConnectionLost):
                await channel.push(event)

            assert [one async for one in channel] == []
            with pytest.raises(LocalProtocolError, match="not joined"):
                await channel.push("echo")
            assert (await client.join(site.room)).response["joined"] == site.room

    against(test)


def test_a_reply_that_comes_with_the_stop_arrives(against: Any) -> None:
    """First the reply, then the end."""

    async def test(site: Any) -> None:
        async with site.connect() as client:
            channel = await client.join(site.room)
            assert await channel.push("stop_reply", {"bye": 1}) == {"bye": 1}
            assert [one async for one in channel] == []

    against(test)


def test_a_channel_that_stops_by_itself_is_closed(against: Any) -> None:
    """Soon after its join; its neighbour is not."""

    async def test(site: Any) -> None:
        async with site.connect() as client:
            channel, other = await client.join("room:stop_soon"), await client.join(site.room)
            assert [one async for one in channel] == []
            assert await other.push("echo", {"n": 1}) == {"n": 1}

    against(test)


def test_a_left_channel_gets_nothing_more(against: Any) -> None:
    """What came before the leave can be taken, what comes after it does not arrive; the topic can be joined anew."""

    async def test(site: Any) -> None:
        async with site.connect() as client, site.connect() as other:
            channel, witness = await client.join(site.room), await other.join(site.room)
            await channel.push("broadcast_reply", {"event": "news", "payload": {"n": 1}})
            await channel.leave()
            await witness.push("broadcast_reply", {"event": "news", "payload": {"n": 2}})
            again = await client.join(site.room)
            await witness.push("broadcast_reply", {"event": "news", "payload": {"n": 3}})

            assert [event.payload["n"] async for event in channel] == [1]
            assert (await anext(aiter(again))).payload == {"n": 3}

    against(test)


def test_a_channel_can_be_left_while_pushes_wait(against: Any) -> None:
    """They end as lost, at once."""

    async def test(site: Any) -> None:
        async with site.connect() as client:
            channel = await client.join(site.room)
            waiting = asyncio.create_task(channel.push("noreply"))
            await asyncio.sleep(0)
            await channel.leave()
            with pytest.raises(ConnectionLost):
                await waiting

    against(test)
