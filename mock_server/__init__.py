"""
A mock Phoenix server that behaves as recorded from the real one: an instrument for tests, benchmarks and demonstrations.

It shares no code with `rig`, so a mistake in rig's codec cannot cancel itself out here.
"""

from mock_server.server import MockServer

__all__ = ["MockServer"]
