"""What the interface let pass and then never did. The threads are in THREADS.md."""

import asyncio

import pytest

import rig
from rig.errors import HandlerSignatureError
from tests.client.talking import talking
from tests.running import run, until

APPLICATION = """
import rig

app = rig.App("wrong")

@app.on("room:*", "*")
async def handle(topic, event, payload):
    print("called")
"""


def _none():
    """Take nothing."""


def _two(event, extra):
    """Take too much."""


async def _named(*, event):
    """Take it by name only."""


@pytest.mark.parametrize("handler", [_none, _two, _named, lambda: None])
def test_a_handler_with_the_wrong_parameters_is_refused_where_it_is_registered(handler) -> None:
    """It is never a handler that is silently not called (supabase/realtime-py#331)."""
    app = rig.App("wrong")
    with pytest.raises(HandlerSignatureError, match="takes one event"):
        app.on("room:*", "*")(handler)
    assert not app.routes


def test_a_run_with_such_a_handler_ends_with_a_sentence(play) -> None:
    """Before anything connects, and with the place of the function (supabase/realtime-py#331)."""

    async def test(stage):
        (stage.folder / "wrong_app.py").write_text(APPLICATION)
        worker = await stage.rig("run", "wrong_app:app", "--url", stage.server.url)

        assert await worker.end() == 3
        assert "handle" in worker.err[-1]
        assert "wrong_app.py:6" in worker.err[-1]
        assert not stage.server.clients

    play(test)


def test_a_join_returns_when_the_server_has_accepted() -> None:
    """And not before it was answered (supabase/supabase-py#1209)."""

    async def test() -> None:
        async with talking() as (server, client):
            server.faults.change({"reply_delay": 0.05})
            joining = asyncio.create_task(client.join("room:1"))
            await until(lambda: server.clients[0]["channels"])
            assert not joining.done()

            assert (await joining).response["joined"] == "room:1"

    run(test)
