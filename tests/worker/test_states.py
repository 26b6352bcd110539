"""An application's `on_state` callbacks, as a worker calls them."""

import asyncio
import threading

import pytest
import structlog

from rig.app import State
from rig.records import encode_state
from rig.worker import states as states_module
from rig.worker.states import StateCallbacks
from tests.running import run, until

CONNECTED, OFFLINE = State("connected", "", 1.0, "connecting", "io", 3), State("offline", "refused", 2.0, "connected", "io", 0)


def test_callbacks_hear_every_change_one_after_the_other() -> None:
    """All of one change before any of the next, in the order of declaration; plain functions in a thread of their own."""

    async def test() -> None:
        heard, threads = [], set()

        async def slow(state: State) -> None:
            heard.append(("slow begins", state.state))
            await asyncio.sleep(0.005)
            heard.append(("slow ends", state.state))

        def plain(state: State) -> None:
            threads.add(threading.current_thread())
            heard.append(("plain", state.state))

        callbacks = StateCallbacks([slow, plain])
        for state in (CONNECTED, OFFLINE):
            callbacks.put(encode_state(state))
        await callbacks.close()

        assert heard == [(what, state) for state in ("connected", "offline") for what in ("slow begins", "slow ends", "plain")]
        assert threading.main_thread() not in threads

    run(test)


def test_a_callback_gets_the_state_as_it_was_told() -> None:
    """Every field."""

    async def test() -> None:
        heard: list[State] = []
        callbacks = StateCallbacks([heard.append])
        callbacks.put(encode_state(OFFLINE))
        await callbacks.close()
        callbacks.put(encode_state(CONNECTED))
        await callbacks.close()

        assert heard == [OFFLINE, CONNECTED]

    run(test)


def test_what_a_callback_raises_is_logged_and_ends_nothing() -> None:
    """The other callbacks hear of the change, and the one that raised hears of the next."""

    async def test() -> None:
        heard: list[str] = []

        async def broken(state: State) -> None:
            heard.append(f"broken {state.state}")
            raise RuntimeError("no mail server")

        callbacks = StateCallbacks([broken, lambda state: heard.append(state.state)])
        with structlog.testing.capture_logs() as logs:
            for state in (CONNECTED, OFFLINE):
                callbacks.put(encode_state(state))
            await callbacks.close()

        assert heard == ["broken connected", "connected", "broken offline", "offline"]
        assert [(entry["event"], entry["log_level"]) for entry in logs] == [("an on_state callback raised", "error")] * 2

    run(test)


def test_a_callback_that_does_not_end_keeps_no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has a moment at the end, and meanwhile only so many changes wait for it."""
    monkeypatch.setattr(states_module, "_LAST_CALLS", 0.02)

    async def test() -> None:
        started = asyncio.Event()

        async def stuck(state: State) -> None:
            started.set()
            await asyncio.Event().wait()

        callbacks = StateCallbacks([stuck])
        for _ in range(3000):
            callbacks.put(encode_state(OFFLINE))
        await until(started.is_set)
        assert len(callbacks._waiting) <= 1000
        with structlog.testing.capture_logs() as logs:
            await callbacks.close()
        assert [entry["event"] for entry in logs] == ["an on_state callback does not end, and is given up"]

    run(test)


def test_an_application_without_callbacks_has_no_task() -> None:
    """Nothing is decoded, and nothing is waited for."""

    async def test() -> None:
        callbacks = StateCallbacks([])
        callbacks.put(b"not even read")
        await callbacks.close()

    run(test)
