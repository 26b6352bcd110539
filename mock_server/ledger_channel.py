"""
`ledger:*`: takes any push, counts it, and answers `ok`; a push whose key it has seen is answered alike and changes nothing.

A join may ask for trouble with `error_every`, `ignore_every`, `mute_every` and `crash_every`; what it does not name comes from the
faults of the control API. A push of the event `refused` is answered with an error, always.
"""

from typing import Any

import msgspec

from mock_server.channel import Channel, Outcome, Push, Reply
from mock_server.received import Orders, Received, Verdict

_REFUSAL = Reply("error", {"reason": "refused by the mock server"})


class Crashed(Exception):
    """The channel was ordered to crash at this push."""


class LedgerChannel(Channel):
    """One client's channel; the counts are the topic's, so that they outlive it."""

    _asked: dict[str, int]

    def join(self, params: Any) -> Reply:
        """Accept, unless the orders in the payload are no numbers."""
        wanted = {name: params[name] for name in Orders.__struct_fields__ if isinstance(params, dict) and name in params}
        try:
            msgspec.convert(wanted, Orders)
        except msgspec.ValidationError as exc:
            return Reply("error", {"reason": str(exc)})
        self._asked = wanted
        return Reply("ok", {"joined": self.topic})

    def handle(self, push: Push) -> Outcome:
        """
        Take a push, or do with it as ordered.

        Raises:
            Crashed: If that is the order.
        """
        received: Received = self.socket.environment.services[Received]
        orders = msgspec.structs.replace(Orders.of(self.socket.environment.faults), **self._asked)
        match received.attempt(self.topic, orders):
            case Verdict.CRASH:
                raise Crashed(push.event)
            case Verdict.IGNORE:
                return None
            case Verdict.ERROR:
                return _REFUSAL
            case Verdict.MUTE:
                received.take(self.topic, push.payload)
                return None
            case Verdict.TAKE if push.event == "refused":
                return _REFUSAL
            case _:
                return Reply("ok", {"duplicate": True} if received.take(self.topic, push.payload) else {})
