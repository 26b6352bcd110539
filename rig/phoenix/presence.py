"""
Who is in a channel: the server's list, kept up to date by its diffs.

A key (mostly a user) has a presence, which holds one meta for each of the key's connections. The list comes once after every
join (`presence_state`), then each change as a diff (`presence_diff`). An update is one diff in which a meta leaves and its
successor joins.

Must stay true: what is passed in is never changed, and a message that does not fit changes nothing; a diff that comes before
its life's list waits for that list, and one of an earlier life is forgotten, since the next list says it all.

Source: phoenix.js presence.js; Phoenix.Presence, Phoenix.Tracker.
"""

import builtins
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

from rig.errors import RemoteProtocolError

Presence: TypeAlias = dict[str, Any]
"""`{"metas": [{"phx_ref": …, …}, …], …}`: whatever else stands in it comes from the server's `fetch`."""
Presences: TypeAlias = dict[str, Presence]

STATE = "presence_state"
DIFF = "presence_diff"


class PresenceJoined(NamedTuple):
    """Metas joined under a key. `current` is the presence before, None if there was none; `new` holds just those that joined."""

    key: str
    current: Presence | None
    new: Presence


class PresenceLeft(NamedTuple):
    """Metas left. `current` is the presence after, without metas if the key is gone; `left` holds just those that left."""

    key: str
    current: Presence
    left: Presence


Change: TypeAlias = PresenceJoined | PresenceLeft


def sync_state(current: Presences, new: Presences) -> tuple[Presences, list[Change]]:
    """
    Return the list after the server's list came, and what changed: joins first. Metas that stay keep their order.

    Source: phoenix.js presence.js, syncState.
    """
    leaves = {}
    for key, presence in current.items():
        left = presence if key not in new else _without(presence, new[key])
        if left["metas"] or key not in new:
            leaves[key] = left
    return sync_diff(current, new, leaves)


def sync_diff(current: Presences, joins: Presences, leaves: Presences) -> tuple[Presences, list[Change]]:
    """
    Return the list after a diff, and what changed.

    Joins are applied before leaves, so that a key whose meta is replaced never goes; new metas stand after those that stay. What
    the list holds already does not join again (after a join the own diff often comes beside the list that has it), and what
    it does not hold cannot leave: phoenix.js tells of both.

    Source: phoenix.js presence.js, syncDiff.
    """
    state = dict(current)
    return state, _apply(state, joins, leaves)


class PresenceList:
    """
    The presences of one channel, over all its lives.

    Attributes:
        state: Key → presence; what is in it is not to be changed.
        join_ref: That of the life in which the latest list came, None before the first.
    """

    def __init__(self, *, state_event: str = STATE, diff_event: str = DIFF) -> None:
        """
        Start with nobody.

        Args:
            state_event: The name of the event that carries the list.
            diff_event: The name of the one that carries a change.
        """
        self._state_event, self._diff_event = state_event, diff_event
        self._pending: list[tuple[Presences, Presences]] = []
        self._pending_ref: str | None = None
        self.state: Presences = {}
        self.join_ref: str | None = None

    def follows(self, event: str) -> bool:
        """Return True if the event is one for `receive`."""
        return event in (self._state_event, self._diff_event)

    def synced(self, join_ref: str | None) -> bool:
        """Return True if the list of this life of the channel has come; until then the list is that of an earlier one."""
        return join_ref is not None and join_ref == self.join_ref

    def receive(self, event: str, payload: Any, join_ref: str | None) -> list[Change] | None:
        """
        Take a list or a diff, and return what changed, in order; None if the diff has to wait for the list.

        Args:
            event: Its name, one that this list follows.
            payload: Plain objects, as they were received.
            join_ref: That of the channel's present life, not of the message: a diff is a broadcast and has none.

        Raises:
            RemoteProtocolError: If the payload is not that of such an event; nothing has changed then.
        """
        if event == self._state_event:
            return self._receive_state(_checked(payload), join_ref)
        if not isinstance(payload, dict):
            raise RemoteProtocolError("a presence diff that is no object")
        diff = _checked(payload.get("joins")), _checked(payload.get("leaves"))
        if self.synced(join_ref):
            return _apply(self.state, *diff)
        if join_ref != self._pending_ref:
            self._pending, self._pending_ref = [], join_ref
        self._pending.append(diff)
        return None

    def list(self, by: Callable[[str, Presence], Any] | None = None) -> builtins.list[Any]:
        """Return each presence, or what `by` makes of each key and presence."""
        if by is None:
            return [*self.state.values()]
        return [by(key, presence) for key, presence in self.state.items()]

    def _receive_state(self, new: Presences, join_ref: str | None) -> builtins.list[Change]:
        state, changes = sync_state(self.state, new)
        if join_ref == self._pending_ref:
            for joins, leaves in self._pending:
                changes += _apply(state, joins, leaves)
        self._pending = []
        self.state, self.join_ref = state, join_ref
        return changes


def _apply(state: Presences, joins: Presences, leaves: Presences) -> list[Change]:
    """Put a diff into `state`, without touching a presence that is in it."""
    changes: list[Change] = []
    for key, presence in joins.items():
        before = state.get(key)
        new = presence if before is None else _without(presence, before)
        if before is None or new["metas"]:
            state[key] = {**new, "metas": [*(before["metas"] if before else ()), *new["metas"]]}
            changes.append(PresenceJoined(key, before, new))
    for key, presence in leaves.items():
        if (before := state.get(key)) is None:
            continue
        staying = _without(before, presence)
        if len(staying["metas"]) < len(before["metas"]) or not before["metas"]:
            state[key] = staying
            changes.append(PresenceLeft(key, staying, {**presence, "metas": _without(before, staying)["metas"]}))
        if not staying["metas"]:
            del state[key]
    return changes


def _without(presence: Presence, other: Presence) -> Presence:
    """Return the presence with those of its metas that the other one does not hold."""
    refs = {meta["phx_ref"] for meta in other["metas"]}
    return {**presence, "metas": [meta for meta in presence["metas"] if meta["phx_ref"] not in refs]}


def _checked(presences: Any) -> Presences:
    if not isinstance(presences, dict):
        raise RemoteProtocolError("presences that are no object")
    for key, presence in presences.items():
        metas = presence.get("metas") if isinstance(presence, dict) else None
        if not isinstance(metas, list) or not all(
            isinstance(meta, dict) and isinstance(meta.get("phx_ref"), str) for meta in metas
        ):
            raise RemoteProtocolError(f"the presence of {key!r} has no list of metas with a phx_ref each")
    return presences
