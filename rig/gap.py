"""
A gap: a time in which a topic was not joined, and what became of the events of that time. Pure.

    the join's answer              with a cursor sent                    without
    resumed: true                  replayed, confirmed                   the same
    resumed: false                 not_replayed, confirmed               the same
    missed: 0, not resumed: false  nothing_missed, confirmed             the same
    neither                        replayed, not confirmed               not_replayed, not confirmed

Source: Phoenix, "Channels" guide, "Handling missed messages", for the cursor in the join payload; Centrifugo's `recovered` for an
answer that says what came of it.
"""

from typing import Any, Literal, NamedTuple, TypeAlias

import msgspec

from rig.cursors import Cursor

GAP_EVENT = "on_gap"
"""What a gap is called where an event has its name: in the dead letters."""

Outcome: TypeAlias = Literal["nothing_missed", "replayed", "not_replayed"]


class Gap(msgspec.Struct, kw_only=True, omit_defaults=True):
    """
    What `@app.on_gap` gets.

    Attributes:
        topic: The topic that was joined again.
        outcome: `nothing_missed`: no event was sent meanwhile. `replayed`: what was missed follows. `not_replayed`: what was
            missed is lost to this worker, so fetch the state anew.
        since: The cursor that the join was sent with: everything up to it was received. None if none was sent.
        confirmed: True if the server said so in its answer to the join; False if the outcome is what must be assumed.
        missed: How many events the server says were missed; None if it does not say.
        reason: Why the topic was not joined.
    """

    topic: str
    outcome: Outcome
    since: Cursor | None
    confirmed: bool
    missed: int | None
    reason: str
    _event: Any = None

    def __repr__(self) -> str:
        """Show what is told, and not what it travels as."""
        told = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__struct_fields__ if name != "_event")
        return f"Gap({told})"

    async def push(self, event: str, payload: Any = None, **options: Any) -> Any:
        """
        Push an event on the topic, as `rig.Event.push` does, for instance to ask for the state.

        Args:
            event: The name of the event to push.
            payload: See `rig.Event.push`.
            options: Likewise.

        Raises:
            RigError: As `rig.Event.push`.
        """
        return await self._event.push(event, payload, **options)

    def heard_by(self, event: Any) -> "Gap":
        """Return it with the event that it travels as, through which it pushes."""
        return msgspec.structs.replace(self, _event=event)


class Answer(NamedTuple):
    """What a server said to a join about what was missed: None where it says nothing."""

    resumed: bool | None
    missed: int | None

    @classmethod
    def of(cls, response: Any, resumed_field: str) -> "Answer":
        """
        Read the response of a join; what is not as expected was not said.

        Args:
            response: As decoded.
            resumed_field: The name of the field that is true or false.
        """
        if not isinstance(response, dict):
            return cls(None, None)
        resumed, missed = response.get(resumed_field), response.get("missed")
        return cls(
            resumed if isinstance(resumed, bool) else None,
            missed if isinstance(missed, int) and not isinstance(missed, bool) and missed >= 0 else None,
        )

    def outcome(self, since: Cursor | None) -> tuple[Outcome, bool]:
        """Return what became of the events of the gap, and whether the server said so."""
        if self.resumed is False:
            return "not_replayed", True
        if self.missed == 0:
            return "nothing_missed", True
        if self.resumed:
            return "replayed", True
        return ("not_replayed" if since is None else "replayed"), False
