"""A Phoenix server of a few lines, back to back with a `Socket`, and a clock that is a number."""

import json
import math
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import settings

from rig.phoenix import Push, Socket, events

settings.register_profile("rig", deadline=None)
settings.load_profile("rig")


class Peer:
    """
    The server's side, the owner's side and the clock of one `Socket`.

    Attributes:
        now: The clock; `advance` moves it.
        chance: What the socket's random source returns.
    """

    def __init__(self, *, vsn: str = "2.0.0", **options: Any) -> None:
        self.vsn, self.now, self.chance = vsn, 0.0, 0.5
        self.socket = Socket(random=lambda: self.chance, vsn=vsn, **options)

    def open(self) -> list[events.Event]:
        """Connect, or wait until it is time to, and open."""
        if self.socket.state.name == "WAITING":
            while not any(isinstance(event, events.ConnectDue) for event in self.step()):
                pass
        else:
            self.socket.connect(self.now)
        return self.socket.opened(self.now)

    def joined(self, topic: str, payload: Any = None) -> str:
        """Join a topic, accept it, and return its join_ref."""
        self.socket.join(topic, payload or {}, self.now)
        return self.accept(topic)

    def accept(self, topic: str) -> str:
        """Accept the join of this topic that is among the frames to send, and return its join_ref."""
        join_ref = [f[0] for f in self.sent() if f[2:4] == [topic, "phx_join"]][-1]
        assert any(isinstance(event, events.Joined) for event in self.reply(join_ref, topic, {"hi": 1}, join_ref=join_ref))
        return str(join_ref)

    def push(self, topic: str, event: str = "echo", payload: Any = None, **options: Any) -> Push:
        """Push, and return the push."""
        push = Push(topic, event, {} if payload is None else payload, **options)
        assert self.socket.push(push, self.now) == []
        return push

    def sent(self) -> list[list[Any]]:
        """Return the frames to send as five fields each."""
        fields = [json.loads(frame) for frame in self.socket.frames_to_send()]
        if self.vsn == "1.0.0":
            return [[f.get("join_ref"), f["ref"], f["topic"], f["event"], f["payload"]] for f in fields]
        return fields

    def frame(self, join_ref: str | None, ref: str | None, topic: str, event: str, payload: Any) -> bytes:
        """Return a text frame as the server would send it."""
        if self.vsn == "1.0.0":
            return msgspec.json.encode({"event": event, "payload": payload, "ref": ref, "topic": topic})
        return msgspec.json.encode([join_ref, ref, topic, event, payload])

    def say(self, join_ref: str | None, ref: str | None, topic: str, event: str, payload: Any = None) -> list[events.Event]:
        """Let the socket receive one message."""
        return self.socket.receive([self.frame(join_ref, ref, topic, event, {} if payload is None else payload)], self.now)

    def reply(
        self, ref: str | None, topic: str, response: Any = None, *, status: str = "ok", join_ref: str | None = None
    ) -> list[events.Event]:
        """Let the socket receive a reply."""
        return self.say(join_ref, ref, topic, "phx_reply", {"status": status, "response": {} if response is None else response})

    def step(self) -> list[events.Event]:
        """Move the clock to the socket's deadline, and let it do what is due; the next deadline must lie ahead."""
        assert self.socket.deadline < math.inf, "there is nothing to wait for"
        self.now = max(self.now, self.socket.deadline)
        received = self.socket.handle_timeout(self.now)
        assert self.socket.deadline > self.now
        return received

    def advance(self, seconds: float) -> list[events.Event]:
        """Let this much time pass, deadline by deadline, and return what came about."""
        end, received = self.now + seconds, []
        while self.socket.deadline <= end:
            received += self.step()
        self.now = end
        return received


@pytest.fixture
def peer() -> Callable[..., Peer]:
    """Make a `Peer`; the arguments are those of `Socket`."""
    return Peer


@pytest.fixture(params=["2.0.0", "1.0.0"])
def opened(request: pytest.FixtureRequest) -> Peer:
    """A socket that is open, once in each version of the protocol."""
    made = Peer(vsn=request.param)
    made.open()
    return made


@pytest.fixture
def kinds() -> Callable[[list[events.Event]], list[str]]:
    """Name the classes of events."""
    return lambda received: [type(event).__name__ for event in received]
