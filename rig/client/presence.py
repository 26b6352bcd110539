"""Who is in a channel of a client: the core's list with callbacks, and a way to wait for it."""

import asyncio
import inspect
from collections.abc import Callable
from typing import Any, TypeAlias

import structlog

from rig.errors import ConnectionLost, HandlerSignatureError, LocalProtocolError, RemoteProtocolError
from rig.phoenix import presence as core
from rig.phoenix.presence import PresenceJoined, PresenceList

OnChange: TypeAlias = Callable[[str, Any, Any], object]

log = structlog.get_logger()


class Presence:
    """
    Who is in a channel, over every reconnect.

        presence = rig.Presence(on_join=greet)
        channel = await connection.join("room:lobby", presence=presence)
        await presence.wait_synced()
        presence.list()

    It is named before the join, because the server's list may come in the same moment as the join's answer. The events reach
    the channel's iteration as well: by then the list has them. While the channel is not joined the latest list stands;
    after the rejoin the callbacks tell the difference.

    A presence is `{"metas": [{"phx_ref": …, …}, …]}`, one meta for each of the key's connections. What is handed out is not to
    be changed.
    """

    def __init__(
        self,
        *,
        on_join: OnChange | None = None,
        on_leave: OnChange | None = None,
        on_sync: Callable[[], object] | None = None,
        state_event: str = core.STATE,
        diff_event: str = core.DIFF,
    ) -> None:
        """
        Follow nothing yet; `join` takes it along.

        The callbacks are plain functions, called on the loop, in order. One that raises is reported to the loop's exception
        handler, and harms nothing else.

        Args:
            on_join: Called with the key, the presence before (None if there was none), and one with the metas that joined.
            on_leave: Called with the key, the presence after (without metas if the key is gone), and one with those that left.
            on_sync: Called without arguments after the changes of each message.
            state_event: The name of the event that carries the list.
            diff_event: The name of the one that carries a change.

        Raises:
            HandlerSignatureError: If a callback is asynchronous, or does not take what it is called with.
        """
        self._on_join = _checked("on_join", on_join, "key", "current", "new")
        self._on_leave = _checked("on_leave", on_leave, "key", "current", "left")
        self._on_sync = _checked("on_sync", on_sync)
        self._list = PresenceList(state_event=state_event, diff_event=diff_event)
        self._join_ref: Callable[[], str | None] | None = None
        self._changed = asyncio.Event()
        self._ended = False

    @property
    def synced(self) -> bool:
        """True if the list is that of the present join; False until it came, and from the loss of the channel to the next one."""
        return self._join_ref is not None and self._list.synced(self._join_ref())

    async def wait_synced(self) -> None:
        """
        Return when the list is there.

        Raises:
            ConnectionLost: If the channel was left or closed before.
        """
        while not self.synced:
            if self._ended:
                raise ConnectionLost("the channel was closed before its presence list came")
            self._changed.clear()
            await self._changed.wait()

    def list(self, by: Callable[[str, Any], Any] | None = None) -> Any:
        """
        Return each presence, or what `by` makes of each key and presence, as a list.

        Args:
            by: For example `lambda key, presence: key`.
        """
        return self._list.list(by)

    def __contains__(self, key: str) -> bool:
        return key in self._list.state

    def __getitem__(self, key: str) -> Any:
        return self._list.state[key]

    def __len__(self) -> int:
        return len(self._list.state)

    # What the client does.

    def follow(self, join_ref: Callable[[], str | None]) -> None:
        """
        Begin with a channel; `join_ref` returns that of its present life.

        Raises:
            LocalProtocolError: If it follows one already, or did: its list would be that of another channel.
        """
        if self._join_ref is not None:
            raise LocalProtocolError("a Presence follows one channel once: make a new one for each join")
        self._join_ref = join_ref

    def follows(self, event: str) -> bool:
        """Return True if the event is one for `receive`."""
        return self._list.follows(event)

    def receive(self, topic: str, event: str, payload: Any) -> None:
        """Take a message of the channel; one that does not fit is logged, and changes nothing."""
        assert self._join_ref is not None
        try:
            changes = self._list.receive(event, payload, self._join_ref())
        except RemoteProtocolError as exc:
            log.warning("a presence message was dropped", topic=topic, event_name=event, reason=str(exc))
            return
        if changes is None:
            return
        for change in changes:
            self._call(self._on_join if isinstance(change, PresenceJoined) else self._on_leave, *change)
        self._call(self._on_sync)
        self._changed.set()

    def end(self) -> None:
        """Note that the channel is gone for good."""
        self._ended = True
        self._changed.set()

    def _call(self, callback: Callable[..., object] | None, *arguments: Any) -> None:
        if callback is None:
            return
        try:
            callback(*arguments)
        except Exception as exc:
            context = {"message": f"the presence callback {callback!r} raised", "exception": exc}
            asyncio.get_running_loop().call_exception_handler(context)


def _checked(name: str, callback: Callable[..., object] | None, *parameters: str) -> Callable[..., object] | None:
    """Return the callback if it can be called so: one that cannot would otherwise fail when somebody joins, out of sight."""
    called = f"{name}({', '.join(parameters)})"
    if callback is None:
        return None
    if inspect.iscoroutinefunction(callback):
        raise HandlerSignatureError(f"{name} is asynchronous: it is called as {called}; start a task in a plain function")
    try:
        inspect.signature(callback).bind(*parameters)
    except TypeError as exc:
        raise HandlerSignatureError(f"{name} is called as {called}, and {callback!r} does not take that ({exc})") from exc
    except ValueError:
        return callback  # built in, without a signature to look at
    return callback
