"""The memory: its bytes to the letter, and what is refused."""

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rig.ring import Producer, Progress, RingMemory
from rig.ring.layout import CONTROL, HEAD, HEADER_SIZE, TAIL, record_size, slot_size

ROOT = Path(__file__).parents[2]


@pytest.fixture
def with_lanes() -> Iterator[RingMemory]:
    memory = RingMemory.create(64 * 1024, lanes=3)
    yield memory
    memory.close()


def test_control_region_has_these_bytes(with_lanes: RingMemory) -> None:
    """The first bytes of a ring's memory are the magic, the version, the lanes, the capacity and the data offset."""
    assert with_lanes.data[:32].hex(" ", 4) == "72696720 72696e67 01000000 03000000 00000100 00000000 00200000 00000000"
    assert len(with_lanes.data) == 8192 + 64 * 1024


def test_record_has_these_bytes(memory: RingMemory) -> None:
    """A record is its header, its payload and up to seven bytes to the next multiple of eight."""
    Producer(memory).put(b"hello", kind=0x0102, count=3, time_ns=0x1122334455667788)

    assert memory.data[4096 : 4096 + 29].hex(" ", 4) == "05 00000002 01000003 00000000 00000088 77665544 33221168 656c6c6f"
    assert memory.data[128:136].hex() == "2000000000000000"
    assert memory.data[256:264].hex() == "0000000000000000"


def test_note_has_these_bytes(memory: RingMemory) -> None:
    """The note of the record before, that of the latest, and where the ring ended before that, follow the tail."""
    producer = Producer(memory)
    producer.put(b"", kind=1, note=5)
    producer.put(b"", kind=1, note=6)

    assert memory.data[128:160].hex(" ", 8) == "3000000000000000 0500000000000000 0600000000000000 1800000000000000"


def test_padding_has_these_bytes(memory: RingMemory) -> None:
    """The rest of the buffer is filled by a record of kind 0 that runs to its end."""
    memory.words[TAIL] = memory.words[HEAD] = 64 * 1024 - 40

    Producer(memory).put(b"x" * 40, kind=1)

    assert memory.data[4096 + 64 * 1024 - 40 :][:24].hex(" ", 4) == "10000000 00000000 00000000 00000000 00000000 00000000"
    assert memory.data[4096:4104].hex(" ", 4) == "28000000 01000000"
    assert memory.words[TAIL] == 64 * 1024 + 64


def test_progress_slot_has_these_bytes(with_lanes: RingMemory) -> None:
    """A slot is the record's position plus one, then a word and a mark for each lane; slots are whole cache lines."""
    words = Progress(with_lanes).open(0x40)
    words[0], words[1], words[2] = 1, 2, 3
    Progress(with_lanes).take_over()

    slot = with_lanes.data[384 : 384 + 32]
    assert slot.hex(" ", 4) == "41000000 00000000 00000000 02000000 02000000 03000000 00000000 05000000"
    assert [slot_size(lanes) for lanes in (1, 7, 8, 256)] == [64, 64, 128, 2112]


def test_cursors_are_aligned_and_on_lines_of_their_own() -> None:
    """Neither cursor shares a pair of cache lines with anything else."""
    assert (TAIL * 8 % 128, HEAD * 8 % 128, (HEAD - TAIL) * 8) == (0, 0, 128)
    assert CONTROL.size <= TAIL * 8


@pytest.mark.parametrize(("length", "size"), [(0, 24), (1, 32), (8, 32), (9, 40)])
def test_record_takes_a_multiple_of_eight_bytes(length: int, size: int) -> None:
    """Every record starts at a multiple of eight."""
    assert record_size(length) == size


@pytest.mark.parametrize("capacity", [0, -65536, 32 * 1024, 65537, 96 * 1024, 1 << 33])
def test_capacity_is_a_power_of_two_from_64_kib(capacity: int) -> None:
    """A capacity that cannot be is refused with a sentence that says what can."""
    with pytest.raises(ValueError, match="choose a power of two"):
        RingMemory.create(capacity)


@pytest.mark.parametrize("lanes", [-1, 65537])
def test_number_of_lanes_is_limited(lanes: int) -> None:
    """A number of lanes that cannot be is refused."""
    with pytest.raises(ValueError, match="lanes are not possible"):
        RingMemory.create(64 * 1024, lanes=lanes)


def test_attach_maps_the_same_memory(with_lanes: RingMemory) -> None:
    """What one mapping stores the other reads."""
    other = RingMemory.attach(os.dup(with_lanes.fd))

    Producer(other).put(b"seen", kind=1)

    assert (other.capacity, other.lanes, other.max_payload) == (64 * 1024, 3, 8192)
    assert with_lanes.data[with_lanes.data_offset + HEADER_SIZE :][:4] == b"seen"
    other.close()


def test_who_only_watches_sees_what_is_in_use(ring) -> None:
    """The memory itself says how full the ring is, to a process that is at neither end."""
    ring.producer.put(b"x", kind=1)
    ring.producer.put(b"y", kind=1)
    assert ring.memory.used_bytes == 64

    ring.consumer.commit(ring.consumer.poll(1)[0])

    assert ring.memory.used_bytes == 32


def test_attach_takes_the_descriptor_out_of_inheritance(memory: RingMemory) -> None:
    """A descriptor that was inherited is not inherited further."""
    fd = os.dup(memory.fd)
    os.set_inheritable(fd, True)

    other = RingMemory.attach(fd)

    assert (os.get_inheritable(memory.fd), os.get_inheritable(other.fd)) == (False, False)
    other.close()


@pytest.mark.parametrize(
    ("offset", "stored", "message"),
    [
        (0, b"RIG", "is not the memory of a ring"),
        (8, b"\x02", "layout version 2, not 1"),
        (12, b"\xff\x00", "is damaged"),
        (12, b"\xff\xff\xff\xff", "lanes are not possible"),
        (18, b"\x02", "is damaged"),
        (18, b"\x03", "choose a power of two"),
        (25, b"\x20", "is damaged"),
    ],
)
def test_attach_refuses_what_is_not_a_ring(memory: RingMemory, offset: int, stored: bytes, message: str) -> None:
    """Memory of another kind, version or size is refused with a sentence, and its descriptor stays open."""
    memory.data[offset : offset + len(stored)] = stored

    with pytest.raises(ValueError, match=message):
        RingMemory.attach(memory.fd)

    assert os.fstat(memory.fd).st_size > 0


def test_attach_refuses_a_short_file() -> None:
    """A descriptor that is something else altogether is refused before it is mapped."""
    reader, writer = os.pipe()

    with pytest.raises(ValueError, match="it has 0 bytes"):
        RingMemory.attach(reader)

    os.close(reader)
    os.close(writer)


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="seals are of memfd")
def test_memory_cannot_be_shrunk_under_those_who_map_it(memory: RingMemory) -> None:
    """A process that has the descriptor cannot make the others die of SIGBUS."""
    assert fcntl.fcntl(memory.fd, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK

    with pytest.raises(PermissionError):
        os.ftruncate(memory.fd, 0)


def test_memory_without_memfd_is_a_file_without_a_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where memfd is missing an unlinked file works alike and leaves nothing behind."""
    monkeypatch.delattr(os, "memfd_create", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    memory = RingMemory.create(64 * 1024)
    other = RingMemory.attach(os.dup(memory.fd))
    Producer(memory).put(b"x", kind=1)

    assert list(tmp_path.iterdir()) == []
    assert (os.fstat(memory.fd).st_nlink, other.words[TAIL]) == (0, 32)
    other.close()
    memory.close()


def test_close_gives_everything_back(with_lanes: RingMemory) -> None:
    """After the close the descriptor is free, the words are unusable, and a second close does nothing."""
    words, fd = Progress(with_lanes).open(0), with_lanes.fd

    with_lanes.close()
    with_lanes.close()

    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    with pytest.raises(ValueError, match="released memoryview"):
        words[0] = 1
    with pytest.raises(ValueError, match="released memoryview"):
        Producer(with_lanes)


def test_child_gets_the_memory_by_its_descriptor_alone(memory: RingMemory) -> None:
    """A process started by exec attaches what it was passed, and needs no name for it."""
    code = "import sys; from rig.ring import *; Producer(RingMemory.attach(int(sys.argv[1]))).put(b'from the child', kind=7)"

    subprocess.run([sys.executable, "-c", code, str(memory.fd)], pass_fds=[memory.fd], cwd=ROOT, check=True, timeout=30)

    assert memory.data[memory.data_offset + HEADER_SIZE :][:14] == b"from the child"
