"""Long-poll end to end: the connection and the protocol's core over it, against the mock server's own long-poll."""

import asyncio
from functools import partial

import msgspec
import pytest
import uvloop

from mock_server.server import MockServer
from rig.connection import Connection
from rig.phoenix import Push, Socket, events
from rig.transport import Endpoint, TransportChoice
from tests.running import until

PATIENCE = 10.0
MIB = 1024 * 1024
TOPIC = "room:lp"


class Worker:
    """A connection over long-poll, and everything that its owner is told."""

    def __init__(self, server, *, mode="longpoll", vsn="2.0.0", **core):
        self.told = []
        self._changed = asyncio.Event()
        self.choice = TransportChoice(mode, fallback_timeout=0.5)
        endpoint = Endpoint(server.url, {"user": "lp"}, vsn=vsn, auth_token="sesame")
        dial = partial(self.choice.dial, endpoint, connect_timeout=5.0, max_frame_bytes=2 * MIB)
        self.socket = Socket(random=lambda: 0.01, vsn=vsn, **core)
        self.connection = Connection(self.socket, dial, self._on_events)

    async def __aenter__(self):
        self.connection.join(TOPIC, {"a": 1})
        self.connection.start()
        await self.until(events.Joined)
        return self

    async def __aexit__(self, *exc_info):
        await self.connection.close()

    def _on_events(self, received):
        self.told += received
        self._changed.set()

    async def wait(self, condition):
        """Wait for an event after which the condition holds."""
        while not condition():
            self._changed.clear()
            await self._changed.wait()

    def all(self, kind):
        return [event for event in self.told if isinstance(event, kind)]

    async def until(self, kind, count=1):
        """Wait for so many events of a kind, and return the last."""
        await self.wait(lambda: len(self.all(kind)) >= count)
        return self.all(kind)[-1]

    async def ask(self, event, payload):
        """Push, and return status and response."""
        push = Push(TOPIC, event, payload)
        self.connection.push([push])
        await self.wait(lambda: any(reply.push is push for reply in self.all(events.ReplyReceived)))
        reply = next(reply for reply in self.all(events.ReplyReceived) if reply.push is push)
        return reply.status, reply.response

    @property
    def bytes_received(self):
        return self.connection._transport.bytes_received

    @property
    def messages(self):
        """Every event that was handed on: its name and payload."""
        found = [message for received in self.all(events.MessagesReceived) for message in received.messages]
        return [(message.event, self._payload(message.payload)) for message in found]

    @staticmethod
    def _payload(payload):
        return payload if isinstance(payload, bytes) else msgspec.json.decode(payload)


def run(test, **settings):
    """Run a test with a server; it fails if a task of rig is left, or the loop had something to complain of."""
    complaints = []

    async def main():
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))
        async with asyncio.timeout(PATIENCE), MockServer(**settings) as server:
            await test(server)
        # The server's own handlers may still wait for the window of a poll whose client is gone.
        assert not [task for task in asyncio.all_tasks() if task.get_name() in ("longpoll", "dial")]

    uvloop.run(main())
    assert complaints == []


@pytest.mark.parametrize("vsn", ["1.0.0", "2.0.0"])
@pytest.mark.parametrize("phoenix", ["1.7.24", "1.8.12"])
def test_a_channel_works_as_over_a_websocket(phoenix, vsn):
    """Join, push and reply, broadcast, leave."""

    async def test(server):
        async with Worker(server, vsn=vsn) as worker:
            assert worker.all(events.Joined)[0].response["params"] == {"a": 1}
            assert await worker.ask("echo", {"x": "ä"}) == ("ok", {"x": "ä"})
            assert await worker.ask("fail", {"x": 1}) == ("error", {"x": 1})
            server.publish(TOPIC, "news", {"n": 1})
            await worker.until(events.MessagesReceived)
            assert worker.messages == [("news", {"n": 1})]
            worker.connection.leave(TOPIC)
            assert (await worker.until(events.ChannelClosed)).left
            assert [client["transport"] for client in server.clients] == ["longpoll"]

    run(test, phoenix=phoenix)


def test_the_token_arrives():
    """As the auth_token of the socket, not as a subprotocol."""

    async def test(server):
        async with Worker(server) as worker:
            worker.connection.join("room:auth", {})
            joined = await worker.until(events.Joined, 2)
            assert joined.response["auth_token"] == "sesame"

    run(test)


def test_many_pushes_keep_their_order():
    """More than one POST holds, in both directions."""

    async def test(server):
        async with Worker(server) as worker:
            pushes = [Push(TOPIC, "echo", {"i": i}) for i in range(450)]
            worker.connection.push(pushes)
            await worker.until(events.ReplyReceived, 450)
            assert [reply.response for reply in worker.all(events.ReplyReceived)] == [{"i": i} for i in range(450)]
            assert await worker.ask("push_n", {"n": 2000}) is not None
            await worker.wait(lambda: len(worker.messages) == 2000)
            numbers = [payload["i"] for _, payload in worker.messages]
            assert numbers == list(range(numbers[0], numbers[0] + 2000))

    run(test)


def test_a_heartbeat_is_answered():
    """Liveness is checked as over a WebSocket."""

    async def test(server):
        async with Worker(server, heartbeat_interval=0.1) as worker:
            assert (await worker.until(events.HeartbeatReplied, 2)).rtt < 2
            assert worker.all(events.HeartbeatMissed) == []

    run(test)


def test_a_binary_push_and_a_binary_reply_arrive():
    """As far as Phoenix can say them: the bytes of the reply are UTF-8 here."""

    async def test(server):
        async with Worker(server) as worker:
            status, response = await worker.ask("binary_echo", b"\x00\x7f plain")
            assert status == "ok"
            assert bytes(response) == b"\x00\x7f plain"

    run(test)


def test_a_binary_reply_that_phoenix_cannot_say_ends_the_connection():
    """The messages that Phoenix lost with it are a gap, and the topic is joined again."""

    async def test(server):
        async with Worker(server) as worker:
            push = Push(TOPIC, "binary_echo", b"\x00\xff")
            worker.connection.push([push])
            interrupted = await worker.until(events.PushInterrupted)
            assert interrupted.push is push
            assert worker.all(events.SocketClosed)[0].code == 1011
            assert (await worker.until(events.Joined, 2)).rejoined

    run(test)


@pytest.mark.parametrize("how", ["disconnect", "kick", "crash"])
def test_after_a_session_that_the_server_ended_the_topic_is_joined_again(how):
    """Polls find out, since a server that drops a session tells nobody."""

    async def test(server):
        async with Worker(server) as worker:
            if how == "disconnect":
                assert server.disconnect("user:lp") == 1
            elif how == "kick":
                assert server.close_where(4000, topic=TOPIC) == 1
            else:
                worker.connection.push([Push(TOPIC, "kill_transport", {}, wants_reply=False)])
            assert (await worker.until(events.Joined, 2)).rejoined
            assert worker.all(events.SocketClosed)[0].code == 3410
            assert await worker.ask("echo", {"x": 1}) == ("ok", {"x": 1})

    run(test, time_scale=0.1)


def test_a_pause_within_the_limit_loses_nothing():
    """However many windows it takes: polls go on."""

    async def test(server):
        async with Worker(server) as worker:
            worker.connection.pause_reading()
            for i in range(5):
                server.publish(TOPIC, "news", {"i": i})
                await asyncio.sleep(0.3)
            assert worker.messages == []
            worker.connection.resume_reading()
            await worker.wait(lambda: len(worker.messages) == 5)
            assert [payload["i"] for _, payload in worker.messages] == list(range(5))
            assert worker.all(events.SocketClosed) == []

    run(test, time_scale=0.1)


def test_a_pause_beyond_the_limit_is_heard_of():
    """What was held is handed on, then the end of the session is told, and the topic joined again."""

    async def test(server):
        async with Worker(server) as worker:
            worker.connection.pause_reading()
            blob = "x" * 1_000_000
            for i in range(7):
                server.publish(TOPIC, "news", {"i": i, "blob": blob})
                if i < 5:  # five are more than the limit; the server is not asked for the others
                    await until(lambda i=i: worker.bytes_received > (i + 1) * len(blob))
            await until(lambda: not server.clients)
            assert worker.all(events.SocketClosed) == []
            worker.connection.resume_reading()
            assert (await worker.until(events.Joined, 2)).rejoined
            assert [payload["i"] for _, payload in worker.messages] == list(range(5))
            assert worker.all(events.SocketClosed)[0].code == 3410
            kinds = [type(event) for event in worker.told]
            last_message = len(kinds) - 1 - kinds[::-1].index(events.MessagesReceived)
            assert last_message < kinds.index(events.SocketClosed)

    run(test, time_scale=0.1)


def test_auto_takes_the_websocket_of_a_server_that_has_both():
    """Long-poll is for where it is needed."""

    async def test(server):
        async with Worker(server, mode="auto") as worker:
            assert worker.choice.name == "websocket"
            assert [client["transport"] for client in server.clients] == ["websocket"]

    run(test)


def test_what_was_pushed_before_a_close_arrives():
    """A worker that drains loses nothing that it has said."""

    async def test(server):
        async with Worker(server, mode="websocket") as witness:
            async with Worker(server) as worker:
                payload = {"event": "bye", "payload": {"n": 1}}
                worker.connection.push([Push(TOPIC, "broadcast", payload, wants_reply=False)])
            await witness.until(events.MessagesReceived)
            assert witness.messages == [("bye", {"n": 1})]

    run(test)
