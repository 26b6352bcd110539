"""Misbehaviour on request: what the control API can switch on, and how each is applied."""

import fnmatch
from typing import Any

import msgspec


class Faults(msgspec.Struct, forbid_unknown_fields=True):
    """
    The switches, all off by default.

    Args:
        refuse_joins: Refuse every join (true) or those whose topic matches this glob.
        ignore_heartbeats: Never answer a heartbeat.
        reply_delay: Seconds by which every reply is late.
        duplicate_replies: Send each reply twice.
        garble_replies: Send text that is no JSON in place of each reply.
        refuse_connections: Answer every upgrade and every long-poll request with this HTTP status.
        refuse_websockets: Answer every upgrade with this HTTP status, as something between that lets only plain HTTP through.
    """

    refuse_joins: bool | str = False
    ignore_heartbeats: bool = False
    reply_delay: float = 0.0
    duplicate_replies: bool = False
    garble_replies: bool = False
    refuse_connections: int | None = None
    refuse_websockets: int | None = None

    def refuses_join(self, topic: str) -> bool:
        """Say whether a join of `topic` is to be refused."""
        if isinstance(self.refuse_joins, bool):
            return self.refuse_joins
        return fnmatch.fnmatchcase(topic, self.refuse_joins)

    def change(self, settings: dict[str, Any]) -> None:
        """
        Set the switches named in `settings`, and no other.

        Raises:
            msgspec.ValidationError: If one is unknown or has the wrong type; none is changed then.
        """
        changed = msgspec.convert({**msgspec.to_builtins(self), **settings}, Faults)
        for name in self.__struct_fields__:
            setattr(self, name, getattr(changed, name))

    def reset(self) -> None:
        """Switch everything off."""
        self.change(msgspec.to_builtins(Faults()))
