"""How a running worker gets to the server: with which token, over which transport, and past which certificate."""

import re
import ssl
from pathlib import Path

import pytest

TLS = Path(__file__).parents[1] / "mock_server" / "tls"


def tls_settings():
    """Return what makes the mock server speak TLS with the certificate of the tests."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(TLS / "localhost.crt", TLS / "localhost.key")
    return {"ssl_context": context}


def tokens_seen(stage):
    """Return the tokens of the connections that the server has."""
    return [socket.identity.auth_token for socket in stage.server.sockets.values()]


def join_tokens(stage):
    """Return the tokens in the join payloads of the channels that the server has."""
    channels = [channel for socket in stage.server.sockets.values() for channel in socket.channels]
    return [channel.join_payload["access_token"] for channel in channels]


def test_a_replaced_token_file_is_read_at_the_next_connection(play, until):
    """As Kubernetes replaces the secrets that it mounts, without a restart of anything."""

    async def test(stage):
        token = stage.folder / "token"
        token.touch(0o600)
        token.write_text("first\n")
        rig = await stage.run_worker("--auth", f"file:{token}", topics=2)
        assert tokens_seen(stage) == ["first"]

        token.write_text("second\n")
        stage.server.close_where(1012)
        await until(lambda: tokens_seen(stage) == ["second"] and stage.joined() == set(stage.topics))
        await rig.drain()

    play(test)


def test_a_provider_without_a_token_is_told_and_asked_again(play, until):
    """A worker that starts before its secret is there connects as soon as it is."""

    async def test(stage):
        token = stage.folder / "token"
        rig = await stage.rig("run", "ledger_app:app", "--app-dir", str(Path(__file__).parent), "--url", stage.server.url,
                              "--auth", f"file:{token}", "--log-format", "json", LEDGER_TOPICS="1")  # fmt: skip
        said = await rig.hear("not connected", cause="no_token")
        assert str(token) in said["reason"]

        token.touch(0o600)
        token.write_text("late")
        await until(lambda: tokens_seen(stage) == ["late"])
        await rig.drain()

    play(test)


@pytest.mark.parametrize("transport", ["longpoll", "auto"])
def test_events_and_pushes_travel_by_long_poll(play, until, transport):
    """Where only plain HTTP gets through, everything else is as before."""

    async def test(stage):
        stage.server.faults.refuse_websockets = 426
        rig = await stage.run_worker("--transport", transport, topics=4)
        assert [client["transport"] for client in stage.server.clients] == ["longpoll"]

        sent = await stage.flood("tick", 2_000)
        for number in range(20):
            stage.server.publish("room:1", "ask", {"event": "echo", "payload": {"n": number}})
        await until(lambda: len(stage.ledger.all("tick")) == 2_000 and len(stage.ledger.all("answer")) == 20)
        summary = await rig.drain()

        assert stage.ledger.repeats("tick", sent) == 0
        assert (summary["received"], summary["unfinished"]) == (2_020, 0)
        assert bool(rig.said("taking longpoll")) == (transport == "auto")

    play(test, time_scale=0.5)


@pytest.mark.slow
def test_a_pinned_certificate_is_the_only_one_that_is_accepted(play, until):
    """The log says which pin would fit; with it the worker connects, and nothing was sent before."""

    async def test(stage):
        options = ("--ca", str(TLS / "localhost.crt"))
        refused = await stage.run_worker(*options, "--pin", "00" * 32, topics=1, url=stage.server.url)
        said = await refused.hear("not connected")
        assert said["cause"] == "tls"
        assert not stage.server.clients
        await refused.drain()

        pin = re.search(r"--pin (\S+)", said["reason"])[1].rstrip(":;,.")
        rig = await stage.run_worker(*options, "--pin", pin, topics=1)
        await rig.drain()

    play(test, **tls_settings())


def test_a_token_is_not_sent_unencrypted_to_another_host(play):
    """The run ends at once, with what to do."""

    async def test(stage):
        rig = await stage.rig("run", "ledger_app:app", "--app-dir", str(Path(__file__).parent), "--url", "ws://max.example/socket",
                              "--auth", "env:MAX_TOKEN", MAX_TOKEN="hunter2")  # fmt: skip
        assert await rig.end() == 2
        assert "wss://" in rig.err[-1]
        assert "hunter2" not in "\n".join(rig.err)

    play(test)


def test_the_token_of_the_moment_stands_in_every_join(play, until):
    """With join:NAME the server sees it in the payload of each join, rejoins after a crash of the channel included."""

    async def test(stage):
        token = stage.folder / "token"
        token.touch(0o600)
        token.write_text("first")
        rig = await stage.run_worker("--auth", f"file:{token}", "--auth-mode", "join:access_token", topics=1)
        assert join_tokens(stage) == ["first"]

        token.write_text("second")
        stage.server.kill_channels("room:0")
        await until(lambda: join_tokens(stage) == ["second"])
        assert tokens_seen(stage) == [None]
        await rig.drain()

    play(test)
