"""When rows of the outbox may be sent beside the live traffic."""

import asyncio
from collections.abc import Callable

import pytest

from rig.io.gate import Gate
from tests.running import until

BESIDE = 2_500


class World:
    """What a gate looks at."""

    def __init__(self) -> None:
        self.now, self.unsent, self.deaf, self.overdue, self.events = 0.0, 0, False, False, 0

    def gate(self) -> Gate:
        return Gate(
            unsent_bytes=lambda: self.unsent,
            deaf=lambda: self.deaf,
            overdue=lambda: self.overdue,
            events=lambda: self.events,
            clock=lambda: self.now,
        )

    def pass_time(self, seconds: float, events_a_second: float) -> None:
        self.now += seconds
        self.events += int(seconds * events_a_second)


async def is_open(gate: Gate) -> bool:
    """Say whether somebody who comes now is let through at once."""
    task = asyncio.create_task(gate.wait_open())
    await asyncio.sleep(0)
    through = task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return through


def test_nothing_is_sent_while_the_server_does_not_take_what_was_sent(run: Callable[..., None]) -> None:
    """Those who wait go on by themselves when it has."""

    async def main() -> None:
        world = World()
        gate = world.gate()
        assert await is_open(gate)
        world.unsent = 1024 * 1024
        waiting = [asyncio.create_task(gate.wait_open()) for _ in range(3)]
        await asyncio.sleep(0.02)
        assert not any(task.done() for task in waiting)
        world.unsent = 0
        await asyncio.gather(*waiting)

    run(main)


def test_nothing_is_sent_while_nothing_is_read(run: Callable[..., None]) -> None:
    """Its answer could not be heard, and would seem to be late."""

    async def main() -> None:
        world = World()
        gate = world.gate()
        world.deaf = True
        assert not await is_open(gate)
        world.deaf = False
        assert await is_open(gate)
        gate.close()

    run(main)


def test_nothing_is_sent_while_the_database_owes_too_much(run: Callable[..., None]) -> None:
    """Else all of that would be sent twice after a crash."""

    async def main() -> None:
        world = World()
        gate = world.gate()
        world.overdue = True
        assert not await is_open(gate)
        world.overdue = False
        assert await is_open(gate)
        gate.close()

    run(main)


@pytest.mark.parametrize(("rate", "held"), [(0, False), (5_000, False), (200_000, True)])
def test_few_rows_go_beside_many_events(run: Callable[..., None], rate: float, held: bool) -> None:
    """At full speed some thousand a second; beside less traffic, and in peace, as many as can."""

    async def main() -> None:
        world = World()
        gate = world.gate()
        world.pass_time(0.05, rate)  # until then nobody knows the rate
        sent = 0
        for _ in range(1_000):
            world.pass_time(0.001, rate)
            while sent < 50_000 and await is_open(gate):
                gate.sent(64)
                sent += 64
        gate.close()
        if held:
            assert 0.8 * BESIDE < sent < 1.2 * BESIDE
        else:
            assert sent >= 50_000

    run(main)


def test_rows_go_on_when_the_events_have_gone(run: Callable[..., None]) -> None:
    """Within a moment."""

    async def main() -> None:
        world = World()
        gate = world.gate()
        world.pass_time(0.1, 500_000)
        assert await is_open(gate)
        gate.sent(1_000)
        assert not await is_open(gate)
        world.pass_time(0.06, 0)
        assert await is_open(gate)
        gate.sent(1_000)
        assert await is_open(gate)
        gate.close()

    run(main)


def test_a_closed_gate_lets_nobody_through(run: Callable[..., None]) -> None:
    """Nor those who wait already."""

    async def main() -> None:
        world = World()
        gate = world.gate()
        world.unsent = 1024 * 1024
        waiting = asyncio.create_task(gate.wait_open())
        await asyncio.sleep(0)
        gate.close()
        world.unsent = 0
        await asyncio.sleep(0.02)
        assert not waiting.done()
        assert not await is_open(gate)
        waiting.cancel()
        await until(waiting.done)

    run(main)
