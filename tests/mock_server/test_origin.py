"""Which origins may connect."""

import pytest

from mock_server.origin import origin_allowed


@pytest.mark.parametrize(
    ("origin", "allowed", "verdict"),
    [
        (None, ["//a.com"], True),
        ("http://other.com", [], True),
        ("file:///", [], True),
        ("https://a.com:99", ["//a.com"], True),
        ("http://a.com", ["http://a.com"], True),
        ("http://a.com:80", ["http://a.com"], True),
        ("https://a.com", ["http://a.com"], False),
        ("http://a.com:81", ["http://a.com"], False),
        ("http://a.com:81", ["//a.com:81"], True),
        ("https://a.com:81", ["//a.com:81"], True),
        ("http://a.com", ["//a.com:81"], False),
        ("http://b.com", ["//a.com", "//b.com"], True),
        ("http://b.com", ["//a.com"], False),
        ("http://x.a.com", ["//a.com"], False),
        ("http://x.a.com", ["//*.a.com"], True),
        ("http://y.x.a.com", ["//*.a.com"], True),
        ("http://a.com", ["//*.a.com"], True),
        ("http://prefix-a.com", ["//*.a.com"], False),
        ("http://A.com", ["//a.com"], True),
        ("file:///", ["//a.com"], False),
        ("null", ["//a.com"], False),
        ("", ["//a.com"], False),
        ("http://a.com:port", ["//a.com"], False),
    ],
)
def test_origin_has_to_fit_a_rule_in_scheme_host_and_port(origin: str | None, allowed: list[str], verdict: bool) -> None:
    """What a rule leaves out may be anything; without rules, or without the header, all may connect."""
    assert origin_allowed(origin, allowed) == verdict
