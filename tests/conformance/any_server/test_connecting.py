"""Connecting, staying connected, and coming back."""

import asyncio
from typing import Any

import pytest

from rig.errors import AuthenticationRefused, ConnectionLost, HandshakeRefused
from tests.conformance.any_server.joins import Joins

_COMES_BACK = 2


def test_the_connect_params_reach_the_server(against: Any) -> None:
    """The `vsn` among them."""

    async def test(site: Any) -> None:
        async with site.connect(params={"user": site.name, "with space": "ä&="}) as client:
            seen = (await client.join("room:auth")).response["connect_params"]

            assert client.connected
            assert seen.items() >= {"user": site.name, "with space": "ä&=", "vsn": site.vsn}.items()

    against(test)


def test_an_auth_token_reaches_the_server(against: Any) -> None:
    """From Phoenix 1.8 on; 1.7 passes it over, and the client connects all the same."""

    async def test(site: Any) -> None:
        async with site.connect(auth=lambda: "seecret/tok+en") as client:
            token = (await client.join("room:auth")).response["auth_token"]

        if site.release:
            assert token == (None if site.release.startswith("1.7.") else "seecret/tok+en")
        else:
            assert token in (None, "seecret/tok+en")

    against(test)


@pytest.mark.parametrize("token", ["bad", "reason"])
def test_a_refused_connect_is_told(against: Any, token: str) -> None:
    """HTTP 403 in place of the upgrade."""

    async def test(site: Any) -> None:
        with pytest.raises(AuthenticationRefused) as refused:
            async with site.connect(params={"token": token}):
                pass
        assert refused.value.status == 403

    against(test)


def test_a_crashed_connect_is_told(against: Any) -> None:
    """HTTP 500, whatever its body."""

    async def test(site: Any) -> None:
        with pytest.raises(HandshakeRefused) as refused:
            async with site.connect(params={"token": "raise"}):
                pass
        assert refused.value.status == 500

    against(test)


@pytest.mark.vsn("2.0.0")
@pytest.mark.parametrize("vsn_asked", ["3.0.0", "2.1.0", "2"])
def test_an_unknown_vsn_is_refused(against: Any, vsn_asked: str) -> None:
    """Only what `~> 1.0.0` and `~> 2.0.0` allow."""

    async def test(site: Any) -> None:
        with pytest.raises(AuthenticationRefused) as refused:
            await site.dial(None, vsn=vsn_asked)
        assert refused.value.status == 403

    against(test)


def test_heartbeats_keep_a_quiet_connection(against: Any) -> None:
    """Each is answered: two that were not would end the connection, and the topic would be joined again."""

    async def test(site: Any) -> None:
        joins = Joins()
        async with site.connect(heartbeat_interval=0.1, heartbeat_timeout=0.5) as client:
            channel = await client.join(site.room, joins)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1.3):
                    await anext(aiter(channel))

            assert client.connected
            assert joins.count == 1

    against(test)


def test_a_killed_transport_is_replaced(against: Any) -> None:
    """The push that was under way is lost; the client reconnects, joins again, and goes on."""

    async def test(site: Any) -> None:
        joins = Joins()
        async with site.connect() as client:
            channel = await client.join(site.room, joins)
            with pytest.raises(ConnectionLost):
                await channel.push("kill_transport")

            assert await channel.push("echo", {"n": 1}) == {"n": 1}
            assert joins.count == _COMES_BACK

    against(test)


def test_every_topic_is_joined_again(against: Any) -> None:
    """After a cut, each with the payload that it has now."""

    async def test(site: Any) -> None:
        async with site.connect() as client:
            all_joins = [Joins() for _ in range(5)]
            channels = [await client.join(f"{site.room}-{i}", joins) for i, joins in enumerate(all_joins)]
            with pytest.raises(ConnectionLost):
                await channels[0].push("kill_transport")

            assert await asyncio.gather(*(channel.push("echo", {"n": 1}) for channel in channels)) == [{"n": 1}] * 5
            assert [joins.count for joins in all_joins] == [_COMES_BACK] * 5

    against(test)


def test_a_disconnected_client_comes_back(against: Any) -> None:
    """The server's `disconnect` for this user ends the connection with a close frame."""

    async def test(site: Any) -> None:
        joins = Joins()
        async with site.connect(params={"user": site.name}) as client:
            channel = await client.join(site.room, joins)
            await site.get(f"disconnect/user:{site.name}")
            await joins.reach(_COMES_BACK)

            assert await channel.push("echo", {"n": 1}) == {"n": 1}

    against(test)


def test_a_disconnect_of_another_user_changes_nothing(against: Any) -> None:
    """Only sockets with that id are closed."""

    async def test(site: Any) -> None:
        joins = Joins()
        async with site.connect(params={"user": site.name}) as client:
            channel = await client.join(site.room, joins)
            await site.get(f"disconnect/user:{site.name}-not")

            assert await channel.push("echo", {"n": 1}) == {"n": 1}
            assert joins.count == 1

    against(test)


def test_a_drained_client_comes_back(against: Any) -> None:
    """As when the server is replaced by its successor."""

    async def test(site: Any) -> None:
        joins = Joins()
        async with site.connect() as client:
            channel = await client.join(site.room, joins)
            await site.get(f"drain/{site.room}")
            await joins.reach(_COMES_BACK)

            assert await channel.push("echo", {"n": 1}) == {"n": 1}

    against(test)
