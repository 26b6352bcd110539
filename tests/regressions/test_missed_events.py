"""Events that were missed while nobody was connected, and nobody said so. The threads are in THREADS.md."""

import pytest

from tests.stage import until

APPLICATION = """
import os

import msgspec

import rig

app = rig.App("missed")
app.join("history:orders", "room:lobby")


def note(*what):
    file = os.open(os.path.join(os.environ["LEDGER"], "1.life"), os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    os.write(file, msgspec.json.encode(what) + b"\\n")
    os.close(file)


@app.on("history:*", "order", cursor="payload.id")
async def order(event: rig.Event) -> None:
    note("order", event.topic, event.payload["n"])


@app.on("room:*", "said")
async def said(event: rig.Event) -> None:
    note("said", event.topic, event.payload["n"])


@app.on_gap
async def gap(gap: rig.Gap) -> None:
    note(gap.outcome, gap.topic, gap.missed)
"""


async def worker_on(stage):
    """Start the application above, and return when both of its topics are joined."""
    (stage.folder / "missed_app.py").write_text(APPLICATION)
    rig = await stage.rig(
        *("run", "missed_app:app", "--url", stage.server.url, "--workers", "1", "--state-dir", str(stage.state)),
        *("--log-format", "json", "--status-interval", "0"),
    )
    await until(lambda: stage.joined() == {"history:orders", "room:lobby"})
    return rig


def say(stage, n: int) -> None:
    """Send an event on each of the two topics."""
    stage.server.publish("history:orders", "order", {"n": n})
    stage.server.publish("room:lobby", "said", {"n": n})


async def away(stage, numbers: list[int], *, forgets: bool = False) -> None:
    """Keep the worker from the server while events are sent, which it may forget, and return when the worker is back."""
    stage.server.faults.refuse_connections = 500
    stage.server.close_where(0)
    await until(lambda: not stage.server.clients)
    for n in numbers:
        say(stage, n)
    if forgets:
        stage.server.history.forget("history:orders")
    stage.server.faults.reset()
    await until(lambda: stage.joined() == {"history:orders", "room:lobby"})


@pytest.mark.slow
def test_what_was_sent_while_the_worker_was_away_is_handled(play) -> None:
    """With a cursor nobody has to fetch missed messages himself (supabase-community/supabase-kt#255, supabase-flutter#90)."""

    async def test(stage):
        rig = await worker_on(stage)
        say(stage, 0)
        await until(lambda: stage.ledger.all("order"))
        await away(stage, list(range(1, 50)))
        say(stage, 50)
        await until(lambda: len(stage.ledger.all("order")) >= 51)
        await rig.drain()

        assert [n for _, n in stage.ledger.all("order")] == list(range(51)), "all of them, once, in order"
        assert stage.ledger.all("replayed") == [["history:orders", 49]]

    play(test)


def test_a_gap_that_nobody_can_fill_is_told(play) -> None:
    """Where a topic has none, a reconnect that may have cost events says so before the next event (wboayue/rust-ibapi#777)."""

    async def test(stage):
        rig = await worker_on(stage)
        say(stage, 0)
        await until(lambda: stage.ledger.all("said"))
        await away(stage, [1, 2])
        say(stage, 3)
        await until(lambda: len(stage.ledger.all("said")) == 2)
        await rig.drain()

        lines = [line for line in stage.ledger.lives()[0] if line[1] == "room:lobby"]
        assert lines == [["said", "room:lobby", 0], ["not_replayed", "room:lobby", None], ["said", "room:lobby", 3]]

    play(test)


@pytest.mark.parametrize(
    ("missed", "forgets", "outcome"),
    [([], False, "nothing_missed"), ([1, 2], False, "replayed"), ([1, 2], True, "not_replayed")],
)
def test_each_of_the_three_outcomes_is_told(play, missed, forgets, outcome) -> None:
    """Nothing missed, replayed, or no longer there: what Python products build by hand (baserow/baserow#5355)."""

    async def test(stage):
        rig = await worker_on(stage)
        say(stage, 0)
        await until(lambda: stage.ledger.all("order"))
        await away(stage, missed, forgets=forgets)
        await until(lambda: ["history:orders", len(missed)] in stage.ledger.all(outcome))
        await rig.drain()

    play(test)
