"""Log lines."""

import io
import json
import logging
import re
import warnings
from types import MappingProxyType

import pytest
import structlog

from rig import log


@pytest.fixture(autouse=True)
def _restored_logging():
    """Leave logging as it was found."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    log._hidden.clear()
    others = {name: logging.getLogger(name).level for name in ("picows", "asyncio", "aiosqlite")}
    yield
    logging.captureWarnings(capture=False)
    root.handlers[:], root.level = handlers, level
    for name, old in others.items():
        logging.getLogger(name).setLevel(old)
    structlog.reset_defaults()


class Terminal(io.StringIO):
    """A stream that claims to be a terminal."""

    def isatty(self):
        return True


def configured(level="info", format="text", *, process="io", stream=None):
    stream = stream or io.StringIO()
    log.configure(level, format, process=process, stream=stream)
    return stream, structlog.get_logger()


def only_json(stream):
    [line] = stream.getvalue().splitlines()
    return json.loads(line)


# --- form


def test_a_text_line_is_short():
    """Time, level, process, message, fields in the order of the call."""
    stream, logger = configured(process="worker-0")

    logger.info("connected", url="ws://h/socket", tries=3, ratio=1 / 3, reason="not yet")

    line = r"^\d\d:\d\d:\d\d info    worker-0   connected url=ws://h/socket tries=3 ratio=0\.333333 reason='not yet'\n$"
    assert re.match(line, stream.getvalue())


def test_json_lines_are_one_object_each():
    """For machines: the message stays constant, values are fields."""
    stream, logger = configured(format="json")

    logger.warning("frame dropped", size_bytes=7, topic="räume")

    line = only_json(stream)
    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "frame dropped", "level": "warning", "process": "io", "size_bytes": 7, "topic": "räume"}


def test_colours_only_on_a_terminal(monkeypatch):
    """A file gets no escape sequences, and neither does a terminal whose user sets NO_COLOR."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    for stream, coloured in ((Terminal(), True), (io.StringIO(), False)):
        configured(stream=stream)[1].info("connected", n=1)
        assert ("\x1b[" in stream.getvalue()) is coloured

    monkeypatch.setenv("NO_COLOR", "1")
    stream, logger = configured(stream=Terminal())
    logger.info("connected", n=1)
    assert "\x1b[" not in stream.getvalue()


@pytest.mark.parametrize("level", ["debug", "info", "warning", "error"])
def test_lines_beneath_the_level_are_not_written(level):
    """For structlog and the standard library alike."""
    stream, logger = configured(level)
    order = ["debug", "info", "warning", "error"]

    for name in order:
        getattr(logger, name)("ours")
        getattr(logging.getLogger("theirs"), name)("theirs")

    assert len(stream.getvalue().splitlines()) == 2 * (4 - order.index(level))


def test_lines_of_the_standard_library_look_like_ours():
    """A handler's `logging.getLogger().info` is not lost."""
    stream, _ = configured(format="json")

    logging.getLogger("shop").info("sold %d", 3, extra={"order": 7})

    line = only_json(stream)
    assert (line["event"], line["logger"], line["order"], line["process"]) == ("sold 3", "shop", 7, "io")


def test_warnings_become_lines():
    """A deprecation in a handler is seen in the log."""
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        stream, _ = configured(format="json")
        warnings.warn("old", DeprecationWarning, stacklevel=1)
        logging.captureWarnings(capture=False)

    assert "DeprecationWarning: old" in only_json(stream)["event"]


@pytest.mark.parametrize("library", ["picows", "asyncio", "aiosqlite"])
def test_chatty_libraries_are_quiet_below_warning(library):
    """The WebSocket library reports each connection, and that of the store each statement; we do that ourselves."""
    stream, _ = configured("debug")

    logging.getLogger(library).info("connected")
    logging.getLogger(library).warning("trouble")

    assert [line.split(" ")[-2] for line in stream.getvalue().splitlines()] == ["trouble"]


def test_configuring_again_replaces_the_first():
    """No line is written twice."""
    first, _ = configured()
    second, logger = configured()

    logger.info("connected")

    assert first.getvalue() == ""
    assert second.getvalue().count("connected") == 1


@pytest.mark.parametrize("format", ["text", "json"])
def test_an_exception_comes_with_its_traceback(format):
    """In one line for machines, in many for people."""
    stream, logger = configured(format=format)

    try:
        {}["missing"]
    except KeyError:
        logger.exception("handler failed")

    assert "handler failed" in stream.getvalue()
    assert "KeyError: 'missing'" in stream.getvalue()
    assert (len(stream.getvalue().splitlines()) == 1) is (format == "json")


def test_text_of_the_peer_cannot_steer_the_terminal():
    """Escape sequences in a topic, a message or an exception are made visible."""
    stream, logger = configured()

    logger.info("joined \x1b[2J", topic="room:\x1b[2J", names=["\x1b]0;x\x07"])
    try:
        raise ValueError("\x1b[2J")
    except ValueError:
        logger.exception("failed")

    assert "\x1b" not in stream.getvalue()
    assert r"room:\x1b[2J" in stream.getvalue()


def test_a_line_break_in_a_value_does_not_forge_a_line():
    """One call, one line."""
    stream, logger = configured()

    logger.info("joined", topic="a\n12:00:00 error   io         gone")

    assert len(stream.getvalue().splitlines()) == 1


# --- secrets


@pytest.mark.parametrize("format", ["text", "json"])
@pytest.mark.parametrize(
    "fields",
    [
        {"token": "hunter2"},
        {"auth_token": "hunter2"},
        {"Authorization": "hunter2"},
        {"db_password": "hunter2"},
        {"secrets": ["hunter2"]},
        {"url": "wss://h/socket/websocket?vsn=2.0.0&token=hunter2"},
        {"url": "wss://h/socket?user_token=hunter2#x"},
        {"url": "https://user:hunter2@h/socket"},
        {"headers": {"Authorization": "hunter2"}},
        {"params": MappingProxyType({"user_token": ["hunter2"]})},
        {"headers": [("x", "Bearer hunter2")]},
        {"request": "GET / HTTP/1.1\r\nProxy-Authorization: Basic hunter2"},
        {"line": "Cookie: a=hunter2; b=hunter2"},
        {"line": str(("Authorization", "Basic hunter2"))},
        {"line": str({"x-auth-token": "hunter2"})},
        {"line": "X-Api-Key: hunter2"},
        {"protocol": "phoenix, base64url.bearer.phx.hunter2"},
        {"frame": '["1","1","t","phx_join",{"token": "hunter2"}]'},
        {"frame": "{'api_key': 'hunter2'}"},
        {"error": ValueError("cannot reach ws://h?token=hunter2")},
    ],
    ids=str,
)
def test_a_secret_never_gets_into_the_log(fields, format):
    """Neither by the name of a field nor inside a text."""
    stream, logger = configured(format=format)

    logger.info("dialling", **fields)
    logging.getLogger("theirs").info("dialling", extra=fields)

    assert "hunter2" not in stream.getvalue()
    assert stream.getvalue().count("***") >= 2


def test_a_secret_in_a_traceback_or_a_message_is_masked():
    """Exceptions quote URLs."""
    stream, logger = configured()

    logging.getLogger("theirs").info("GET %s", "/socket?token=hunter2")
    try:
        raise ValueError("ws://h?token=hunter2")
    except ValueError:
        logger.exception("failed")

    assert "hunter2" not in stream.getvalue()


@pytest.mark.parametrize("format", ["text", "json"])
@pytest.mark.parametrize(
    "value",
    [
        b"distinctive hunter2",
        {"distinctive hunter2"},
        MappingProxyType({"a": "distinctive hunter2"}),
        {1: {"a": "distinctive hunter2"}},
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_hidden_secret_is_masked_in_every_kind_of_value(value, format):
    """Bytes, sets and views too, whatever the field is called."""
    log.hide("distinctive hunter2")
    stream, logger = configured(format=format)

    logger.info("refused", answer=value, error=ValueError(f"no: {value}"))

    assert "hunter2" not in stream.getvalue()
    assert stream.getvalue().count("***") == 2


def test_what_is_hidden_is_found_in_a_url_too():
    """There it is encoded."""
    log.hide("a secret/hunter2")

    assert log.mask("GET /socket?t=a%20secret%2Fhunter2&vsn=2.0.0") == "GET /socket?t=***&vsn=2.0.0"


def test_a_short_secret_is_not_looked_for():
    """It would be found inside other words."""
    log.hide("a")

    assert log.mask("a cat") == "a cat"


def test_hidden_secrets_do_not_fill_the_memory():
    """Only the latest ones are looked for: a process that runs for a year has had thousands."""
    for number in range(1000):
        log.hide(f"hunter2-{number:04}/")

    assert log.mask("hunter2-0999/") == "***"
    assert log.mask("hunter2-0000/") == "hunter2-0000/"
    assert len(log._hidden) <= 64


def test_a_jwt_is_masked_wherever_it_stands(jwt):
    """It can be told by its look."""
    assert log.mask(f"refused ({jwt(sub='alice')}), sorry") == "refused (***), sorry"


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("ws://h/socket?token=abc&vsn=2.0.0", "ws://h/socket?token=***&vsn=2.0.0"),
        ("the token has expired", "the token has expired"),
        ("invalid token: expired", "invalid token: expired"),
        ("key=user_id", "key=user_id"),
        ("user@example.org", "user@example.org"),
    ],
)
def test_only_the_secret_is_masked(text, masked):
    """What is left can still be understood."""
    assert log.mask(text) == masked


def test_a_missing_token_can_be_told_from_a_masked_one():
    """None is no secret."""
    assert log.mask_fields(None, "info", {"token": None}) == {"token": None}


# --- throttle


def test_fields_that_say_nothing_are_left_out():
    """What is known to be none at all is something; what is not known is not."""
    assert log.known(code=None, reason="", payload={}, count=0, left=False, delay=0.0) == {"count": 0, "left": False, "delay": 0.0}


def test_the_first_report_is_made_at_once():
    """Nobody waits for the first sign of trouble."""
    assert log.Throttle(interval=10).allow("malformed", now=0.0) == 0


def test_reports_within_the_interval_are_counted_not_made():
    """The next report says how many there were."""
    throttle = log.Throttle(interval=10)
    throttle.allow("malformed", now=0.0)

    assert [throttle.allow("malformed", now=second) for second in (1.0, 5.0, 9.9)] == [None, None, None]
    assert throttle.allow("malformed", now=10.0) == 3
    assert throttle.allow("malformed", now=11.0) is None
    assert throttle.allow("malformed", now=20.0) == 1


def test_each_kind_of_report_has_its_own_count():
    """A flood of one fault does not hide another."""
    throttle = log.Throttle(interval=10)
    throttle.allow("malformed", now=0.0)

    assert throttle.allow("unknown topic", now=1.0) == 0


def test_a_peer_cannot_fill_the_memory_with_kinds_of_faults():
    """The one that was reported longest ago makes room."""
    throttle = log.Throttle(interval=10, max_keys=2)
    for second, key in enumerate("abc"):
        throttle.allow(key, now=float(second))

    assert throttle.allow("c", now=3.0) is None
    assert throttle.allow("a", now=3.0) == 0
    assert len(throttle._reports) == 2


def test_a_line_that_is_said_tells_how_many_like_it_were_not():
    """Lines are alike if message and subject are, whatever their fields say."""
    throttle, said = log.Throttle(interval=10), []

    def write(message, **fields):
        said.append((message, fields))

    for now, topic, size in ((0.0, "a", 1), (1.0, "a", 2), (2.0, "b", 3), (3.0, "a", 4), (10.0, "a", 5)):
        throttle.say(write, "too large", now, about=topic, size=size)

    assert said == [
        ("too large", {"size": 1}),
        ("too large", {"size": 3}),
        ("too large", {"size": 5, "suppressed": 2}),
    ]
