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
        hang_connections: Take every upgrade and every long-poll request, and answer none until this is off again.
        hang_websockets: The same for upgrades alone.
        event_delay: Seconds by which every event is late; their order stays.
        duplicate_events: Send each event twice.
        ledger_error_every: Answer every n-th push to a topic of `ledger:*` with an error; 0 for none, so below.
        ledger_ignore_every: Do not take it, and say nothing.
        ledger_mute_every: Take it, and say nothing, as if the reply were lost.
        ledger_crash_every: Crash its channel.

    Late or doubled are the events of `publish` and of channels, and of floods and paces on `history:*`, not those of other floods.
    """

    refuse_joins: bool | str = False
    ignore_heartbeats: bool = False
    reply_delay: float = 0.0
    duplicate_replies: bool = False
    garble_replies: bool = False
    refuse_connections: int | None = None
    refuse_websockets: int | None = None
    hang_connections: bool = False
    hang_websockets: bool = False
    event_delay: float = 0.0
    duplicate_events: bool = False
    ledger_error_every: int = 0
    ledger_ignore_every: int = 0
    ledger_mute_every: int = 0
    ledger_crash_every: int = 0

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
