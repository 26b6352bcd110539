"""What leaves is framed and masked as RFC 6455 asks, with keys that nobody can guess."""

import asyncio
import os
import socket
import subprocess
import sys

from hypothesis import given, settings
from hypothesis import strategies as st

from rig.transport.header import BINARY, CLOSE, PING, PONG, TEXT
from rig.transport.writer import FrameWriter, encode_frames
from tests.running import run, until

sizes = st.sampled_from([0, 1, 2, 3, 4, 5, 7, 8, 125, 126, 127, 300, 4095, 4096, 4097, 8192, 65535, 65536, 70_001])


def decode(data):
    """Read masked frames with a parser of their own: opcode, payload, key."""
    frames, pos = [], 0
    while pos < len(data):
        assert data[pos] & 0xF0 == 0x80, "whole, and no reserved bit set"
        assert data[pos + 1] & 0x80, "masked"
        size, start = data[pos + 1] & 0x7F, pos + 2
        if size > 125:
            width = 2 if size == 126 else 8
            size = int.from_bytes(data[start : start + width], "big")
            assert size > (125 if width == 2 else 65535), "the shortest way"
            start += width
        key, masked = data[start : start + 4], data[start + 4 : start + 4 + size]
        assert len(masked) == size
        frames.append((data[pos] & 0xF, bytes(byte ^ key[i % 4] for i, byte in enumerate(masked)), key))
        pos = start + 4 + size
    return frames


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from([TEXT, BINARY, CLOSE, PING, PONG]), sizes), max_size=6))
def test_frames_come_out_as_they_went_in(frames):
    """All lengths, all opcodes, each masked with the key that it names."""
    sent = [(opcode, os.urandom(size)) for opcode, size in frames]

    assert [(opcode, payload) for opcode, payload, _ in decode(encode_frames(sent))] == sent


def test_every_frame_has_a_key_of_its_own():
    """The same payload looks different each time."""
    keys = [key for _, _, key in decode(encode_frames([(TEXT, b"same")] * 1000))]

    assert len(set(keys)) > 990
    for bit in range(32):
        ones = sum(int.from_bytes(key, "big") >> bit & 1 for key in keys)
        assert 350 < ones < 650, "each of the 32 bits is as often set as not"


def test_two_processes_do_not_send_the_same_keys():
    """The keys do not begin at the same place after every start."""
    code = "from rig.transport.writer import encode_frames; print(encode_frames([(1, b'')] * 4).hex())"
    outputs = {subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout for _ in range(2)}

    assert len(outputs) == 2


def test_frames_stay_in_order_when_the_kernel_takes_only_a_part():
    """What goes to the kernel at once, and what has to wait, are one stream."""

    async def test():
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
        writer = FrameWriter(transport)
        sent = [(BINARY, bytes([number]) * 100_000) for number in range(20)]
        for one in sent:
            writer.write([one])
        assert transport.get_write_buffer_size() > 0, "the kernel cannot have taken all"
        received = b""
        theirs.setblocking(False)
        while len(received) < 20 * (100_000 + 14):
            received += await loop.sock_recv(theirs, 1 << 20)
        assert [(opcode, payload) for opcode, payload, _ in decode(received)] == sent

        transport.close()
        writer.write([(TEXT, b"too late")])
        assert await loop.sock_recv(theirs, 100) == b""
        theirs.close()
        await until(lambda: ours.fileno() == -1)

    run(test)
