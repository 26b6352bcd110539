"""The lines in the log that say how a run does: one every few seconds, and one at its end."""

import asyncio
from collections.abc import Callable

import msgspec
import structlog

from rig.control import State
from rig.log import known
from rig.supervisor.status import Status, millis

log = structlog.get_logger()


async def tell_status(status: Status, state: Callable[[], State], interval: float) -> None:
    """
    Write a line after each interval, until cancelled.

    Args:
        status: What is counted; nobody else asks it for intervals.
        state: Returns where the connections stand.
        interval: Seconds; 0 writes none.

    Raises:
        Nothing.
    """
    while interval:
        await asyncio.sleep(interval)
        recent, totals, now = status.interval(), status.totals(), state()
        log.info(
            "status",
            state=now.state,
            **({"reason": now.reason} if now.reason else {}),
            topics=now.joined,
            rate=round(recent.rate),
            **_latency(recent.p50, recent.p99),
            handled=totals.handled,
            failed=totals.failed + totals.invalid,
            ring_percent=round(100 * recent.fill),
            **({"spill_backlog": totals.spill_backlog} if totals.spill_backlog else {}),
        )


def summarise(status: Status, *, recycled: int, waiting: int | None) -> None:
    """
    Write the last line: every count that is not 0. Of durable pushes, where there were any, what became of all.

    Args:
        status: What was counted.
        recycled: Workers that were replaced because of their age or size.
        waiting: Durable pushes that are left for the next run; None if that is not known.

    Raises:
        Nothing.
    """
    totals = status.totals()
    always = {"received", "handled"}
    if waiting or totals.durable_stored or totals.durable_acknowledged:
        always |= {"durable_stored", "durable_acknowledged", "durable_waiting"}
    counts = {**msgspec.to_builtins(totals), "durable_waiting": waiting}
    fields = known(**{name: value for name, value in counts.items() if value or name in always})
    latency = _latency(status.latency(0.5), status.latency(0.99))
    log.info("done", **fields, **({"recycled": recycled} if recycled else {}), unfinished=totals.unfinished, **latency)


def _latency(p50: float | None, p99: float | None) -> dict[str, float | None]:
    """Return the fields that say it; none where no event came."""
    return {} if p50 is None else {"p50_ms": millis(p50), "p99_ms": millis(p99)}
