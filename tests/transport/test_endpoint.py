"""Where to connect: what the user may type, what goes out, and what people get to see."""

import base64

import pytest

from rig.errors import ConfigError
from rig.transport import Endpoint


@pytest.mark.parametrize(
    ("typed", "dialled"),
    [
        ("ws://example.com/socket", "ws://example.com/socket/websocket?vsn=2.0.0"),
        ("wss://example.com/socket", "wss://example.com/socket/websocket?vsn=2.0.0"),
        ("http://example.com/socket", "ws://example.com/socket/websocket?vsn=2.0.0"),
        ("https://example.com/socket", "wss://example.com/socket/websocket?vsn=2.0.0"),
        ("WSS://Example.COM/Socket", "wss://example.com/Socket/websocket?vsn=2.0.0"),
        ("ws://example.com/socket/websocket", "ws://example.com/socket/websocket?vsn=2.0.0"),
        ("ws://example.com/socket/websocket/", "ws://example.com/socket/websocket?vsn=2.0.0"),
        ("ws://example.com/socket/", "ws://example.com/socket/websocket?vsn=2.0.0"),
        ("ws://example.com", "ws://example.com/websocket?vsn=2.0.0"),
        ("ws://example.com:4000/socket", "ws://example.com:4000/socket/websocket?vsn=2.0.0"),
        ("ws://example.com:80/socket", "ws://example.com/socket/websocket?vsn=2.0.0"),
        ("wss://example.com:443/socket", "wss://example.com/socket/websocket?vsn=2.0.0"),
        ("ws://example.com/socket?a=1&b=%20", "ws://example.com/socket/websocket?a=1&b=%20&vsn=2.0.0"),
        ("ws://example.com/socket/websocket?vsn=1.0.0&a=1", "ws://example.com/socket/websocket?a=1&vsn=2.0.0"),
        ("ws://[::1]:4000/socket", "ws://[::1]:4000/socket/websocket?vsn=2.0.0"),
        ("ws://localhost/s\N{LATIN SMALL LETTER O WITH DIAERESIS}", "ws://localhost/s%C3%B6/websocket?vsn=2.0.0"),
        ("ws://b\N{LATIN SMALL LETTER U WITH DIAERESIS}cher.example/s", "ws://xn--bcher-kva.example/s/websocket?vsn=2.0.0"),
    ],
)
def test_a_url_is_dialled_whichever_way_it_is_written(typed, dialled):
    """Scheme, trailing slash, `/websocket`, ports, query and IPv6 are understood."""
    assert Endpoint(typed).websocket_url() == dialled


def test_params_come_before_vsn_and_are_encoded_as_phoenix_js_does():
    """The server sees the same query as from the official client."""
    endpoint = Endpoint("ws://localhost/socket?a=1", {"name": "x y&z/\N{EURO SIGN}", "mark": "-_.!~*'()"}, vsn="1.0.0")

    assert endpoint.websocket_url() == "ws://localhost/socket/websocket?a=1&name=x%20y%26z%2F%E2%82%AC&mark=-_.!~*'()&vsn=1.0.0"


@pytest.mark.parametrize(
    ("typed", "asked"),
    [
        ("ws://h/socket", "http://h/socket/longpoll?vsn=2.0.0"),
        ("wss://h/socket/websocket", "https://h/socket/longpoll?vsn=2.0.0"),
        ("http://h:4000/a/longpoll/", "http://h:4000/a/longpoll?vsn=2.0.0"),
        ("https://[::1]:8443/s?a=1&vsn=1.0.0", "https://[::1]:8443/s/longpoll?a=1&vsn=2.0.0"),
    ],
)
def test_longpoll_is_beside_the_websocket(typed, asked):
    """The same host, path and query, over HTTP."""
    assert Endpoint(typed).longpoll_url() == asked


def test_the_url_of_longpoll_for_people_has_its_secrets_masked():
    """As that of the WebSocket has."""
    endpoint = Endpoint("wss://user:pass@h/socket?token=abc", params={"a": "1"})
    assert endpoint.longpoll_display == "https://***@h/socket/longpoll?token=***&a=1&vsn=2.0.0"


def test_longpoll_has_no_subprotocol():
    """The token and the header of a WebSocket stay with the WebSocket; everything else goes along."""
    endpoint = Endpoint(
        "wss://user:pass@h/socket", headers=(("X-Trace", "1"), ("sec-websocket-protocol", "other")), auth_token="sesame"
    )
    assert endpoint.longpoll_headers() == [("X-Trace", "1"), ("Authorization", "Basic dXNlcjpwYXNz")]


@pytest.mark.parametrize(
    ("url", "host", "port", "secure"),
    [
        ("ws://Example.com/socket", "example.com", 80, False),
        ("https://example.com/socket", "example.com", 443, True),
        ("wss://[2001:db8::1]:8443/socket", "2001:db8::1", 8443, True),
    ],
)
def test_host_and_port_are_those_to_connect_to(url, host, port, secure):
    """A port that is not written is that of the scheme."""
    endpoint = Endpoint(url)

    assert (endpoint.host, endpoint.port, endpoint.secure) == (host, port, secure)


@pytest.mark.parametrize(
    "name",
    [
        *("token", "userToken", "guardian_token", "api_key", "APIKEY", "client_secret", "jwt", "auth", "Authorization"),
        *("password", "passwd", "Passphrase", "credentials"),
    ],
)
def test_secrets_are_masked_in_what_people_see(name):
    """Neither the URL's own query nor the params show a secret, whatever its exact name."""
    endpoint = Endpoint(f"wss://example.com/socket?{name}=hush&a=1", {name: "hush", "b": "2"}, auth_token="hush")

    assert "hush" not in endpoint.display
    assert "hush" not in repr(endpoint)
    assert "a=1" in endpoint.display
    assert "b=2" in endpoint.display


def test_a_secret_with_an_encoded_name_is_masked():
    """Percent signs in the name do not unmask the value."""
    assert "hush" not in Endpoint("wss://example.com/socket?user%5Ft%6Fken=hush").display


def test_user_and_password_are_masked_and_sent_as_a_header():
    """What is written before the @ goes out as basic authentication, as with curl."""
    endpoint = Endpoint("wss://user:p%40ss@example.com/socket")

    assert endpoint.display == "wss://***@example.com/socket/websocket?vsn=2.0.0"
    assert endpoint.websocket_url() == "wss://example.com/socket/websocket?vsn=2.0.0"
    assert endpoint.request_headers() == [("Authorization", f"Basic {base64.b64encode(b'user:p@ss').decode()}")]


def test_an_auth_token_is_offered_as_phoenix_reads_it():
    """Standard base64 without padding: Phoenix answers HTTP 500 to the URL-safe kind."""
    endpoint = Endpoint(
        "wss://example.com/socket",
        headers=(("X-A", "1"),),
        auth_token="\N{LATIN SMALL LETTER Y WITH DIAERESIS}\N{LATIN SMALL LETTER Y WITH DIAERESIS}?>a",
    )

    name, value = endpoint.request_headers()[-1]
    prefix, encoded = value.split("bearer.phx.")
    assert endpoint.request_headers()[0] == ("X-A", "1")
    assert name == "Sec-WebSocket-Protocol"
    assert prefix == "phoenix, base64url."
    assert "/" in encoded
    assert "=" not in encoded
    assert base64.b64decode(encoded + "==").decode().endswith("?>a")


@pytest.mark.parametrize("host", ["example.com", "10.0.0.1", "[2001:db8::1]", "localhost.example.com"])
def test_a_token_does_not_travel_unencrypted_to_another_host(host):
    """It needs TLS, or the user's word."""
    with pytest.raises(ConfigError, match="wss://"):
        Endpoint(f"ws://{host}/socket", auth_token="t")
    with pytest.raises(ConfigError, match="wss://"):
        Endpoint(f"ws://user:password@{host}/socket")

    assert not Endpoint(f"ws://{host}/socket").may_carry_secrets
    assert Endpoint(f"wss://{host}/socket", auth_token="t").may_carry_secrets
    assert Endpoint(f"ws://{host}/socket", auth_token="t", insecure=True).may_carry_secrets


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.8.8", "[::1]", "app.localhost"])
def test_a_token_travels_unencrypted_to_this_machine(host):
    """Development needs no certificates."""
    assert Endpoint(f"ws://{host}/socket", auth_token="t").may_carry_secrets


@pytest.mark.parametrize(
    ("mode", "query", "headers"),
    [
        ("subprotocol", "vsn=2.0.0", [("X-Key", "k"), ("Sec-WebSocket-Protocol", "phoenix, base64url.bearer.phx.aHVzaCBhL2I")]),
        ("param:t", "t=hush%20a%2Fb&vsn=2.0.0", [("X-Key", "k")]),
        ("header", "vsn=2.0.0", [("X-Key", "k"), ("Authorization", "Bearer hush a/b")]),
        ("header:x-key", "vsn=2.0.0", [("x-key", "hush a/b")]),
    ],
)
def test_a_token_travels_in_the_place_that_the_mode_names(mode, query, headers):
    """As phoenix.js sends it, as a param, as a bearer, or as it is; it takes the place of what was there."""
    plain = Endpoint("wss://example.com/socket", headers=(("X-Key", "k"),))

    endpoint = plain.with_token("hush a/b", mode)

    assert endpoint.websocket_url() == f"wss://example.com/socket/websocket?{query}"
    assert endpoint.request_headers() == headers
    assert plain.request_headers() == [("X-Key", "k")]
    assert "hush" not in f"{endpoint!r} {endpoint} {endpoint.display}"


def test_a_new_token_takes_the_place_of_the_last_one():
    """A param is not sent twice."""
    endpoint = (
        Endpoint("wss://example.com/socket", {"t": "old", "a": "1"}).with_token("first", "param:t").with_token("hush", "param:t")
    )

    assert endpoint.websocket_url() == "wss://example.com/socket/websocket?t=hush&a=1&vsn=2.0.0"
    assert endpoint.display == "wss://example.com/socket/websocket?t=***&a=1&vsn=2.0.0"


def test_a_param_whose_name_needs_encoding_is_masked():
    """Percent signs in the name do not unmask the value."""
    endpoint = Endpoint("wss://example.com/socket").with_token("hush", "param:my key")

    assert "my%20key=hush" in endpoint.websocket_url()
    assert "hush" not in endpoint.display


@pytest.mark.parametrize("mode", ["subprotocol", "param:t", "header", "header:X-Key"])
def test_in_no_mode_does_a_token_travel_unencrypted_to_another_host(mode):
    """It needs TLS, this machine, or the user's word."""
    with pytest.raises(ConfigError, match="wss://") as refused:
        Endpoint("ws://example.com/socket").with_token("hush", mode)

    assert "hush" not in str(refused.value)
    for allowed in (Endpoint("wss://example.com/s"), Endpoint("ws://localhost/s"), Endpoint("ws://example.com/s", insecure=True)):
        assert allowed.with_token("hush", mode) != allowed


@pytest.mark.parametrize("mode", ["subprotocol", "param:t", "header", "header:X-Key"])
@pytest.mark.parametrize("token", ["", "hush\r\nX: y", "hush\x00", "\thush", "hush\udcff"])
def test_a_token_that_would_break_the_request_is_refused_without_being_shown(mode, token):
    """Nothing can be smuggled into the handshake."""
    with pytest.raises(ConfigError, match="control character") as refused:
        Endpoint("wss://example.com/socket").with_token(token, mode)

    assert "hush" not in str(refused.value)


@pytest.mark.parametrize("mode", ["", "param", "param:", "param:vsn", "join:token", "subprotocol:x", "bearer"])
def test_a_mode_that_there_is_not_is_refused(mode):
    """The sentence lists those that there are."""
    with pytest.raises(ConfigError, match="write subprotocol, param:NAME, header or header:NAME"):
        Endpoint("wss://example.com/socket").with_token("hush", mode)


@pytest.mark.parametrize(
    "header",
    [
        ("X y", "1"), ("", "1"), ("X:", "1"), ("X", "1\r\nY: 2"), ("X", "\x00"), ("Upgrade", "h2c"),
        ("sec-websocket-key", "x"), ("Sec-WebSocket-Extensions", "permessage-deflate"),
    ],
)  # fmt: skip
def test_headers_that_would_break_the_request_are_refused(header):
    """Nothing can be smuggled into the handshake."""
    with pytest.raises(ConfigError, match="header"):
        Endpoint("ws://localhost/socket", headers=(header,))


def test_a_key_without_its_certificate_is_refused(certificates):
    """A key alone would be ignored silently."""
    with pytest.raises(ConfigError, match="--cert"):
        Endpoint("wss://example.com/socket", key_file=certificates.client_key)


def test_plain_connections_have_no_tls_settings():
    """Whoever connects asks the endpoint, and is told that no TLS is spoken."""
    assert Endpoint("ws://example.com/socket").ssl_context() is None
    assert Endpoint("wss://example.com/socket").ssl_context() is not None


def test_a_pin_without_tls_is_refused():
    """There is no certificate to compare."""
    with pytest.raises(ConfigError, match="wss://"):
        Endpoint("ws://localhost/socket", pins=("00" * 32,))


@pytest.mark.parametrize(
    "pin",
    ["", "hush", "sha256//", "sha256//AAAA", "sha256//" + "!" * 44, "sha1//AAAA", "00" * 31, "0:" * 32, "sha256:" + "00" * 32],
)
def test_a_malformed_pin_is_refused_with_the_forms_expected(pin):
    """Both ways to write a pin are named."""
    with pytest.raises(ConfigError, match=r"sha256// and the base64.*hex"):
        Endpoint("wss://localhost/socket", pins=(pin,))


def test_params_and_headers_that_are_named_as_secrets_are_masked():
    """A token may travel under any name."""
    endpoint = Endpoint("wss://example.com/socket?T=hush", {"k": "hush", "a": "1"}, secret_names=("k", "t"))

    assert endpoint.display == "wss://example.com/socket/websocket?T=***&k=***&a=1&vsn=2.0.0"


def test_secrets_are_named_without_their_values():
    """What must not reach another server can be told to people."""
    endpoint = Endpoint(
        "wss://user:hush@example.com/socket?api_key=hush&a=1",
        {"token": "hush", "empty_token": ""},
        headers=(("Cookie", "hush"), ("X-Api-Key", "hush"), ("X-Mine", "hush"), ("X-Request-Id", "1")),
        auth_token="hush",
        secret_names=("x-mine",),
    )

    assert endpoint.secrets() == [
        "the token", "user and password", "the header Cookie", "the header X-Api-Key", "the header X-Mine",
        "the param api_key", "the param token",
    ]  # fmt: skip
    assert Endpoint("wss://example.com/socket", {"a": "1"}, headers=(("X-Request-Id", "1"),)).secrets() == []


@pytest.mark.parametrize(
    ("url", "dialled"),
    [
        ("wss://example.com/live/ws?vsn=1&a=%20", "wss://example.com/live/ws?vsn=1&a=%20"),
        ("https://example.com", "wss://example.com/"),
        ("ws://example.com/socket/", "ws://example.com/socket/"),
    ],
)
def test_a_verbatim_url_is_dialled_as_it_is(url, dialled):
    """A server that redirects names the whole URL."""
    endpoint = Endpoint(url, {"a": "1"}, verbatim=True)

    assert endpoint.websocket_url() == dialled
    assert endpoint.display == dialled


def test_the_proxy_is_part_of_the_endpoint_but_not_of_what_people_see():
    """Its password is for the proxy alone."""
    endpoint = Endpoint("wss://example.com/socket", proxy="http://user:hush@proxy.example:3128")

    assert endpoint.proxy_url() == "http://user:hush@proxy.example:3128"
    assert "hush" not in f"{endpoint!r} {endpoint.display} {endpoint.via!r}"
    assert Endpoint("wss://example.com/socket").proxy_url() is None


def test_a_token_for_this_machine_does_not_travel_unencrypted_to_a_proxy_elsewhere():
    """What the proxy calls localhost is another machine."""
    with pytest.raises(ConfigError, match="wss://"):
        Endpoint("ws://localhost/socket", auth_token="t", proxy="http://proxy.example:3128")

    assert Endpoint("ws://localhost/socket", auth_token="t", proxy="http://127.0.0.1:3128").may_carry_secrets
