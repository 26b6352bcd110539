"""
The children of a run: what each is called, and which rings, topics and counters are its own.

What must stay true: a child inherits the descriptors that its specification names, and no other.
"""

import secrets
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import structlog

from rig.config import Settings
from rig.control import FromChild, IoSpec, RingsFds, RouteSpec, WorkerSpec
from rig.routing import rendezvous
from rig.supervisor.child import Child, Died
from rig.supervisor.memory import SharedMemory
from rig.worker.describe import Description

Heard = Callable[[Child, FromChild | Died], None]

log = structlog.get_logger()


def make_workers(settings: Settings, memory: SharedMemory, heard: Heard) -> list[Child]:
    """
    Make the workers, and start none.

    Args:
        settings: As the run has them.
        memory: What belongs to each.
        heard: Called with all that they say.

    Raises:
        Nothing.
    """
    workers = []
    for index, worker in enumerate(memory.workers):
        spec = WorkerSpec(settings, index, worker.fds, worker.page.fd, worker.stacks)
        fds = (*_flat(worker.fds), worker.page.fd, worker.stacks)
        workers.append(Child(f"worker-{index}", "rig.worker", spec, fds, heard))
    return workers


def make_ios(settings: Settings, description: Description, memory: SharedMemory, heard: Heard) -> list[Child]:
    """
    Make the io processes, and start none; one without a topic is warned of.

    Args:
        settings: As the run has them.
        description: For routes and topics.
        memory: What belongs to each.
        heard: Called with all that they say.

    Raises:
        Nothing.
    """
    ios = []
    routes = [RouteSpec(route.topic, route.event, route.key, route.overflow, route.cursor) for route in description.routes]
    gaps = bool(description.gap_callbacks)
    joins = _spread(description.joins, settings.io_processes)
    run = secrets.randbits(32)
    for index, (page, marks) in enumerate(zip(memory.io_pages, memory.io_marks, strict=True)):
        name = "io" if settings.io_processes == 1 else f"io-{index}"
        rings = [worker.fds[index] for worker in memory.workers]
        spec = IoSpec(settings, name, index, joins[index], routes, rings, page.fd, run, marks.fd, gaps)
        ios.append(Child(name, "rig.io", spec, (*_flat(rings), page.fd, marks.fd), heard))
        if settings.io_processes > 1 and not joins[index]:
            log.warning("no topic falls to this io process: fewer --io-processes would do", name=name)
    return ios


def _spread(joins: Mapping[str, Any], io_processes: int) -> list[dict[str, Any]]:
    """Return for each io process its own topics, in the order in which they were declared."""
    spread: list[dict[str, Any]] = [{} for _ in range(io_processes)]
    for topic, payload in joins.items():
        spread[rendezvous(topic, io_processes)][topic] = payload
    return spread


def _flat(rings: Iterable[RingsFds]) -> list[int]:
    return [fd for one in rings for fd in one.all()]
