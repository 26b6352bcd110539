"""`rig check`."""

import json

import pytest

from rig.errors import AppError
from rig.supervisor import state_directory
from rig.worker.describe import Description, RouteDescription


@pytest.fixture
def described(replace_module):
    """The settings that were described."""
    settings = []
    route = RouteDescription("room:*", "tick", "shop.on_tick", "Tick", None, 3, None, "latest")
    description = Description("shop", [route], {"room:lobby": {"since": 41, "token": "hunter2"}})
    replace_module("rig.supervisor", describe=lambda given: settings.append(given) or description, state_directory=state_directory)
    return settings


def test_it_shows_subscriptions_settings_and_limits(rig, described, monkeypatch):
    """All that `rig run` would do, and why."""
    monkeypatch.setenv("RIG_RETRIES", "5")

    result = rig("check", "shop:app", "--workers", "2")
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]

    assert result.exit_code == 0
    assert described[0].target == "shop:app"
    assert "room:* tick shop.on_tick Tick - - 3 - latest" in lines
    assert 'room:lobby {"since":41,"token":"***"}' in lines
    assert any(line.startswith("workers 2 flag") for line in lines)
    assert any(line.startswith("retries 5 RIG_RETRIES") for line in lines)
    assert any(line.startswith("join_timeout 10 s default") for line in lines)
    assert "workers: 2, rings: at most 32 MiB" in lines[-1]


def test_settings_that_somebody_has_set_come_first(rig, described):
    """They are what one looks for."""
    settings = rig("check", "--log-level", "debug").stdout.partition("Settings")[2]
    names = [line.split()[0] for line in settings.splitlines()[4:] if line.strip()]

    assert names[:2] == ["log_level", "target"]


def test_secrets_are_not_shown(rig, described):
    """The output can be pasted into a bug report."""
    arguments = ("--url", "ws://h/socket?token=hunter2", "--param", "a=hunter2", "--header", "X: hunter2")

    for form in ((), ("--json",)):
        assert "hunter2" not in rig("check", *arguments, *form).stdout


@pytest.mark.parametrize(
    ("auth", "shown"),
    [
        ("env:APP_TOKEN", "env:APP_TOKEN"),
        ("file:/run/secrets/token", "file:/run/secrets/token"),
        ("command:vault login hunter2", "command:vault …"),
        ("command:sh -c 'echo hunter2'", "command:sh …"),
        ("keyring:default", "keyring:default"),
        ("none", "none"),
    ],
)
def test_of_a_command_for_tokens_only_the_first_word_is_shown(rig, described, auth, shown):
    """Its arguments may be secrets; where else the token comes from may be seen."""
    text, as_json = rig("check", "--auth", auth), rig("check", "--auth", auth, "--json")

    assert f"auth {shown} flag" in " ".join(text.stdout.split()) or shown == "none"
    assert json.loads(as_json.stdout)["settings"]["auth"]["value"] == shown
    assert "hunter2" not in text.output + as_json.output


def test_json_has_everything(rig, described):
    """For programs."""
    result = rig("check", "shop:app", "--workers", "3", "--io-processes", "2", "--json")
    shown = json.loads(result.stdout)

    assert shown["app"]["routes"][0]["handler"] == "shop.on_tick"
    assert shown["settings"]["workers"] == {"value": 3, "source": "flag"}
    assert shown["settings"]["retries"] == {"value": 3, "source": "default"}
    assert shown["limits"]["workers"] == 3
    assert shown["limits"]["ring_bytes"] == 4 * 3 * 2 * 4 * 1024**2


def test_an_application_that_cannot_run_ends_with_3(rig, replace_module):
    """The sentence is the one that `rig run` would print."""

    def describe(settings):
        raise AppError("there is no module 'shop'")

    replace_module("rig.supervisor", describe=describe)

    result = rig("check", "shop:app")

    assert (result.exit_code, result.stdout, result.stderr) == (3, "", "Error: there is no module 'shop'\n")


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (("--state-dir", "kept"), "{here}/kept"),
        (("--url", "ws://h/socket"), "{here}/home/rig/apps/shop"),
        ((), "a temporary one, deleted at the end"),
    ],
)
def test_the_state_directory_of_a_run_is_named(rig, described, monkeypatch, tmp_path, arguments, shown):
    """Given, or the application's in the platform's place for state, or none that stays."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))
    expected = shown.format(here=tmp_path)

    assert f"state directory: {expected}" in rig("check", *arguments).stdout.splitlines()
    assert json.loads(rig("check", *arguments, "--json").stdout)["state_directory"] == expected


def test_text_in_brackets_is_not_taken_for_markup(rig, described):
    """A path like [red] is printed as it is."""
    assert "[bold]:app: application 'shop'" in rig("check", "[bold]:app").stdout
