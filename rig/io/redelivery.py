"""
Dead letters that somebody wants tried again: they are dispatched as if they had just come.

What must stay true: a letter is deleted only when its event is in a worker's ring. One that no handler wants any more stays a dead
letter, and says so. An event that several handlers take goes to all of them again.
"""

import asyncio
from collections.abc import Callable

import msgspec
import structlog

from rig.errors import RemoteProtocolError
from rig.gap import GAP_EVENT
from rig.io.dispatch import Dispatch
from rig.io.router import UNROUTED, Router
from rig.phoenix.message import BinaryMessage, Message
from rig.records import Kind, decode_gap
from rig.store import DeadLetters, NewLetter
from rig.store.dead_letters import Letter

_PAGE = 64
_LOOK_AGAIN = 0.005
"""Seconds after which a full ring is looked at again."""

log = structlog.get_logger()


class Redelivery:
    """Hands letters to `Dispatch`."""

    def __init__(
        self,
        letters: DeadLetters,
        router: Router,
        dispatch: Dispatch,
        *,
        owns: Callable[[str], bool],
        largest: int,
        gaps: bool,
    ) -> None:
        """
        Connect the letters with the way of events.

        Args:
            letters: Where they are.
            router: Knows whether anybody wants an event.
            dispatch: Takes it.
            owns: Says which topics are this io process's.
            largest: Bytes of a payload that goes through a ring.
            gaps: True if the application has callbacks for gaps.
        """
        self._letters, self._router, self._dispatch, self._owns, self._largest = letters, router, dispatch, owns, largest
        self._gaps = gaps
        self._stopped = False

    def stop(self) -> None:
        """Dispatch nothing more: what is still to be tried again is, by the next run."""
        self._stopped = True

    async def look(self) -> None:
        """
        Dispatch every letter of ours that is to be tried again.

        Raises:
            StoreFailed: If the letters cannot be read or deleted; those that were dispatched may be so again.
        """
        after = 0
        while not self._stopped and (page := await self._letters.to_retry(_PAGE, after)):
            after = page[-1].id
            mine = [letter for letter in page if self._owns(letter.topic)]
            refused = [letter for letter in mine if self._obstacle(letter)]
            await self._give_back(refused)
            await self._deliver([letter for letter in mine if letter not in refused])

    async def _deliver(self, letters: list[Letter]) -> None:
        if not letters or self._stopped:
            return
        gaps = [letter for letter in letters if _is_gap(letter)]
        for letter in gaps:
            self._dispatch.announce(letter.topic, letter.payload, Kind.GAP)
        for binary in (False, True):
            messages = [_message(letter) for letter in letters if letter.binary is binary and letter not in gaps]
            if messages:
                self._dispatch.redeliver(messages, binary=binary)
        while not self._dispatch.settled:  # noqa: ASYNC110 - a full ring has no bell for its producer
            await asyncio.sleep(_LOOK_AGAIN)
        log.info("dead letters are tried again", letters=len(letters))
        await self._letters.retried([letter.id for letter in letters])

    async def _give_back(self, letters: list[Letter]) -> None:
        """Make them dead letters again: first the new one, then not the old one."""
        if letters:
            log.warning("dead letters cannot be tried again", letters=len(letters), reason=self._obstacle(letters[0]))
            await self._letters.add([_again(letter, self._obstacle(letter)) for letter in letters])
            await self._letters.retried([letter.id for letter in letters])

    def _obstacle(self, letter: Letter) -> str:
        wanted = self._gaps if _is_gap(letter) else self._routed(letter)
        if not wanted:
            return "it was to be tried again, and no handler takes it"
        if len(letter.payload) > self._largest:
            return "it was to be tried again, and is too large for a ring: raise --ring-bytes"
        return ""

    def _routed(self, letter: Letter) -> bool:
        message = _message(letter)
        return self._router.slot(message.topic, message.event, message.payload).worker != UNROUTED


def _is_gap(letter: Letter) -> bool:
    """Return True for what a callback of `on_gap` failed with: it is no event of the server's, whatever routes match its name."""
    if letter.event != GAP_EVENT or not letter.binary:
        return False
    try:
        return decode_gap(letter.payload).topic == letter.topic
    except RemoteProtocolError:
        return False


def _message(letter: Letter) -> Message | BinaryMessage:
    if letter.binary:
        return BinaryMessage(None, None, letter.topic, letter.event, letter.payload)
    return Message(None, None, letter.topic, letter.event, msgspec.Raw(letter.payload))


def _again(letter: Letter, reason: str) -> NewLetter:
    return NewLetter(
        topic=letter.topic,
        event=letter.event,
        handler=letter.handler or "",
        reason=f"{reason}; before: {letter.reason}",
        traceback=letter.traceback,
        payload=letter.payload,
        binary=letter.binary,
        worker=letter.worker or 0,
        received_at=letter.received_at,
    )
