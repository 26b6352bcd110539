"""Which proxy is taken: as typed, or as the environment says, and that its password is never shown."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rig.errors import ConfigError
from rig.transport import Endpoint
from rig.transport.proxy import Proxy, find_proxy, parse_proxy


@pytest.fixture(autouse=True)
def no_variables(monkeypatch):
    """What the machine has set does not count here."""
    for name in ("http", "https", "all", "no", "ftp"):
        monkeypatch.delenv(f"{name}_proxy", raising=False)
        monkeypatch.delenv(f"{name.upper()}_PROXY", raising=False)
    monkeypatch.delenv("REQUEST_METHOD", raising=False)


def found(url="wss://phoenix.example/socket"):
    endpoint = Endpoint(url, proxy="env")
    return endpoint.proxy_url()


@pytest.mark.parametrize(
    ("typed", "url"),
    [
        ("http://proxy.example:3128", "http://proxy.example:3128"),
        ("HTTP://Proxy.Example:3128/", "http://proxy.example:3128"),
        ("proxy.example:3128", "http://proxy.example:3128"),
        ("http://[::1]:3128", "http://[::1]:3128"),
        ("http://user@proxy.example:3128", "http://user:@proxy.example:3128"),
        ("http://us%40er:p%3Aa%2Fss@proxy.example:3128", "http://us%40er:p%3Aa%2Fss@proxy.example:3128"),
        ("socks5://proxy.example:1080", "socks5://proxy.example:1080"),
        ("socks5h://user:pass@proxy.example:1080", "socks5://user:pass@proxy.example:1080"),
        ("socks4://user@proxy.example:1080", "socks4://user:@proxy.example:1080"),
        ("socks4a://proxy.example:1080", "socks4://proxy.example:1080"),
        ("http://b\N{LATIN SMALL LETTER U WITH DIAERESIS}cher.example:1", "http://xn--bcher-kva.example:1"),
    ],
)
def test_a_proxy_is_understood_whichever_way_it_is_written(typed, url):
    """Libraries get one form: scheme, user and password, host, port."""
    assert parse_proxy(typed, source="--proxy").url == url


def test_user_and_password_are_decoded_for_the_proxy_and_masked_for_people():
    """What goes to the proxy is what was meant; neither is ever shown."""
    proxy = parse_proxy("http://hush%401:hush%3A2@proxy.example:3128", source="--proxy")

    assert (proxy.user, proxy.password) == ("hush@1", "hush:2")
    assert proxy.display == "http://***@proxy.example:3128"
    assert "hush" not in repr(proxy)
    assert Proxy("socks5", "::1", 1080).display == "socks5://[::1]:1080"


@pytest.mark.parametrize(
    "typed",
    [
        "", "http://", "http://proxy.example", "http://proxy.example:0", "http://proxy.example:99999", "http://user:hush",
        "http://user:hush@", "http://user:hush@proxy.example:x", "hush://proxy.example:1", "https://user:hush@proxy.example:3128",
        "http://[::1:3128", "http://proxy.example:3128\r\nX: hush", "http://pro xy.example:3128", "http://a..b:3128",
        "http://us%3Aer:hush@proxy.example:3128", "socks5://hush@proxy.example:1080", "socks5://:hush@proxy.example:1080",
        "socks5://user:h%C3%BCsh@proxy.example:1080", f"socks5://user:{'hush' * 64}@proxy.example:1080",
        "socks4://hush%00@proxy.example:1080", "://", "env:hush",
    ],
)  # fmt: skip
def test_what_is_no_proxy_is_refused_with_the_forms_expected_and_not_repeated(typed):
    """A mistake in one part does not print another."""
    with pytest.raises(ConfigError, match=r"--proxy .*write http://HOST:PORT, socks5://HOST:PORT") as refused:
        Endpoint("wss://phoenix.example/socket", proxy=typed)

    assert "hush" not in str(refused.value)
    assert refused.value.__cause__ is None


def test_without_the_setting_the_environment_does_not_count(monkeypatch):
    """A proxy is never taken unasked."""
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:1")

    assert find_proxy(None, secure=True, host="phoenix.example", port=443) is None
    assert Endpoint("wss://phoenix.example/socket").proxy_url() is None


@pytest.mark.parametrize(
    ("variables", "of_wss", "of_ws"),
    [
        ({}, None, None),
        ({"HTTPS_PROXY": "http://s:1", "HTTP_PROXY": "http://p:2", "ALL_PROXY": "socks5://a:3"}, "http://s:1", "http://p:2"),
        ({"HTTPS_PROXY": "http://s:1"}, "http://s:1", None),
        ({"HTTP_PROXY": "http://p:2"}, None, "http://p:2"),
        ({"ALL_PROXY": "socks5://a:3"}, "socks5://a:3", "socks5://a:3"),
        ({"all_proxy": "a:3", "http_proxy": "p:2"}, "http://a:3", "http://p:2"),
        ({"HTTPS_PROXY": "http://upper:1", "https_proxy": "http://lower:1"}, "http://lower:1", None),
        ({"HTTPS_PROXY": "http://upper:1", "https_proxy": ""}, None, None),
        ({"FTP_PROXY": "http://f:1"}, None, None),
    ],
)
def test_the_environment_names_the_proxy_by_the_kind_of_server(monkeypatch, variables, of_wss, of_ws):
    """HTTPS_PROXY is for wss, HTTP_PROXY for ws, ALL_PROXY for both, and lower case goes first."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    assert (found("wss://phoenix.example/socket"), found("ws://phoenix.example/socket")) == (of_wss, of_ws)


@pytest.mark.parametrize(
    ("no_proxy", "excepted", "others"),
    [
        ("example.com", ["example.com", "a.example.com", "EXAMPLE.com", "example.com."], ["badexample.com", "example.com.org"]),
        (".example.com", ["example.com", "a.example.com"], ["badexample.com"]),
        ("*.example.com", ["a.example.com", "a.b.example.com"], ["badexample.com"]),
        ("a.example, b.example  c.example", ["a.example", "b.example", "c.example"], ["d.example"]),
        ("*", ["anything.example", "10.0.0.1", "[::1]"], []),
        ("example.com:4000", ["example.com:4000"], ["example.com", "example.com:4001"]),
        ("10.0.0.0/8,192.168.1.7", ["10.200.3.4", "192.168.1.7"], ["11.0.0.1", "192.168.1.8", "10.example"]),
        ("10.0.0.1/8", ["10.9.9.9"], ["11.0.0.1"]),
        ("10.0.0.1:4000", ["10.0.0.1:4000"], ["10.0.0.1:4001"]),
        ("::1,2001:db8::/32", ["[::1]", "[2001:db8:1::5]"], ["[2001:db9::1]", "127.0.0.1"]),
        ("[::1]:4000", ["[::1]:4000"], ["[::1]:4001"]),
        ("1", [], ["10.0.0.1"]),
        (",.,  ,", [], ["example.com", "example.com."]),
    ],
)
def test_no_proxy_excepts_hosts_suffixes_networks_or_all(monkeypatch, no_proxy, excepted, others):
    """A suffix counts by whole labels, a network by its bits, a port if one is written."""
    monkeypatch.setenv("ALL_PROXY", "http://proxy.example:1")
    monkeypatch.setenv("NO_PROXY", no_proxy)

    assert [host for host in excepted if found(f"wss://{host}/socket")] == []
    assert [host for host in others if not found(f"wss://{host}/socket")] == []


def test_a_variable_that_is_no_proxy_is_named_but_not_repeated(monkeypatch):
    """The user learns where to look."""
    monkeypatch.setenv("HTTPS_PROXY", "http://user:hush@proxy.example")

    with pytest.raises(ConfigError, match="the environment variable HTTPS_PROXY") as refused:
        Endpoint("wss://phoenix.example/socket", proxy="env")

    assert "hush" not in str(refused.value)


@example("\u00b4:1")  # IDNA turns the accent into a blank
@given(st.text() | st.from_regex(r"(http|socks5h?|socks4a?)://([a-z]*(:[a-z]*)?@)?[a-z.\[\]:]*(:[0-9]{1,6})?/?", fullmatch=True))
def test_any_text_is_a_proxy_or_a_sentence(text):
    """And what is a proxy is read again from the URL that libraries get."""
    try:
        proxy = parse_proxy(text, source="--proxy")
    except ConfigError:
        return
    assert parse_proxy(proxy.url, source="--proxy") == proxy
    assert 0 < proxy.port < 65536
