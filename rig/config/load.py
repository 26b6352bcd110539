"""
Where values come from: flag, else environment, else file, else default.

What must stay true: `Loaded.sources` names the place each value came from; a name that nobody declared is an error with a
suggestion; a message about a value names the place, what is expected there, and never a secret.
"""

import difflib
import io
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from rig.config.options import Option, options
from rig.config.settings import Settings
from rig.config.values import parse_headers, parse_pairs, parse_size, parse_urls, show_auth, show_size
from rig.errors import ConfigError
from rig.masking import MASK

# Kubernetes sets such variables in every pod of a namespace that has a service called "rig".
_KUBERNETES = re.compile(r"RIG_(.+_)?(SERVICE_(HOST|PORT)(_.+)?|PORT(_\d+_(TCP|UDP|SCTP)(_.+)?)?)")
_SWITCH = {"yes": "true", "on": "true", "no": "false", "off": "false"}


@dataclass(frozen=True, slots=True)
class Loaded:
    """
    Settings, and where each came from.

    Attributes:
        sources: For each option "flag", the environment variable, the file, or "default".
        environment: What the env file adds to the environment, for child processes to inherit.
    """

    settings: Settings
    sources: dict[str, str]
    environment: dict[str, str]


@dataclass(frozen=True, slots=True)
class _Given:
    """
    A value as it was written.

    Attributes:
        source: As in `Loaded.sources`.
        label: How a message names it: `RIG_WORKERS=two`.
        folder: What a relative path starts from.
        typed: True if the place has types of its own, so that a text is not taken for a number.
    """

    value: object
    source: str
    label: str
    folder: Path = Path()
    typed: bool = False


def load(command: str, flags: Mapping[str, object], environ: Mapping[str, str], config_file: Path | None = None) -> Loaded:
    """
    Collect the settings of one command.

    Options of other commands keep their defaults, whatever environment and file say; an unknown name is always an error.

    Args:
        command: "run", "listen", …
        flags: Values from the command line by option name, as text or typed; None and () stand for "not given".
        environ: The environment. An env file is read beneath it: what is set already stays.
        config_file: Instead of `--config`, else rig.toml, else `[tool.rig]` of pyproject.toml, in the current directory.

    Raises:
        ConfigError: If a name is unknown, a value does not fit, a file cannot be read, or two values contradict each other.
        KeyError: If `flags` names an option that the command does not have.
    """
    known = {option.name: option for option in options(command)}
    flagged = {name: _flag(known[name], command, value) for name, value in flags.items() if value is not None and value != ()}
    variables = _from_environment(environ)
    env_file = _text(flagged.get("env_file") or variables.get("env_file"))
    environment = {name: value for name, value in _read_env_file(env_file).items() if name not in environ} if env_file else {}
    variables = _from_environment(environment, f" ({env_file})") | variables
    path = config_file or _config_path(_text(flagged.get("config") or variables.get("config")))
    given = (_from_file(path) if path else {}) | variables | flagged
    settings = Settings(**{name: _value(option, given[name]) for name, option in known.items() if name in given})
    sources = {
        option.name: given[option.name].source if {option.name} <= known.keys() & given.keys() else "default"
        for option in options()
    }
    _check_together(settings, sources)
    if "ring_bytes" in known:
        _check_ring(settings, sources)
    return Loaded(settings, sources, environment)


def check(settings: Settings) -> Settings:
    """
    Return settings that were made in code, each of which could have been written in a file.

    Raises:
        ConfigError: If one has a value that does not fit.
    """
    for option in options():
        value = getattr(settings, option.name)
        try:
            msgspec.convert(value, option.type)
        except msgspec.ValidationError as exc:
            raise ConfigError(f"{option.name}={_shown(option, value)}: expected {option.expected}") from exc
    return settings


def _flag(option: Option, command: str, value: object) -> _Given:
    return _Given(value, "flag", f"{option.spelling(command)[-1].strip('[]')}={_shown(option, value)}")


def _from_environment(environ: Mapping[str, str], place: str = "") -> dict[str, _Given]:
    """Pick ours. An empty variable counts as not set, as `RIG_URL=${URL:-}` in a compose file would have it."""
    names = [variable for option in options() for variable in option.variables]
    for name in environ:
        if name.startswith("RIG_") and name not in names and not _KUBERNETES.fullmatch(name):
            raise ConfigError(f"{name}{place}: there is no such variable{_suggestion(name, names)}")
    return {
        option.name: _Given(environ[name], f"{name}{place}", f"{name}={_shown(option, environ[name])}{place}")
        for option in options()
        for name in reversed(option.variables)
        if environ.get(name, "").strip()
    }


def _read_env_file(name: str) -> dict[str, str]:
    from dotenv import dotenv_values  # few use it, and it would slow every `rig --help`

    stream = io.StringIO(_read(Path(name)))
    return {variable: value for variable, value in dotenv_values(stream=stream).items() if value is not None}


def _config_path(name: str | None) -> Path | None:
    if name:
        return Path(name)
    return next((path for path in (Path("rig.toml"), Path("pyproject.toml")) if path.is_file()), None)


def _from_file(path: Path) -> dict[str, _Given]:
    """Read the keys. A hyphen may stand for an underscore, as in other tools' sections of pyproject.toml."""
    try:
        table: Any = tomllib.loads(_read(path))
    except tomllib.TOMLDecodeError as exc:
        raise ConfigError(f"{path} is not valid TOML: {exc}") from exc
    if path.name == "pyproject.toml":
        table = table.get("tool", {}).get("rig", {})
    known = {option.name: option for option in options() if option.about.in_file}
    given = {}
    for key, value in table.items():
        name = key.replace("-", "_")
        if name not in known:
            raise ConfigError(f"{key} in {path}: there is no such key{_suggestion(name, known)}")
        given[name] = _Given(value, str(path), f"{key} = {_shown(known[name], value)} in {path}", path.parent, typed=True)
    return given


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as exc:
        raise ConfigError(f"{path}: there is no such file") from exc
    except (OSError, UnicodeError) as exc:
        raise ConfigError(f"{path} cannot be read: {exc}") from exc


def _suggestion(name: str, names: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(names), n=1)
    return f"; did you mean {close[0]}?" if close else "; rig run --help lists all options"


def _text(given: _Given | None) -> str | None:
    return str(given.value) if given else None


def _shown(option: Option, value: object) -> str:
    """Write a value for a message: no secret, nothing after the `?` of a URL, not longer than a line."""
    if option.about.secret:
        return MASK
    if option.about.holds == "auth":
        return show_auth(str(value))
    text = str(value)
    if option.about.holds == "url":
        urls = value if isinstance(value, list | tuple) else text.splitlines()
        text = ", ".join(str(url).partition("?")[0] for url in urls)
    return text if len(text) <= 80 else f"{text[:79]}…"


def _value(option: Option, given: _Given) -> Any:
    """Convert a value as written into the option's type."""
    try:
        value = msgspec.convert(_shape(option, given.value), option.type, strict=given.typed)
    except (msgspec.ValidationError, ValueError) as exc:
        raise ConfigError(f"{given.label}: expected {option.expected}") from exc
    if option.about.holds == "folder":
        return str(given.folder / Path(value).expanduser())
    return _existing(option, given, value) if option.about.holds in ("file", "directory") else value


def _shape(option: Option, value: Any) -> Any:
    """Give a value the shape of the option's type. A variable holds several values one a line."""
    if option.repeatable and isinstance(value, str):
        value = [line for line in value.splitlines() if line.strip()]
    match option.about.holds:
        case "pairs":
            return parse_pairs(value)
        case "headers":
            return parse_headers(value)
        case "url":
            return parse_urls(value)
    if not isinstance(value, str):
        return value
    if option.about.unit == "bytes":
        return parse_size(value)
    return _SWITCH.get(value.strip().lower(), value.strip()) if option.boolean else value.strip()


def _existing(option: Option, given: _Given, name: str) -> str:
    path = given.folder / Path(name).expanduser()
    if not (path.is_dir() if option.about.holds == "directory" else path.is_file()):
        raise ConfigError(f"{given.label}: there is no such {option.about.holds}")
    return str(path)


def _check_together(settings: Settings, sources: Mapping[str, str]) -> None:
    """Refuse values that are valid alone but not together."""
    if (settings.cert is None) != (settings.key is None):
        given, missing = ("cert", "key") if settings.key is None else ("key", "cert")
        raise ConfigError(
            f"{given} is set ({sources[given]}) but {missing} is not: a client certificate needs both --cert and --key"
        )
    if settings.heartbeat_timeout > settings.heartbeat_interval:
        raise ConfigError(
            f"heartbeat_timeout is {settings.heartbeat_timeout:g} s ({sources['heartbeat_timeout']}) and heartbeat_interval "
            f"{settings.heartbeat_interval:g} s ({sources['heartbeat_interval']}): the time-out must not be the longer one"
        )


def _check_ring(settings: Settings, sources: Mapping[str, str]) -> None:
    ring = settings.ring_bytes
    if ring & (ring - 1):
        raise ConfigError(f"ring_bytes is {show_size(ring)} ({sources['ring_bytes']}): expected a power of two, such as 8MiB")
