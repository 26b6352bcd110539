"""Real processes at both ends: millions of records with checksums, and SIGKILL at any moment."""

import random
import select
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest

from rig.ring import Consumer, Doorbell, Producer, RingMemory
from rig.ring.layout import HEAD, TAIL

PEER = Path(__file__).with_name("peer.py")
SEED = 20

Start = Callable[[str, int], "subprocess.Popen[str]"]


@pytest.fixture
def memory() -> Iterator[RingMemory]:
    memory = RingMemory.create(1 << 20)
    yield memory
    memory.close()


@pytest.fixture
def doorbell() -> Iterator[Doorbell]:
    doorbell = Doorbell.create()
    yield doorbell
    doorbell.close()


@pytest.fixture
def output(tmp_path: Path) -> Iterator[IO[str]]:
    """Give the file that the peers write to, one after the other."""
    with (tmp_path / "output").open("a+") as output:
        yield output


@pytest.fixture
def start(memory: RingMemory, doorbell: Doorbell, output: IO[str]) -> Iterator[Start]:
    """Give a function that starts a peer; whatever still runs after the test is killed."""
    peers: list[subprocess.Popen[str]] = []

    def start(role: str, number: int) -> "subprocess.Popen[str]":
        arguments = [sys.executable, str(PEER), role, str(memory.fd), str(number), *map(str, doorbell.fds)]
        fds = (memory.fd, *doorbell.fds)
        peers.append(subprocess.Popen(arguments, pass_fds=fds, stdout=output, stderr=subprocess.PIPE, text=True))
        return peers[-1]

    yield start
    for peer in peers:
        with peer:
            peer.kill()


def assert_ends_well(peer: "subprocess.Popen[str]", *, within: float) -> None:
    """Wait until a peer ends, and show what it complained of if it did."""
    _, complaint = peer.communicate(timeout=within)
    assert (peer.returncode, complaint) == (0, "")


@pytest.mark.parametrize("number", [1_000_000, pytest.param(4_000_000, marks=pytest.mark.slow)])
def test_records_cross_between_processes_unharmed(memory: RingMemory, start: Start, number: int) -> None:
    """Every record arrives once, in order, with the right checksum, and all room comes back."""
    consumer, producer = start("consume", number), start("produce", number)

    assert_ends_well(producer, within=110)
    assert_ends_well(consumer, within=30)

    assert memory.words[TAIL] > 10 * memory.capacity
    assert Producer(memory).used_bytes == 0


def test_consumer_killed_at_any_moment_loses_nothing(memory: RingMemory, start: Start, output: IO[str]) -> None:
    """Every record is read by somebody, in order; only those of a batch that was not committed are read twice."""
    number, rng, deaths = 300_000, random.Random(SEED), 0
    producer = start("produce", number)
    while producer.poll() is None:
        consumer, head = start("consume_logged", number), memory.words[HEAD]
        while memory.words[HEAD] == head and producer.poll() is None and consumer.poll() is None:
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.05))
        consumer.kill()
        deaths += consumer.wait(10) == -signal.SIGKILL
    assert_ends_well(producer, within=1)
    if Consumer(memory).pending:
        assert_ends_well(start("consume_logged", number), within=30)

    output.seek(0)
    end, repeated = 0, 0
    for first, last in (map(int, line.split()) for line in output):
        assert end - 64 <= first <= end
        repeated += first < end
        end = last
    assert (end, Producer(memory).used_bytes) == (number, 0)
    assert deaths >= 3
    assert repeated <= deaths


def test_producer_killed_at_any_moment_leaves_whole_records(memory: RingMemory, doorbell: Doorbell, start: Start) -> None:
    """What a killed producer published is whole and in order, and its successor writes on."""
    rng, consumer, last = random.Random(SEED), Consumer(memory), dict[int, int]()

    def read() -> None:
        for record in consumer.poll(64):
            assert record.time_ns == last.get(record.kind, -1) + 1
            assert record.payload == record.time_ns.to_bytes(4, "little") * (1 + record.time_ns % 200)
            assert zlib.crc32(record.payload) == record.count
            last[record.kind] = record.time_ns
            consumer.commit(record)

    for incarnation in range(1, 9):
        peer, until = start("append", incarnation), time.monotonic() + 20
        while time.monotonic() < until:
            select.select([doorbell.fd], [], [], 0.05)
            doorbell.clear()
            started = incarnation in last
            read()
            if incarnation in last and not started:
                until = time.monotonic() + rng.uniform(0.01, 0.1)
        peer.kill()
        assert peer.wait(10) == -signal.SIGKILL
    while consumer.pending:
        read()

    assert list(last) == list(range(1, 9))
