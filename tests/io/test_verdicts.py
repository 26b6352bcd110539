"""What became of rows, on its way to the database."""

import asyncio
from collections.abc import Callable

import pytest
import structlog

from rig.io import verdicts as module
from rig.io.verdicts import Verdicts
from tests.io.stored import BROKEN, FakeOutbox
from tests.running import until


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again at once."""
    monkeypatch.setattr(module, "_TRY_AGAIN", 0.001)


def test_what_gathers_while_the_database_writes_is_written_together(run: Callable[..., None]) -> None:
    """A commit for each would be some hundred a second."""

    async def main() -> None:
        outbox, calls = FakeOutbox(), []
        real = outbox.acknowledge

        async def acknowledge(ids: list[int]) -> None:
            calls.append(list(ids))
            await real(ids)

        outbox.acknowledge = acknowledge  # type: ignore[method-assign,assignment]
        ids = outbox.put("a", *range(100))
        verdicts = Verdicts(outbox)  # type: ignore[arg-type]
        verdicts.acknowledge(ids[0])
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        for id in ids[1:]:
            verdicts.acknowledge(id)
        await verdicts.settled()
        await verdicts.close(1)

        assert not outbox.rows
        assert [len(call) for call in calls] == [1, 99]

    run(main)


def test_nothing_is_forgotten_while_the_database_fails(run: Callable[..., None]) -> None:
    """It is tried again, loudly, until it is written; only then is it settled."""

    async def main() -> None:
        outbox = FakeOutbox()
        acknowledged, refused, late = outbox.put("a", 1, 2, 3)
        verdicts = Verdicts(outbox)  # type: ignore[arg-type]
        outbox.failure = BROKEN
        with structlog.testing.capture_logs() as logs:
            verdicts.acknowledge(acknowledged)
            verdicts.failed(refused, "no")
            verdicts.bury(late, "expired")
            settled = asyncio.create_task(verdicts.settled())
            await until(lambda: logs)
            assert len(outbox.rows) == 3
            assert not settled.done()
            outbox.failure = None
            await settled
        await verdicts.close(1)

        assert [(row.id, row.attempts, row.last_error) for row in outbox.rows.values()] == [(refused, 1, "no")]
        assert [(row.id, reason) for row, reason in outbox.buried] == [(late, "expired")]
        assert "disk is full" in logs[0]["reason"]

    run(main)


def test_too_much_that_waits_is_known(run: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the sending can stop."""
    monkeypatch.setattr(module, "_MANY", 3)

    async def main() -> None:
        outbox = FakeOutbox()
        verdicts = Verdicts(outbox)  # type: ignore[arg-type]
        outbox.gate.clear()
        for id in outbox.put("a", 1, 2):
            verdicts.acknowledge(id)
        assert not verdicts.many
        verdicts.acknowledge(outbox.put("a", 3)[0])
        assert verdicts.many
        outbox.gate.set()
        await verdicts.settled()
        assert not verdicts.many
        await verdicts.close(1)

    run(main)


def test_the_end_waits_for_the_database_but_not_for_ever(run: Callable[..., None]) -> None:
    """What could not be written is said: it will be sent a second time."""

    async def main() -> None:
        outbox = FakeOutbox()
        verdicts = Verdicts(outbox)  # type: ignore[arg-type]
        outbox.failure = BROKEN
        verdicts.acknowledge(outbox.put("a", 1)[0])
        with structlog.testing.capture_logs() as logs:
            await verdicts.close(0.02)

        assert logs[-1]["pushes"] == 1
        assert "sent a second time" in logs[-1]["event"]

    run(main)
