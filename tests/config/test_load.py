"""Where values come from."""

import msgspec.inspect
import pytest

from rig.config import load, options
from rig.errors import ConfigError

# What an option cannot be set without.
COMPANIONS = {"cert": "key", "key": "cert", "max_frame_bytes": "ring_bytes"}
EVERY_OPTION = pytest.mark.parametrize("option", options(), ids=lambda option: option.name)
EVERY_FILE_OPTION = pytest.mark.parametrize(
    "option", [option for option in options() if option.about.in_file], ids=lambda option: option.name
)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty current directory with a file and a directory to point at."""
    (tmp_path / "some.file").touch()
    (tmp_path / "some.folder").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def sample(option):
    """Make a value of the option's type that is not its default where there is another, as text and as read."""
    by_form = {
        "file": ("some.file", "some.file"),
        "directory": ("some.folder", "some.folder"),
        "folder": ("not.yet", "not.yet"),
        "url": ("ws://h/socket", ("ws://h/socket",)),
        "pairs": ("a=b", {"a": "b"}),
        "headers": ("A: b", (("A", "b"),)),
    }
    by_name = {"auth": ("env:MAX_TOKEN", "env:MAX_TOKEN"), "auth_mode": ("param:token", "param:token")}
    if option.name in by_name:
        return by_name[option.name]
    if option.about.holds:
        return by_form[option.about.holds]
    kind = msgspec.inspect.type_info(option.type)
    kind = next((part for part in getattr(kind, "types", ()) if not isinstance(part, msgspec.inspect.NoneType)), kind)
    match kind:
        case msgspec.inspect.BoolType():
            return str(not option.default).lower(), not option.default
        case msgspec.inspect.LiteralType():
            choice = next((choice for choice in kind.values if choice != option.default), option.default)
            return choice, choice
        case msgspec.inspect.IntType():
            value = option.default * 2 or 3 if isinstance(option.default, int) else 3
            return str(value), value
        case msgspec.inspect.FloatType():
            return str(option.default / 2), option.default / 2
        case msgspec.inspect.VarTupleType():
            return "x", ("x",)
        case _:
            return "some:text", "some:text"


def companion_flags(option):
    if option.name not in COMPANIONS:
        return {}
    partner = next(other for other in options() if other.name == COMPANIONS[option.name])
    return {partner.name: sample(partner)[0]} if partner in options(option.about.commands[0]) else {}


def toml_of(option, text, value):
    if isinstance(value, bool):
        return f"{option.name} = {str(value).lower()}"
    if isinstance(value, int | float):
        return f"{option.name} = {value}"
    return f"{option.name} = {[text] if option.repeatable else text!r}"


@EVERY_OPTION
def test_every_option_can_be_given_as_a_flag(option):
    """What is typed counts, and is said to come from a flag."""
    text, value = sample(option)

    loaded = load(option.about.commands[0], {option.name: [text] if option.repeatable else text, **companion_flags(option)}, {})

    assert getattr(loaded.settings, option.name) == value
    assert loaded.sources[option.name] == "flag"


@EVERY_OPTION
def test_every_option_can_be_given_as_a_typed_value(option):
    """Code that has a value need not write it as text first."""
    _, value = sample(option)

    loaded = load(option.about.commands[0], {option.name: value, **companion_flags(option)}, {})

    assert getattr(loaded.settings, option.name) == value


@pytest.mark.parametrize(("option", "variable"), [(option, variable) for option in options() for variable in option.variables])
def test_every_option_can_be_given_in_the_environment(option, variable):
    """The variable counts, and is named as the source."""
    text, value = sample(option)

    loaded = load(option.about.commands[0], companion_flags(option), {variable: text})

    assert getattr(loaded.settings, option.name) == value
    assert loaded.sources[option.name] == variable


@EVERY_FILE_OPTION
@pytest.mark.parametrize(("file", "head"), [("rig.toml", ""), ("pyproject.toml", "[tool.rig]\n")])
def test_every_option_can_be_given_in_a_file(option, file, head, folder):
    """rig.toml, or a section of pyproject.toml."""
    text, value = sample(option)
    (folder / file).write_text(head + toml_of(option, text, value))

    loaded = load(option.about.commands[0], companion_flags(option), {})

    assert getattr(loaded.settings, option.name) == value
    assert loaded.sources[option.name] == file


@EVERY_FILE_OPTION
def test_flag_beats_environment_beats_file_beats_default(option, folder):
    """The nearer to the command, the stronger."""
    text, value = sample(option)
    command, name, variable = option.about.commands[0], option.name, option.variables[0]
    flag = {name: [text] if option.repeatable else text}
    companions = companion_flags(option)

    assert load(command, {}, {}).sources[name] == "default"
    (folder / "rig.toml").write_text(toml_of(option, text, value))
    assert load(command, companions, {}).sources[name] == "rig.toml"
    assert load(command, companions, {variable: text}).sources[name] == variable
    assert load(command, companions | flag, {variable: text}).sources[name] == "flag"


def test_the_value_follows_its_source(folder):
    """Four places, four values: the strongest one counts."""
    (folder / "rig.toml").write_text("workers = 2")

    assert load("run", {}, {}).settings.workers == 2
    assert load("run", {}, {"WEB_CONCURRENCY": "3"}).settings.workers == 3
    assert load("run", {}, {"WEB_CONCURRENCY": "3", "RIG_WORKERS": "4"}).settings.workers == 4
    assert load("run", {"workers": "5"}, {"RIG_WORKERS": "4"}).settings.workers == 5


def test_rig_toml_beats_pyproject(folder):
    """The section of pyproject.toml is read only where there is no rig.toml."""
    (folder / "rig.toml").write_text("retries = 1")
    (folder / "pyproject.toml").write_text("[tool.rig]\nretries = 2\nconcurrency = 2")

    loaded = load("run", {}, {})

    assert (loaded.settings.retries, loaded.settings.concurrency) == (1, 16)


def test_pyproject_of_another_tool_is_no_fault(folder):
    """Most projects have a pyproject.toml without our section."""
    (folder / "pyproject.toml").write_text("[tool.ruff]\nline-length = 100")

    assert set(load("run", {}, {}).sources.values()) == {"default"}


@pytest.mark.parametrize("how", ["flag", "variable", "argument"])
def test_a_named_file_replaces_rig_toml(how, folder):
    """`--config other.toml` reads only that."""
    (folder / "rig.toml").write_text("retries = 1")
    (folder / "other.toml").write_text("concurrency = 2")
    flags = {"config": "other.toml"} if how == "flag" else {}
    environ = {"RIG_CONFIG": "other.toml"} if how == "variable" else {}

    loaded = load("run", flags, environ, folder / "other.toml" if how == "argument" else None)

    assert (loaded.settings.retries, loaded.settings.concurrency) == (3, 2)


def test_paths_in_a_file_start_from_that_file(folder):
    """A configuration can be moved together with its certificates."""
    (folder / "some.folder" / "ca.pem").touch()
    (folder / "some.folder" / "rig.toml").write_text('ca = "ca.pem"')

    assert load("run", {"config": "some.folder/rig.toml"}, {}).settings.ca == "some.folder/ca.pem"


def test_the_state_directory_starts_from_where_it_is_written(folder, monkeypatch):
    """In a file from that file, on the command line from where one stands, with ~ from home; it need not be there yet."""
    (folder / "some.folder" / "rig.toml").write_text('state_dir = "state"')
    monkeypatch.setenv("HOME", "/home/ann")

    def state_dir(**flags):
        return load("run", flags, {}).settings.state_dir

    assert state_dir(config="some.folder/rig.toml") == "some.folder/state"
    assert state_dir(config="some.folder/rig.toml", state_dir="mine") == "mine"
    assert state_dir(state_dir="~/state") == "/home/ann/state"
    (folder / "some.folder" / "rig.toml").write_text('state_dir = "/var/lib/shop"')
    assert state_dir(config="some.folder/rig.toml") == "/var/lib/shop"


def test_hyphens_may_stand_for_underscores_in_a_file(folder):
    """As in other tools' sections of pyproject.toml."""
    (folder / "rig.toml").write_text("join-timeout = 3")

    assert load("run", {}, {}).settings.join_timeout == 3.0


def test_an_empty_variable_is_not_set():
    """`RIG_URL=${URL:-}` in a compose file means no URL."""
    assert load("run", {}, {"RIG_URL": "", "RIG_WORKERS": " "}).sources["url"] == "default"


def test_a_variable_holds_several_values_one_a_line():
    """Connect parameters can come from the environment too."""
    loaded = load("run", {}, {"RIG_PARAM": "a=1\nb=2", "RIG_HEADER": "A: 1\nB: 2"})

    assert loaded.settings.param == {"a": "1", "b": "2"}
    assert loaded.settings.header == (("A", "1"), ("B", "2"))


def test_a_command_ignores_options_of_others():
    """`rig push` works where the worker's settings are broken, and keeps their defaults."""
    loaded = load("push", {}, {"RIG_WORKERS": "two"})

    assert loaded.settings.workers == "auto"
    assert loaded.sources["workers"] == "default"


# --- env files


def test_an_env_file_is_read_beneath_the_environment(folder):
    """What is set in the environment stays."""
    (folder / ".env").write_text("RIG_WORKERS=2\nRIG_RETRIES=7 # often\nDATABASE_URL='postgres://x'\n")

    loaded = load("run", {"env_file": ".env"}, {"RIG_WORKERS": "3"})

    assert (loaded.settings.workers, loaded.settings.retries) == (3, 7)
    assert loaded.sources["retries"] == "RIG_RETRIES (.env)"
    assert loaded.environment == {"RIG_RETRIES": "7", "DATABASE_URL": "postgres://x"}


def test_a_fault_in_an_env_file_names_the_file(folder):
    """The message says where to look."""
    (folder / ".env").write_text("RIG_RETRIES=often")

    with pytest.raises(ConfigError, match=r"^RIG_RETRIES=often \(\.env\): expected a whole number from 0 to 1000$"):
        load("run", {"env_file": ".env"}, {})


# --- faults


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"RIG_WORKERS": "two"}, 'RIG_WORKERS=two: expected a whole number from 1 to 1024 or "auto"'),
        ({"RIG_WORKERS": "0"}, 'RIG_WORKERS=0: expected a whole number from 1 to 1024 or "auto"'),
        ({"WEB_CONCURRENCY": "x"}, 'WEB_CONCURRENCY=x: expected a whole number from 1 to 1024 or "auto"'),
        ({"RIG_CONCURRENCY": "1025"}, "RIG_CONCURRENCY=1025: expected a whole number from 1 to 1024"),
        ({"RIG_JOIN_TIMEOUT": "0"}, "RIG_JOIN_TIMEOUT=0: expected a number of seconds from 0.01 to 86400"),
        ({"RIG_RING_BYTES": "8MB"}, "RIG_RING_BYTES=8MB: expected a size from 64 KiB to 1 GiB, such as 8MiB or 65536"),
        ({"RIG_FACTORY": "maybe"}, "RIG_FACTORY=maybe: expected true or false"),
        ({"RIG_LOG_FORMAT": "xml"}, 'RIG_LOG_FORMAT=xml: expected "text" or "json"'),
        ({"RIG_CA": "no.pem"}, "RIG_CA=no.pem: there is no such file"),
        ({"RIG_APP_DIR": "some.file"}, "RIG_APP_DIR=some.file: there is no such directory"),
        ({"RIG_PARAM": "hunter2"}, "RIG_PARAM=***: expected K=V"),
        (
            {"RIG_URL": "h:4000/socket?token=hunter2"},
            "RIG_URL=h:4000/socket: expected ws://HOST/socket or wss://HOST/socket (http:// and https:// are accepted)",
        ),
    ],
)
def test_a_wrong_value_is_refused_with_a_sentence(environ, message):
    """It names the place, the value unless it is secret, and what is expected."""
    with pytest.raises(ConfigError) as raised:
        load("run", {}, environ)

    assert str(raised.value) == message


@pytest.mark.parametrize(
    ("flags", "environ"), [({"auth": "hunter2"}, {}), ({}, {"RIG_AUTH": "Bearer hunter2"}), ({"auth": "token:hunter2"}, {})]
)
def test_a_token_in_the_place_of_its_provider_is_not_repeated(flags, environ):
    """Who writes --auth TOKEN reads what to write instead."""
    with pytest.raises(ConfigError, match="expected none, env:VAR, file:PATH, command:CMD or keyring:NAME") as raised:
        load("run", flags, environ)

    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "-1"])
@pytest.mark.parametrize(
    "option", [option for option in options() if isinstance(option.default, float)], ids=lambda option: option.name
)
def test_times_and_rates_are_finite_and_not_negative(option, text):
    """Every number that is no whole number has limits."""
    with pytest.raises(ConfigError, match="expected a number"):
        load(option.about.commands[0], {option.name: text}, {})


@pytest.mark.parametrize(
    ("command", "flags", "message"),
    [
        ("run", {"workers": "two"}, '--workers=two: expected a whole number from 1 to 1024 or "auto"'),
        ("push", {"push_timeout": "soon"}, "--timeout=soon: expected a number of seconds from 0.01 to 86400"),
        (
            "listen",
            {"url": "nowhere"},
            "URL=nowhere: expected ws://HOST/socket or wss://HOST/socket (http:// and https:// are accepted)",
        ),
    ],
)
def test_a_wrong_flag_is_named_as_the_command_spells_it(command, flags, message):
    """The user finds in the message what was typed."""
    with pytest.raises(ConfigError) as raised:
        load(command, flags, {})

    assert str(raised.value) == message


@pytest.mark.parametrize("line", ['workers = "2"', "workers = 1.5", "workers = true", "workers = []"])
def test_the_file_is_strict_about_types(line, folder):
    """TOML has types of its own; a text is no number there."""
    (folder / "rig.toml").write_text(line)

    with pytest.raises(ConfigError, match=r"^workers = .* in rig\.toml: expected a whole number"):
        load("run", {}, {})


@pytest.mark.parametrize(
    ("environ", "toml", "message"),
    [
        ({"RIG_WORKRES": "2"}, "", "RIG_WORKRES: there is no such variable; did you mean RIG_WORKERS?"),
        ({"RIG_ZZZZZZZZ": "2"}, "", "RIG_ZZZZZZZZ: there is no such variable; rig run --help lists all options"),
        ({}, "concurency = 2", "concurency in rig.toml: there is no such key; did you mean concurrency?"),
        ({}, 'config = "x.toml"', "config in rig.toml: there is no such key"),
    ],
)
def test_an_unknown_name_is_an_error_with_a_suggestion(environ, toml, message, folder):
    """A typing error is not ignored."""
    (folder / "rig.toml").write_text(toml)

    with pytest.raises(ConfigError) as raised:
        load("push", {}, environ)

    assert str(raised.value).startswith(message)


@pytest.mark.parametrize(
    "name", ["RIG_SERVICE_HOST", "RIG_SERVICE_PORT_HTTP", "RIG_PORT", "RIG_PORT_4000_TCP_ADDR", "RIG_WEB_SERVICE_PORT"]
)
def test_variables_that_kubernetes_sets_are_no_typing_errors(name):
    """A service that is called rig must not stop the pods beside it."""
    assert load("run", {}, {name: "tcp://10.0.0.1:4000"}).settings.url == ()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"config": "missing.toml"}, "missing.toml: there is no such file"),
        ({"env_file": "missing.env"}, "missing.env: there is no such file"),
        ({"config": "some.folder"}, "some.folder cannot be read"),
        ({"config": "bad.toml"}, "bad.toml is not valid TOML: Expected '=' after a key"),
        ({"config": "latin.toml"}, "latin.toml cannot be read"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(flags, message, folder):
    """A file that somebody named must be there and make sense."""
    (folder / "bad.toml").write_text("workers 2")
    (folder / "latin.toml").write_bytes(b"url = '\xe4'")

    with pytest.raises(ConfigError) as raised:
        load("run", flags, {})

    assert str(raised.value).startswith(message)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"ring_bytes": "3MiB"}, "ring_bytes is 3 MiB (flag): expected a power of two, such as 8MiB"),
        ({"cert": "some.file"}, "cert is set (flag) but key is not: a client certificate needs both --cert and --key"),
        ({"key": "some.file"}, "key is set (flag) but cert is not: a client certificate needs both --cert and --key"),
        (
            {"heartbeat_timeout": "20"},
            "heartbeat_timeout is 20 s (flag) and heartbeat_interval 15 s (default): the time-out must not be the longer one",
        ),
    ],
)
def test_values_that_contradict_each_other_are_refused(flags, message):
    """The message names both, where each comes from, and what would fit."""
    with pytest.raises(ConfigError) as raised:
        load("run", flags, {})

    assert str(raised.value) == message


def test_a_command_without_rings_takes_larger_frames():
    """`rig listen` has no ring that a frame must fit into."""
    assert load("listen", {"max_frame_bytes": "16MiB"}, {}).settings.max_frame_bytes == 16 * 1024**2


def test_every_fault_ends_the_command_with_usage():
    """Exit code 2, as for any wrong option."""
    assert ConfigError("x").exit_code == 2


@pytest.mark.parametrize("value", ["env:", "environment:X", "file", "bearer"])
def test_an_unknown_provider_of_tokens_is_refused_with_the_known_ones(value):
    """Whoever mistypes --auth reads which providers there are."""
    with pytest.raises(ConfigError, match="none, env:VAR, file:PATH, command:CMD or keyring:NAME"):
        load("run", {"auth": value}, environ={})


def test_several_urls_stand_one_a_line_in_the_environment_and_in_a_list_in_the_file(tmp_path):
    """Flags are repeated; a file may have a single text, too."""
    urls = ("ws://a/socket", "wss://b/socket")
    assert load("run", {"url": urls}, {}).settings.url == urls
    assert load("run", {}, {"RIG_URL": "\n".join(urls) + "\n"}).settings.url == urls
    for written, expected in ((f"url = {list(urls)}", urls), (f'url = "{urls[0]}"', urls[:1])):
        (tmp_path / "rig.toml").write_text(written)
        assert load("run", {}, {}, tmp_path / "rig.toml").settings.url == expected


def test_a_wrong_one_of_several_urls_is_shown_without_what_may_be_a_secret():
    """Nothing after the ? of any of them."""
    with pytest.raises(ConfigError) as raised:
        load("run", {"url": ("ws://a/socket?token=hunter2", "b?token=hunter2")}, {})
    assert str(raised.value).startswith("--url=ws://a/socket, b: expected ws://HOST/socket")
