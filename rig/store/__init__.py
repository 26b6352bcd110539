"""What outlives a process: the state directory, and the outbox, dead letters, cursors and spilled events in it."""

from rig.store.directory import Lock, StateDirectory

__all__ = ["Lock", "StateDirectory"]
