"""One push: what is sent, and what its answer is matched by."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True, eq=False)
class Push:
    """
    An event on its way to the server. The core fills in `ref` when it is sent; the owner keeps the object to know its own.

    Attributes:
        topic: The channel's topic.
        event: The event's name.
        payload: Plain objects or `msgspec.Raw`, or bytes-like for a binary frame.
        timeout: Seconds from the call until `PushTimedOut`; the time before the channel is joined counts.
        wants_reply: False sends it and forgets it: no answer is matched, nothing times out.
        ref: The message's ref, None until it is sent.
    """

    topic: str
    event: str
    payload: Any
    timeout: float = 10.0
    wants_reply: bool = True
    ref: str | None = field(default=None, init=False)
