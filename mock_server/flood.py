"""
Floods: broadcasts by the million, encoded faster than anybody can read them.

Events go round-robin over the topics and carry `i`, contiguous per topic. A block holds the events of J rounds, J a power
of ten, so that all its numbers share their leading digits: the block for the next J rounds differs in a few digits only.
"""

import asyncio
import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from mock_server.connection import Connection
from mock_server.frames import TEXT, encode_frame
from mock_server.hub import Hub
from mock_server.socket import Socket

_SOME = 100
"""Events that are made one by one before the readers are waited for."""
_BLOCK_BYTES = 512 * 1024
_MOST_ROUNDS = 10_000
_AROUND = 80
"""Bytes of an event beside its padding, more or less."""


class FloodRequest(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """
    What `POST /control/flood` takes.

    Args:
        topics: Where to; only subscribers of a topic get its events. Those of `history:*` are made one by one, much slower, and
            whoever has joined in the moment gets them.
        count: Events over all topics.
        event: Their name.
        size: Bytes of each frame's payload.
        id: Any value, repeated in every event to tell floods apart.
        start: The first `i` of every topic; by default each topic goes on where its last flood ended.
    """

    topics: list[str]
    count: int
    event: str = "tick"
    size: int = 200
    id: Any = None
    start: int | None = None


@dataclass(frozen=True, slots=True)
class FloodResult:
    """Events sent, frames written over all connections, and the seconds from the first write until the last left the process."""

    sent: int
    deliveries: int
    seconds: float


class SizeTooSmall(ValueError):
    """The size leaves no room for the fields of an event."""

    def __init__(self, size: int, needed: int) -> None:
        super().__init__(f"size {size} is too small for this topic and event; give at least {needed}")


class EventTemplate:
    """
    Broadcast frames of one topic that differ only in `i` and `t` and are all equally long.

    Args:
        version: The serializer's, "1.0.0" or "2.0.0".
        topic: The topic.
        event: The event.
        size: Bytes of each frame's payload; the field `pad` fills it up.
        id: If not None, a field `id` with this value.

    Raises:
        SizeTooSmall: If a large `i` and a clock reading would not fit.
    """

    def __init__(self, version: str, topic: str, event: str, *, size: int, id: Any = None) -> None:
        fields = b"" if id is None else b'"id":' + msgspec.json.encode(id) + b","
        name, event_name = msgspec.json.encode(topic), msgspec.json.encode(event)
        if version == "1.0.0":
            before, after = b'{"event":' + event_name + b',"payload":', b',"ref":null,"topic":' + name + b"}"
        else:
            before, after = b"[null,null," + name + b"," + event_name + b",", b"]"
        header = encode_frame(TEXT, bytes(size))[:-size]
        self.frame_bytes = len(header) + size
        self._before = header + before + b"{" + fields + b'"i":'
        self._after = b'"}' + after
        self.number_offset = len(self._before)
        self._room = self.frame_bytes - len(self._before) - len(b',"t":,"pad":"') - len(self._after)
        if self._room < 40:
            raise SizeTooSmall(size, size + 40 - self._room)

    def render(self, i: bytes, t: bytes = b"0") -> bytes:
        """Build the complete frame with these two numbers."""
        pad = b"x" * (self._room - len(i) - len(t))
        return b"".join((self._before, i, b',"t":', t, b',"pad":"', pad, self._after))


def encode_blocks(templates: Sequence[EventTemplate], starts: Sequence[int], counts: Sequence[int]) -> Iterator[bytes]:
    """
    Yield the events of a flood in order, as blocks of complete frames.

    Args:
        templates: One per topic.
        starts: The first `i` of each topic.
        counts: How many events each topic gets; those with one more come first.
    """
    rounds, done = min(counts), 0
    block_rounds = _block_rounds(templates)
    aligned = len(set(starts)) == 1
    blocks: dict[int, _Block] = {}
    while done < rounds:
        first = starts[0] + done
        if aligned and first and first % block_rounds == 0 and rounds - done >= block_rounds:
            leading = b"%d" % (first // block_rounds)
            if len(leading) not in blocks:
                blocks[len(leading)] = _Block(templates, block_rounds, len(leading))
            yield blocks[len(leading)].render(leading)
            done += block_rounds
        else:
            number = min(block_rounds - first % block_rounds, rounds - done)
            yield b"".join(_rounds(templates, starts, done, number))
            done += number
    yield b"".join(
        template.render(b"%d" % (start + rounds))
        for template, start, count in zip(templates, starts, counts, strict=True)
        if count > rounds
    )


def _block_rounds(templates: Sequence[EventTemplate]) -> int:
    """Choose the smallest power of ten that makes a block large."""
    round_bytes = sum(template.frame_bytes for template in templates)
    rounds = 10
    while rounds < _MOST_ROUNDS and rounds * round_bytes < _BLOCK_BYTES:
        rounds *= 10
    return rounds


def _rounds(templates: Sequence[EventTemplate], starts: Sequence[int], done: int, number: int) -> Iterator[bytes]:
    """Yield `number` rounds event by event."""
    for offset in range(done, done + number):
        for template, start in zip(templates, starts, strict=True):
            yield template.render(b"%d" % (start + offset))


class _Block:
    """
    The events of `rounds` rounds, whose numbers all have `digits` digits before the ones that count the rounds.

    Equal digits of one topic are `round_bytes` apart, so that a new leading digit is one strided assignment.
    """

    def __init__(self, templates: Sequence[EventTemplate], rounds: int, digits: int) -> None:
        width = len(str(rounds)) - 1
        self._leading = b"0" * digits
        self._rounds = rounds
        self._bytes = bytearray().join(
            template.render(self._leading + b"%0*d" % (width, number)) for number in range(rounds) for template in templates
        )
        self._round_bytes = len(self._bytes) // rounds
        ends = itertools.accumulate(template.frame_bytes for template in templates)
        self._offsets = [end - template.frame_bytes + template.number_offset for end, template in zip(ends, templates, strict=True)]

    def render(self, leading: bytes) -> bytes:
        """Return the block whose numbers start with `leading`."""
        for position, (old, new) in enumerate(zip(self._leading, leading, strict=True)):
            if old != new:
                digits = bytes((new,)) * self._rounds
                for offset in self._offsets:
                    self._bytes[offset + position :: self._round_bytes] = digits
        self._leading = leading
        return bytes(self._bytes)


class Flood:
    """
    A flood that is ready to go: sequence numbers are taken, and who gets what is settled.

    Args:
        request: What to send.
        hub: Where the subscribers are.

    Raises:
        SizeTooSmall: If the size leaves no room for an event's fields.
    """

    def __init__(self, request: FloodRequest, hub: Hub) -> None:
        self._request, self._hub = request, hub
        topics = request.topics
        self._kept = [hub.history.keeps(topic) for topic in topics]
        whole, extra = divmod(request.count, len(topics))
        self._counts = [whole + (index < extra) for index in range(len(topics))]
        starts = [hub.ledger.next_sequence(topic) if request.start is None else request.start for topic in topics]
        self._starts = starts
        self._groups = {} if any(self._kept) else group_subscribers(hub, topics)
        self._templates = {
            version: [EventTemplate(version, topic, request.event, size=request.size, id=request.id) for topic in topics]
            for version in {"2.0.0"} | {version for version, _ in self._groups}
        }
        for topic, start, count in zip(topics, starts, self._counts, strict=True):
            hub.ledger.advance(topic, start=start, number=count)

    async def run(self) -> FloodResult:
        """Write everything, as fast as the slowest reader takes it."""
        started = time.perf_counter()
        if any(self._kept):
            deliveries = [await self._write_one_by_one()]
        else:
            deliveries = await asyncio.gather(*(self._write(version, indexes) for version, indexes in self._groups))
        return FloodResult(self._request.count, sum(deliveries), time.perf_counter() - started)

    async def _write_one_by_one(self) -> int:
        deliveries, topics = 0, self._request.topics
        for number in range(self._request.count):
            round_, index = divmod(number, len(topics))
            topic, i = topics[index], self._starts[index] + round_
            deliveries += self._hub.fan_out(topic, self._request.event, sized_payload(self._request.size, i=i))
            if number % _SOME == _SOME - 1:
                await asyncio.sleep(0)
                for channel in self._hub.subscribers(topic):
                    await channel.socket.connection.drained()
        return deliveries

    async def _write(self, version: str, indexes: tuple[int, ...]) -> int:
        """Write the events of some topics to the sockets that have joined just those."""
        sockets = self._groups[version, indexes]
        templates = self._templates[version]
        counts = [self._counts[index] for index in indexes]
        blocks = encode_blocks([templates[index] for index in indexes], [self._starts[index] for index in indexes], counts)
        for block in blocks:
            await _write_block(block, sockets)
        await asyncio.gather(*(socket.connection.flushed() for socket in sockets))
        return sum(counts) * len(sockets)


def sized_payload(size: int, *, i: int, t: int = 0) -> dict[str, Any]:
    """Build the payload of one event, about as long as those of a template."""
    return {"i": i, "t": t, "pad": "x" * max(size - _AROUND, 0)}


async def _write_block(block: bytes, sockets: Sequence[Socket]) -> None:
    for socket in sockets:
        socket.deliver(block)
    await asyncio.sleep(0)
    for socket in sockets:
        await socket.connection.drained()


def group_subscribers(hub: Hub, topics: Sequence[str]) -> dict[tuple[str, tuple[int, ...]], list[Socket]]:
    """Sort the sockets by serializer and by which of the topics they have joined: each group gets the same bytes."""
    joined: dict[Connection, tuple[Socket, list[int]]] = {}
    for index, topic in enumerate(topics):
        for channel in hub.subscribers(topic):
            socket = channel.socket
            joined.setdefault(socket.connection, (socket, []))[1].append(index)
    groups: dict[tuple[str, tuple[int, ...]], list[Socket]] = {}
    for socket, indexes in joined.values():
        groups.setdefault((socket.serializer.version, tuple(indexes)), []).append(socket)
    return groups
