"""The connection now: where it goes when a server does not have us, and how it comes back."""

import asyncio

import pytest
import structlog

from rig.backoff import Cause
from rig.errors import HandOverFailed, HandshakeRefused
from rig.phoenix import Push, events
from tests.io.cluster import URLS, Cluster, Owner
from tests.running import run

FIRST, SECOND, THIRD = URLS


def at(owner):
    """Return the URL of the connection now, as it was written."""
    return owner.cluster.peers[-1].url


def test_without_a_hand_over_it_is_its_connection():
    """Events, pushes, joins and leaves pass through."""

    async def test():
        cluster = Cluster()
        owner = await Owner(cluster).open("room:1", "room:2")
        push = Push("room:1", "do", 1)
        owner.uplink.push([push])
        cluster.deliver_all()
        cluster.broadcast("room:1", "hello")
        cluster.deliver_all()
        owner.uplink.leave("room:2")
        cluster.deliver_all()

        assert owner.answered() == [push]
        assert owner.received("room:1") == ["hello"]
        assert set(owner.uplink.topics()) == {"room:1"}
        assert owner.uplink.endpoint.startswith(FIRST)
        assert owner.moved == 1
        await owner.close()

    run(test)


def test_the_kind_of_transport_is_that_of_the_connection_that_there_is():
    """A hand-over that is called off changes nothing of it; one that succeeds does."""

    async def test():
        cluster = Cluster()
        cluster.fallback = "long-poll"
        owner = await Owner(cluster).open("room:1")
        cluster.fallback = ""
        cluster.refused = {"room:1"}
        result = owner.uplink.rotate("a test")
        await owner.until(result.done)
        assert len(cluster.peers) == 2
        assert isinstance(result.exception(), HandOverFailed)
        await owner.until(lambda: not owner.uplink.replacing)
        assert owner.uplink.fallback == "long-poll"

        cluster.refused = set()
        result = owner.uplink.rotate("a test")
        await owner.until(result.done)
        assert result.exception() is None
        assert owner.uplink.fallback == ""
        await owner.close()

    run(test)


@pytest.mark.parametrize("code", [1008, 1012, 1013])
def test_a_server_that_will_not_have_us_back_is_left_at_once_for_another(code):
    """It drains or is busy: to wait would only make the gap longer."""

    async def test():
        cluster = Cluster()
        owner = await Owner(cluster, FIRST, SECOND).open("room:1")
        cluster.peers[0].end.close(code)
        await owner.until(lambda: len(owner.all(events.Joined)) == 2)

        assert cluster.dialled == [FIRST, SECOND]
        [closed] = owner.all(events.SocketClosed)
        assert closed.code == code
        await owner.close()

    run(test)


def test_where_no_other_is_well_a_drain_waits_as_ever():
    """All clients of a drained server do not come back in one moment."""

    async def test():
        cluster = Cluster()
        owner = Owner(cluster, FIRST, random=lambda: 1.0)
        await owner.open("room:1")
        cluster.peers[0].end.close(1012)
        await owner.until(lambda: owner.all(events.SocketClosed))
        cluster.deliver_all()
        await owner.until(lambda: not owner.uplink.open)
        assert owner.all(events.SocketClosed)[0].delay == 1.0
        assert cluster.dialled == [FIRST]
        await owner.close()

    run(test)


def test_it_returns_to_the_first_endpoint_when_that_is_well_again():
    """By a hand-over: the owner hears of no loss."""

    async def test():
        cluster = Cluster()
        cluster.down = {FIRST}
        owner = await Owner(cluster, FIRST, SECOND, failback_interval=0.02).open("room:1")
        assert at(owner) == SECOND
        await owner.until(lambda: cluster.dialled.count(FIRST) >= 3)
        assert at(owner) == SECOND

        cluster.down = set()
        before = len(owner.told)
        await owner.until(lambda: len(cluster.peers) == 2 and cluster.peers[0].closed)

        assert at(owner) == FIRST
        assert owner.told[before:] == []
        assert owner.uplink.endpoint.startswith(FIRST)
        assert owner.uplink._looking is None, "whoever is at the first looks no more"
        await owner.close()

    run(test)


def test_a_look_at_the_first_leads_nowhere_else():
    """The second is as good as the third, and a move between them would be for nothing."""

    async def test():
        cluster = Cluster()
        cluster.down = {FIRST, SECOND}
        owner = await Owner(cluster, FIRST, SECOND, THIRD, failback_interval=0.02).open("room:1")
        cluster.dialled.clear()
        await owner.until(lambda: len(cluster.dialled) >= 6)
        await owner.until(lambda: not owner.uplink.replacing)

        assert set(cluster.dialled) == {FIRST, SECOND}
        assert at(owner) == THIRD
        await owner.close()

    run(test)


def test_those_who_left_together_do_not_come_back_together():
    """The interval is shortened by up to a quarter."""

    async def test():
        cluster = Cluster()
        cluster.down = {FIRST}
        owner = Owner(cluster, FIRST, SECOND, failback_interval=100.0, spread=lambda: 1.0)
        await owner.open("room:1")
        assert owner.uplink._looking.when() - asyncio.get_running_loop().time() == pytest.approx(75.0, abs=2.0)
        await owner.close()

    run(test)


def test_zero_never_looks_back():
    """The user decides, by rig topics rotate."""

    async def test():
        cluster = Cluster()
        cluster.down = {FIRST}
        owner = await Owner(cluster, FIRST, SECOND, failback_interval=0.0).open("room:1")
        assert owner.uplink._looking is None
        await owner.close()

    run(test)


def test_a_first_endpoint_that_asked_for_time_is_not_looked_at():
    """Nor is one that refused the token."""

    async def test():
        cluster = Cluster()
        owner = Owner(cluster, FIRST, SECOND, failback_interval=0.01)
        owner.dialler.endpoints.first.failed(HandshakeRefused(FIRST, 503, retry_after=60.0))
        await owner.open("room:1")
        look = owner.uplink._looking
        await owner.until(lambda: owner.uplink._looking is not look)
        assert cluster.dialled == [SECOND]
        await owner.close()

    run(test)


def test_there_is_one_hand_over_at_a_time_and_none_without_a_connection():
    """Both are said, and neither does harm."""

    async def test():
        cluster = Cluster()
        cluster.down = {FIRST}
        owner = Owner(cluster, FIRST)
        owner.uplink.join("room:1", {})
        owner.uplink.start()
        with pytest.raises(HandOverFailed, match="there is no connection"):
            await owner.uplink.rotate("a test")
        cluster.down = set()
        await owner.until(lambda: owner.all(events.Joined))
        first = owner.uplink.rotate("a test")
        with pytest.raises(HandOverFailed, match="another hand-over is under way"):
            await owner.uplink.rotate("a test")
        await owner.until(first.done)
        assert first.exception() is None
        await owner.close()

    run(test)


def test_a_connection_is_replaced_for_a_fresh_token_and_cut_only_if_that_fails():
    """What is joined misses nothing where it can be so."""

    async def test():
        cluster = Cluster()
        owner = await Owner(cluster).open("room:1")
        owner.uplink.replace("a fresh token")
        await owner.until(lambda: len(cluster.peers) == 2 and cluster.peers[0].closed)
        assert owner.all(events.SocketClosed) == []

        cluster.refused = {"room:1"}
        owner.uplink.replace("a fresh token")
        await owner.until(lambda: owner.all(events.SocketClosed))
        assert owner.all(events.SocketClosed)[0].cause is Cause.REQUESTED
        await owner.close()

    run(test)


def test_a_token_that_comes_during_a_hand_over_gets_the_next_one():
    """The one that is under way may have been dialled with the old token, and is not cut."""

    async def test():
        cluster = Cluster()
        owner = await Owner(cluster).open("room:1")
        owner.uplink.rotate("a test")
        owner.uplink.replace("a fresh token")
        await owner.until(lambda: len(cluster.peers) == 3 and cluster.peers[1].closed)
        assert owner.all(events.SocketClosed) == []
        await owner.close()

    run(test)


def test_where_it_is_and_how_the_endpoints_were_is_told():
    """For the status: one that fails says why, and the other is where we are."""

    async def test():
        cluster = Cluster()
        cluster.down = {FIRST}
        with structlog.testing.capture_logs() as logs:
            owner = await Owner(cluster, FIRST, SECOND).open("room:1")
        [(first, at_first), (second, at_second)] = owner.uplink.endpoints()

        assert (first.failures, at_first) == (1, False)
        assert "refused" in first.reason
        assert (second.failures, second.reason, at_second) == (0, "", True)
        [line] = [line for line in logs if line["event"] == "not at the first endpoint"]
        assert line["endpoint"].startswith(SECOND)
        assert line["first"].startswith(FIRST)
        assert "refused" in line["reason"]
        await owner.close()

    run(test)


def test_an_endpoint_that_takes_the_connection_and_not_the_topics_is_not_well():
    """Its health says what kept us from it."""

    async def test():
        cluster = Cluster()
        cluster.down = {FIRST}
        owner = await Owner(cluster, FIRST, SECOND, failback_interval=0.02).open("room:1")
        cluster.down, cluster.refused = set(), {"room:1"}
        await owner.until(lambda: cluster.dialled.count(FIRST) == 2 and not owner.uplink.replacing)

        [(first, _), (_, at_second)] = owner.uplink.endpoints()
        assert "refused to join 'room:1'" in first.reason
        assert first.failures == 2
        assert at_second
        await owner.close()

    run(test)
