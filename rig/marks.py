"""
Marks: for each topic the newest cursor whose event is safe, in memory that outlives the io process. This page is the document.

One io process at a time has it. It is killed at any instruction, and its successor goes on from what is there.

       0  magic "rig mark"                     8 bytes
       8  topics                               u64      creator, once
      16  outlets                              u64
      24  lives                                u64      io processes that have begun on it
      64  positions, one per outlet            u64      of its events ring: up to here all cursors are in the marks
          keys, one per topic                  u64      a hash of the topic; 0: free
          states, one per topic                u64      0: none; 1: the number; 2, 3: the first, the second cell
          numbers, one per topic               i64
          cells, two per topic                 u16 length, then a text in UTF-8

What must stay true, for a kill between any two stores:

- A cursor becomes valid by one aligned 8-byte store: of the number if the number was valid before, else of the state, after what it
  names is written. A text goes into the cell that is not valid. So a killed writer leaves the mark before or the mark after, whole.
- A key is stored once, where the state is 0.

No fence is needed: nobody reads while somebody writes, and a process that is killed has done all its instructions up to one, none
after it. See `rig.ring.layout` for why such a store is one store.

Source: none; two cells of which one is valid are those of any crash-safe header.
"""

import hashlib
import mmap
import os
import struct

from rig.cursors import LONGEST, Cursor

MAGIC = b"rig mark"
POSITIONS = 64
CELL = -(-(2 + 4 * LONGEST) // 8) * 8
"""Bytes of a cell: the longest text in UTF-8, and its length."""
LEAST_TOPICS = 1024

_HEADER = struct.Struct("=8sQQ")
_LENGTH = struct.Struct("=H")
_LIVES = 24 // 8
_NONE, _NUMBER, _FIRST_CELL = 0, 1, 2


class Marks:
    """
    The marks of one io process, mapped.

    Attributes:
        fd: The descriptor to pass on; not inheritable by itself.
        topics: How many topics have room.
        positions: Words, one per outlet.
    """

    def __init__(self, fd: int, data: mmap.mmap) -> None:
        """Use memory that is known to be good; callers use `create` or `attach`."""
        self.topics: int
        _, self.topics, outlets = _HEADER.unpack_from(data)
        self.fd, self._data = fd, data
        words = memoryview(data)
        keys = POSITIONS + 8 * outlets
        states, numbers = keys + 8 * self.topics, keys + 16 * self.topics
        self._cells: int = keys + 24 * self.topics
        self._head = words[:POSITIONS].cast("Q")
        self.positions = words[POSITIONS:keys].cast("Q")
        self._keys, self._states = words[keys:states].cast("Q"), words[states:numbers].cast("Q")
        self._numbers = words[numbers : self._cells].cast("q")
        words.release()
        self._places: dict[int, int] = {key: place for place, key in enumerate(self._taken())}

    @classmethod
    def create(cls, topics: int, outlets: int) -> "Marks":
        """
        Make marks without a topic in anonymous memory; pages that are never written take none.

        Args:
            topics: How many are known. There is room for twice as many, for those that are joined later.
            outlets: Workers.

        Raises:
            OSError: If the system has no descriptor or no memory left.
        """
        room = max(LEAST_TOPICS, 2 * topics)
        size = POSITIONS + 8 * outlets + room * (24 + 2 * CELL)
        fd = os.memfd_create("rig-marks", os.MFD_CLOEXEC)
        try:
            os.ftruncate(fd, size)
            data = mmap.mmap(fd, size)
        except BaseException:
            os.close(fd)
            raise
        _HEADER.pack_into(data, 0, MAGIC, room, outlets)
        return cls(fd, data)

    @classmethod
    def attach(cls, fd: int) -> "Marks":
        """
        Map marks that another process made; `close` closes the descriptor too.

        Raises:
            ValueError: If the descriptor is not that of marks. It stays open.
            OSError: If it is not open or cannot be mapped.
        """
        data = mmap.mmap(fd, os.fstat(fd).st_size)
        if data[:8] != MAGIC:
            data.close()
            raise ValueError(f"descriptor {fd} has no marks: pass on the `fd` of a Marks")
        os.set_inheritable(fd, False)
        return cls(fd, data)

    def close(self) -> None:
        """Unmap them and close the descriptor."""
        for words in (self._head, self.positions, self._keys, self._states, self._numbers):
            words.release()
        self._data.close()
        os.close(self.fd)

    def begin(self) -> int:
        """Count a life, and return how many there were before."""
        before = int(self._head[_LIVES])
        self._head[_LIVES] = before + 1
        return before

    def place(self, topic: str) -> int | None:
        """Return the place of a topic, None if it has none."""
        return self._places.get(_key(topic))

    def take_place(self, topic: str) -> int | None:
        """Return the place of a topic, a new one if it has none; None if there is no room."""
        key = _key(topic)
        place = self._places.get(key)
        if place is None and len(self._places) < self.topics:
            place = len(self._places)
            self._keys[place] = key
            self._places[key] = place
        return place

    def get(self, place: int) -> Cursor | None:
        """Return the cursor at a place, None if there is none yet."""
        state = self._states[place]
        if state == _NONE:
            return None
        if state == _NUMBER:
            return int(self._numbers[place])
        at = self._cell(place, state)
        (length,) = _LENGTH.unpack_from(self._data, at)
        return self._data[at + 2 : at + 2 + length].decode()

    def set(self, place: int, cursor: Cursor) -> None:
        """Replace the cursor at a place; one that is not a `Cursor` of `rig.cursors` must not come here."""
        states = self._states
        if isinstance(cursor, int):
            self._numbers[place] = cursor
            if states[place] != _NUMBER:
                states[place] = _NUMBER
            return
        state = _FIRST_CELL + 1 if states[place] == _FIRST_CELL else _FIRST_CELL
        text = cursor.encode()
        at = self._cell(place, state)
        _LENGTH.pack_into(self._data, at, len(text))
        self._data[at + 2 : at + 2 + len(text)] = text
        states[place] = state

    def _cell(self, place: int, state: int) -> int:
        return self._cells + CELL * (2 * place + state - _FIRST_CELL)

    def _taken(self) -> list[int]:
        keys: list[int] = self._keys.tolist()
        return keys[: keys.index(0)] if 0 in keys else keys


def _key(topic: str) -> int:
    """Return a hash that no two topics of a run share, never 0."""
    digest = hashlib.blake2b(topic.encode(errors="surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little") or 1
