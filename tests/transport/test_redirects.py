"""Where a server may send us, what goes along, and where it ends."""

import asyncio
import logging

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rig.errors import ConnectFailed, ConnectTimeout, HandshakeRefused, RedirectRefused
from rig.transport import Endpoint, dial
from rig.transport.handshake import Redirect
from rig.transport.redirects import MAX_REDIRECTS, follow
from tests.running import until
from tests.transport.proxy_server import ProxyServer
from tests.transport.raw_server import Owner, Peer, RawServer, close, reached
from tests.transport.tls_server import reach

SECRETS = {
    "the token": {"auth_token": "hush"},
    "the param token": {"params": {"token": "hush"}},
    "the param k": {"params": {"k": "hush"}, "secret_names": ("k",)},
    "the header Authorization": {"headers": (("Authorization", "Bearer hush"),)},
    "the header Cookie": {"headers": (("Cookie", "a=hush"),)},
    "the header X-Api-Key": {"headers": (("X-Api-Key", "hush"),)},
    "user and password": {},
}


def redirects(location: str, status: int = 302, *, version: str = "1.1"):
    """Make a server's answer."""
    return f"HTTP/{version} {status} Elsewhere\r\nlocation:  {location} \r\nContent-Length: 0\r\n\r\n".encode()


class Site:
    """A server that answers by path, and upgrades where it has no answer; it notes every request line and header."""

    def __init__(self, answers=None):
        self.answers, self.requests = {} if answers is None else answers, []

    async def __call__(self, peer: Peer) -> None:
        request = await peer.read_request()
        self.requests.append(request)
        answer = self.answers.get(request.split(" ")[1])
        if answer is not None:
            peer.write(answer)
            return
        peer.switch_protocols(then=close(1000))
        await peer.read_to_end()

    @property
    def paths(self) -> list[str]:
        return [request.split(" ")[1] for request in self.requests]


START = "/socket/websocket?vsn=2.0.0"


async def refuse(endpoint: Endpoint) -> RedirectRefused:
    with pytest.raises(RedirectRefused) as failed:
        await dial(endpoint, Owner())
    assert "hush" not in str(failed.value)
    return failed.value


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    ("location", "path"),
    [
        ("/live/websocket?vsn=2.0.0&shard=7", "/live/websocket?vsn=2.0.0&shard=7"),
        ("elsewhere", "/socket/elsewhere"),
        ("?b=2", "/socket/websocket?b=2"),
        ("//127.0.0.1:{port}/x", "/x"),
        ("http://127.0.0.1:{port}/x/y/", "/x/y/"),
        ("ws://127.0.0.1:{port}", "/"),
        ("/x#part", "/x"),
    ],
)
def test_a_redirect_is_followed_to_the_url_that_the_server_names(location, path, status, run_on_both):
    """Relative or whole, with http for ws; nothing of ours is added to it."""

    async def test():
        site = Site()
        async with RawServer(site) as server:
            site.answers[f"{START.replace('?', '?a=1&')}"] = redirects(location.format(port=server.port), status)
            await reach(server.endpoint(params={"a": "1"}))
        assert site.paths == ["/socket/websocket?a=1&vsn=2.0.0", path]

    run_on_both(test)


def test_an_answer_of_http_1_0_or_without_a_reason_redirects_too(run_on_both):
    """Old servers and strange ones are understood."""

    async def test():
        site = Site({START: redirects("/one", version="1.0"), "/one": b"HTTP/1.1 308\r\nLOCATION:/two\r\n\r\n"})
        async with RawServer(site) as server:
            await reach(server.endpoint())
        assert site.paths == [START, "/one", "/two"]

    run_on_both(test)


def test_headers_and_token_go_along_to_the_same_server(run_on_both):
    """There is no other who could learn them."""

    async def test():
        site = Site({"/socket/websocket?token=hush&vsn=2.0.0": redirects("/moved")})
        async with RawServer(site) as server:
            url = f"ws://user:hush@127.0.0.1:{server.port}/socket"
            await reach(Endpoint(url, {"token": "hush"}, auth_token="hush", headers=(("Cookie", "c"), ("X-A", "1"))))
        first, second = [{line for line in request.split("\r\n")[1:] if "Key" not in line} for request in site.requests]
        assert first == second
        assert {"Cookie: c", "X-A: 1", "Authorization: Basic dXNlcjpodXNo"} < second
        assert any(line.startswith("Sec-WebSocket-Protocol: phoenix, base64url.bearer.phx.") for line in second)

    run_on_both(test)


def test_without_secrets_a_redirect_to_another_host_is_followed(run_on_both):
    """Headers that hold no secret go along; user and password that the server wrote into its URL do not."""

    async def test():
        there = Site()
        async with RawServer(there) as target:
            here = Site({START: redirects(f"ws://user:word@localhost:{target.port}/moved?vsn=2.0.0")})
            async with RawServer(here) as server:
                await reach(server.endpoint(headers=(("X-A", "1"),)))
        assert there.paths == ["/moved?vsn=2.0.0"]
        assert "\r\nX-A: 1\r\n" in there.requests[0]
        assert f"\r\nHost: localhost:{target.port}\r\n" in there.requests[0]
        assert "Authorization" not in there.requests[0]

    run_on_both(test)


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_secret_is_not_carried_to_another_host_or_port(secret, host, run_on_both):
    """The message says which secret, and where it would go; the other server hears nothing."""

    async def test():
        there = Site()
        async with RawServer(there) as target:

            class Always(dict):
                def get(self, path):
                    return redirects(f"ws://{host}:{target.port}/moved?token=hush")

            async with RawServer(Site(Always())) as server:
                userinfo = "user:hush@" if secret == "user and password" else ""
                error = await refuse(Endpoint(f"ws://{userinfo}127.0.0.1:{server.port}/socket", **SECRETS[secret]))
            assert f"it would carry {secret} to {host}:{target.port};" in error.reason
            assert error.target == f"ws://{host}:{target.port}/moved?token=***"
            assert error.status == 302
        assert there.requests == []

    run_on_both(test)


def test_what_was_tls_does_not_become_plain(certificates, run_on_both):
    """Not even on the same host, and not even without secrets."""

    async def test():
        plain = Site()
        async with RawServer(plain) as target:
            site = Site({START: redirects(f"http://localhost:{target.port}/moved")})
            async with RawServer(site, certificates.server_context()) as server:
                error = await refuse(server.endpoint(ca_file=certificates.ca_pem))
        assert "give up TLS" in str(error)
        assert plain.requests == []

    run_on_both(test)


def test_plain_may_become_tls_and_is_checked_then(certificates, run_on_both):
    """The certificate of the new place must be trusted."""

    async def test():
        secure = Site()
        async with RawServer(secure, certificates.server_context()) as target:
            site = Site({START: redirects(f"https://localhost:{target.port}/moved")})
            async with RawServer(site) as server:
                await reach(server.endpoint(ca_file=certificates.ca_pem))
        assert secure.paths == ["/moved"]

    run_on_both(test)


@pytest.mark.parametrize("count", [MAX_REDIRECTS, MAX_REDIRECTS + 1])
def test_five_redirects_are_followed_and_not_six(count, run_on_both):
    """A chain ends, whoever made it."""

    async def test():
        site = Site({START: redirects("/1")} | {f"/{n}": redirects(f"/{n + 1}") for n in range(1, count)})
        async with RawServer(site) as server:
            if count == MAX_REDIRECTS:
                await reach(server.endpoint())
            else:
                assert "more than 5 redirects" in str(await refuse(server.endpoint()))
        assert site.paths == [START, "/1", "/2", "/3", "/4", "/5"]

    run_on_both(test)


@pytest.mark.parametrize("location", [START, "/other"])
def test_a_circle_is_noticed(location, run_on_both):
    """The second visit does not come about."""

    async def test():
        site = Site({START: redirects(location), "/other": redirects(START)})
        async with RawServer(site) as server:
            assert "circle" in str(await refuse(server.endpoint()))
        assert len(site.paths) == len(set(site.paths))

    run_on_both(test)


@pytest.mark.parametrize(
    "location",
    [
        "ftp://hush.example/",
        "http://",
        "http://[::1/hush",
        "ws://a..b/hush",
        "//host:99999/hush",
        "/so cket?token=hush",
        "mailto:hush@x",
    ],
)
def test_a_location_that_leads_nowhere_is_refused_and_not_repeated(location, run_on_both):
    """What cannot be read cannot be masked."""

    async def test():
        async with RawServer(Site({START: redirects(location)})) as server:
            error = await refuse(server.endpoint())
        assert "not the URL of a socket" in error.reason

    run_on_both(test)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 302 Found\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation:\r\n\r\n",
        b"HTTP/1.1 300 Choose\r\nLocation: /other\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\nLocation: /other\r\n\r\n",
        b"HTTP/1.1 503 Busy\r\nLocation: /other\r\n\r\n",
        b"HTTP/1.1 404 Not Found\r\nX-Location: /other\r\n\r\nLocation: /other\r\n",
    ],
)
def test_what_is_no_redirect_is_not_followed(answer, run_on_both):
    """A place without a redirect, or a redirect without a place, is an answer like any other."""

    async def test():
        site = Site({START: answer})
        async with RawServer(site) as server:
            with pytest.raises(HandshakeRefused) as failed:
                await dial(server.endpoint(), Owner())
        assert failed.type is HandshakeRefused
        assert site.paths == [START]

    run_on_both(test)


def test_an_error_after_a_redirect_names_the_new_place(run_on_both):
    """The user learns which of the servers it was."""

    async def test():
        site = Site({START: redirects("/moved?token=hush"), "/moved?token=hush": b"HTTP/1.1 404 Not Found\r\n\r\n"})
        async with RawServer(site) as server:
            with pytest.raises(HandshakeRefused, match=r"/moved\?token=\*\*\* answered HTTP 404"):
                await dial(server.endpoint(), Owner())
        async with RawServer(site) as server:
            site.answers[START] = redirects("ws://127.0.0.1:1/")
            with pytest.raises(ConnectFailed, match=r"127\.0\.0\.1:1"):
                await dial(server.endpoint(), Owner())

    run_on_both(test)


def test_a_redirect_takes_the_proxy_of_its_own_place(monkeypatch, run_on_both):
    """The environment is asked anew for each server."""

    async def test():
        there = Site()
        async with RawServer(there) as target, ProxyServer("http") as proxy:
            monkeypatch.setenv("http_proxy", proxy.url())
            monkeypatch.setenv("no_proxy", "127.0.0.1")
            async with RawServer(Site({START: redirects(f"ws://phoenix.example:{target.port}/moved")})) as server:
                await reach(server.endpoint(proxy="env"))
            assert proxy.asked == [("phoenix.example", target.port)]
        assert there.paths == ["/moved"]

    run_on_both(test)


@pytest.mark.parametrize("how", ["timeout", "cancel"])
def test_all_redirects_share_one_time_limit_and_leave_nothing_open(how, run_on_both):
    """A server that redirects and then keeps silent is hung up on, and so is the one before."""

    async def test():
        async def behaviour(peer):
            await peer.read_request()
            if peer.request.startswith("GET /silent "):
                silent.set()
                await peer.read_to_end()
                hung_up.set()
                return
            peer.write(redirects("/silent"))
            await peer.read_to_end()

        silent, hung_up, owner = asyncio.Event(), asyncio.Event(), Owner()
        async with RawServer(behaviour) as server:
            before = psutil.Process().num_fds()
            dialling = asyncio.ensure_future(dial(server.endpoint(), owner, connect_timeout=0.2 if how == "timeout" else 60))
            await reached(silent, dialling)
            if how == "cancel":
                dialling.cancel()
            with pytest.raises(ConnectTimeout if how == "timeout" else asyncio.CancelledError) as failed:
                await dialling
            if how == "timeout":
                assert "/socket/websocket" in str(failed.value)
                assert "within 0.2 s" in str(failed.value)
            await until(lambda: hung_up.is_set() or not silent.is_set())
            await until(lambda: psutil.Process().num_fds() <= before)
        assert owner.heard == []

    run_on_both(test)


def test_no_log_shows_what_a_redirect_carries(caplog, run_on_both):
    """However talkative a library is."""
    caplog.set_level(logging.DEBUG)

    async def test():
        site = Site({"/socket/websocket?token=hush&vsn=2.0.0": redirects("/moved?token=hush")})
        async with RawServer(site) as server:
            await reach(server.endpoint(params={"token": "hush"}, auth_token="hush"))

    run_on_both(test)
    assert "hush" not in caplog.text


def test_settings_of_trust_go_along():
    """Authority, pins and proxy hold for the new place as well; our params do not, since the server names the query."""
    here = Endpoint(
        "wss://a.example/socket", {"a": "1"}, vsn="1.0.0", ca_file="ca.pem", pins=("00" * 32,), proxy="socks5://p:1", insecure=True
    )
    there = follow([here], Redirect(302, "https://b.example/moved?b=2"))

    assert there.websocket_url() == "wss://b.example/moved?b=2"
    assert (there.ca_file, there.pins, there.proxy, there.insecure) == ("ca.pem", ("00" * 32,), "socks5://p:1", True)


_PIECES = st.sampled_from(
    [*("http:", "https:", "wss:", "ws:", "ftp:", "//", "/", "?", "#", "@", ":", "[", "]", "..", "%"),
     *("a", "b.example", "a.example", "443", "::1", "=", "\xe9", "x:y@", "//a.example", "https://a.example")]
)  # fmt: skip


@given(st.lists(_PIECES).map("".join) | st.text())
def test_no_location_leads_a_secret_out_of_tls_or_to_another_server(location):
    """Whatever a server writes, we go on at the same server by TLS, or refuse."""
    here = Endpoint("wss://user:hush@a.example/socket", {"token": "hush"}, auth_token="hush")
    try:
        there = follow([here], Redirect(302, location))
    except RedirectRefused:
        return
    assert (there.secure, there.host, there.port) == (True, "a.example", 443)
    assert there.request_headers() == here.request_headers()
    assert there.websocket_url().startswith("wss://a.example/")


def test_a_secret_under_a_name_of_its_own_is_masked_in_the_place_that_is_refused():
    """A server that repeats the token in its Location does not get it into our logs."""
    here = Endpoint("wss://a.example/socket", {"k": "hush"}, secret_names=("k",))
    with pytest.raises(RedirectRefused) as refused:
        follow([here], Redirect(302, "wss://b.example/moved?k=hush&a=1"))

    assert refused.value.target == "wss://b.example/moved?k=***&a=1"
