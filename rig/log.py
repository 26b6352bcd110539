"""
Log lines: structlog and the standard library's logging through one renderer, to stderr.

What must stay true: a message is constant and its values are fields; a secret never leaves the process, whether it is a
field, part of a URL or part of a traceback; text of the peer cannot steer the terminal.
"""

import logging
import os
import re
import sys
from collections.abc import Callable, Hashable, Mapping
from typing import Any, TextIO
from urllib.parse import quote

import structlog
from structlog.dev import Column, ConsoleRenderer, KeyValueColumnFormatter
from structlog.typing import EventDict, Processor, WrappedLogger

from rig.masking import MASK, SECRET_NAMES, names_a_secret

_SECRET_TEXT = re.compile(
    rf"""((?:{SECRET_NAMES})[\w.-]*(?:=|["']\s*:\s*["']))[^\s"'&#,;)}}\]]+"""  # …token=x, "token": "x"
    r"|(://)[^\s/@?#]+(?=@)"  # https://user:password@host
    r"|(\bbearer[ ]|base64url\.bearer\.phx\.)[\w.~+/=-]+"  # Authorization: Bearer x, and Phoenix 1.8's subprotocol
    r"|(\b(?:(?:proxy-)?authorization|(?:set-)?cookie|x-[\w-]*(?:token|key|secret))[\"']?\s*[:,]\s*[\"']?)[^\r\n\"']+"  # headers
    r"|\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*",  # a JWT, whatever stands before it
    re.IGNORECASE,
)
_SHORTEST_HIDDEN, _MOST_HIDDEN = 8, 64
_hidden: dict[str, None] = {}
"""What `hide` was told, the oldest first. A process has few tokens at a time, and the old ones have expired."""
_DIM, _BOLD, _RESET = "\x1b[2m", "\x1b[1m", "\x1b[0m"
_LEVEL_COLOURS = {"warning": "\x1b[33m", "error": "\x1b[31m", "critical": "\x1b[31m", "info": "\x1b[32m", "debug": _DIM}


def configure(level: str = "info", format: str = "text", *, process: str = "main", stream: TextIO | None = None) -> None:
    """
    Send every log line of this process to one place in one form, replacing what was configured before.

    Args:
        level: The least severe level that is written: "debug", "info", "warning" or "error".
        format: "text" (coloured on a terminal, unless `NO_COLOR` is set) or "json", one object a line.
        process: Stands in every line: "supervisor", "io", "worker-0", …
        stream: Instead of stderr.

    Raises:
        Nothing.
    """
    stream = stream or sys.stderr
    number = logging.getLevelNamesMapping()[level.upper()]
    shared = _shared_processors(process, utc=format == "json")
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.add_logger_name, structlog.stdlib.ExtraAdder(), *shared],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, mask_fields, _renderer(format, stream)],
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(number)
    for chatty in ("picows", "asyncio", "aiosqlite"):
        logging.getLogger(chatty).setLevel(max(number, logging.WARNING))
    logging.captureWarnings(capture=True)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )


def hide(secret: str) -> None:
    """
    Mask this very text from now on, wherever it turns up: a server may repeat in an answer what it was sent.

    Args:
        secret: The text; one of fewer than 8 characters is left, because it would be found inside other words.

    Raises:
        Nothing.
    """
    if len(secret) < _SHORTEST_HIDDEN:
        return
    for form in (secret, quote(secret, safe="")):
        _hidden.pop(form, None)
        _hidden[form] = None
    while len(_hidden) > _MOST_HIDDEN:
        del _hidden[next(iter(_hidden))]


def mask(text: str) -> str:
    """
    Replace the tokens, passwords and the like in a text by `***`.

    Raises:
        Nothing.
    """
    for secret in _hidden:
        text = text.replace(secret, MASK)
    return _SECRET_TEXT.sub(lambda found: f"{next(filter(None, found.groups()), '')}{MASK}", text)


def mask_fields(logger: WrappedLogger, name: str, event_dict: EventDict) -> EventDict:
    """
    Mask each field that is named like a secret, and the secrets inside all others, as a structlog processor.

    Raises:
        Nothing.
    """
    return {key: _masked(key, value) for key, value in event_dict.items()}


def known(**fields: object) -> dict[str, object]:
    """
    Return the fields of a line without those that say nothing: None, an empty text, an empty object.

    Raises:
        Nothing.
    """
    return {name: value for name, value in fields.items() if value is not None and value not in ("", {})}


class Throttle:
    """
    Decides which of many equal reports is made, so that a peer cannot flood the log.

    What must stay true: the number of keys is bounded; a key that makes room for another loses its count.
    """

    def __init__(self, interval: float = 10.0, max_keys: int = 1024) -> None:
        self._interval = interval
        self._max_keys = max_keys
        self._reports: dict[Hashable, tuple[float, int]] = {}

    def allow(self, key: Hashable, now: float) -> int | None:
        """
        Return how many reports were suppressed since the last one that was allowed, or None to suppress this one too.

        Args:
            key: What makes reports equal.
            now: Monotonic seconds.

        Raises:
            Nothing.
        """
        due, suppressed = self._reports.get(key, (now, 0))
        if now < due:
            self._reports[key] = (due, suppressed + 1)
            return None
        self._reports.pop(key, None)
        if len(self._reports) >= self._max_keys:
            del self._reports[next(iter(self._reports))]
        self._reports[key] = (now + self._interval, 0)
        return suppressed

    def say(self, write: Callable[..., object], message: str, now: float, *, about: Hashable = None, **fields: object) -> None:
        """
        Write a line, with how many like it were suppressed before, if any were, or suppress it too.

        Args:
            write: A logger's method.
            message: Constant; lines with another one are not like it.
            now: Monotonic seconds.
            about: What else tells lines apart.
            fields: Of the line.

        Raises:
            Nothing.
        """
        suppressed = self.allow((message, about), now)
        if suppressed is not None:
            write(message, **fields, **({"suppressed": suppressed} if suppressed else {}))


def _shared_processors(process: str, *, utc: bool) -> list[Processor]:
    def add_process(logger: WrappedLogger, name: str, event_dict: EventDict) -> EventDict:
        event_dict.setdefault("process", process)
        return event_dict

    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        add_process,
        structlog.processors.TimeStamper(fmt="iso" if utc else "%H:%M:%S", utc=utc),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
    ]


def _renderer(format: str, stream: TextIO) -> Processor:
    if format == "json":
        return structlog.processors.JSONRenderer(ensure_ascii=False)
    colours = stream.isatty() and not os.environ.get("NO_COLOR")
    dim, bold, reset = (_DIM, _BOLD, _RESET) if colours else ("", "", "")

    def show_level(key: str, value: object) -> str:
        return f"{_LEVEL_COLOURS.get(str(value), '') if colours else ''}{value!s:<7}{reset}"

    def show(style: str, width: int) -> KeyValueColumnFormatter:
        return KeyValueColumnFormatter(None, value_style=style, reset_style=reset, value_repr=_escaped, width=width)

    render = ConsoleRenderer(
        columns=[
            Column("timestamp", show(dim, 0)),
            Column("level", show_level),
            Column("process", show(dim, 10)),
            Column("event", show(bold, 0)),
            Column("", KeyValueColumnFormatter(key_style=dim, value_style="", reset_style=reset, value_repr=_shown)),
        ],
        sort_keys=False,
    )

    def render_escaped(logger: WrappedLogger, name: str, event_dict: EventDict) -> str:
        if "exception" in event_dict:
            event_dict["exception"] = _escaped(event_dict["exception"])
        return render(logger, name, event_dict)

    return render_escaped


def _masked(key: object, value: Any) -> Any:
    if isinstance(key, str) and names_a_secret(key) and value is not None:
        return MASK
    match value:
        case str():
            return mask(value)
        case Mapping():
            return {inner: _masked(inner, item) for inner, item in value.items()}
        case list() | tuple():
            return [_masked(None, item) for item in value]
        case BaseException():
            return mask(f"{type(value).__name__}: {value}")
        case None | bool() | int() | float():
            return value
        case _:  # bytes, sets and objects: what they would be shown as
            return mask(str(value))


def _shown(value: object) -> str:
    """Write a field's value: bare if it is one printable word, else as Python would."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, str):
        return value if value and value.isprintable() and " " not in value else repr(value)
    return _escaped(value)


def _escaped(value: object) -> str:
    """Make control characters visible, so that text of the peer cannot steer the terminal."""
    return "".join(char if char.isprintable() or char in "\n\t" else repr(char)[1:-1] for char in str(value).rstrip("\n"))
