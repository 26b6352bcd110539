"""The URL of a Phoenix socket: what is one, and what is said of what is none."""

import pytest

from rig.errors import ConfigError
from rig.transport.url import parse_url, quoted


@pytest.mark.parametrize(
    ("url", "remedy"),
    [
        ("localhost:4000/socket", "begin with ws://"),
        ("ftp://example.com/socket", "begin with ws://"),
        ("", "begin with ws://"),
        ("ws://", "host is missing"),
        ("ws:///socket", "host is missing"),
        ("ws://example.com:99999/socket", "1 to 65535"),
        ("ws://example.com:0/socket", "1 to 65535"),
        ("ws://example.com:port/socket", "1 to 65535"),
        ("ws://[::1/socket", "host name"),
        ("ws://example.com/so cket", "%20"),
        ("ws://example.com/socket\r\nX: y", "%20"),
        ("ws://example.com/socket#top", "%23"),
        ("ws://a..b/socket", "host name"),
    ],
)
def test_what_is_no_url_of_a_socket_is_refused_with_a_remedy(url, remedy):
    """The sentence says what to write instead."""
    with pytest.raises(ConfigError, match="is not the URL of a Phoenix socket") as refused:
        parse_url(url)

    assert remedy in str(refused.value)


@pytest.mark.parametrize(
    "url", ["ws://u:hush@example.com:x/s?token=hush", "ws://u:hush@example.com/s?token=hush#x", "ws://u:hush@e/s#hush"]
)
def test_a_refused_url_shows_no_secret(url):
    """A mistake in one part of the URL does not print another."""
    with pytest.raises(ConfigError) as refused:
        parse_url(url)

    assert "hush" not in str(refused.value)


@pytest.mark.parametrize(("text", "url"), [("/a b/\N{EURO SIGN}", "/a%20b/%E2%82%AC"), ("a=%20&b=1/2", "a=%20&b=1/2")])
def test_what_may_not_stand_in_a_url_is_quoted_once(text, url):
    """What the user has quoted already stays as it is."""
    assert quoted(text) == url
