"""What channel modules may do beyond the reference application: intercept, push while they end, and how they are found."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import pytest

from mock_server import MockServer
from mock_server.channel import Channel, Handler, Outcome, Push, Reply, Stop
from mock_server.presence import Presence
from mock_server.scenarios import SCENARIOS, Reference

Run = Callable[[Any], None]


def _new_msg(channel: Channel, push: Push) -> Outcome:
    channel.broadcast("new_msg", push.payload)
    return Reply("ok")


def _stop(channel: Channel, push: Push) -> Outcome:
    return Stop(push.payload["reason"])


class Lobby(Channel):
    """Intercepts its own event, and says good-bye."""

    handlers: ClassVar[Mapping[str, Handler]] = {"new_msg": _new_msg, "stop": _stop}
    intercepts = frozenset({"new_msg"})

    def handle_out(self, event: str, payload: Any) -> None:
        self.push(event, {**payload, "for": self.join_ref})

    def terminate(self) -> None:
        self.push("you_left", {})


class Narrow(Channel):
    """Says which module answered."""

    def join(self, params: Any) -> Reply:
        return Reply("ok", {"module": type(self).__name__})


class Wide(Narrow):
    """The same under another name."""


class Lobbies(Reference):
    """A scenario with those channels."""

    routes = (("lobby:*", Lobby), ("foo*", Narrow), ("food*", Wide), ("exactly", Wide))


@pytest.fixture(autouse=True)
def _scenario(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SCENARIOS, "lobbies", Lobbies)


def test_intercepted_broadcast_is_a_push_of_each_channel(run: Run, dial: Any) -> None:
    """It carries the join_ref, and comes behind the reply to the message that caused it."""

    async def main() -> None:
        async with MockServer(scenario="lobbies") as server:
            sender, other = await dial(server.port), await dial(server.port)
            await sender.join("lobby:a", ref="1")
            await other.join("lobby:a", ref="7")
            await sender.send("1", "2", "lobby:a", "new_msg", {"n": 1})
            assert [(await sender.receive_json())[3] for _ in range(2)] == ["phx_reply", "new_msg"]
            assert await other.receive_json() == ["7", None, "lobby:a", "new_msg", {"n": 1, "for": "7"}]
            assert server.publish("lobby:a", "new_msg", {"n": 2}) == 2
            assert await sender.receive_json() == ["1", None, "lobby:a", "new_msg", {"n": 2, "for": "1"}]

    run(main())


@pytest.mark.parametrize(
    ("event", "payload", "expected"),
    [
        ("phx_leave", {}, ["phx_reply", "phx_close", "you_left"]),
        ("stop", {"reason": "shutdown"}, ["phx_close", "you_left"]),
        ("stop", {"reason": "boom"}, ["you_left", "phx_error"]),
    ],
)
def test_last_pushes_come_behind_a_close_and_before_an_error(
    event: str, payload: Any, expected: list[str], run: Run, dial: Any
) -> None:
    """A channel tells its socket that it closes before it cleans up; of a crash the socket learns when it is over."""

    async def main() -> None:
        async with MockServer(scenario="lobbies") as server:
            client = await dial(server.port)
            await client.join("lobby:a")
            await client.send("1", "2", "lobby:a", event, payload)
            assert [(await client.receive_json())[3] for _ in expected] == expected

    run(main())


def test_duplicate_join_cleans_the_old_channel_up_behind_the_new_reply(run: Run, dial: Any) -> None:
    """What the old one still pushes has its own join_ref."""

    async def main() -> None:
        async with MockServer(scenario="lobbies") as server:
            client = await dial(server.port)
            await client.join("lobby:a", ref="1")
            await client.send("5", "5", "lobby:a", "phx_join", {})
            came = [await client.receive_json() for _ in range(3)]
            assert [(m[0], m[3]) for m in came] == [("5", "phx_reply"), ("1", "phx_close"), ("1", "you_left")]

    run(main())


@pytest.mark.parametrize(("topic", "module"), [("foo:1", "Narrow"), ("food:1", "Narrow"), ("exactly", "Wide"), ("exactly:1", None)])
def test_first_route_that_fits_is_taken(topic: str, module: str | None, run: Run, dial: Any) -> None:
    """A star stands for any end of the topic; without one the topic is the whole."""

    async def main() -> None:
        async with MockServer(scenario="lobbies") as server:
            client = await dial(server.port)
            await client.send("1", "1", topic, "phx_join", {})
            join_ref, _, _, _, payload = await client.receive_json()
            assert (join_ref, payload["response"].get("module")) == ("1" if module else None, module)

    run(main())


def test_channels_end_with_their_transport(run: Run, dial: Any) -> None:
    """Those that are left see the user leave."""

    async def main() -> None:
        async with MockServer() as server:
            leaving, staying = await dial(server.port), await dial(server.port)
            await leaving.join("presence:a", {"user": "u1"})
            await staying.join("presence:a", {"user": "u2"})
            while (message := await staying.receive_json())[3] != "presence_state":
                pass
            assert set(message[4]) == {"u1", "u2"}
            await leaving.send_frame("close", b"\x03\xe8")
            diff = (await staying.receive_json())[4]
            assert (list(diff["leaves"]), diff["joins"]) == (["u1"], {})

    run(main())


def test_mount_may_limit_its_channels(run: Run, dial: Any) -> None:
    """A leave makes room; joining a topic again takes none."""

    async def main() -> None:
        async with MockServer() as server:
            client = await dial(server.port, "/few/websocket?vsn=2.0.0")
            for ref, topic in (("1", "room:a"), ("2", "room:b")):
                assert (await client.join(topic, ref=ref))["status"] == "ok"
            full = {"response": {"reason": "too many channels joined"}, "status": "error"}
            assert await client.join("room:c", ref="3") == full
            assert (await client.join("room:b", ref="4"))["status"] == "ok"
            assert (await client.receive_json())[3] == "phx_close"
            await client.send("1", "5", "room:a", "phx_leave", {})
            assert [(await client.receive_json())[3] for _ in range(2)] == ["phx_reply", "phx_close"]
            assert (await client.join("room:c", ref="6"))["status"] == "ok"

    run(main())


def test_release_before_the_limit_lets_any_number_join(run: Run, dial: Any) -> None:
    """The limit came with 1.8.9."""

    async def main() -> None:
        async with MockServer(phoenix="1.8.8") as server:
            client = await dial(server.port)
            for number in range(1, 103):
                assert (await client.join(f"room:{number}", ref=str(number)))["status"] == "ok"

    run(main())


def test_presences_with_one_key_are_one_entry_with_several_metas(run: Run, dial: Any) -> None:
    """Keys are strings; each connection leaves with its own meta."""

    async def main() -> None:
        async with MockServer() as server:
            first, second = await dial(server.port), await dial(server.port)
            await first.join("presence:a", {"user": 7})
            await second.join("presence:a", {"user": 7})
            while (message := await second.receive_json())[3] != "presence_state":
                pass
            (key, entry), *rest = message[4].items()
            assert (key, len(entry["metas"]), rest) == ("7", 2, [])
            await first.send("1", "2", "presence:a", "untrack", {})
            leaves = (await second.receive_json())[4]["leaves"]
            assert leaves["7"]["metas"] == entry["metas"][:1]
            await first.send("1", "3", "presence:a", "untrack", {})
            await first.send("1", "4", "presence:a", "update", {})
            while (message := await first.receive_json())[1] != "3":
                pass
            assert message[4]["status"] == "ok"
            assert (await first.receive_json())[3] == "phx_error"

    run(main())


def test_what_clients_see_of_a_presence_can_be_extended(run: Run, dial: Any) -> None:
    """In the list and in the diffs, of joins and of leaves."""

    def with_name(topic: str, entries: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        return {key: {**entry, "name": f"{key} of {topic}"} for key, entry in entries.items()}

    async def main() -> None:
        async with MockServer() as server:
            presence = Presence(server.hub, with_name)
            watching, client = await dial(server.port), await dial(server.port)
            for each in (watching, client):
                await each.join("room:a")
            watched, joined = server.hub.subscribers("room:a")
            presence.track(watched, "w", {})
            assert (await watching.receive_json())[4]["joins"]["w"]["name"] == "w of room:a"
            presence.track(joined, "u", {"n": 1})
            assert (await watching.receive_json())[4]["joins"]["u"]["name"] == "u of room:a"
            assert [entry["name"] for entry in presence.state("room:a").values()] == ["w of room:a", "u of room:a"]
            presence.update(joined, "u", {"n": 2})
            diff = (await watching.receive_json())[4]
            (new,), (old,) = diff["joins"]["u"]["metas"], diff["leaves"]["u"]["metas"]
            assert (new["n"], new["phx_ref_prev"], old["n"]) == (2, old["phx_ref"], 1)
            presence.untrack(joined)
            assert (await watching.receive_json())[4]["leaves"]["u"]["name"] == "u of room:a"

    run(main())
