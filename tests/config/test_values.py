"""The forms in which values are written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rig.config.values import parse_headers, parse_pairs, parse_size, parse_url, parse_urls, show_auth, show_size


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("65536", 65536), ("8MiB", 8 * 1024**2), ("512 KiB", 512 * 1024), ("1gib", 1024**3), ("1.5KiB", 1536), (" 7B ", 7)],
)
def test_sizes_are_read(text, size):
    """Plain bytes and binary units, in any case."""
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MiB", "8MB", "-1", "0.3", "1e6", "8 MiB extra", "٣", "nan", "1_000"])
def test_what_is_no_size_is_refused(text):
    """Decimal units are refused rather than taken for binary ones."""
    with pytest.raises(ValueError):  # noqa: PT011
        parse_size(text)


@given(st.integers(min_value=1, max_value=2**50))
def test_a_shown_size_reads_back(size):
    """What is printed can be put into a file."""
    assert parse_size(show_size(size).replace(" bytes", "")) == size


@pytest.mark.parametrize(
    "url", ["ws://h/socket", "wss://h:4000/socket/websocket?a=b", "https://h", "http://[::1]:4000/socket", " ws://h "]
)
def test_urls_of_sockets_are_accepted(url):
    """Four schemes, any host."""
    assert parse_url(url) == url.strip()


@pytest.mark.parametrize(
    "url", ["", "h:4000/socket", "localhost", "ftp://h", "ws://", "ws:///socket", "ws://h:port", "ws://h:99999", "ws://h:0"]
)
def test_other_urls_are_refused(url):
    """A forgotten scheme is found before anything is dialled."""
    with pytest.raises(ValueError):  # noqa: PT011
        parse_url(url)


def test_several_urls_are_kept_in_order_and_none_twice():
    """The first is the preferred one."""
    assert parse_urls(["ws://b", " ws://a", "ws://b"]) == ("ws://b", "ws://a")


@pytest.mark.parametrize("items", [[], ["ws://a", ""], ["ws://a", 5], "ws://a", 5, None])
def test_what_is_no_list_of_urls_is_refused(items):
    """An empty list names no server."""
    with pytest.raises(ValueError):  # noqa: PT011
        parse_urls(items)


def test_pairs_are_split_at_the_first_equals_sign():
    """A token may end with equals signs, and blanks in it are kept."""
    assert parse_pairs(["token=ab==", "b= x ", "empty="]) == {"token": "ab==", "b": " x ", "empty": ""}


def test_a_table_of_plain_values_makes_pairs():
    """`param = {since = 41}` reads better in a file than a list of texts."""
    assert parse_pairs({"since": 41, "live": True, "name": "x"}) == {"since": "41", "live": "true", "name": "x"}


@pytest.mark.parametrize("items", [["token"], ["=x"], "a=b", 5, {"a": {"b": 1}}, [1]])
def test_what_is_no_pair_is_refused(items):
    """A name is needed, and a plain value."""
    with pytest.raises(ValueError):  # noqa: PT011
        parse_pairs(items)


def test_headers_keep_their_order_and_repetitions():
    """A header may be given twice."""
    assert parse_headers(["A: 1", "B:2", "A:3:4"]) == (("A", "1"), ("B", "2"), ("A", "3:4"))
    assert parse_headers({"A": "1"}) == (("A", "1"),)


@pytest.mark.parametrize("item", ["A", ": x", "A B: x", "A: x\r\nEvil: y", "Ä: x"])
def test_headers_that_would_break_the_request_are_refused(item):
    """Nobody can smuggle a second header in."""
    with pytest.raises(ValueError):  # noqa: PT011
        parse_headers([item])


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("none", "none"),
        ("env:APP_TOKEN", "env:APP_TOKEN"),
        ("file:/run/secrets/token", "file:/run/secrets/token"),
        ("keyring:staging", "keyring:staging"),
        ("command:get-token", "command:get-token"),
        ("command:vault login hunter2", "command:vault …"),
        ("command:TOKEN=hunter2 x", "command:TOKEN …"),
        ("hunter2", "***"),
        ("Bearer:hunter2", "***"),
        ("command:", "***"),
        ("env:", "***"),
    ],
)
def test_where_the_token_comes_from_is_shown_without_what_may_be_secret(text, shown):
    """Of a command the first word, and nothing of what is no provider: it may be the token."""
    assert show_auth(text) == shown
