"""How a token gets to the server, and what follows when the server refuses it."""

import asyncio

import pytest
import structlog

from rig.auth import TokenSource
from rig.auth.provider import NoToken
from rig.backoff import Cause
from rig.config import Settings
from rig.dialling import Dialler
from rig.endpoints import Candidate
from rig.errors import (
    AuthenticationRefused,
    ConfigError,
    ConnectFailed,
    HandshakeRefused,
    NoEndpoint,
    RedirectRefused,
    TokenMissing,
    TokenUnavailable,
)
from rig.log import mask
from rig.phoenix import events
from rig.transport import Endpoint, TransportChoice
from tests.auth.providing import Provider
from tests.transport.raw_server import Owner, RawServer

OWNER = object()
TRANSPORT = object()


class Choice:
    """Takes the place of the network: accepts the tokens that it is told, refuses the others."""

    fallback = ""

    def __init__(self, *good, refusal=AuthenticationRefused):
        self.good, self.refusal, self.endpoints = good, refusal, []

    async def dial(self, endpoint, owner, **limits):
        assert owner is OWNER
        self.endpoints.append(endpoint)
        if endpoint.auth_token not in self.good:
            raise self.refusal("ws://localhost/socket", 403 if self.refusal is AuthenticationRefused else 500)
        return TRANSPORT


def dialler(provider, choice, *, url="ws://localhost/socket", mode="subprotocol"):
    return Dialler(
        [Candidate(Endpoint(url), choice)],
        tokens=TokenSource(provider),
        token_mode=mode,
        connect_timeout=1.0,
        max_frame_bytes=1024,
    )


async def settle():
    """Let what goes on in the background come to its end."""
    for _ in range(10):
        await asyncio.sleep(0)


def test_the_provider_is_asked_before_every_connect(run):
    """A token that is replaced between two connections is the one that the second connection shows."""

    async def main():
        choice = Choice("first", "second")
        dial = dialler(Provider("first", "second"), choice)

        assert await dial(OWNER) is TRANSPORT
        assert await dial(OWNER) is TRANSPORT

        assert [endpoint.auth_token for endpoint in choice.endpoints] == ["first", "second"]

    run(main)


def test_a_refused_token_is_replaced_once_and_tried_again(run):
    """A token that became too old just now costs one round trip, not a minute."""

    async def main():
        choice = Choice("fresh")
        dial = dialler(Provider("old", "fresh"), choice)

        assert await dial(OWNER) is TRANSPORT

        assert [endpoint.auth_token for endpoint in choice.endpoints] == ["old", "fresh"]

    run(main)


def test_a_server_that_refuses_the_fresh_token_too_is_not_asked_a_third_time(run):
    """What is refused twice waits for the slow lane."""

    async def main():
        choice = Choice()
        with pytest.raises(AuthenticationRefused):
            await dialler(Provider("old", "fresh", "fresher"), choice)(OWNER)
        assert len(choice.endpoints) == 2

    run(main)


def test_the_same_token_is_not_tried_again(run):
    """A provider that has nothing better spares the server the second attempt."""

    async def main():
        choice = Choice()
        with pytest.raises(AuthenticationRefused):
            await dialler(Provider("same"), choice)(OWNER)
        assert len(choice.endpoints) == 1

    run(main)


def test_other_refusals_do_not_ask_for_another_token(run):
    """A server that fails says nothing about the token."""

    async def main():
        provider = Provider("token")
        with pytest.raises(HandshakeRefused):
            await dialler(provider, Choice(refusal=HandshakeRefused))(OWNER)
        assert provider.asked == 1

    run(main)


def test_without_a_token_nothing_is_dialled(run):
    """A provider that fails ends the attempt before the server hears of it."""

    async def main():
        choice = Choice("token")
        with pytest.raises(TokenUnavailable):
            await dialler(Provider(TokenUnavailable("the test", "it is gone")), choice)(OWNER)
        assert choice.endpoints == []

    run(main)


def test_a_provider_may_have_no_token(run):
    """A server that asks for none is dialled without one."""

    async def main():
        assert await dialler(Provider(None), Choice(None))(OWNER) is TRANSPORT

    run(main)


def test_a_token_does_not_travel_unencrypted_to_another_host():
    """The mistake is found before the first attempt, with what to do."""
    with pytest.raises(ConfigError, match="wss://"):
        dialler(Provider("token"), Choice(), url="ws://example.com/socket")


def test_a_token_in_joins_stays_out_of_the_connection(run):
    """With join:NAME the server sees the token in the payload of each join, and nowhere else."""

    async def main():
        provider, choice = Provider("one"), Choice(None)
        dial = dialler(provider, choice, mode="join:access_token")
        payload = dial.join_payload({"since": 41})
        assert await dial(OWNER) is TRANSPORT

        assert payload() == {"since": 41, "access_token": "one"}

    run(main)


def test_each_join_shows_the_token_of_that_moment(run):
    """A rejoin after a renewal shows the new token, and a payload that is asked for at each join still is."""

    async def main():
        dial = dialler(Provider("one", "two"), Choice(None), mode="join:token")
        payload = dial.join_payload(lambda: {"since": 42})
        await dial(OWNER)
        assert payload() == {"since": 42, "token": "one"}

        dial.renew(refused=True)
        await settle()

        assert payload() == {"since": 42, "token": "two"}
        await dial.close()

    run(main)


def test_join_payloads_stay_as_they_are_where_the_token_travels_otherwise():
    """Only join:NAME touches them."""
    payload = {"since": 41}
    assert dialler(Provider("one"), Choice()).join_payload(payload) is payload


@pytest.mark.parametrize(
    ("mode", "shown"),
    [
        ("subprotocol", lambda endpoint: endpoint.auth_token),
        ("param:t", lambda endpoint: endpoint.params["t"]),
        ("header", lambda endpoint: dict(endpoint.request_headers())["Authorization"].removeprefix("Bearer ")),
        ("header:X-Key", lambda endpoint: dict(endpoint.request_headers())["X-Key"]),
    ],
)
def test_the_token_travels_as_the_user_says(run, mode, shown):
    """Each mode puts it into one place."""

    async def main():
        choice = Choice(None, "hunter2")
        await dialler(Provider("hunter2"), choice, mode=mode)(OWNER)
        assert shown(choice.endpoints[0]) == "hunter2"

    run(main)


@pytest.mark.parametrize("mode", ["param:", "param:vsn", "nonsense", "header:X Y", "header:Upgrade"])
def test_a_mode_that_cannot_be_used_is_found_at_once(mode):
    """Not at the first attempt, in a log that nobody reads."""
    with pytest.raises(ConfigError):
        dialler(Provider("token"), Choice(), mode=mode)


def test_a_refused_connection_does_not_renew_a_token_that_it_did_not_carry(run):
    """With join:NAME the upgrade was refused for something else."""

    async def main():
        provider, choice = Provider("one", "two"), Choice()
        with pytest.raises(AuthenticationRefused):
            await dialler(provider, choice, mode="join:token")(OWNER)
        assert (len(choice.endpoints), provider.asked) == (1, 1)

    run(main)


def test_each_reconnect_brings_its_joins_the_newest_token(run):
    """The rejoins of a new connection do not repeat the token of the old one."""

    async def main():
        dial = dialler(Provider("one", "two"), Choice(None), mode="join:token")
        payload = dial.join_payload({})
        await dial(OWNER)
        assert payload() == {"token": "one"}
        await dial(OWNER)
        assert payload() == {"token": "two"}

    run(main)


def test_many_refused_joins_ask_for_one_token(run):
    """All topics of a connection are refused at the same time when their token expires."""

    async def main():
        provider = Provider("one", "two", "three")
        dial = dialler(provider, Choice(None), mode="join:token")
        payload = dial.join_payload({})
        await dial(OWNER)
        for _ in range(50):
            dial.renew(refused=True)
            await settle()
        assert provider.asked == 2
        assert payload() == {"token": "two"}

    run(main)


def test_a_join_without_a_token_is_refused_here_and_not_sent(run):
    """After signing out, or past the end of the token, the server gets no join at all."""

    async def main():
        dial = dialler(Provider("one", TokenMissing("the test", "nobody is signed in")), Choice(None), mode="join:token")
        payload = dial.join_payload({})
        with pytest.raises(TokenUnavailable, match="has not answered"):
            payload()
        await settle()
        assert payload() == {"token": "one"}
        dial.renew(refused=True)
        await settle()
        with pytest.raises(TokenUnavailable, match="nobody is signed in"):
            payload()

    run(main)


def test_where_no_token_is_needed_joins_carry_none(run):
    """Neither without a provider nor with one that gives none, and the caller's object stays as it was."""

    async def main():
        payload = {"since": 41}
        assert dialler(NoToken(), Choice(None), mode="join:token").join_payload(payload) is payload

        dial = dialler(Provider(None), Choice(None), mode="join:token")
        await dial(OWNER)
        assert dial.join_payload(payload)() == {"since": 41}
        assert payload == {"since": 41}

    run(main)


def test_a_payload_that_has_no_place_for_the_token_is_refused():
    """A list cannot carry a field."""
    with pytest.raises(ConfigError, match="must be an object"):
        dialler(Provider("token"), Choice(), mode="join:token").join_payload(["a"])


def test_a_token_that_only_a_join_has_carried_is_masked_too(run):
    """It came after the connection."""

    async def main():
        dial = dialler(Provider("one", "distinctive-hunter2"), Choice(None), mode="join:t")
        payload = dial.join_payload({})
        await dial(OWNER)
        dial.renew(refused=True)
        await settle()
        assert payload() == {"t": "distinctive-hunter2"}
        assert mask("no: distinctive-hunter2") == "no: ***"

    run(main)


@pytest.mark.parametrize("mode", ["subprotocol", "param:t", "join:t"])
def test_a_token_that_was_used_is_masked_from_then_on(run, mode):
    """A server that repeats it in its answer does not get it into the log."""
    token = f"distinctive-{mode}/hunter2"

    async def main():
        dial = dialler(Provider(token), Choice(None, token), mode=mode)
        await dial(OWNER)
        assert mask(f"the server said: {token!r} is too old") == "the server said: '***' is too old"

    assert token in mask(token)
    run(main)


def test_a_token_of_the_joins_is_not_taken_to_where_a_server_redirects(run):
    """It would go to another server, or without TLS, as soon as the first topic is joined there."""

    async def main():
        async def greet(peer):
            await peer.upgrade()
            await peer.read_to_end()

        async def lead_away(peer):
            await peer.read_request()
            peer.write(b"HTTP/1.1 307 Go\r\nLocation: ws://127.0.0.1:%d/socket/websocket\r\n\r\n" % other.port)

        async with RawServer(greet) as other, RawServer(lead_away) as server:
            url = f"ws://127.0.0.1:{server.port}/socket"
            choice = TransportChoice("websocket", fallback_timeout=1.0)
            with pytest.raises(RedirectRefused, match="it would carry the token to"):
                await dialler(Provider("token"), choice, url=url, mode="join:token")(Owner())
            transport = await dialler(NoToken(), choice, url=url, mode="join:token")(Owner())
            transport.abort()

    run(main)


UNREAD = "the server's certificate is not checked: anybody in between can read and change everything"
READ = "secrets travel unencrypted to another host: anybody in between can read them"


@pytest.mark.parametrize(
    ("settings", "warning"),
    [
        (Settings(url=("wss://a.example/socket",), insecure=True), UNREAD),
        (Settings(url=("ws://b.example/socket",), insecure=True, auth="env:TOKEN"), READ),
        (Settings(url=("ws://c.example/socket",), insecure=True, auth="env:TOKEN", auth_mode="join:token"), READ),
        (Settings(url=("ws://d.example/socket",), insecure=True, param={"token": "hunter2"}), READ),
        (Settings(url=("ws://localhost/socket",), insecure=True, param={"token": "hunter2"}, proxy="http://proxy.example:1"), READ),
        (Settings(url=("wss://e.example/socket",), insecure=True, pin=("aa" * 32,)), None),
        (Settings(url=("wss://f.example/socket",), auth="env:TOKEN"), None),
        (Settings(url=("ws://g.example/socket",), insecure=True), None),
        (Settings(url=("ws://localhost/socket",), insecure=True, auth="env:TOKEN"), None),
    ],
)
def test_what_insecure_has_allowed_is_said_once(settings, warning):
    """Whoever reads the log of a worker sees that it was left on, without looking for it and without reading it a hundred times."""
    with structlog.testing.capture_logs() as logs:
        for _ in range(3):
            Dialler.of(settings)

    assert [(line["event"], line["log_level"]) for line in logs] == ([(warning, "warning")] if warning else [])
    assert "hunter2" not in str(logs)


def test_what_the_settings_hold_of_secrets_is_hidden_before_anything_is_sent(run):
    """A server that repeats them in its answer does not bring them into a log."""

    async def main():
        endpoint = Endpoint(
            "wss://me:url-password@example.com/socket?api_key=url%2Fapi-key",
            {"token": "param-token", "room": "param-room"},
            headers=(("Authorization", "Bearer header-token"), ("X-Request-Id", "header-request")),
            proxy="http://me:proxy-password@127.0.0.1:1",
        )
        settings = {"token_mode": "param:late", "connect_timeout": 1.0, "max_frame_bytes": 1024}
        dial = Dialler([Candidate(endpoint, Choice(None))], tokens=TokenSource(Provider("provider-token")), **settings)
        await dial(OWNER)

        secrets = ["url-password", "url/api-key", "param-token", "header-token", "proxy-password", "provider-token"]
        assert [mask(f"no {secret} here") for secret in secrets] == ["no *** here"] * len(secrets)
        assert mask("param-room header-request") == "param-room header-request"

    run(main)


def test_each_of_two_connections_knows_its_own_transport(run):
    """What a hand-over gets says nothing of the connection that stays if it is called off."""

    async def main():
        choice = Choice("token")
        choice.fallback = "long-poll instead of a WebSocket"
        old = dialler(Provider("token", "token"), choice)
        await old(OWNER)
        new = old.another()
        assert (old.fallback, new.fallback) == ("long-poll instead of a WebSocket", "")

        choice.fallback = ""
        await new(OWNER)

        assert (old.fallback, new.fallback) == ("long-poll instead of a WebSocket", "")

    run(main)


class Servers:
    """Takes the place of several servers: what each does with a connection, by its host."""

    fallback = ""

    def __init__(self, **outcomes):
        self.outcomes, self.asked = outcomes, []

    async def dial(self, endpoint, owner, **limits):
        self.asked.append((endpoint.host, endpoint.auth_token))
        outcome = self.outcomes[endpoint.host.partition(".")[0]]
        if callable(outcome):
            outcome = outcome(endpoint)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


def several(servers, provider=None, *hosts, **settings):
    return Dialler(
        [Candidate(Endpoint(f"ws://{host}.localhost/socket"), servers) for host in hosts or ("a", "b")],
        tokens=TokenSource(provider or NoToken()),
        token_mode="subprotocol",
        connect_timeout=1.0,
        max_frame_bytes=1024,
        **settings,
    )


def gone(host):
    return ConnectFailed(f"{host}.localhost", 80, "refused")


def test_an_attempt_goes_on_to_the_next_endpoint(run):
    """The core hears of one attempt, which succeeded."""

    async def main():
        servers = Servers(a=gone("a"), b=TRANSPORT)
        dial = several(servers)
        with structlog.testing.capture_logs() as logs:
            assert await dial(OWNER) is TRANSPORT

        assert [host for host, _ in servers.asked] == ["a.localhost", "b.localhost"]
        assert dial.endpoint.host == "b.localhost"
        [line] = [line for line in logs if line["event"] == "not at the first endpoint"]
        assert "a.localhost:80 (refused)" in line["reason"]

    run(main)


def test_the_next_attempt_does_not_begin_with_what_failed_just_now(run):
    """A dead first endpoint costs its time-out once, and not at each reconnect."""

    async def main():
        servers = Servers(a=gone("a"), b=TRANSPORT)
        dial = several(servers)
        await dial(OWNER)
        servers.asked.clear()
        await dial(OWNER)
        assert [host for host, _ in servers.asked] == ["b.localhost"]

    run(main)


def test_an_attempt_that_fails_has_asked_all_and_names_all(run):
    """None is left out because of what it did before."""

    async def main():
        servers = Servers(a=gone("a"), b=gone("b"))
        dial = several(servers)
        for _ in range(2):
            servers.asked.clear()
            with pytest.raises(NoEndpoint, match=r"(?s)a\.localhost.*b\.localhost"):
                await dial(OWNER)
            assert {host for host, _ in servers.asked} == {"a.localhost", "b.localhost"}
        assert dial.at is None

    run(main)


def test_each_endpoint_gets_the_token_and_may_refuse_it_by_itself(run):
    """The fresh token is tried where the old one was refused, and shown to the others at once."""

    async def main():
        def only(token):
            return lambda endpoint: TRANSPORT if endpoint.auth_token == token else AuthenticationRefused("ws://x", 403)

        servers = Servers(a=only("nothing"), b=only("fresh"))
        dial = several(servers, Provider("old", "fresh"))
        assert await dial(OWNER) is TRANSPORT
        assert servers.asked == [("a.localhost", "old"), ("a.localhost", "fresh"), ("b.localhost", "fresh")]
        assert dial.sends_token

    run(main)


def test_an_endpoint_that_refused_the_token_is_not_asked_with_each_attempt(run):
    """The error says of both why, and that it is about the token."""

    async def main():
        servers = Servers(a=AuthenticationRefused("ws://a.localhost", 403), b=gone("b"))
        dial = several(servers, Provider("same"))
        for _ in range(3):
            with pytest.raises(NoEndpoint) as raised:
                await dial(OWNER)
        assert [host for host, _ in servers.asked].count("a.localhost") == 1
        assert isinstance(raised.value.decisive, AuthenticationRefused)
        assert raised.value.retry_after == 0.0

    run(main)


def test_without_a_token_no_endpoint_is_dialled(run):
    """It is not the endpoints' fault, and none of them rests for it."""

    async def main():
        servers = Servers(a=TRANSPORT, b=TRANSPORT)
        dial = several(servers, Provider(TokenUnavailable("the test", "it is gone")))
        with pytest.raises(TokenUnavailable):
            await dial(OWNER)
        assert servers.asked == []
        assert not dial.endpoints.first.rest

    run(main)


def test_a_token_does_not_travel_unencrypted_to_any_of_the_endpoints():
    """One that is safe does not make up for one that is not."""
    with pytest.raises(ConfigError, match=r"unencrypted to b\.example"):
        Dialler(
            [Candidate(Endpoint(url), Choice()) for url in ("wss://a.example/socket", "ws://b.example/socket")],
            tokens=TokenSource(Provider("token")),
            token_mode="subprotocol",
            connect_timeout=1.0,
            max_frame_bytes=1024,
        )


def test_params_are_asked_once_an_attempt_and_go_to_each_endpoint(run):
    """They may be different the next time."""

    async def main():
        seen, asked = [], iter(range(10))
        servers = Servers(a=lambda endpoint: seen.append(endpoint.params["n"]) or gone("a"), b=TRANSPORT)
        servers.outcomes["b"] = lambda endpoint: seen.append(endpoint.params["n"]) or TRANSPORT
        dial = several(servers, params=lambda: {"n": str(next(asked))})
        await dial(OWNER)
        assert seen == ["0", "0"]

    run(main)


def closed(code, cause=Cause.SERVER_CLOSED, delay=1.0):
    return events.SocketClosed(cause, code, "", delay)


@pytest.mark.parametrize(
    ("event", "at_once", "rests"),
    [
        (closed(1012), True, True),
        (closed(1013), True, True),
        (closed(1001), False, True),
        (closed(1006, Cause.LINK_LOST), False, True),
        (closed(1000, Cause.REQUESTED), False, False),
        (closed(1000, delay=None), False, False),
    ],
)
def test_a_server_that_ended_the_connection_is_not_the_first_choice(run, event, at_once, rests):
    """The others come first for a while; where it drains or is busy, there is no waiting either. What we end is nobody's fault."""

    async def main():
        servers = Servers(a=TRANSPORT, b=TRANSPORT)
        dial = several(servers)
        await dial(OWNER)
        assert dial.lost(event) is at_once
        assert bool(dial.endpoints.first.rest) is rests
        await dial(OWNER)
        assert servers.asked[-1][0] == ("b.localhost" if rests else "a.localhost")

    run(main)


def test_a_drain_of_the_only_endpoint_is_waited_out(run):
    """There is nowhere else to go."""

    async def main():
        dial = several(Servers(a=TRANSPORT), None, "a")
        await dial(OWNER)
        assert dial.lost(closed(1012)) is False

    run(main)


def test_two_connections_share_what_is_known_of_the_endpoints(run):
    """A second connection does not begin where the first has just failed; a limit holds for its first connection."""

    async def main():
        servers = Servers(a=gone("a"), b=TRANSPORT)
        dial = several(servers)
        await dial(OWNER)
        servers.asked.clear()
        other = dial.another()
        assert other.at is None
        await other(OWNER)
        assert [host for host, _ in servers.asked] == ["b.localhost"]

        servers.asked.clear()
        limited = dial.another([dial.endpoints.first])
        with pytest.raises(ConnectFailed):
            await limited(OWNER)
        assert [host for host, _ in servers.asked] == ["a.localhost"]
        servers.outcomes["a"] = TRANSPORT
        await limited(OWNER)
        servers.outcomes["a"] = gone("a")
        await limited(OWNER)
        assert [host for host, _ in servers.asked] == ["a.localhost", "a.localhost", "a.localhost", "b.localhost"]
        assert dial.at is dial.endpoints.all[1]

    run(main)
