"""A second connection takes the place of the first: all is joined there before anything is left here, or nothing has happened."""

import asyncio

import pytest
import structlog

from rig.errors import HandOverFailed, TokenUnavailable
from rig.io import departure, handover
from rig.phoenix import ChannelState, Push, events
from rig.transport.reader import BATCH_FRAMES
from tests.io.cluster import URLS, Cluster, Owner
from tests.running import run

TOPICS = [f"room:{number}" for number in range(5)]


async def all_joined_but(owner, cluster, topic):
    """Bring a hand-over to where the new connection has joined every topic but one, whose join is not answered."""
    cluster.ignored = {topic}
    result = owner.uplink.rotate("a test")
    await owner.until(lambda: len(cluster.peers) == 2 and len(cluster.peers[1].joined) == len(TOPICS) - 1)
    return result


def test_all_topics_are_on_the_new_connection_and_the_old_one_is_closed():
    """The owner hears of no loss and of no join."""

    async def test():
        cluster = Cluster()
        owner = await Owner(cluster).open(*TOPICS)
        before = len(owner.told)

        result = owner.uplink.rotate("a test")
        await owner.until(result.done)

        assert result.result().topics == len(TOPICS)
        assert set(cluster.peers[1].joined) == set(TOPICS)
        await owner.until(lambda: cluster.peers[0].closed)
        assert owner.told[before:] == []
        assert owner.uplink.topics() == dict.fromkeys(TOPICS, ChannelState.JOINED)
        await owner.close()

    run(test)


def test_nothing_is_left_before_everything_is_joined():
    """The old connection alone speaks until then, and what the new one brings comes once."""

    async def test():
        cluster = Cluster()
        cluster.ignored = {TOPICS[-1]}
        owner = Owner(cluster)
        await owner.open(*TOPICS[:-1])
        cluster.ignored = {TOPICS[0]}
        result = owner.uplink.rotate("a test")
        await owner.until(lambda: len(cluster.peers) == 2 and len(cluster.peers[1].joined) == 3)

        for number in range(10):
            cluster.broadcast(TOPICS[1], number)
        cluster.deliver_all()

        assert not result.done()
        assert not [message for message in cluster.peers[0].heard if message[3] == "phx_leave"]
        assert owner.received(TOPICS[1]) == list(range(10))
        await owner.close()

    run(test)


def test_events_stay_in_order_when_the_old_connection_is_behind():
    """What the new connection brings waits for what the old one still has to say."""

    async def test():
        cluster = Cluster()
        owner = await Owner(cluster).open("room:1")
        result = owner.uplink.rotate("a test")
        await owner.dialled(2)
        while "room:1" not in cluster.peers[1].joined:
            cluster.hear(1)
            await asyncio.sleep(0)
        for number in range(100):
            cluster.broadcast("room:1", number)
        cluster.deliver(1)
        cluster.hear(0)
        for number in range(100, 200):
            cluster.broadcast("room:1", number)
        cluster.deliver(1)
        assert owner.received("room:1") == []

        await owner.until(result.done)

        assert owner.received("room:1") == list(range(200))
        await owner.close()

    run(test)


def test_what_comes_between_the_leave_and_its_answer_may_come_twice_but_is_not_lost():
    """Both connections are joined for one round trip: a cursor tells the repeats."""

    async def test():
        cluster = Cluster()
        owner = await Owner(cluster).open("room:1")
        result = owner.uplink.rotate("a test")
        await owner.dialled(2)
        await asyncio.sleep(0.01)
        cluster.deliver(1)
        for number in range(3):
            cluster.broadcast("room:1", number)
        cluster.deliver(1)
        await owner.until(result.done)

        assert owner.received("room:1") == [0, 1, 2, 0, 1, 2]
        await owner.close()

    run(test)


def failing_dial(cluster):
    cluster.down = set(URLS)


def refused_topic(cluster):
    cluster.refused = {TOPICS[2]}


@pytest.mark.parametrize(
    ("harm", "reason"), [(failing_dial, "cannot reach 127.0.0.1:1"), (refused_topic, r"refused to join 'room:2'")]
)
def test_where_the_new_connection_fails_the_old_one_stays(harm, reason):
    """It says so, nothing was left on the old connection, and the useless one is gone."""

    async def test():
        cluster = Cluster()
        owner = await Owner(cluster).open(*TOPICS)
        before = len(owner.told)
        harm(cluster)
        with structlog.testing.capture_logs() as logs:
            result = owner.uplink.rotate("a test")
            await owner.until(result.done)
            await owner.until(lambda: not owner.uplink.replacing)

        with pytest.raises(HandOverFailed, match=reason):
            result.result()
        assert [line["log_level"] for line in logs if line["event"] == "not handed over: the connection stays"] == ["warning"]
        await owner.until(lambda: all(peer.closed for peer in cluster.peers[1:]))
        cluster.broadcast(TOPICS[2], "still here")
        cluster.deliver_all()
        assert owner.received(TOPICS[2]) == ["still here"]
        assert [event for event in owner.told[before:] if not isinstance(event, events.MessagesReceived)] == []
        assert set(cluster.peers[0].joined) == set(TOPICS)
        await owner.close()

    run(test)


def test_a_websocket_is_not_given_up_for_a_longpoll_to_the_same_server():
    """It works; that another one did not open in time is no reason to have something worse."""

    async def test():
        cluster = Cluster()
        owner = await Owner(cluster).open(*TOPICS)
        cluster.fallback = "long-poll instead of a WebSocket: no answer"
        result = owner.uplink.rotate("a test")
        await owner.until(result.done)
        with pytest.raises(HandOverFailed, match="it would be long-poll instead of a WebSocket: no answer"):
            result.result()
        await owner.until(lambda: cluster.peers[1].closed)
        assert set(cluster.peers[0].joined) == set(TOPICS)
        await owner.close()

    run(test)


def test_a_longpoll_to_a_better_server_is_taken():
    """Which server it is counts for more than how it is reached."""

    async def test():
        cluster = Cluster()
        cluster.down = {URLS[0]}
        owner = await Owner(cluster, *URLS[:2], failback_interval=0.02).open(*TOPICS)
        cluster.down, cluster.fallback = set(), "long-poll instead of a WebSocket: no answer"
        await owner.until(lambda: len(cluster.peers) > 1 and cluster.peers[0].closed)
        assert owner.uplink.endpoint.startswith(URLS[0])
        assert owner.uplink.fallback == cluster.fallback
        await owner.close()

    run(test)


def test_a_join_that_is_not_answered_calls_it_off():
    """By the time-out of a join, as anywhere."""

    async def test():
        cluster = Cluster()
        owner = await Owner(cluster, join_timeout=0.3).open(*TOPICS)
        cluster.ignored = {TOPICS[3]}
        result = owner.uplink.rotate("a test")
        await owner.until(result.done)
        with pytest.raises(HandOverFailed, match="'room:3' was not answered"):
            result.result()
        await owner.close()

    run(test)


def test_topics_that_do_not_get_joined_in_time_call_it_off(monkeypatch):
    """A channel that crashes as soon as it is joined does not keep two connections for ever."""
    monkeypatch.setattr(handover, "_JOINED_WITHIN", 0.05)

    async def test():
        cluster = Cluster()
        owner = await Owner(cluster).open(*TOPICS)
        cluster.ignored = {TOPICS[3]}
        result = owner.uplink.rotate("a test")
        await owner.until(result.done)
        with pytest.raises(HandOverFailed, match=r"within 0\.05 s"):
            result.result()
        await owner.close()

    run(test)


def test_the_end_of_the_new_connection_while_it_joins_calls_it_off():
    """The old one has everything still."""

    async def test():
        cluster = Cluster()
        owner = await Owner(cluster).open(*TOPICS)
        result = await all_joined_but(owner, cluster, TOPICS[3])
        cluster.cut(1)
        await owner.until(result.done)

        assert isinstance(result.exception(), HandOverFailed)
        assert set(cluster.peers[0].joined) == set(TOPICS)
        assert owner.all(events.SocketClosed) == []
        await owner.close()

    run(test)


def test_the_end_of_the_old_connection_while_the_new_one_joins_is_a_lost_connection():
    """It is told as one, and what follows is an ordinary reconnect with all topics."""

    async def test():
        cluster = Cluster()
        owner = await Owner(cluster).open(*TOPICS)
        result = await all_joined_but(owner, cluster, TOPICS[3])
        cluster.ignored = set()
        cluster.cut(0)
        await owner.until(result.done)
        await owner.until(lambda: len(owner.all(events.Joined)) == 2 * len(TOPICS))

        assert isinstance(result.exception(), HandOverFailed)
        assert len(owner.all(events.SocketClosed)) == 1
        await owner.until(lambda: cluster.peers[1].closed)
        assert set(cluster.peers[2].joined) == set(TOPICS)
        await owner.close()

    run(test)


def test_pushes_get_their_replies_on_the_old_connection_and_later_ones_wait_their_turn():
    """No reply is lost, and the server sees the pushes of a topic in order."""

    async def test():
        cluster = Cluster()
        owner = await Owner(cluster).open("room:1", "room:2")
        cluster.answering = False
        before = [Push("room:1", "do", number) for number in range(3)]
        owner.uplink.push(before)
        cluster.deliver_all()
        result = owner.uplink.rotate("a test")
        await owner.until(lambda: len(cluster.peers) == 2 and "room:2" not in cluster.peers[0].joined)
        after = [Push("room:1", "do", 3), Push("room:2", "do", 0), Push("room:1", "do", 4)]
        owner.uplink.push(after)
        cluster.deliver_all()
        assert cluster.pushed == [*(("room:1", number) for number in range(3)), ("room:2", 0)]
        assert "room:1" in cluster.peers[0].joined

        cluster.answering = True
        for message in cluster.peers[0].unanswered + cluster.peers[1].unanswered:
            (cluster.peers[0] if message[2] == "room:1" else cluster.peers[1]).reply(message)
        await owner.until(result.done)
        await owner.until(lambda: len(owner.answered()) == 6)

        assert set(owner.answered()) == {*before, *after}
        assert [payload for topic, payload in cluster.pushed if topic == "room:1"] == [0, 1, 2, 3, 4]
        await owner.close()

    run(test)


def test_a_reply_that_does_not_come_is_not_waited_for_long(monkeypatch):
    """The push ends as one whose connection was lost, and the topic moves on."""
    monkeypatch.setattr(departure, "_REPLIES_WITHIN", 0.05)

    async def test():
        cluster = Cluster()
        owner = await Owner(cluster).open("room:1")
        cluster.answering = False
        push = Push("room:1", "do", 1)
        owner.uplink.push([push])
        result = owner.uplink.rotate("a test")
        await owner.until(result.done)
        await owner.until(lambda: owner.all(events.PushInterrupted))
        await owner.close()

        assert [event.push for event in owner.all(events.PushInterrupted)] == [push]
        assert owner.all(events.ChannelClosed) == []

    run(test)


def test_a_push_without_a_reply_ends_even_if_the_old_channel_closes_late(monkeypatch):
    """Nobody waits for ever: what the old connection still owed ends with it, when the hand-over is over already."""
    monkeypatch.setattr(departure, "_REPLIES_WITHIN", 0.05)

    async def test():
        cluster = Cluster()
        owner = await Owner(cluster).open("room:1")
        cluster.answering = False
        cluster.clinging = {"room:1"}
        push = Push("room:1", "do", 1)
        owner.uplink.push([push])
        result = owner.uplink.rotate("a test")
        await owner.until(result.done)
        await owner.until(lambda: cluster.peers[0].closed)
        await owner.until(lambda: owner.all(events.PushInterrupted))

        assert [event.push for event in owner.all(events.PushInterrupted)] == [push]
        assert owner.all(events.ChannelClosed) == owner.all(events.SocketClosed) == []
        await owner.close()

    run(test)


def leaving(cluster):
    """Return True if the leave is on its way and has not been answered."""
    return any(message[3] == "phx_leave" for message in cluster.peers[0].heard)


async def held_up(owner, cluster):
    """Bring a hand-over to where the old server has heard the leave, and its answer is under way."""
    result = owner.uplink.rotate("a test")
    await owner.dialled(2)
    async with asyncio.timeout(5):
        while not leaving(cluster):
            cluster.deliver(1)
            cluster.hear(0)
            await asyncio.sleep(0.001)
    return result


def test_a_topic_whose_old_connection_breaks_off_while_it_leaves_is_joined_anew():
    """The owner is told of the gap and of the join; what was held is not handed on, so that a resume can fill the gap."""

    async def test():
        cluster = Cluster()
        owner = await Owner(cluster).open("room:1")
        before = len(owner.told)
        result = await held_up(owner, cluster)
        cluster.broadcast("room:1", "held")
        cluster.deliver(1)
        cluster.cut(0)
        await owner.until(result.done)
        await owner.until(lambda: len(owner.told) >= before + 2)

        [closed, joined] = owner.told[before:]
        assert (closed.topic, closed.left, closed.delay) == ("room:1", False, 0.0)
        assert isinstance(joined, events.Joined)
        joins = [message for message in cluster.peers[1].heard if message[3] == "phx_join"]
        assert len(joins) == 2
        cluster.broadcast("room:1", "after")
        cluster.deliver_all()
        assert owner.received("room:1") == ["after"]
        await owner.close()

    run(test)


def test_a_channel_that_crashes_before_it_has_left_is_joined_anew():
    """What came between is a gap like any other."""

    async def test():
        cluster = Cluster()
        cluster.answering = False
        owner = await Owner(cluster).open("room:1", "room:2")
        push = Push("room:1", "do", 1)
        owner.uplink.push([push])
        result = owner.uplink.rotate("a test")
        await owner.until(lambda: len(cluster.peers) == 2 and "room:2" not in cluster.peers[0].joined)
        later = Push("room:1", "do", 2)
        owner.uplink.push([later])
        cluster.peers[0].crash("room:1")
        cluster.answering = True
        await owner.until(result.done)
        await owner.until(lambda: owner.answered() == [later])

        assert [event.push for event in owner.all(events.PushInterrupted)] == [push]
        assert [event.topic for event in owner.all(events.ChannelClosed)] == ["room:1"]
        assert owner.all(events.Joined)[-1].topic == "room:1"
        await owner.close()

    run(test)


def test_a_leave_that_is_not_answered_is_given_up(monkeypatch):
    """A server that hangs keeps nothing."""
    monkeypatch.setattr(departure, "_LEFT_WITHIN", 0.05)

    async def test():
        cluster = Cluster()
        owner = await Owner(cluster).open("room:1")
        result = owner.uplink.rotate("a test")
        await owner.dialled(2)
        async with asyncio.timeout(5):
            while not result.done():
                cluster.deliver(1)
                await asyncio.sleep(0.001)
        await owner.until(lambda: owner.uplink.topics() == {"room:1": ChannelState.JOINED})
        assert [event.topic for event in owner.all(events.ChannelClosed)] == ["room:1"]
        await owner.close()

    run(test)


def test_a_topic_that_was_not_joined_is_joined_on_the_new_connection():
    """A refused topic does not hold up the others, and a push that waits for its join waits on."""

    async def test():
        cluster = Cluster()
        cluster.refused = {"room:2"}
        owner = Owner(cluster)
        owner.uplink.join("room:2", {})
        await owner.open("room:1")
        assert owner.uplink.topics()["room:2"] is ChannelState.ERRORED
        cluster.ignored, cluster.refused = {"room:2"}, set()
        push = Push("room:2", "do", 1)
        owner.uplink.push([push])
        result = owner.uplink.rotate("a test")
        await owner.until(result.done)
        cluster.ignored = set()
        [join] = [message for message in cluster.peers[1].heard if message[2:4] == ["room:2", "phx_join"]]
        cluster.peers[1].accept(join)
        await owner.until(lambda: owner.answered() == [push])

        assert owner.all(events.PushInterrupted) == []
        assert owner.all(events.Joined)[-1].topic == "room:2"
        await owner.close()

    run(test)


def test_a_topic_whose_join_payload_cannot_be_made_holds_up_nothing():
    """There may be no token just then: that is a refused join on the new connection, and is tried again."""

    async def test():
        cluster = Cluster()
        cluster.refused = {"room:2"}
        broken = False

        def payload():
            if broken:
                raise TokenUnavailable("file:x", "it is gone")
            return {}

        owner = Owner(cluster)
        owner.uplink.join("room:2", payload)
        await owner.open("room:1")
        cluster.refused, broken = set(), True
        result = owner.uplink.rotate("a test")
        await owner.until(result.done)
        assert result.result().topics == 2
        assert "it is gone" in owner.all(events.JoinRejected)[-1].response["reason"]
        broken = False
        await owner.until(lambda: owner.uplink.topics()["room:2"] is ChannelState.JOINED)
        await owner.close()

    run(test)


def test_what_is_held_is_bounded(monkeypatch):
    """The new connection is not read while the old one is far behind, and then it is."""
    monkeypatch.setattr(departure, "_MOST_HELD_BYTES", 1000)

    async def test():
        cluster = Cluster()
        owner = await Owner(cluster).open("room:1")
        result = await held_up(owner, cluster)
        for number in range(100):
            cluster.peers[1].say([None, None, "room:1", "tick", number])
        cluster.deliver(1)
        assert cluster.paused(1)
        assert owner.received("room:1") == []

        await owner.until(result.done)

        assert not cluster.paused(1)
        assert owner.received("room:1") == list(range(100))
        await owner.close()

    run(test)


def test_topics_that_come_and_go_meanwhile_come_and_go_on_both():
    """A join is carried over, a leave leaves nothing behind."""

    async def test():
        cluster = Cluster()
        owner = await Owner(cluster).open(*TOPICS)
        result = await all_joined_but(owner, cluster, TOPICS[0])
        owner.uplink.join("room:new", {})
        owner.uplink.leave(TOPICS[1])
        await owner.until(lambda: "room:new" in cluster.peers[1].joined and TOPICS[1] not in cluster.peers[0].joined)
        owner.uplink.leave(TOPICS[0])
        await owner.until(result.done)

        assert set(cluster.peers[1].joined) == {*TOPICS[2:], "room:new"}
        assert set(owner.uplink.topics()) == {*TOPICS[2:], "room:new"}
        await owner.close()

    run(test)


def test_a_topic_that_is_left_while_it_moves_is_gone_from_both():
    """Nobody waits for it."""

    async def test():
        cluster = Cluster()
        cluster.clinging = {"room:1"}
        owner = await Owner(cluster).open("room:1")
        result = owner.uplink.rotate("a test")
        await owner.dialled(2)
        async with asyncio.timeout(5):
            while "room:1" not in cluster.peers[1].joined:
                cluster.hear(1)
                await asyncio.sleep(0.001)
        cluster.deliver(1)
        cluster.clinging = set()
        owner.uplink.leave("room:1")
        await owner.until(result.done)
        await owner.until(lambda: not cluster.peers[1].joined)

        assert [event.topic for event in owner.all(events.ChannelClosed)] == ["room:1"]
        await owner.close()

    run(test)


def test_closing_in_the_middle_leaves_nothing():
    """Neither of the two connections, nor a task or a timer."""

    async def test():
        for ignored in (set(), {TOPICS[0]}):
            cluster = Cluster()
            owner = await Owner(cluster).open(*TOPICS)
            cluster.ignored = ignored
            owner.uplink.rotate("a test")
            await owner.dialled(2)
            await owner.close()
            assert all(peer.closed for peer in cluster.peers)

    run(test)


def test_reading_that_is_paused_is_paused_on_both():
    """A full ring holds up whatever connection there is."""

    async def test():
        cluster = Cluster()
        owner = await Owner(cluster).open("room:1")
        owner.uplink.pause_reading()
        result = owner.uplink.rotate("a test")
        await owner.dialled(2)
        await asyncio.sleep(0.01)
        assert cluster.paused(0)
        assert cluster.paused(1)

        owner.uplink.resume_reading()
        await owner.until(result.done)
        assert not cluster.paused(1)
        await owner.close()

    run(test)


def test_while_a_topic_waits_for_replies_its_events_come_once():
    """The overlap is a round trip, however long the server takes to reply."""

    async def test():
        cluster = Cluster()
        cluster.answering = False
        owner = await Owner(cluster).open("room:1", "room:2")
        owner.uplink.push([Push("room:1", "do", 1)])
        result = owner.uplink.rotate("a test")
        await owner.until(lambda: len(cluster.peers) == 2 and "room:2" not in cluster.peers[0].joined)
        for number in range(5):
            cluster.broadcast("room:1", number)
        cluster.deliver_all()
        cluster.peers[0].reply(cluster.peers[0].unanswered[0])
        await owner.until(result.done)

        assert owner.received("room:1") == list(range(5))
        await owner.close()

    run(test)


def test_a_topic_that_waits_for_replies_when_the_old_connection_ends_is_joined_anew_at_once():
    """The push ends as one whose connection was lost, and nothing waits for the old server to come back."""

    async def test():
        cluster = Cluster()
        cluster.answering = False
        owner = await Owner(cluster).open("room:1")
        push = Push("room:1", "do", 1)
        owner.uplink.push([push])
        result = owner.uplink.rotate("a test")
        await owner.until(lambda: len(cluster.peers) == 2 and "room:1" in cluster.peers[1].joined)
        cluster.deliver_all()
        cluster.down = set(URLS)
        cluster.cut(0)
        await owner.until(result.done)
        await owner.until(lambda: len(owner.all(events.Joined)) == 2)

        assert [event.push for event in owner.all(events.PushInterrupted)] == [push]
        assert cluster.dialled == [URLS[0]] * 2
        await owner.close()

    run(test)


def test_a_topic_that_is_gone_makes_room_for_the_others(monkeypatch):
    """The new connection is read again before the last topic has left."""
    monkeypatch.setattr(departure, "_MOST_HELD_BYTES", 1000)

    async def test():
        cluster = Cluster()
        cluster.answering = False
        owner = await Owner(cluster).open("room:1", "room:2")
        owner.uplink.push([Push("room:2", "do", 1)])
        cluster.deliver_all()
        result = await held_up(owner, cluster)
        for number in range(100):
            cluster.peers[1].say([None, None, "room:1", "tick", number])
        cluster.deliver(1)
        assert cluster.paused(1)

        cluster.deliver_all()
        assert not cluster.paused(1)
        assert not result.done()
        assert owner.received("room:1") == list(range(100))
        await owner.close()

    run(test)


def test_a_topic_that_is_gone_does_not_undo_the_pause_of_a_full_ring(monkeypatch):
    """Reading from the new connection goes on when both allow it."""
    monkeypatch.setattr(departure, "_MOST_HELD_BYTES", 1000)

    async def test():
        cluster = Cluster()
        owner = await Owner(cluster).open("room:1")
        result = owner.uplink.rotate("a test")
        await owner.dialled(2)
        await asyncio.sleep(0.01)
        cluster.hear(1)
        for number in range(2 * BATCH_FRAMES):
            cluster.peers[0].say([None, None, "room:1", "tick", number])
        cluster.deliver(1)
        cluster.hear(0)
        for number in range(100):
            cluster.peers[1].say([None, None, "room:1", "tick", number])
        cluster.deliver(1)
        assert cluster.paused(1)
        ring_full = iter([owner.uplink.pause_reading])
        owner.on_event = lambda event: next(ring_full, lambda: None)()

        cluster.deliver(0)
        assert result.done()
        assert cluster.paused(1)
        owner.uplink.resume_reading()
        assert not cluster.paused(1)
        await owner.close()

    run(test)


def test_a_channel_that_crashes_on_the_old_connection_meanwhile_does_not_hold_up_the_rest():
    """Its crash is told, and it is joined on the new connection with the others gone there."""

    async def test():
        cluster = Cluster()
        owner = await Owner(cluster, random=lambda: 0.99).open(*TOPICS)
        result = await all_joined_but(owner, cluster, TOPICS[0])
        cluster.peers[0].crash(TOPICS[1])
        cluster.deliver_all()
        [join] = [message for message in cluster.peers[1].heard if message[2] == TOPICS[0]]
        cluster.peers[1].accept(join)
        await owner.until(result.done)
        await owner.until(lambda: len(owner.all(events.Joined)) == len(TOPICS) + 1)

        assert result.exception() is None
        assert [event.topic for event in owner.all(events.ChannelErrored)] == [TOPICS[1]]
        assert owner.all(events.Joined)[-1].topic == TOPICS[1]
        assert set(cluster.peers[1].joined) == set(TOPICS)
        await owner.close()

    run(test)


def test_a_channel_that_crashes_on_the_new_connection_meanwhile_is_waited_for():
    """It is joined there again before anything is left here."""

    async def test():
        cluster = Cluster()
        owner = await Owner(cluster).open(*TOPICS)
        result = await all_joined_but(owner, cluster, TOPICS[0])
        cluster.ignored = {TOPICS[0], TOPICS[1]}
        cluster.peers[1].crash(TOPICS[1])
        cluster.deliver_all()
        [join] = [message for message in cluster.peers[1].heard if message[2] == TOPICS[0]]
        cluster.peers[1].accept(join)
        cluster.deliver_all()
        assert set(cluster.peers[0].joined) == set(TOPICS)

        await owner.until(lambda: [message[2] for message in cluster.peers[1].heard].count(TOPICS[1]) == 2)
        join = cluster.peers[1].heard[-1]
        cluster.peers[1].accept(join)
        await owner.until(result.done)
        assert result.exception() is None
        assert set(cluster.peers[1].joined) == set(TOPICS)
        await owner.close()

    run(test)
