"""
The end of an io process, as far as the server has a part in it: what was pushed is sent, then the connection is closed.

What must stay true: a server that does not read, or does not answer, holds up the end for no longer than there is time; and what it
did not take is counted and said, durable pushes aside, which stay in the outbox for the next run.
"""

import asyncio
import contextlib
from collections.abc import Sequence

import structlog

from rig.counters import Page
from rig.io.relay import Relay
from rig.io.uplink import Uplink

_LEAVING = 2.5
"""Seconds that are kept, of what there is at most half, for the close."""
_LOOK_AGAIN = 0.005
"""Seconds between two looks at what the server has not taken."""

log = structlog.get_logger()


async def send_and_leave(relays: Sequence[Relay], connection: Uplink, page: Page, deadline: float) -> None:
    """
    Send what the workers have pushed, as the server takes it, and close the connection.

    Args:
        relays: Whose workers are gone.
        connection: Where the pushes go.
        page: The io process's counters.
        deadline: When it is to be over, as the loop's clock has it.
    """
    left = max(0.0, deadline - asyncio.get_running_loop().time())
    before = page.get("pushes_unsent")
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout_at(deadline - min(_LEAVING, left / 2)):
            while not _all_taken(relays) or connection.write_buffer_bytes:  # noqa: ASYNC110 - a write buffer has no bell
                await asyncio.sleep(_LOOK_AGAIN)
    for relay in relays:
        relay.stop()
    unwritten = connection.write_buffer_bytes
    try:
        async with asyncio.timeout_at(deadline):
            await connection.close()
    except TimeoutError:
        log.warning("the connection was not closed in order: there was no more time")
    unsent = page.get("pushes_unsent") - before
    if unsent or unwritten:
        log.error("pushes are lost: the server did not take them before the end", pushes=unsent, bytes_on_the_way=unwritten)


def _all_taken(relays: Sequence[Relay]) -> bool:
    """Let every relay take what there is room for, none left out."""
    return not [relay for relay in relays if not relay.take_last()]
