"""What follows from the declaration of an option."""

import pytest

from rig.config import options

OPTIONS = {option.name: option for option in options()}


def test_names_of_flag_and_variable_are_derived():
    """One name, three spellings."""
    option = OPTIONS["join_timeout"]

    assert option.flags == ("--join-timeout",)
    assert option.variables == ("RIG_JOIN_TIMEOUT",)
    assert option.metavar == "SECONDS"


@pytest.mark.parametrize("command", sorted({command for option in options() for command in option.about.commands}))
def test_no_two_options_of_a_command_share_a_spelling(command):
    """A flag means one thing."""
    spellings = [spelling for option in options(command) for spelling in option.spelling(command)]

    assert len(spellings) == len(set(spellings))


def test_no_two_options_share_a_variable():
    """An environment variable means one thing."""
    variables = [variable for option in options() for variable in option.variables]

    assert len(variables) == len(set(variables))


@pytest.mark.parametrize("option", options(), ids=lambda option: option.name)
def test_every_option_says_what_it_is_for(option):
    """Help, unit and expectation are there, so that help pages and messages are complete."""
    assert option.about.help
    assert not option.about.help.endswith(".")
    assert option.expected
    assert option.metavar
    assert option.about.commands
    assert not isinstance(option.default, float) or option.about.unit


def test_an_option_belongs_to_the_commands_that_name_it():
    """`rig push` has no workers."""
    assert "workers" in {option.name for option in options("run")}
    assert "workers" not in {option.name for option in options("push")}


def test_a_command_may_spell_an_option_otherwise():
    """`rig push --timeout` is what is `push_timeout` elsewhere, and the URL is its argument."""
    assert OPTIONS["push_timeout"].spelling("push") == ("--timeout",)
    assert OPTIONS["push_timeout"].spelling("run") == ("--push-timeout",)
    assert OPTIONS["url"].spelling("push") == ("URL",)
    assert OPTIONS["target"].flags == ()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("workers", 'a whole number from 1 to 1024 or "auto"'),
        ("count", "a whole number, at least 1"),
        ("join_timeout", "a number of seconds from 0.01 to 86400"),
        ("io_processes", "a whole number from 1 to 64"),
        ("ring_bytes", "a size from 64 KiB to 1 GiB, such as 8MiB or 65536"),
        ("log_level", '"debug" or "info" or "warning" or "error"'),
        ("insecure", "true or false"),
        ("ca", "the path of a file"),
    ],
)
def test_the_expectation_is_made_from_the_type(name, expected):
    """A message about a wrong value says what would be right."""
    assert OPTIONS[name].expected == expected


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("ring_bytes", 8 * 1024 * 1024, "8 MiB"),
        ("join_timeout", 0.5, "0.5 s"),
        ("concurrency", 16, "16"),
        ("insecure", True, "yes"),
        ("url", (), "-"),
        ("event", ("a", "b"), "a, b"),
        ("param", {"token": "x"}, "***"),
        ("header", (("A", "b"),), "***"),
        ("param", {}, "-"),
    ],
)
def test_a_value_is_shown_as_a_user_would_write_it(name, value, shown):
    """With its unit, and without secrets."""
    assert OPTIONS[name].show(value) == shown
