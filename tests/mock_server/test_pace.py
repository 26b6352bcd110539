"""The steady stream for latency measurements."""

import time
from typing import Any

from mock_server import MockServer


def test_pace_keeps_its_rate_and_says_when_each_event_was_due(run: Any, dial: Any, post: Any) -> None:
    """Times are the intended ones, a millisecond apart, whenever the ticks really came; numbers are contiguous per topic."""

    async def main() -> None:
        async with MockServer() as server:
            client = await dial(server.port)
            await client.join("room:a")
            await client.join("room:b", ref="2")
            before = time.monotonic_ns()
            body = {"topics": ["room:a", "room:b"], "event": "tick", "rate": 2_000, "seconds": 0.1, "size": 150}
            result = await post(f"{server.control_url}/pace", body)
            frames = [await client.receive() for _ in range(200)]
        messages = [frame.json for frame in frames]
        times = [message[4]["t"] for message in messages]
        assert result["sent"] == 200
        assert 0.09 < result["seconds"] < 1
        assert {len(frame.payload) for frame in frames} == {150}
        assert [(m[2], m[4]["i"]) for m in messages] == [(f"room:{'ab'[k % 2]}", k // 2) for k in range(200)]
        assert [t - times[0] for t in times] == [k // 2 * 1_000_000 for k in range(200)]
        assert before < times[0] < time.monotonic_ns()

    run(main())


def test_slow_pace_has_one_event_a_tick(run: Any, dial: Any, post: Any) -> None:
    """Below 1,000 a second events are spread evenly, not bundled."""

    async def main() -> None:
        async with MockServer() as server:
            client = await dial(server.port)
            await client.join("room:a")
            await post(f"{server.control_url}/pace", {"topics": ["room:a"], "rate": 50, "seconds": 0.1})
            times = [(await client.receive_json())[4]["t"] for _ in range(5)]
        assert [t - times[0] for t in times] == [k * 20_000_000 for k in range(5)]

    run(main())


def test_pace_without_an_event_is_refused(run: Any, post: Any) -> None:
    """A rate of nothing would never end."""

    async def main() -> None:
        async with MockServer() as server:
            answer = await post(f"{server.control_url}/pace", {"topics": ["room:a"], "rate": 0, "seconds": 1})
        assert "at least one event" in answer["error"]

    run(main())
