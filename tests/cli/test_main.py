"""What all commands have in common: help, versions, faults and exit codes."""

import subprocess
import sys
from pathlib import Path

import pytest

from rig.cli.main import main
from rig.config import options
from rig.errors import AppError, AuthenticationRefused, ConnectFailed, PushTimeout

FOLDER = Path(__file__).parents[2]
GROUPS = ("outbox", "deadletters")
COMMANDS = ["run", "check", "topics", "listen", "push", *GROUPS, "login", "logout", "whoami", "bench", "mock"]

WITH_OPTIONS = {"topics": ("topics", "list")}
"""Which of its sub-commands a group is asked for."""


@pytest.fixture
def failing(replace_module):
    """Let `rig run` raise."""

    def fail(exc):
        def run(settings):
            raise exc

        replace_module("rig.supervisor", run=run)

    return fail


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_lists_commands_and_examples(rig, flag):
    """A new user finds what to type."""
    result = rig(flag)

    assert result.exit_code == 0
    for command in COMMANDS:
        assert f"  {command} " in result.stdout
    assert "rig listen ws://localhost:4000/socket room:lobby" in result.stdout


def test_without_a_command_there_is_help(rig):
    """`rig` alone is a question, and not a success."""
    result = rig()

    assert result.exit_code == 2
    assert "rig run" in result.output


@pytest.mark.parametrize("command", sorted({command for option in options() for command in option.about.commands}))
def test_help_of_a_command_shows_every_option_with_its_default(rig, command):
    """What is declared is documented."""
    result = rig(*WITH_OPTIONS.get(command, (command,)), "--help")
    text = " ".join(result.stdout.split())

    assert result.exit_code == 0
    assert f"rig {command}" in text.partition("Examples:")[2]
    assert "RIG_…" in text
    if command in GROUPS:
        text = " ".join(rig(command, "list", "--help").stdout.split())
    for option in options(command):
        assert option.spelling(command)[-1] in text
        if option.spelling(command)[-1].startswith("-"):
            assert f"{option.about.help[1:]}." in text
        if option.default == 30.0:
            assert "[default: 30 s]" in text


def test_version_names_what_a_bug_report_needs(rig):
    """Rig, Python, and the libraries that matter."""
    result = rig("--version")

    assert result.exit_code == 0
    assert result.stdout.startswith("rig ")
    assert f"Python {sys.version.split()[0]}" in result.stdout
    assert "picows" in result.stdout


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["lisen"], "There is no command 'lisen'; did you mean listen?"),
        (
            ["zzz"],
            f"There is no command 'zzz'; there are {', '.join(COMMANDS)}.",
        ),
        (["run", "--worker", "2"], "--workers"),
        (["listen", "ws://h/socket"], "Missing argument 'TOPIC...'"),
        (["run", "--workers"], "--workers"),
        (["run", "--workers", "two"], '--workers=two: expected a whole number from 1 to 1024 or "auto"'),
        (["listen", "nowhere", "t"], "URL=nowhere: expected ws://HOST/socket"),
        (["--nonsense"], "--nonsense"),
    ],
)
def test_a_wrong_command_line_ends_with_2_and_says_what_to_type(rig, args, sentence):
    """Usage faults are explained on stderr."""
    result = rig(*args)

    assert result.exit_code == 2
    assert sentence in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("exc", "code"),
    [
        (ConnectFailed("h", 4000, "refused"), 1),
        (PushTimeout("t", "e", 5.0), 1),
        (AppError("there is no module 'shop'"), 3),
        (AuthenticationRefused("ws://h/socket", 403), 4),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_fault_is_a_sentence_and_an_exit_code(rig, failing, exc, code):
    """Nobody has to read a traceback."""
    failing(exc)

    result = rig("run")

    assert result.exit_code == code
    assert result.stderr == f"Error: {exc}\n"


def test_a_fault_does_not_print_the_token(rig, failing):
    """A URL in a message is masked."""
    failing(AuthenticationRefused("ws://h/socket?token=hunter2", 403))

    assert "token=***" in rig("run").stderr


def test_ctrl_c_ends_with_130(rig, failing):
    """As shells expect of an interrupted program."""
    failing(KeyboardInterrupt())

    result = rig("run")

    assert result.exit_code == 130
    assert "Traceback" not in result.stderr


def test_an_unexpected_error_says_how_to_learn_more(rig, failing):
    """It is not hidden, and not thrown at the user either."""
    failing(ZeroDivisionError("division by zero"))

    result = rig("run")

    assert result.exit_code == 1
    assert result.stderr == (
        "Error: unexpected ZeroDivisionError: division by zero. Run it again with --debug to see where it comes from.\n"
    )


@pytest.mark.parametrize("args", [["--debug", "run"], ["run", "--debug"]])
def test_debug_shows_the_traceback(rig, failing, args):
    """Wherever the flag stands."""
    failing(ZeroDivisionError("division by zero"))

    result = rig(*args)

    assert result.exit_code == 1
    assert result.stderr.startswith("Traceback")
    assert "ZeroDivisionError: division by zero" in result.stderr


def test_debug_can_be_set_in_the_environment(rig, failing, monkeypatch):
    """Like any other option."""
    monkeypatch.setenv("RIG_DEBUG", "1")
    failing(ZeroDivisionError())

    assert "Traceback" in rig("run").stderr


def test_a_typing_error_in_the_environment_is_found(rig, monkeypatch):
    """A variable that nobody reads is a fault."""
    monkeypatch.setenv("RIG_WORKRES", "2")

    result = rig("run")

    assert result.exit_code == 2
    assert result.stderr == "Error: RIG_WORKRES: there is no such variable; did you mean RIG_WORKERS?\n"


def test_help_imports_no_loop_and_no_network():
    """`rig --help` answers at once, because nothing heavy is imported for it."""
    heavy = "{'uvloop', 'asyncio', 'aiohttp', 'picows', 'rich', 'structlog', 'rig.cli.run'}"
    code = (
        "import sys; from rig.cli.main import main\n"
        "try: main(['--help'])\n"
        f"except SystemExit: sys.exit(','.join(sorted({heavy} & set(sys.modules))) or 0)"
    )

    ended = subprocess.run([sys.executable, "-c", code], cwd=FOLDER, capture_output=True, text=True, check=False)

    assert (ended.returncode, ended.stderr) == (0, "")


def test_python_m_rig_is_the_same_command():
    """For whoever has no `rig` on the path."""
    ended = subprocess.run([sys.executable, "-m", "rig", "--help"], cwd=FOLDER, capture_output=True, text=True, check=False)

    assert ended.returncode == 0
    assert ended.stdout.startswith("Usage: rig ")


def test_every_command_of_the_list_exists():
    """The help promises nothing that cannot be imported."""
    for command in main.list_commands(None):
        assert main.get_command(None, command).name == command
