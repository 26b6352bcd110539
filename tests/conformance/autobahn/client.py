"""
The testee: opens one connection a case with `rig.transport.dial`, and echoes what it hears.

It is an owner like any other: what it does not know of RFC 6455, the transport must do.
"""

import asyncio
import json

from rig.transport import BinaryFrame, Closed, Endpoint, WebSocketTransport, dial

AGENT = "rig"
_LARGEST_MESSAGE_BYTES = 16 * 1024 * 1024  # of section 9
_CASE_SECONDS = 60.0


class Address(Endpoint):
    """A path of the fuzzing server, without what belongs to Phoenix."""

    def websocket_url(self) -> str:
        return self.url


class Echo:
    """Sends back every message as it came."""

    def __init__(self) -> None:
        self.transport: WebSocketTransport
        self.texts: list[bytes] = []
        self.over: asyncio.Future[Closed] = asyncio.get_running_loop().create_future()

    def text_received(self, frames: list[bytes]) -> None:
        self.texts += frames
        self.transport.send(frames)

    def binary_received(self, frames: list[bytes]) -> None:
        self.transport.send([BinaryFrame(frame) for frame in frames])

    def frames_rejected(self, count: int, reason: str) -> None:
        raise AssertionError(f"no case sends a message that large: {reason}")

    def transport_closed(self, closed: Closed) -> None:
        self.over.set_result(closed)


async def count_cases(url: str) -> int:
    """Ask the server how many cases it was told to run."""
    owner = await _visit(f"{url}/getCaseCount")
    return int(json.loads(owner.texts[0]))


async def run_case(url: str, number: int) -> None:
    """Be the testee of one case; its verdict is the server's."""
    await _visit(f"{url}/runCase?case={number}&agent={AGENT}")


async def write_reports(url: str) -> None:
    """Let the server write its verdicts to its folder."""
    await _visit(f"{url}/updateReports?agent={AGENT}")


async def _visit(url: str) -> Echo:
    owner = Echo()
    owner.transport = await dial(Address(url), owner, max_frame_bytes=_LARGEST_MESSAGE_BYTES)
    try:
        await asyncio.wait_for(asyncio.shield(owner.over), _CASE_SECONDS)
    except TimeoutError:
        owner.transport.abort()  # the server takes it for a failure of the case
        await owner.over
    return owner
