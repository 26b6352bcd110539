"""The flight recorder: what it keeps, what it never shows, and the files that it leaves."""

import asyncio
import json
import math
import os
import stat
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog

from rig.backoff import Cause
from rig.flight import FILES_KEPT, KEPT_BYTES, Flight, FlightLog
from rig.phoenix import events
from rig.phoenix.serializer import SerializerV2
from tests.running import run

LOST = events.SocketClosed(Cause.LINK_LOST, 1006, "cut", 0.5, "nobody", "reconnect", 1.0, 2.0)


def frame(*fields: Any) -> bytes:
    return msgspec.json.encode(fields)


def shown(flight: Flight) -> list[dict[str, Any]]:
    """Return what is kept, without the times."""
    return [{name: value for name, value in entry.items() if name != "at"} for entry in flight.entries()]


def test_frames_are_shown_as_envelopes() -> None:
    """Who, what and how large, both ways; of a reply its status; nothing of a payload."""
    flight = Flight(10)
    flight.sent([frame("1", "1", "room:1", "phx_join", {"access": "s3cret"})])
    flight.received([frame("1", "1", "room:1", "phx_reply", {"status": "ok", "response": {"secret": 42}})])
    flight.received([b"\x02\x06\x03room:1pics3cret"], binary=True)
    flight.sent([SerializerV2().encode("1", "2", "room:1", "pic", b"s3cret")])

    first, reply, broadcast, push = shown(flight)

    assert first == {"what": "frame out", "size": 49, "join_ref": "1", "ref": "1", "topic": "room:1", "event": "phx_join",
                     "payload_size": 19, "binary": False}  # fmt: skip
    assert (reply["what"], reply["status"], reply["payload_size"]) == ("frame in", "ok", 40)
    assert broadcast == {"what": "frame in", "size": 18, "topic": "room:1", "event": "pic", "payload_size": 6, "binary": True}
    assert push == {"what": "frame out", "size": 22, "join_ref": "1", "ref": "2", "topic": "room:1", "event": "pic",
                    "payload_size": 6, "binary": True}  # fmt: skip
    assert "s3cret" not in repr(flight.entries())


def test_frames_of_the_first_version_are_read_too() -> None:
    """The envelope is an object there."""
    flight = Flight(10, vsn="1.0.0")
    flight.received([b'{"topic":"a","event":"b","payload":{"x":1},"ref":null}'])

    [entry] = shown(flight)
    assert (entry["topic"], entry["event"], entry["payload_size"]) == ("a", "b", 7)


def test_what_is_no_message_is_shown_by_its_size() -> None:
    """A frame that cannot be read may be what explains everything."""
    flight = Flight(10)
    flight.received([b"garbage s3cret"])
    flight.received([b"\x07garbage"], binary=True)

    assert shown(flight) == [
        {"what": "frame in", "size": 14, "unreadable": True},
        {"what": "frame in", "size": 8, "unreadable": True},
    ]


def test_secrets_in_names_and_reasons_are_masked() -> None:
    """A topic, an event or a server's words may hold a token; a response is left out."""
    flight = Flight(10)
    flight.received([frame(None, None, "room:1?token=hunter2hunter2", "e", {})])
    flight.note(events.SocketClosed(Cause.POLICY_VIOLATION, 1008, "bad token=hunter2hunter2", 60.0))
    flight.note(events.JoinRejected("room:1", {"seen": "hunter2hunter2"}, 1.0))
    flight.note(events.FramesRejected(1, "no JSON", b"hunter2hunter2"))
    flight.note({"what": "state", "reason": "password=hunter2hunter2"})

    entries = shown(flight)

    assert "hunter2" not in repr(entries)
    assert entries[0]["topic"] == "room:1?token=***"
    assert entries[1] == {"what": "SocketClosed", "cause": "policy_violation", "code": 1008, "reason": "bad token=***",
                          "delay": 60.0, "by": "nobody", "decision": "", "heartbeat_age": None, "open_for": None}  # fmt: skip
    assert entries[2] == {"what": "JoinRejected", "topic": "room:1", "delay": 1.0, "unauthorized": False, "refusals": 0}
    assert entries[4] == {"what": "state", "reason": "password=***"}


def test_the_latest_frames_are_kept_in_order() -> None:
    """So many of them, wherever the batches end, with what happened between them."""
    flight = Flight(100)
    for batch in range(50):
        flight.received([frame(None, None, "t", str(batch * 7 + i), {}) for i in range(7)])
    kept = [entry["event"] for entry in shown(flight)]

    assert kept[-100:] == [str(number) for number in range(250, 350)]
    assert len(kept) <= 106

    flight.note(LOST)
    flight.received([frame(None, None, "t", str(number), {}) for number in range(1000)])
    kept = [entry.get("event", entry["what"]) for entry in shown(flight)]
    assert kept == ["SocketClosed", *(str(number) for number in range(900, 1000))]


def test_a_flood_of_frames_does_not_push_out_what_happened() -> None:
    """And happenings are bounded, too."""
    flight = Flight(10)
    flight.note(LOST)
    for _ in range(100):
        flight.received([frame(None, None, "t", "e", {})] * 9)
    assert shown(flight)[0]["what"] == "SocketClosed"

    for _ in range(100):
        flight.note(LOST)
    assert sum(entry["what"] == "SocketClosed" for entry in shown(flight)) == 10


def test_memory_is_bounded_in_bytes() -> None:
    """Large frames are few; one that is larger than all that may be kept is kept as its size."""
    flight = Flight(1000)
    for _ in range(100):
        flight.received([b"x" * 100_000])
    assert flight._bytes <= KEPT_BYTES
    assert len(shown(flight)) == KEPT_BYTES // 100_000

    flight.received([b"x" * (KEPT_BYTES + 1)])
    assert shown(flight)[-1] == {"what": "frame in", "size": KEPT_BYTES + 1, "kept": False}
    assert flight._bytes <= KEPT_BYTES


def test_beats_and_dropped_messages_are_no_happenings() -> None:
    """The frames say it already, and a server can say it any number of times."""
    flight = Flight(10)
    flight.note(events.HeartbeatReplied(0.1))
    flight.note(events.MessagesDropped(1, "x"))
    flight.note(events.HeartbeatMissed(1))

    assert [entry["what"] for entry in shown(flight)] == ["HeartbeatMissed"]


def test_times_are_those_at_which_it_happened() -> None:
    """In unix seconds."""
    flight = Flight(10)
    before = time.time()
    flight.note(LOST)
    after = time.time()

    [entry] = flight.entries()
    assert before - 0.01 <= entry["at"] <= after + 0.01


def test_recording_costs_next_to_nothing() -> None:
    """A batch of 512 frames in less than a fiftieth of what the io process takes to route it (0.5 ms), best of many tries."""
    flight, batch = Flight(256), [frame(None, None, "room:1", "tick", {"n": "x" * 150})] * 512
    best = math.inf
    for _ in range(200):
        started = time.perf_counter()
        flight.received(batch)
        best = min(best, time.perf_counter() - started)

    assert best < 50e-6


# Files.


def test_a_lost_connection_leaves_a_private_file(tmp_path: Path) -> None:
    """One JSON object with everything; nobody else can read it."""

    async def test() -> None:
        flight = Flight(10)
        flight.received([frame(None, None, "t", "e", {})])
        flight.note(LOST)
        recorder = FlightLog(flight, tmp_path / "state" / "flight", process="io-1")
        recorder.lost(LOST)
        await recorder.close()

        [path] = (tmp_path / "state" / "flight").iterdir()
        assert path.name.endswith("Z-io-1-link_lost.json")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        about = json.loads(path.read_text())
        assert (about["process"], about["why"]) == ("io-1", "link_lost")
        assert [entry["what"] for entry in about["entries"]] == ["frame in", "SocketClosed"]

    run(test)


@pytest.mark.parametrize(
    "event",
    [
        events.SocketClosed(Cause.REFUSED, None, "refused", 0.5),
        events.SocketClosed(Cause.REQUESTED, 1000, "a fresh token", 0.1, "us"),
        events.SocketClosed(Cause.REQUESTED, 1000, "", None, "us", "end"),
    ],
)
def test_an_end_that_was_asked_for_leaves_none(tmp_path: Path, event: events.SocketClosed) -> None:
    """Nor does an attempt that failed: there was no flight."""

    async def test() -> None:
        recorder = FlightLog(Flight(10), tmp_path / "flight", process="io")
        recorder.lost(event)
        await recorder.close()
        assert not (tmp_path / "flight").exists()

    run(test)


def test_files_that_nobody_asked_for_are_throttled(tmp_path: Path) -> None:
    """A link that is cut every second does not fill the disk; who asks gets a file all the same."""

    async def test() -> None:
        clock = iter([0.0, 0.0, 1.0, 29.0, 30.0, 30.0])
        recorder = FlightLog(Flight(10), tmp_path, process="io", clock=clock.__next__)
        for _ in range(3):
            recorder.lost(LOST)
        await recorder.close()
        assert len(os.listdir(tmp_path)) == 1
        assert (await recorder.dump("asked")).name.endswith("-io-asked.json")
        assert len(os.listdir(tmp_path)) == 2

        recorder.lost(LOST)
        await recorder.close()
        assert len(os.listdir(tmp_path)) == 3

    run(test)


def test_the_newest_files_are_kept(tmp_path: Path) -> None:
    """Twenty, whoever wrote them; what is not a dump is left alone."""

    async def test() -> None:
        (tmp_path / "notes.txt").write_text("mine")
        recorders = [FlightLog(Flight(10), tmp_path, process=name) for name in ("io-0", "io-1")]
        written = [await recorders[number % 2].dump("asked") for number in range(30)]

        assert sorted(os.listdir(tmp_path)) == [*(path.name for path in written[-FILES_KEPT:]), "notes.txt"]

    run(test)


def test_a_file_that_cannot_be_written_harms_nothing(tmp_path: Path) -> None:
    """It is logged; who has asked is told why."""

    async def test() -> None:
        (tmp_path / "flight").write_text("in the way")
        recorder = FlightLog(Flight(10), tmp_path / "flight", process="io")
        with structlog.testing.capture_logs() as logs:
            recorder.lost(LOST)
            await recorder.close()
        assert [(entry["event"], entry["log_level"]) for entry in logs] == [("the flight recorder could not write", "warning")]
        with pytest.raises(OSError, match=r"exists|directory"):
            await recorder.dump("asked")

    run(test)


def test_a_full_disk_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be finished is taken away."""

    async def test() -> None:
        def full(*args: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Path, "rename", full)
        with pytest.raises(OSError, match="No space"):
            await FlightLog(Flight(10), tmp_path, process="io").dump("asked")
        assert os.listdir(tmp_path) == []

    run(test)


@pytest.mark.parametrize(("frames", "folder"), [(0, "flight"), (10, None)])
def test_a_recorder_that_is_off_says_so(tmp_path: Path, frames: int, folder: str | None) -> None:
    """And leaves nothing when a connection is lost."""

    async def test() -> None:
        recorder = FlightLog(Flight(frames), None if folder is None else tmp_path / folder, process="io")
        recorder.lost(LOST)
        await asyncio.sleep(0)
        await recorder.close()
        with pytest.raises(OSError, match="--flight-frames"):
            await recorder.dump("asked")
        assert not os.listdir(tmp_path)

    run(test)
