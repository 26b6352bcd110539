"""
One end of a ring in a process of its own: `python peer.py ROLE MEMORY_FD NUMBER DOORBELL_FD...`, a role being a function here.

The payloads come from a pool that every process makes alike; a record's `count` is the CRC-32 of its payload and its `time_ns`
its number, so a reader needs nothing but the record to know whether it is whole and the right one.
"""

import os
import random
import select
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from rig.ring import Consumer, Doorbell, Producer, RingMemory

POOL = [(payload, zlib.crc32(payload)) for payload in map(random.Random(1).randbytes, [size % 97 for size in range(1021)])]
"""Payloads of 0 to 96 bytes; records of any length meet the end of the buffer."""
BATCH = 64


def produce(memory: RingMemory, doorbell: Doorbell, number: int) -> None:
    """Publish so many records, and ring once per batch."""
    producer = Producer(memory)
    put, fits, ring = producer.put, producer.fits, doorbell.ring
    for sequence in range(number):
        payload, checksum = POOL[sequence % len(POOL)]
        if sequence % BATCH == 0:
            ring()
            while not fits(BATCH * 128):
                time.sleep(0.001)
        put(payload, kind=1 + sequence % 7, count=checksum, time_ns=sequence)
    ring()


def consume(memory: RingMemory, doorbell: Doorbell, number: int, *, on_checked: Callable[[int, int], object] | None = None) -> None:
    """Check records until the number of the last is `number - 1`; begin with whatever is first; commit what is checked."""
    consumer = Consumer(memory)
    poller = select.poll()
    poller.register(doorbell.fd, select.POLLIN)
    expected, crc32 = -1, zlib.crc32
    while expected != number:
        if not consumer.pending:
            if not poller.poll(20_000):
                sys.exit(f"nothing came for 20 s after record {expected}")
            doorbell.clear()
        for record in (records := consumer.poll(BATCH)):
            if expected < 0:
                expected = record.time_ns
            if crc32(record.payload) != record.count or record.time_ns != expected or record.kind != 1 + expected % 7:
                sys.exit(f"record {expected} is wrong: {record}")
            expected += 1
        if records:
            if on_checked:
                on_checked(records[0].time_ns, expected)
            consumer.commit(records[-1])


def consume_logged(memory: RingMemory, doorbell: Doorbell, number: int) -> None:
    """As `consume`, but write the range of records to standard output before each commit."""
    consume(memory, doorbell, number, on_checked=lambda first, end: os.write(1, b"%d %d\n" % (first, end)))


def append(memory: RingMemory, doorbell: Doorbell, number: int) -> None:
    """Publish records of producer `number` until killed; half of them in two steps, slowly filled."""
    producer, sequence = Producer(memory), 0
    while True:
        payload = sequence.to_bytes(4, "little") * (1 + sequence % 200)
        if not producer.fits(len(payload)):
            doorbell.ring()
            time.sleep(0.0005)
            continue
        checksum = zlib.crc32(payload)
        if sequence % 2:
            at = producer.claim(len(payload))
            for offset, byte in enumerate(payload[:64]):
                memory.data[at + offset] = byte
            memory.data[at : at + len(payload)] = payload
            producer.publish(kind=number, count=checksum, time_ns=sequence)
        else:
            producer.put(payload, kind=number, count=checksum, time_ns=sequence)
        doorbell.ring()
        sequence += 1


if __name__ == "__main__":
    role, fd, amount, *bell = sys.argv[1:]
    roles = {function.__name__: function for function in (produce, consume, consume_logged, append)}
    roles[role](RingMemory.attach(int(fd)), Doorbell.attach(*map(int, bell)), int(amount))
