"""Pushes and their replies."""

import asyncio
from typing import Any

import pytest

from rig.errors import LocalProtocolError, PushRefused, PushTimeout

PAYLOADS = [
    {},
    {"body": 'hé ☃ 𝄞 \u2028 "quoted" \\'},
    {"nested": [1, -2.5, 1e300, None, True, {"deep": [[[]]]}]},
    {"long": "x" * 100_000},
]
BYTES = bytes(range(256))


@pytest.mark.parametrize("payload", PAYLOADS, ids=["empty", "unicode", "nested", "long"])
def test_a_payload_comes_back_as_it_was(against: Any, payload: Any) -> None:
    """Whatever JSON object it is."""

    async def test(site: Any) -> None:
        async with site.connect() as client:
            assert await (await client.join(site.room)).push("echo", payload) == payload

    against(test)


@pytest.mark.parametrize(
    ("event", "status", "response"),
    [("fail", "error", {"why": 1}), ("error_only", "error", {}), ("custom_status", "retry_later", {"why": 1})],
)
def test_a_status_other_than_ok_is_told(against: Any, event: str, status: str, response: Any) -> None:
    """With the response, and whatever the application called the status."""

    async def test(site: Any) -> None:
        async with site.connect() as client:
            channel = await client.join(site.room)
            with pytest.raises(PushRefused) as refused:
                await channel.push(event, {"why": 1})
            assert (refused.value.status, refused.value.response) == (status, response)
            assert await channel.push("ok_only") == {}

    against(test)


def test_a_push_without_a_reply_times_out(against: Any) -> None:
    """And the channel goes on."""

    async def test(site: Any) -> None:
        async with site.connect() as client:
            channel = await client.join(site.room)
            with pytest.raises(PushTimeout):
                await channel.push("noreply", timeout=0.2)
            assert await channel.push("echo", {"n": 1}) == {"n": 1}

    against(test)


def test_a_late_reply_is_not_taken_for_another(against: Any) -> None:
    """Replies go by their ref, in whatever order they come, and one that is too late goes nowhere."""

    async def test(site: Any) -> None:
        async with site.connect() as client:
            channel = await client.join(site.room)
            with pytest.raises(PushTimeout):
                await channel.push("late_reply", {"ms": 1000, "n": 1}, timeout=0.02)
            pushes = [{"ms": ms, "n": ms} for ms in (3000, 2000, 100)]
            assert await asyncio.gather(*(channel.push("late_reply", payload) for payload in pushes)) == pushes

    against(test)


def test_pushes_are_handled_in_their_order(against: Any) -> None:
    """Two hundred at once: what the server does for each is in the order of the calls."""

    async def test(site: Any) -> None:
        async with site.connect() as client:
            channel = await client.join(site.room)
            pushes = [{"n": n} for n in range(200)]
            replies = await asyncio.gather(*(channel.push("push_then_reply", payload) for payload in pushes))
            events = aiter(channel)
            came = [await anext(events) for _ in pushes]

            assert replies == pushes
            assert [event.payload for event in came] == pushes
            assert {event.event for event in came} == {"pushed"}

    against(test)


def test_a_push_that_wants_no_reply_is_handled(against: Any) -> None:
    """It arrives before what is pushed behind it."""

    async def test(site: Any) -> None:
        async with site.connect() as client:
            channel = await client.join(site.room)
            await channel.send("push_then_reply", {"n": 1})
            await channel.push("ok_only")
            assert (await anext(aiter(channel))).payload == {"n": 1}

    against(test)


@pytest.mark.vsn("2.0.0")
@pytest.mark.parametrize("data", [b"", b"\x00", BYTES, BYTES * 1000], ids=["empty", "one", "all", "long"])
def test_binary_pushes_are_answered_in_binary(against: Any, data: bytes) -> None:
    """With status ok or error, and by an event of the server's."""

    async def test(site: Any) -> None:
        async with site.connect() as client:
            channel = await client.join(site.room)
            assert await channel.push("binary_echo", data) == data
            with pytest.raises(PushRefused) as refused:
                await channel.push("binary_fail", data)
            assert refused.value.response == data
            await channel.send("binary_push", data)
            event = await anext(aiter(channel))
            assert (event.event, event.payload) == ("binary_push", data)

    against(test)


@pytest.mark.vsn("1.0.0")
def test_the_first_serializer_has_no_binary(against: Any) -> None:
    """It is the caller's error, before anything is sent."""

    async def test(site: Any) -> None:
        async with site.connect() as client:
            channel = await client.join(site.room)
            with pytest.raises(LocalProtocolError, match="no binary"):
                await channel.push("binary_echo", BYTES)
            assert await channel.push("echo", {"n": 1}) == {"n": 1}

    against(test)
