"""`rig run`."""

import os

import pytest


@pytest.fixture
def ran(replace_module):
    """The settings that the supervisor was started with, one entry a run."""
    settings = []
    replace_module("rig.supervisor", run=lambda given: settings.append(given) or 0)
    return settings


def test_without_arguments_it_runs_the_demo_on_the_mock_server(rig, ran):
    """One word is enough to see something."""
    result = rig("run")

    assert result.exit_code == 0
    assert (ran[0].target, ran[0].url, ran[0].workers) == ("rig.demo:app", (), "auto")


def test_options_reach_the_supervisor(rig, ran):
    """What is typed is what runs."""
    arguments = "run shop:app --url ws://h/socket -w 4 --param a=1 --param b=2 --header A:1 --factory --ring-bytes 16MiB"
    rig(*arguments.split())

    [settings] = ran
    assert (settings.target, settings.url, settings.workers, settings.factory) == ("shop:app", ("ws://h/socket",), 4, True)
    assert settings.param == {"a": "1", "b": "2"}
    assert settings.header == (("A", "1"),)
    assert settings.ring_bytes == 16 * 1024**2


def test_a_switch_can_be_turned_off_again(rig, ran, monkeypatch):
    """A flag beats the environment in both directions."""
    monkeypatch.setenv("RIG_FACTORY", "true")

    rig("run", "--no-factory")
    rig("run")

    assert [settings.factory for settings in ran] == [False, True]


@pytest.mark.parametrize("code", [0, 1, 3])
def test_the_exit_code_is_the_supervisors(rig, replace_module, code):
    """The supervisor knows how it ended."""
    replace_module("rig.supervisor", run=lambda settings: code)

    assert rig("run").exit_code == code


def test_an_env_file_is_there_for_the_application_too(rig, ran, tmp_path, monkeypatch):
    """Handlers find in the environment what the file sets, as with uvicorn."""
    monkeypatch.setenv("SHOP_TEST_A", "kept")
    monkeypatch.setenv("SHOP_TEST_B", "")
    monkeypatch.delenv("SHOP_TEST_B")
    (tmp_path / ".env").write_text("RIG_WORKERS=3\nSHOP_TEST_A=lost\nSHOP_TEST_B=set\n")

    rig("run", "--env-file", ".env")

    assert ran[0].workers == 3
    assert (os.environ["SHOP_TEST_A"], os.environ["SHOP_TEST_B"]) == ("kept", "set")
    monkeypatch.delenv("RIG_WORKERS")
