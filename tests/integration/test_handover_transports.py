"""A hand-over between a long-poll and a WebSocket: whatever either is, nothing is lost, and each push has one answer."""

import asyncio
import itertools

import msgspec
import pytest
import uvloop

from mock_server.channel import Reply
from mock_server.reference import Room
from mock_server.server import MockServer
from rig.auth import TokenSource
from rig.auth.provider import NoToken
from rig.connection import Connection
from rig.dialling import Dialler
from rig.endpoints import Candidate
from rig.io.uplink import Uplink
from rig.phoenix import ChannelState, Push, Socket, events
from rig.transport import Endpoint, TransportChoice
from tests.running import until

TOPICS = [f"room:{number}" for number in range(6)]
PATIENCE = 20.0
MIB = 1024 * 1024


class Owner:
    """What the io process is to an uplink whose two endpoints are one server, by either transport."""

    def __init__(self, server, *modes):
        self.told = []
        self.candidates = [Candidate(Endpoint(server.url), TransportChoice(mode, fallback_timeout=0.5)) for mode in modes]
        dialler = Dialler(
            self.candidates,
            tokens=TokenSource(NoToken()),
            token_mode="subprotocol",
            connect_timeout=5.0,
            max_frame_bytes=2 * MIB,
        )
        self.uplink = Uplink(
            dialler, self._open, self.told.extend, on_moved=lambda: None, failback_interval=0.0, random=lambda: 0.0
        )

    def _open(self, dial, on_events):
        return Connection(Socket(random=lambda: 0.01, rejoin_stopped=True), dial, on_events)

    async def open(self):
        for topic in TOPICS:
            self.uplink.join(topic, {})
        self.uplink.start()
        await until(lambda: len(self.all(events.Joined)) == len(TOPICS))

    def all(self, kind):
        return [event for event in self.told if isinstance(event, kind)]

    def received(self, topic):
        messages = [message for event in self.all(events.MessagesReceived) for message in event.messages]
        return [msgspec.json.decode(message.payload)["i"] for message in messages if message.topic == topic]


class Traffic:
    """Events on all topics, and pushes of which every other one wants a reply, until the end of the block."""

    def __init__(self, server, uplink):
        self._server, self._uplink = server, uplink
        self.rounds = 0
        self.asked = []

    async def __aenter__(self):
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *exc_info):
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _run(self):
        for number in itertools.count():
            for topic in TOPICS:
                self._server.publish(topic, "tick", {"i": number})
            pushes = [Push(topic, "noted", {"i": number}, 30.0, wants_reply=number % 2 == 0) for topic in TOPICS]
            self.asked += [push for push in pushes if push.wants_reply]
            self._uplink.push(pushes)
            self.rounds = number + 1
            await asyncio.sleep(0.002)


@pytest.mark.slow
@pytest.mark.parametrize("modes", [("longpoll", "websocket"), ("websocket", "longpoll"), ("longpoll", "longpoll")])
def test_nothing_is_lost_and_no_push_is_doubled(monkeypatch, modes):
    """There and back under traffic: events in order, of which few come twice; pushes once and in order, each reply once."""
    noted = {topic: [] for topic in TOPICS}

    def note(channel, push):
        noted[channel.topic].append(push.payload["i"])
        return Reply("ok")

    monkeypatch.setitem(Room.handlers, "noted", note)

    async def test(server):
        owner = Owner(server, *modes)
        await owner.open()
        before = len(owner.told)
        async with Traffic(server, owner.uplink) as traffic:
            for candidate in (owner.candidates[1], owner.candidates[0]):
                await until(lambda rounds=traffic.rounds: traffic.rounds > rounds + 50)
                handed_over = await owner.uplink.rotate("a test", among=[candidate])
                assert handed_over.topics == len(TOPICS)
            await until(lambda rounds=traffic.rounds: traffic.rounds > rounds + 50)
        rounds = list(range(traffic.rounds))
        await until(lambda: all(owner.received(topic)[-1:] == rounds[-1:] for topic in TOPICS))
        await until(lambda: len(owner.all(events.ReplyReceived)) >= len(traffic.asked))
        await until(lambda: all(len(numbers) >= len(rounds) for numbers in noted.values()))

        for topic in TOPICS:
            received = owner.received(topic)
            assert list(dict.fromkeys(received)) == rounds, "none is lost, and each comes first in its turn"
            assert len(received) <= 1.2 * len(rounds)
            assert noted[topic] == rounds
        assert {id(event.push) for event in owner.all(events.ReplyReceived)} == {id(push) for push in traffic.asked}
        assert len(owner.all(events.ReplyReceived)) == len(traffic.asked)
        others = [event for event in owner.told[before:] if not isinstance(event, events.MessagesReceived | events.ReplyReceived)]
        assert [event for event in others if not isinstance(event, events.HeartbeatReplied)] == []
        assert owner.uplink.topics() == dict.fromkeys(TOPICS, ChannelState.JOINED)
        await owner.uplink.close()

    async def main():
        async with asyncio.timeout(PATIENCE), MockServer() as server:
            await test(server)

    uvloop.run(main())
