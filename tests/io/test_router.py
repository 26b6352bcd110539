"""Which worker takes an event."""

from collections import Counter
from collections.abc import Callable

import msgspec
import pytest

from rig.control import RouteSpec
from rig.io import router as router_module
from rig.io.router import BY_EVENT, UNROUTED, Router, Slot, SlotByEvent
from rig.io.track import Track
from rig.routing import shard

TICK = RouteSpec("room:*", "tick", "topic")


def test_topic_has_one_worker_for_ever() -> None:
    """All events of a topic go to the worker that its name gives, in every io process."""
    router = Router([TICK, RouteSpec("room:*", "t*", "topic")], 3)

    for number in range(50):
        topic = f"room:{number}"
        slots = [router.find(topic, event) for event in ("tick", "tock")]
        assert [slot.worker for slot in slots] == [shard(topic.encode(), 3)] * 2
        assert [(slot.topic, slot.event) for slot in slots] == [(topic, "tick"), (topic, "tock")]


def test_topics_are_spread_over_the_workers() -> None:
    """No worker gets nothing, and none gets nearly everything."""
    router = Router([TICK], 4)
    workers = Counter(router.find(f"room:{number}", "tick").worker for number in range(400))

    assert set(workers) == {0, 1, 2, 3}
    assert max(workers.values()) < 200


@pytest.mark.parametrize(("topic", "event"), [("room:1", "tock"), ("lobby", "tick"), ("", "")])
def test_event_without_a_handler_goes_nowhere(topic: str, event: str) -> None:
    """What no route wants is unrouted."""
    assert Router([TICK], 2).find(topic, event).worker == UNROUTED


def test_slot_is_remembered() -> None:
    """The patterns are matched once for each (topic, event)."""
    router = Router([TICK], 2)
    slot = router.find("room:1", "tick")

    assert router.memo["room:1"]["tick"] is slot


def test_memory_of_names_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that makes up names costs no more memory than the limit; the dict stays the one that others hold."""
    monkeypatch.setattr(router_module, "MEMO_LIMIT", 100)
    router = Router([TICK], 2)
    memo = router.memo
    for number in range(1_000):
        router.find(f"room:{number % 7}", f"made up {number}")
        assert router.find(f"room:{number}", "tick").worker >= 0
        assert sum(map(len, memo.values())) <= 100

    assert router.memo is memo


def test_field_of_the_payload_chooses_the_worker() -> None:
    """Events with the same field go to the same worker, whatever their topic; without the field, the topic decides."""
    router = Router([RouteSpec("room:*", "tick", "payload.user.id")], 3)
    slots = [router.find(topic, "tick") for topic in ("room:1", "room:2")]
    for user in range(20):
        payload = msgspec.Raw(b'{"user":{"id":%d}}' % user)
        chosen = []
        for slot in slots:
            assert isinstance(slot, SlotByEvent)
            assert slot.worker == BY_EVENT
            chosen.append(slot.choose(payload))
        assert [slot.worker for slot in chosen] == [shard(b"%d" % user, 3)] * 2
        assert [slot.topic for slot in chosen] == ["room:1", "room:2"]
    for slot in slots:
        assert isinstance(slot, SlotByEvent)
        for payload_without in (msgspec.Raw(b"{}"), b"\x00"):
            assert slot.choose(payload_without).worker == shard(slot.topic.encode(), 3)


def test_same_worker_is_the_same_slot() -> None:
    """The slots of an event that has several workers are kept, so that their names are numbered once."""
    slot = Router([RouteSpec("room:*", "tick", "payload.id")], 2).find("room:1", "tick")
    assert isinstance(slot, SlotByEvent)

    assert slot.choose(msgspec.Raw(b'{"id":1}')) is slot.choose(msgspec.Raw(b'{"id":1}'))


def test_events_without_order_take_turns() -> None:
    """With `key=None` every worker gets the same share."""
    slot = Router([RouteSpec("room:*", "tick", None)], 3).find("room:1", "tick")
    assert isinstance(slot, SlotByEvent)

    assert Counter(slot.choose(msgspec.Raw(b"{}")).worker for _ in range(30)) == {0: 10, 1: 10, 2: 10}


def test_first_route_that_matches_gives_the_key() -> None:
    """As in the worker, the order of declaration decides."""
    topic_first = Router([TICK, RouteSpec("room:*", "*", None)], 2)
    none_first = Router([RouteSpec("room:*", "*", None), TICK], 2)

    assert topic_first.find("room:1", "tick").worker >= 0
    assert none_first.find("room:1", "tick").worker == BY_EVENT


@pytest.mark.parametrize("key", ["topic", "payload.id", None])
def test_one_worker_takes_everything(key: str | None) -> None:
    """Where there is no choice, no payload is read."""
    assert Router([RouteSpec("room:*", "tick", key)], 1).find("room:1", "tick").worker == 0


@pytest.mark.parametrize("workers", [1, 3])
def test_first_route_that_matches_gives_the_policy(workers: int) -> None:
    """What a route does not say, the settings do; each way to choose a worker keeps it."""
    routes = [
        RouteSpec("room:*", "tick", "topic", "latest"),
        RouteSpec("room:*", "by", "payload.id", "drop_oldest"),
        RouteSpec("room:*", "*", None),
    ]
    router = Router(routes, workers, overflow="block")
    slots = [router.slot("room:1", event, msgspec.Raw(b'{"id":1}')) for event in ("tick", "by", "other")]

    assert [(slot.route, slot.overflow) for slot in slots] == [(0, "latest"), (1, "drop_oldest"), (2, "block")]


@pytest.mark.parametrize("workers", [1, 3])
def test_slot_knows_what_an_event_is_ordered_by(workers: int) -> None:
    """The field, if there is one and it is there; else the topic."""
    routes = [RouteSpec("room:*", "by", "payload.id"), RouteSpec("room:*", "tick", "topic"), RouteSpec("room:*", "none", None)]
    router = Router(routes, workers)
    with_field, without = msgspec.Raw(b'{"id":7}'), msgspec.Raw(b"{}")

    def key(event: str, payload: msgspec.Raw) -> bytes:
        return router.slot("room:1", event, payload).key(payload)

    assert [key("by", with_field), key("by", without)] == [b"7", b"room:1"]
    assert [key("tick", with_field), key("none", with_field)] == [b"room:1", b"room:1"]


def test_nothing_is_routed_of_a_muted_topic() -> None:
    """It is joined only to push to it; what was remembered of it does not count, before and after."""
    router = Router([RouteSpec("room:*", "tick", "topic")], 4)
    before = router.find("room:1", "tick").worker
    assert before >= 0

    router.mute("room:1")
    assert router.memo.get("room:1") is None
    assert router.find("room:1", "tick").worker == UNROUTED
    assert router.find("room:2", "tick").worker >= 0

    router.unmute("room:1")
    assert router.memo.get("room:1") is None
    assert router.find("room:1", "tick").worker == before


NUMBERED = RouteSpec("room:*", "tick", "topic", cursor="payload.id")


def raw(number: int) -> msgspec.Raw:
    return msgspec.Raw(b'{"id":%d,"user":%d}' % (number, number % 3))


def tracks() -> Callable[[str], Track]:
    """Return what gives each topic its one track."""
    known: dict[str, Track] = {}
    return lambda topic: known.setdefault(topic, Track(topic, None, [], lambda track, cursor: None))


def test_event_with_a_cursor_is_chosen_once() -> None:
    """The numbers of a topic are counted over all its events that have one, each topic for itself."""
    router = Router([NUMBERED, RouteSpec("room:*", "t*", "topic", cursor="payload.id")], 3, tracks=tracks())
    tick, tock, other = (router.find(*names) for names in (("room:1", "tick"), ("room:1", "tock"), ("room:2", "tick")))

    chosen = [slot.choose(raw(number)) for slot, number in ((tick, 1), (tock, 1), (tock, 2), (tick, 2), (other, 1))]
    workers = [None if slot is None else slot.worker for slot in chosen]
    first, second = (shard(topic, 3) for topic in (b"room:1", b"room:2"))
    assert workers == [first, None, first, None, second]
    assert [slot.worker for slot in (tick, tock, other)] == [BY_EVENT] * 3


def test_cursor_and_key_go_together() -> None:
    """What was not received before goes to the worker of its field."""
    router = Router([RouteSpec("room:*", "tick", "payload.user", cursor="payload.id")], 2, tracks=tracks())
    slot = router.find("room:1", "tick")

    for number in (1, 2, 3):
        chosen = slot.choose(raw(number))
        assert chosen is not None
        assert chosen.worker == shard(b"%d" % (number % 3), 2)
    assert slot.choose(raw(3)) is None


def test_event_without_a_route_that_has_a_cursor_costs_nothing() -> None:
    """Its slot is the usual one, whatever others of the topic have, and so is every slot where cursors are passed over."""
    plain = RouteSpec("room:*", "tock", "topic")

    assert type(Router([NUMBERED, plain], 2, tracks=tracks()).find("room:1", "tock")) is Slot
    assert type(Router([NUMBERED, plain], 2).find("room:1", "tick")) is Slot


def test_router_knows_the_topics_with_a_cursor() -> None:
    """And those whose numbered events all go to one worker."""
    router = Router([NUMBERED, RouteSpec("user:*", "*", "payload.user", cursor="payload.id"), RouteSpec("*", "*", None)], 2)

    assert [router.has_cursor(topic) for topic in ("room:1", "user:1", "other")] == [True, True, False]
    assert [router.goes_to_one_worker(topic) for topic in ("room:1", "user:1")] == [True, False]
    assert Router([RouteSpec("user:*", "*", None, cursor="payload.id")], 1).goes_to_one_worker("user:1")


def test_event_of_before_is_routed_though_its_topic_is_muted() -> None:
    """An earlier run had left it, or it is a dead letter: that the topic is joined to push to it now is no reason to lose it."""
    router = Router([NUMBERED], 3, tracks=tracks())
    before = router.slot("room:1", "tick", msgspec.Raw(b"{}"))
    router.mute("room:1")

    assert router.known("room:1", "tick").worker == UNROUTED
    assert router.slot("room:1", "tick", msgspec.Raw(b"{}")).worker == before.worker >= 0
    assert router.slot("room:1", "other", msgspec.Raw(b"{}")).worker == UNROUTED
