"""
The memory of a ring: every offset, and what orders the stores. This page is the document.

One producer process and one consumer process map the same anonymous memory. Every word has a single writer, named below.
Numbers are in the machine's own byte order (little-endian on everything rig runs on); both sides run on one machine.

       0  ┌────────────────────────────────────────────────────────────────────────┐
          │ 0   magic "rig ring"     8 bytes                                       │
          │ 8   version              u32      12  lanes              u32           │  creator, once
          │ 16  capacity             u64      24  data offset        u64           │
     128  ├────────────────────────────────────────────────────────────────────────┤
          │ 0   tail                 u64      end of what is published             │  producer
          │ 8   note                 u64      24  note's tail          u64         │
          │ 16  next note            u64                                           │
     256  ├────────────────────────────────────────────────────────────────────────┤
          │ head                     u64      end of what is committed             │  consumer
     384  ├────────────────────────────────────────────────────────────────────────┤
          │ progress: READ_AHEAD slots of `slot_size(lanes)` bytes; none if lanes is 0 │  consumer
          │   0            tag       u64      position of the record + 1; 0: free  │
          │   8            words     u32, one per lane                             │  see `rig.ring.progress`
          │   8 + 4·lanes  marks     u32, one per lane                             │
    data  ├────────────────────────────────────────────────────────────────────────┤  a multiple of 4096
  offset  │ records          `capacity` bytes, a power of two                      │  producer
          └────────────────────────────────────────────────────────────────────────┘

A position counts bytes since the ring was made and never wraps; its offset in the buffer is `position % capacity`. So
`tail - head` is what is in use, and a position names a record for good. Two cache lines lie between the cursors, because the
processor prefetches lines in pairs.

A record can carry a note for the producer's successor: a number that the ring itself does not look at. It is `next note` if the
tail has moved on from `note's tail`, else `note`: so it becomes valid by the very store that publishes the record. The order of
stores is: note := next note, note's tail := tail, next note := the new one, tail.

A record starts at a multiple of 8 and never wraps:

       0  length     u32      payload bytes
       4  kind       u16      1 … 65535 are the caller's; 0 is padding
       6  flags      u16      0 in this version
       8  count      u32      events in the payload
      12  reserved   u32      0
      16  time_ns    u64      CLOCK_MONOTONIC when the payload was received
      24  payload    `length` bytes, then 0 to 7 bytes that mean nothing

Where the rest of the buffer is too short for the next record, a padding record fills it; a rest shorter than a header is
skipped by both sides without one. Padding and the record after it become visible by one store of the tail.

What must stay true:

- *The store of a cursor is one store.* Assigning to an item of a memoryview of format `Q` is a `memcpy` of constant size 8 in
  CPython (`pack_single`), which compilers turn into one 8-byte `mov` (x86-64) or `str` (aarch64); both are atomic when aligned,
  and every cursor is. The same holds for format `I` and 4 bytes. `struct.pack_into` zeroes a field before it fills it: no cursor
  is ever stored with it.
- *The bytes of a record are visible before the tail that covers them, and are read after it.* On x86-64 the processor sees to
  it: stores are not reordered with older stores, nor loads with older loads; a string move as in `memcpy` may reorder inside
  itself, not with a later plain store. Elsewhere (aarch64) `fence` stands between the two, on both sides.
- *Nothing is overwritten while it is read.* The consumer copies a payload before it stores the head, and the producer loads the
  head before it writes: a load followed by a store, in order on x86-64, with a `fence` between them elsewhere.

Source: Aeron, `SpscRingBuffer` and `RingBufferDescriptor`; Intel SDM vol. 3A, "Memory Ordering"; CPython, Objects/memoryobject.c.
"""

import contextlib
import fcntl
import mmap
import os
import platform
import struct
import tempfile
import threading
from typing import Literal

MAGIC = b"rig ring"
VERSION = 1
CONTROL = struct.Struct("=8sIIQQ")
"""Magic, version, lanes, capacity, data offset; at offset 0."""

TAIL = 128 // 8
HEAD = 256 // 8
"""Where the cursors are in `RingMemory.words`."""
NOTE, NOTE_NEXT, NOTE_TAIL = TAIL + 1, TAIL + 2, TAIL + 3
"""Where the producer's note is."""

PROGRESS_OFFSET = 384
READ_AHEAD = 64
"""Records that a worker may hold without having committed them: as many slots of progress there are."""
POLL_LIMIT = 4
"""Records that one poll copies, unless told otherwise."""

RECORD = struct.Struct("=IHHIIQ")
"""Length, kind, flags, count, reserved, time_ns."""
HEADER_SIZE = RECORD.size
ALIGNMENT = 8
PADDING = 0
"""The kind of a record that only fills the end of the buffer."""

MIN_CAPACITY = 64 * 1024
MAX_CAPACITY = 1 << 32
MAX_LANES = 1 << 16
PAGE_SIZE = 4096

ORDERED_BY_PROCESSOR = platform.machine() in {"x86_64", "AMD64"}
"""True where the processor itself keeps the order of stores and of loads; elsewhere `fence` does."""

_FENCE = threading.Lock()


class RingMemory:
    """
    The shared memory of one ring, mapped.

    It is anonymous: a memfd, or an unlinked file where memfd is missing. It reaches another process as an inherited descriptor
    (`pass_fds` of subprocess) and is gone with the last process that has it.

    Attributes:
        fd: The descriptor to pass on; not inheritable by itself.
        capacity: Bytes for records.
        lanes: Lanes whose progress is kept, 0 for a ring without progress.
        max_payload: The largest payload in bytes, an eighth of the capacity.
        data: The whole mapping. Slices of it copy.
        data_offset: Where in `data` the records start.
        words: The control region as 8-byte words; `words[TAIL]` and `words[HEAD]` are the cursors.
    """

    def __init__(self, fd: int, data: mmap.mmap) -> None:
        """
        Use memory that is known to be good; callers use `create` or `attach`.

        Args:
            fd: The descriptor, owned from now on.
            data: Its mapping, owned from now on.

        Raises:
            struct.error: If `data` is shorter than the control region.
        """
        _, _, lanes, capacity, data_offset = CONTROL.unpack_from(data)
        self.fd = fd
        self.capacity: int = capacity
        self.lanes: int = lanes
        self.max_payload: int = capacity // 8
        self.data = data
        self.data_offset: int = data_offset
        self._views: list[memoryview] = []
        self.words = self.view(0, data_offset, "Q")

    @classmethod
    def create(cls, capacity: int, *, lanes: int = 0) -> "RingMemory":
        """
        Make the memory of an empty ring.

        Args:
            capacity: Bytes for records: a power of two from 64 KiB to 4 GiB. Pages are taken as they are first written.
            lanes: Lanes of the consumer whose progress inside a record is to be kept; 0 for none.

        Raises:
            ValueError: If `capacity` or `lanes` is out of range.
            OSError: If the system has no descriptor or no memory left.
        """
        _check_shape(capacity, lanes)
        data_offset = _data_offset(lanes)
        fd = _anonymous_file(data_offset + capacity)
        try:
            data = mmap.mmap(fd, data_offset + capacity)
        except BaseException:
            os.close(fd)
            raise
        CONTROL.pack_into(data, 0, MAGIC, VERSION, lanes, capacity, data_offset)
        return cls(fd, data)

    @classmethod
    def attach(cls, fd: int) -> "RingMemory":
        """
        Map memory that another process made; `close` closes the descriptor too.

        Args:
            fd: The inherited descriptor. It is made non-inheritable, so that it goes no further by accident.

        Raises:
            ValueError: If this is not the memory of a ring, or that of another version or size. The descriptor stays open.
            OSError: If `fd` is not open or cannot be mapped.
        """
        size = os.fstat(fd).st_size
        if size < PAGE_SIZE:
            raise ValueError(f"descriptor {fd} is not the memory of a ring: it has {size} bytes; pass on the `fd` of a RingMemory")
        data = mmap.mmap(fd, size)
        try:
            _check_control(fd, data, size)
        except BaseException:
            data.close()
            raise
        os.set_inheritable(fd, False)
        return cls(fd, data)

    @property
    def used_bytes(self) -> int:
        """Bytes between the head and the tail, for whoever watches; either cursor may move meanwhile."""
        return max(int(self.words[TAIL]) - int(self.words[HEAD]), 0)

    @property
    def consumer_mark(self) -> int:
        """Another number whenever the consumer has got on, by a record or inside one, for whoever watches; not how far."""
        return hash((int(self.words[HEAD]), self.data[PROGRESS_OFFSET : self.data_offset]))

    def view(self, offset: int, size: int, form: Literal["Q", "I"]) -> memoryview:
        """
        Give a part of the memory as words; it is released by `close`.

        Args:
            offset: Where it starts, a multiple of the word's size.
            size: Its length in bytes, a multiple of the word's size.
            form: The word's format: "Q" for 8 bytes, "I" for 4.

        Raises:
            ValueError: If the memory is closed.
            TypeError: If `size` does not divide into words.
        """
        with memoryview(self.data) as whole, whole[offset : offset + size] as part:
            words = part.cast(form)
        self._views.append(words)
        return words

    def close(self) -> None:
        """
        Unmap the memory and close the descriptor; other processes keep theirs.

        Every view that was handed out becomes unusable. A second call does nothing.

        Raises:
            BufferError: If somebody still has a view of their own over `data`.
        """
        if self.fd < 0:
            return
        for view in self._views:
            view.release()
        self._views.clear()
        self.data.close()
        os.close(self.fd)
        self.fd = -1


def fence() -> None:
    """
    Keep every load and store before it before every one after it.

    Python has no fence, but its locks have: unlocking orders all that came before it, locking all that comes after, and a
    locking is not reordered with the unlocking before it. For processors that do not keep the order themselves.

    Raises:
        Nothing.

    Source: Arm Architecture Reference Manual, B2.3, "Barrier-ordered-before": a release followed by an acquire.
    """
    with _FENCE:
        pass
    with _FENCE:
        pass


def slot_size(lanes: int) -> int:
    """
    Return the bytes of one progress slot: tag, words and marks, a multiple of a cache line.

    Args:
        lanes: Lanes of the ring.

    Raises:
        Nothing.
    """
    return -(-(8 + 8 * lanes) // 64) * 64


def record_size(length: int) -> int:
    """
    Return the bytes that a record takes in the buffer.

    Args:
        length: Payload bytes.

    Raises:
        Nothing.
    """
    return (HEADER_SIZE + length + ALIGNMENT - 1) & -ALIGNMENT


def _data_offset(lanes: int) -> int:
    control = PROGRESS_OFFSET + (READ_AHEAD * slot_size(lanes) if lanes else 0)
    return -(-control // PAGE_SIZE) * PAGE_SIZE


def _check_shape(capacity: int, lanes: int) -> None:
    if not MIN_CAPACITY <= capacity <= MAX_CAPACITY or capacity & (capacity - 1):
        raise ValueError(f"a ring of {capacity} bytes is not possible: choose a power of two from {MIN_CAPACITY} to {MAX_CAPACITY}")
    if not 0 <= lanes <= MAX_LANES:
        raise ValueError(f"{lanes} lanes are not possible: choose 0 to {MAX_LANES}")


def _check_control(fd: int, data: mmap.mmap, size: int) -> None:
    magic, version, lanes, capacity, data_offset = CONTROL.unpack_from(data)
    if magic != MAGIC:
        raise ValueError(f"descriptor {fd} is not the memory of a ring: it starts with {magic!r}; pass on the `fd` of a RingMemory")
    if version != VERSION:
        raise ValueError(f"the ring has layout version {version}, not {VERSION}: start all processes from one installation")
    _check_shape(capacity, lanes)
    if data_offset != _data_offset(lanes) or data_offset + capacity != size:
        raise ValueError(f"the ring's memory is damaged: {size} bytes do not fit a capacity of {capacity} with {lanes} lanes")


def _anonymous_file(size: int) -> int:
    """Make a file without a name. A memfd is sealed: nobody can shrink it under a process that has it mapped."""
    if not hasattr(os, "memfd_create"):
        return _unlinked_file(size)
    fd = os.memfd_create("rig-ring", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, size)
        with contextlib.suppress(OSError):  # a sandbox may not know seals; the ring works without
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _unlinked_file(size: int) -> int:
    """Make a file in the temporary directory that has lost its name before anything is written to it."""
    fd, path = tempfile.mkstemp(prefix="rig-ring-")
    try:
        os.unlink(path)
        os.ftruncate(fd, size)
    except BaseException:
        os.close(fd)
        raise
    return fd
