"""
The application against which the golden transcripts were recorded: `room:*`, `exact` and `presence:*`.

It is mounted in every scenario, so that each transcript can be replayed.
"""

import base64
import binascii
from collections.abc import Mapping
from typing import Any, ClassVar

from mock_server.channel import Channel, Delayed, Handler, Outcome, Push, Reply, Stop
from mock_server.presence import Presence

_SLOW_JOIN_SECONDS = 3.0
_STOP_SOON_SECONDS = 0.2
_ONLINE_AT = 1_700_000_000


class Crash(Exception):
    """A handler raises on purpose."""


def _echo(channel: Channel, push: Push) -> Outcome:
    return Reply("ok", push.payload)


def _fail(channel: Channel, push: Push) -> Outcome:
    return Reply("error", push.payload)


def _noreply(channel: Channel, push: Push) -> Outcome:
    return None


def _ok_only(channel: Channel, push: Push) -> Outcome:
    return Reply("ok")


def _error_only(channel: Channel, push: Push) -> Outcome:
    return Reply("error")


def _custom_status(channel: Channel, push: Push) -> Outcome:
    return Reply("retry_later", push.payload)


def _late_reply(channel: Channel, push: Push) -> Outcome:
    channel.later(push.payload["ms"] / 1000, lambda: channel.reply(push.ref, Reply("ok", push.payload)))
    return None


def _push_then_reply(channel: Channel, push: Push) -> Outcome:
    channel.push("pushed", push.payload)
    return Reply("ok", push.payload)


def _push_n(channel: Channel, push: Push) -> Outcome:
    padding = {"pad": "x" * push.payload["size"]} if "size" in push.payload else {}
    for i in range(1, push.payload["n"] + 1):
        channel.push("tick", {"i": i, **padding})
    return Reply("ok", {"n": push.payload["n"]})


def _broadcast(channel: Channel, push: Push) -> Outcome:
    channel.broadcast(push.payload["event"], push.payload["payload"])
    return None


def _broadcast_reply(channel: Channel, push: Push) -> Outcome:
    channel.broadcast(push.payload["event"], push.payload["payload"])
    return Reply("ok")


def _broadcast_from(channel: Channel, push: Push) -> Outcome:
    channel.broadcast(push.payload["event"], push.payload["payload"], to_self=False)
    return Reply("ok")


def _crash(channel: Channel, push: Push) -> Outcome:
    raise Crash(push.event)


def _exit(channel: Channel, push: Push) -> Outcome:
    return Stop("boom")


def _kill(channel: Channel, push: Push) -> Outcome:
    return Stop("killed")


def _kill_transport(channel: Channel, push: Push) -> Outcome:
    channel.socket.connection.drop()
    return None


def _stop(channel: Channel, push: Push) -> Outcome:
    return Stop("normal")


def _stop_shutdown(channel: Channel, push: Push) -> Outcome:
    return Stop("shutdown")


def _stop_reply(channel: Channel, push: Push) -> Outcome:
    return Stop("normal", Reply("ok", push.payload))


def _stop_abnormal(channel: Channel, push: Push) -> Outcome:
    return Stop("abnormal")


def _binary_echo(channel: Channel, push: Push) -> Outcome:
    return Reply("ok", _data(push))


def _binary_fail(channel: Channel, push: Push) -> Outcome:
    return Reply("error", _data(push))


def _binary_push(channel: Channel, push: Push) -> Outcome:
    channel.push("binary_push", _data(push))
    return None


def _binary_broadcast(channel: Channel, push: Push) -> Outcome:
    channel.broadcast("binary_broadcast", _data(push))
    return None


def _data(push: Push) -> bytes:
    """Return the payload of a binary frame, or what `{"b64": …}` stands for."""
    if isinstance(push.payload, bytes):
        return push.payload
    try:
        return base64.b64decode(push.payload["b64"], validate=True)
    except binascii.Error as exc:
        raise Crash("b64") from exc


class Room(Channel):
    """`room:*` and `exact`; some rooms behave oddly when joined."""

    handlers: ClassVar[Mapping[str, Handler]] = {
        "echo": _echo,
        "fail": _fail,
        "noreply": _noreply,
        "ok_only": _ok_only,
        "error_only": _error_only,
        "custom_status": _custom_status,
        "late_reply": _late_reply,
        "push_then_reply": _push_then_reply,
        "push_n": _push_n,
        "broadcast": _broadcast,
        "broadcast_reply": _broadcast_reply,
        "broadcast_from": _broadcast_from,
        "crash": _crash,
        "exit": _exit,
        "kill": _kill,
        "kill_transport": _kill_transport,
        "stop": _stop,
        "stop_shutdown": _stop_shutdown,
        "stop_reply": _stop_reply,
        "stop_abnormal": _stop_abnormal,
        "binary_echo": _binary_echo,
        "binary_fail": _binary_fail,
        "binary_push": _binary_push,
        "binary_broadcast": _binary_broadcast,
    }

    def join(self, params: Any) -> Reply | Delayed:
        """
        Accept the join, unless the room is one of the odd ones.

        Raises:
            Crash: In the room `crash_on_join`.
        """
        accepted = Reply("ok", {"joined": self.topic, "params": params})
        match self.topic.removeprefix("room:"):
            case "forbidden":
                return Reply("error", {"reason": "unauthorized"})
            case "crash_on_join":
                raise Crash("join")
            case "slow":
                return Delayed(_SLOW_JOIN_SECONDS, accepted)
            case "bare":
                return Reply("ok")
            case "auth":
                identity = self.socket.identity
                return Reply("ok", {"auth_token": identity.auth_token, "connect_params": identity.params})
        return accepted

    def after_join(self) -> None:
        """Do what the rooms `after_join` and `stop_soon` are for."""
        if self.topic == "room:after_join":
            self.broadcast("user_entered", {"topic": self.topic})
            self.push("joined", {"topic": self.topic})
        elif self.topic == "room:stop_soon":
            self.later(_STOP_SOON_SECONDS, lambda: self.end("normal"))


def _update(channel: "PresenceRoom", push: Push) -> Outcome:
    channel.presence.update(channel, channel.user, push.payload)
    return Reply("ok")


def _untrack(channel: "PresenceRoom", push: Push) -> Outcome:
    channel.presence.untrack(channel)
    return Reply("ok")


class PresenceRoom(Channel):
    """`presence:*`: joins with `{user}` and tracks it."""

    handlers: ClassVar[Mapping[str, Handler]] = {"update": _update, "untrack": _untrack}
    user: str

    @property
    def presence(self) -> Presence:
        """The server's presence tracker."""
        tracker: Presence = self.socket.environment.services[Presence]
        return tracker

    def join(self, params: Any) -> Reply | Delayed:
        """
        Accept the join.

        Raises:
            KeyError: If there is no `user`.
        """
        self.user = str(params["user"])
        return Reply("ok", {"joined": self.topic})

    def after_join(self) -> None:
        """Track the user, then send the list."""
        self.presence.track(self, self.user, {"online_at": _ONLINE_AT})
        self.push("presence_state", self.presence.state(self.topic))

    def terminate(self) -> None:
        """Let the others see the user leave."""
        self.presence.untrack(self)


ROUTES: tuple[tuple[str, type[Channel]], ...] = (("room:*", Room), ("exact", Room), ("presence:*", PresenceRoom))
