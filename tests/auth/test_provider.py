"""What `--auth` may say, and the two simplest providers."""

import asyncio

import pytest

from rig.auth import provider
from rig.errors import ConfigError, TokenMissing, TokenUnavailable


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ("none", "none"),
        ("env:APP_TOKEN", "env:APP_TOKEN"),
        ("file:/run/secrets/token", "file:/run/secrets/token"),
        ("keyring:staging", "keyring:staging"),
        ("command:vault read -field=hunter2 app", "command:vault"),
        ("command:'/opt/my tools/token' hunter2", "command:/opt/my tools/token"),
    ],
)
def test_each_kind_of_provider_has_a_name_that_can_be_shown(spec, name):
    """Of a command it is the first word: the others may hold secrets."""
    assert provider(spec).name == name


@pytest.mark.parametrize(
    "spec",
    [
        "", "hunter2", "none:hunter2", "env:", "env", "file: ", "command:", "command: ", "keyring:", "token:hunter2", "ENV:hunter2",
        "command:sh -c 'hunter2", "command:TOKEN=hunter2 print",
    ],
)  # fmt: skip
def test_anything_else_is_refused_without_being_shown(spec):
    """Somebody may have written the token itself."""
    with pytest.raises(ConfigError, match="--auth") as refused:
        provider(spec)

    assert "hunter2" not in str(refused.value)


def test_none_gives_no_token():
    """A server that asks for none gets none."""
    assert asyncio.run(provider("none").fetch()) is None


def test_a_variable_is_read_anew_each_time(monkeypatch):
    """What has changed it since, an application or an env file, is seen."""
    source = provider("env:APP_TOKEN")
    monkeypatch.setenv("APP_TOKEN", "first")
    assert asyncio.run(source.fetch()).value == "first"

    monkeypatch.setenv("APP_TOKEN", " second ")

    assert asyncio.run(source.fetch()).value == "second"


@pytest.mark.parametrize("value", [None, "", " "])
def test_a_variable_that_is_not_set_is_named(monkeypatch, value):
    """An empty one counts as not set."""
    monkeypatch.delenv("APP_TOKEN", raising=False)
    if value is not None:
        monkeypatch.setenv("APP_TOKEN", value)

    with pytest.raises(TokenMissing, match="no token from env:APP_TOKEN: APP_TOKEN is not set"):
        asyncio.run(provider("env:APP_TOKEN").fetch())


def test_a_variable_with_bytes_that_are_no_text_is_refused(monkeypatch):
    """It would fail later, in the middle of a request."""
    monkeypatch.setenv("APP_TOKEN", "hunter2\udcff")

    with pytest.raises(TokenUnavailable) as refused:
        asyncio.run(provider("env:APP_TOKEN").fetch())
    assert "hunter2" not in str(refused.value)


def test_a_function_gives_the_token_of_the_moment():
    """A script that has a client for its identity provider hands over the function, plain or async."""
    tokens = iter(["first", "second"])

    async def current():
        return next(tokens)

    source = provider(current)

    assert asyncio.run(source.fetch()).value == "first"
    assert asyncio.run(source.fetch()).value == "second"
    assert asyncio.run(provider(lambda: "plain").fetch()).value == "plain"
    assert asyncio.run(provider(lambda: None).fetch()) is None


def test_a_function_that_fails_is_named_and_what_it_says_is_not():
    """The message of the exception may hold the secret that it failed with."""

    def current():
        raise RuntimeError("hunter2 is not accepted")

    with pytest.raises(TokenUnavailable, match="RuntimeError") as failed:
        asyncio.run(provider(current).fetch())

    assert "hunter2" not in str(failed.value)
    assert "current" in str(failed.value)


def test_a_function_that_returns_something_else_is_told_so():
    """Bytes are the usual mistake."""
    with pytest.raises(TokenUnavailable, match="bytes") as failed:
        asyncio.run(provider(lambda: b"hunter2").fetch())

    assert "hunter2" not in str(failed.value)
