"""
What an operator may see of a run and do to it: the supervisor's side of the admin API.

What must stay true: whoever asks gets an answer, however the io processes are; nothing here holds up the supervisor.
"""

import asyncio
import itertools
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from rig.admin.run import Dump, Rotation, TopicState
from rig.control import DumpFlight, Endpoints, FlightDumped, FromChild, ListTopics, Rotate, Rotated, State, Topics
from rig.counters import Page
from rig.supervisor.child import Child, Died
from rig.supervisor.memory import SharedMemory
from rig.supervisor.status import Link, Status, millis

_CHANGES_KEPT = 20
_SILENT = "the io process did not answer, or was started again meanwhile"
_LISTED_WITHIN, _DUMPED_WITHIN, _ROTATED_WITHIN = 5.0, 10.0, 240.0
"""Seconds that an io process has to answer."""


class Operations:
    """One run. It is told what the io processes say."""

    def __init__(
        self,
        app: str,
        ios: Sequence[Child],
        workers: Sequence[Child],
        memory: SharedMemory,
        *,
        state: Callable[[], State],
    ) -> None:
        """
        Look at a run.

        Args:
            app: The application's name.
            ios: The io processes, in the order of their pages.
            workers: The workers, likewise.
            memory: Counters and rings.
            state: Returns where the run stands.
        """
        self._app, self._ios, self._workers, self._memory = app, ios, workers, memory
        self._state = state
        self._status = Status(memory)
        self._shown = state()
        self._since = time.time()
        self._changes: dict[str, deque[dict[str, Any]]] = {child.name: deque(maxlen=_CHANGES_KEPT) for child in ios}
        self._states: dict[str, State] = {}
        self._endpoints: dict[str, Endpoints] = {}
        self._asked: dict[tuple[str, int], asyncio.Future[Any]] = {}
        self._numbers = itertools.count()

    def heard(self, child: Child, message: FromChild | Died) -> None:
        """Note what an io process says."""
        match message:
            case State():
                self._note_state(child.name, message)
            case Endpoints():
                self._endpoints[child.name] = message
            case Topics(request=request) | Rotated(request=request) | FlightDumped(request=request):
                self._answer((child.name, request), message)
            case Died():  # what it was asked, nobody will answer
                for key in [key for key in self._asked if key[0] == child.name]:
                    self._answer(key, None)
            case _:
                pass

    def status(self) -> Mapping[str, Any]:
        """Return where the run stands, as plain objects."""
        state, pages, links = self._state(), self._memory.io_pages, self._status.links()
        return {
            "app": self._app,
            "state": state.state,
            "reason": state.reason,
            "since": self._since,
            "topics": state.joined,
            "io": [self._io(child, page, link) for child, page, link in zip(self._ios, pages, links, strict=True)],
            "workers": [
                {
                    "name": child.name,
                    "pid": child.pid,
                    "ready": child.ready.is_set(),
                    "restarts": child.restarts,
                    "handled": worker.page.get("handled"),
                    "ring_fill": round(worker.fill, 4),
                }
                for child, worker in zip(self._workers, self._memory.workers, strict=True)
            ],
            "totals": msgspec.to_builtins(self._status.totals()),
            "stored": {
                "outbox": max(page.get("outbox_rows") for page in pages),  # each io process counts all that there are
                "dead_letters": sum(page.get("dead_letters") for page in pages),
                "spilled": sum(page.get("spill_backlog") for page in pages),
            },
        }

    async def topics(self) -> Sequence[TopicState]:
        """Return where all topics stand; of an io process that does not answer, none."""
        answers = await asyncio.gather(*(self._ask(child, ListTopics, within=_LISTED_WITHIN) for child in self._ios))
        return [
            TopicState(topic, state, child.name)
            for child, answer in zip(self._ios, answers, strict=True)
            if answer is not None
            for topic, state in answer.topics.items()
        ]

    async def rotate(self) -> Sequence[Rotation]:
        """Hand over to another connection in every io process, and return what has come of it when all are done."""
        answers = await asyncio.gather(*(self._ask(child, Rotate, within=_ROTATED_WITHIN) for child in self._ios))
        return [_rotation(child.name, answer) for child, answer in zip(self._ios, answers, strict=True)]

    async def dump_flight(self) -> Sequence[Dump]:
        """Write down what the flight recorder of every io process holds, and return where."""
        answers = await asyncio.gather(*(self._ask(child, DumpFlight, within=_DUMPED_WITHIN) for child in self._ios))
        return [
            Dump(child.name, "", _SILENT) if answer is None else Dump(child.name, answer.path, answer.error)
            for child, answer in zip(self._ios, answers, strict=True)
        ]

    def _note_state(self, name: str, state: State) -> None:
        before, self._states[name] = self._states.get(name), state
        if before is None or (before.state, before.reason) != (state.state, state.reason):
            self._changes[name].append({"at": time.time(), "state": state.state, "reason": state.reason})
        now = self._state()
        if now.state != self._shown.state:
            self._since = time.time()
        self._shown = now

    def _io(self, child: Child, page: Page, link: Link) -> dict[str, Any]:
        state, endpoints = self._states.get(child.name), self._endpoints.get(child.name)
        return {
            "name": child.name,
            "pid": child.pid,
            "restarts": child.restarts,
            **_fields(state),
            "heartbeat": {
                "rtt_ms": millis(link.rtt),
                "rtt_p50_ms": millis(link.rtt_p50),
                "rtt_p99_ms": millis(link.rtt_p99),
                "missed": link.heartbeats_missed,
            },
            "seconds": {name: round(seconds, 1) for name, seconds in link.seconds.items()},
            "reconnects": page.get("reconnects"),
            "reconnects_by_cause": dict(link.reconnects),
            "endpoints": msgspec.to_builtins(endpoints.endpoints) if endpoints else [],
            "changes": list(self._changes[child.name]),
        }

    async def _ask(self, child: Child, question: type[Rotate | ListTopics | DumpFlight], *, within: float) -> Any:
        """Return what an io process answers, None if it does not."""
        key = child.name, next(self._numbers)
        answer = self._asked[key] = asyncio.get_running_loop().create_future()
        try:
            if not child.ask(question(key[1])):
                return None
            async with asyncio.timeout(within):
                return await answer
        except TimeoutError:
            return None
        finally:
            self._asked.pop(key, None)

    def _answer(self, key: tuple[str, int], message: FromChild | None) -> None:
        answer = self._asked.pop(key, None)
        if answer is not None and not answer.done():
            answer.set_result(message)


def _fields(state: State | None) -> dict[str, Any]:
    return {} if state is None else msgspec.to_builtins(msgspec.structs.asdict(state))  # without the tag of its kind


def _rotation(name: str, answer: Rotated | None) -> Rotation:
    if answer is None:
        return Rotation(name, "", 0, 0.0, _SILENT)
    return Rotation(name, answer.endpoint, answer.topics, answer.seconds, answer.failure)
