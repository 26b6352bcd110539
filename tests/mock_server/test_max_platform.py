"""The scenario `max`: snapshots, live updates, a history to resume from."""

from typing import Any

from mock_server import MockServer
from mock_server.max_platform import HISTORY_EVENTS

FIELDS = {
    "deployed": {"id", "app", "version", "at"},
    "scaled": {"id", "app", "instances", "at"},
    "health_changed": {"id", "app", "status", "at"},
    "link_changed": {"id", "network", "link", "up", "latency_ms", "at"},
    "changed": {"id", "name", "value", "previous", "by", "at"},
}
EVENTS = {
    "applications:1": {"deployed", "scaled", "health_changed"},
    "networks:1": {"link_changed"},
    "variables:1": {"changed"},
}


def test_live_updates_are_numbered_per_topic(run: Any, dial: Any) -> None:
    """Each kind of topic has its events, with all their fields, and no number is missing."""

    async def main() -> None:
        async with MockServer(scenario="max", rate=2_000) as server:
            client = await dial(server.port)
            for ref, topic in enumerate(EVENTS):
                await client.send(str(ref), str(ref), topic, "phx_join", {})
            seen: dict[str, int] = {}
            names: dict[str, set[str]] = {topic: set() for topic in EVENTS}
            while any(names[topic] != EVENTS[topic] for topic in EVENTS):
                _, _, topic, event, payload = await client.receive_json()
                if event == "phx_reply":
                    seen[topic] = payload["response"]["last_id"]
                    continue
                assert payload["id"] == seen[topic] + 1
                assert set(payload) == FIELDS[event]
                seen[topic] = payload["id"]
                names[topic].add(event)

    run(main())


def test_client_that_was_away_gets_what_it_missed(run: Any, dial: Any) -> None:
    """Joining with the last id seen replays the rest before any live update, and says what is too old to replay."""

    async def main() -> None:
        async with MockServer(scenario="max", rate=0) as server:
            writer = await dial(server.port, "/socket/websocket?vsn=2.0.0&user=ann")
            await writer.join("variables:1")
            for number in range(HISTORY_EVENTS + 5):
                await writer.send("1", None, "variables:1", "set", {"name": "LIMIT", "value": number})
            for _ in range(2 * (HISTORY_EVENTS + 5)):
                await writer.receive_json()

            reader = await dial(server.port)
            reply = await reader.join("variables:1", {"last_seen_id": HISTORY_EVENTS + 3})
            missed = [await reader.receive_json() for _ in range(2)]
            late = await dial(server.port)
            too_old = await late.join("variables:1", {"last_seen_id": 2})

        assert reply["response"]["replayed"] == 2
        assert reply["response"]["lost"] == 0
        assert [(m[0], m[3], m[4]["value"], m[4]["by"]) for m in missed] == [
            ("1", "changed", HISTORY_EVENTS + n, "ann") for n in (3, 4)
        ]
        assert (too_old["response"]["replayed"], too_old["response"]["lost"]) == (HISTORY_EVENTS, 3)

    run(main())


def test_set_changes_a_variable_for_everybody(run: Any, dial: Any) -> None:
    """The writer gets its reply behind the broadcast; others get the broadcast; the next snapshot has the value."""

    async def main() -> None:
        async with MockServer(scenario="max", rate=0) as server:
            writer, other = await dial(server.port), await dial(server.port)
            await writer.join("variables:1")
            await other.join("variables:1")
            await writer.send("1", "2", "variables:1", "set", {"name": "LIMIT", "value": 7})
            changed, reply = await writer.receive_json(), await writer.receive_json()
            assert changed == await other.receive_json()
            snapshot = await (await dial(server.port)).join("variables:1")

        assert changed[:4] == [None, None, "variables:1", "changed"]
        assert (changed[4]["value"], changed[4]["previous"]) == (7, None)
        assert reply == ["1", "2", "variables:1", "phx_reply", {"response": {}, "status": "ok"}]
        assert snapshot["response"]["state"] == [{"name": "LIMIT", "value": 7, "previous": None, "by": "anonymous"}]

    run(main())


def test_events_are_acknowledged(run: Any, dial: Any) -> None:
    """`ack` is answered on every kind of topic."""

    async def main() -> None:
        async with MockServer(scenario="max", rate=0) as server:
            client = await dial(server.port)
            for ref, topic in enumerate(EVENTS):
                await client.join(topic, ref=str(ref))
                await client.send(str(ref), "a", topic, "ack", {"id": 9})
                assert (await client.receive_json())[4] == {"response": {"id": 9}, "status": "ok"}

    run(main())


def test_reference_application_is_there_too(run: Any, dial: Any) -> None:
    """Scenarios come on top of it."""

    async def main() -> None:
        async with MockServer(scenario="max", rate=0) as server:
            client = await dial(server.port)
            assert (await client.join("room:lobby"))["status"] == "ok"

    run(main())
