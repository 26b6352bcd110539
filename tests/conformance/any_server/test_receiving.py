"""Events: broadcasts, bursts, binary ones, presence."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from rig.client import ClientChannel

BURST = 5_000


@asynccontextmanager
async def two(site: Any, topic: str, payloads: Any = ({}, {})) -> AsyncIterator[list[ClientChannel]]:
    """Join a topic from two connections."""
    async with site.connect() as first, site.connect() as second:
        yield [await first.join(topic, payloads[0]), await second.join(topic, payloads[1])]


async def take(events: Any, count: int) -> list[Any]:
    return [await anext(events) for _ in range(count)]


def test_a_broadcast_reaches_everybody(against: Any) -> None:
    """The sender too, unless it is a `broadcast_from`; in the same order for all."""

    async def test(site: Any) -> None:
        async with two(site, site.room) as (alice, bob):
            await alice.send("broadcast", {"event": "news", "payload": {"n": 1}})
            assert await alice.push("broadcast_reply", {"event": "news", "payload": {"n": 2}}) == {}
            assert await alice.push("broadcast_from", {"event": "news", "payload": {"n": 3}}) == {}
            assert await alice.push("broadcast_reply", {"event": "last", "payload": {"n": 4}}) == {}

            to_alice, to_bob = await take(aiter(alice), 3), await take(aiter(bob), 4)
            assert [(event.event, event.payload["n"]) for event in to_alice] == [("news", 1), ("news", 2), ("last", 4)]
            assert [(event.event, event.payload["n"]) for event in to_bob] == [("news", 1), ("news", 2), ("news", 3), ("last", 4)]

    against(test)


def test_a_broadcast_of_the_server_arrives(against: Any) -> None:
    """One that no client asked for."""

    async def test(site: Any) -> None:
        async with site.connect() as client:
            channel, other = await client.join(site.room), await client.join(f"{site.room}-other")
            await site.get(f"broadcast/{site.room}/news?n=1")
            await other.push("broadcast_reply", {"event": "news", "payload": {"n": "2"}})

            assert (await anext(aiter(channel))).payload == {"n": "1"}
            assert (await anext(aiter(other))).payload == {"n": "2"}

    against(test)


@pytest.mark.parametrize("name", ["phx_close", "phx_error"])
def test_a_broadcast_named_like_an_end_ends_nothing(against: Any, name: str) -> None:
    """It carries no join_ref, so it is an event like any other."""

    async def test(site: Any) -> None:
        async with site.connect() as client:
            channel = await client.join(site.room)
            await channel.push("broadcast_reply", {"event": name, "payload": {"n": 1}})

            event = await anext(aiter(channel))
            assert (event.event, event.payload) == (name, {"n": 1})
            assert await channel.push("echo", {"n": 2}) == {"n": 2}

    against(test)


@pytest.mark.parametrize("size", [0, 1_000])
def test_a_long_burst_arrives_whole(against: Any, size: int) -> None:
    """Five thousand events at once, in order, none lost and none twice, before the reply to the push that asked for them."""

    async def test(site: Any) -> None:
        async with site.connect(max_queued=500) as client:
            channel = await client.join(site.room)
            answer = asyncio.create_task(channel.push("push_n", {"n": BURST, "size": size}))
            events = await take(aiter(channel), BURST)

            assert [event.payload["i"] for event in events] == list(range(1, BURST + 1))
            assert {len(event.payload.get("pad", "")) for event in events} == {size}
            assert await answer == {"n": BURST}

    against(test)


def test_bursts_on_several_topics_do_not_mix(against: Any) -> None:
    """Each channel gets its own, in its own order."""

    async def test(site: Any) -> None:
        async with site.connect() as client:
            channels = [await client.join(f"{site.room}-{i}") for i in range(4)]
            await asyncio.gather(*(channel.push("push_n", {"n": 300}) for channel in channels))

            for channel in channels:
                events = await take(aiter(channel), 300)
                assert [event.payload["i"] for event in events] == list(range(1, 301))
                assert {event.topic for event in events} == {channel.topic}

    against(test)


@pytest.mark.vsn("2.0.0")
def test_a_binary_broadcast_reaches_everybody(against: Any) -> None:
    """Asked for in binary or in JSON."""

    async def test(site: Any) -> None:
        async with two(site, site.room) as channels:
            await channels[0].send("binary_broadcast", b"\x00\xff")
            await channels[0].send("binary_broadcast", {"b64": "AAEC"})

            for channel in channels:
                events = await take(aiter(channel), 2)
                assert [(event.event, event.payload) for event in events] == [
                    ("binary_broadcast", b"\x00\xff"),
                    ("binary_broadcast", b"\x00\x01\x02"),
                ]

    against(test)


def test_presence_tells_who_comes_changes_and_goes(against: Any) -> None:
    """A list to who joins, and a diff to everybody for each change; an update is a leave and a join in one."""

    async def test(site: Any) -> None:
        topic = f"presence:{site.name}"
        async with site.connect() as first, site.connect() as second:
            alice = await first.join(topic, {"user": "alice"})
            seen = aiter(alice)
            opening = {event.event: event.payload for event in await take(seen, 2)}
            assert list(opening["presence_state"]) == list(opening["presence_diff"]["joins"]) == ["alice"]

            bob = await second.join(topic, {"user": "bob"})
            joined = (await anext(seen)).payload
            assert (list(joined["joins"]), joined["leaves"]) == (["bob"], {})
            states = {event.event: event.payload for event in await take(aiter(bob), 2)}
            assert sorted(states["presence_state"]) == ["alice", "bob"]

            assert await bob.push("update", {"status": "away"}) == {}
            updated = (await anext(seen)).payload
            [old], [new] = updated["leaves"]["bob"]["metas"], updated["joins"]["bob"]["metas"]
            assert (new["status"], new["phx_ref_prev"]) == ("away", old["phx_ref"])

            await bob.leave()
            left = (await anext(seen)).payload
            assert (left["joins"], left["leaves"]["bob"]["metas"]) == ({}, [new])

            assert await alice.push("untrack") == {}
            assert list((await anext(seen)).payload["leaves"]) == ["alice"]

    against(test)


def test_presence_tells_of_a_lost_connection(against: Any) -> None:
    """The others see who is gone without a word."""

    async def test(site: Any) -> None:
        topic = f"presence:{site.name}"
        async with site.connect() as first:
            seen = aiter(await first.join(topic, {"user": "alice"}))
            await take(seen, 2)
            async with site.connect() as second:
                await second.join(topic, {"user": "bob"})
                assert list((await anext(seen)).payload["joins"]) == ["bob"]

            assert list((await anext(seen)).payload["leaves"]) == ["bob"]

    against(test)
