"""What outlives a process: the state directory, and the outbox, dead letters, cursors and spilled events in it."""

from rig.store.connection import Sync
from rig.store.cursors import Cursors
from rig.store.dead_letters import DeadLetters, Letter, NewLetter
from rig.store.directory import Lock, StateDirectory
from rig.store.outbox import NewPush, Outbox, Row
from rig.store.rows import Counts
from rig.store.schema import SPILL, STATE, Schema
from rig.store.spill import Extent, Spill, SpillRow
from rig.store.store import Store

__all__ = [
    "SPILL",
    "STATE",
    "Counts",
    "Cursors",
    "DeadLetters",
    "Extent",
    "Letter",
    "Lock",
    "NewLetter",
    "NewPush",
    "Outbox",
    "Row",
    "Schema",
    "Spill",
    "SpillRow",
    "StateDirectory",
    "Store",
    "Sync",
]
