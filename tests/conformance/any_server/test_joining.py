"""Joining topics."""

import asyncio
from typing import Any

import pytest

from rig.errors import JoinRefused, LocalProtocolError


def test_a_join_has_a_response(against: Any) -> None:
    """What the server's `join` replied, or an empty object."""

    async def test(site: Any) -> None:
        async with site.connect() as client:
            channel = await client.join(site.room, {"since": 41})
            assert channel.response == {"joined": site.room, "params": {"since": 41}}
            assert (await client.join("exact")).response == {"joined": "exact", "params": {}}
            assert (await client.join("room:bare")).response == {}

    against(test)


@pytest.mark.parametrize(
    ("topic", "reason"),
    [("room:forbidden", "unauthorized"), ("room:crash_on_join", "join crashed"), ("nowhere:at_all", "unmatched topic")],
)
def test_a_refused_join_is_told(against: Any, topic: str, reason: str) -> None:
    """Refused by the channel, crashed in it, or served by none; the next topic is not harmed."""

    async def test(site: Any) -> None:
        async with site.connect() as client:
            for _ in range(2):
                with pytest.raises(JoinRefused) as refused:
                    await client.join(topic)
                assert refused.value.response == {"reason": reason}
            assert (await client.join(site.room)).response["joined"] == site.room

    against(test)


def test_a_slow_join_holds_up_the_socket(against: Any) -> None:
    """A Phoenix socket does one join after the other: what is asked for behind a slow one is answered behind it."""

    async def test(site: Any) -> None:
        order: list[str] = []

        async def join(client: Any, topic: str) -> None:
            order.append((await client.join(topic)).topic)

        async with site.connect() as client:
            await asyncio.gather(join(client, "room:slow"), join(client, site.room))

        assert order == ["room:slow", site.room]

    against(test)


def test_the_reply_to_a_join_that_was_given_up_is_not_taken_for_the_next(against: Any) -> None:
    """The late reply, and the close of the channel that nobody wants any more, belong to an earlier life of the topic."""

    async def test(site: Any) -> None:
        async with site.connect() as client:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await client.join("room:slow", {"life": 1})
            channel = await client.join("room:slow", {"life": 2})

            assert channel.response == {"joined": "room:slow", "params": {"life": 2}}
            assert await channel.push("echo", {"n": 1}) == {"n": 1}

    against(test)


def test_a_topic_is_joined_once(against: Any) -> None:
    """A second join is the caller's error, and does not disturb the first: Phoenix would close it."""

    async def test(site: Any) -> None:
        async with site.connect() as client:
            channel = await client.join(site.room)
            with pytest.raises(LocalProtocolError, match="joined already"):
                await client.join(site.room)

            assert await channel.push("echo", {"n": 1}) == {"n": 1}

    against(test)


def test_many_topics_share_a_socket(against: Any) -> None:
    """Fifty joins at once, each with its own response and its own replies."""

    async def test(site: Any) -> None:
        topics = [f"{site.room}-{i}" for i in range(50)]
        async with site.connect() as client:
            channels = await asyncio.gather(*(client.join(topic) for topic in topics))
            replies = await asyncio.gather(*(channel.push("echo", {"topic": channel.topic}) for channel in channels))

            assert [channel.response["joined"] for channel in channels] == topics
            assert [reply["topic"] for reply in replies] == topics

    against(test)


def test_events_sent_right_after_the_join_are_kept(against: Any) -> None:
    """The broadcast and the push of `after_join` wait for whoever iterates."""

    async def test(site: Any) -> None:
        async with site.connect() as client:
            channel = await client.join("room:after_join")
            missing = {("user_entered", channel.topic), ("joined", channel.topic)}
            async for event in channel:
                missing.discard((event.event, event.payload["topic"]))
                if not missing:
                    break

    against(test)
