"""A ring of variable-length records in shared memory, from one process to one other. `rig.ring.layout` is the document."""

from rig.ring.consumer import Consumer, Record
from rig.ring.doorbell import Doorbell
from rig.ring.layout import POLL_LIMIT, READ_AHEAD, RingMemory
from rig.ring.producer import Producer
from rig.ring.progress import InHand, Progress, TakeOver

__all__ = ["POLL_LIMIT", "READ_AHEAD", "Consumer", "Doorbell", "InHand", "Producer", "Progress", "Record", "RingMemory", "TakeOver"]
