"""
The declaration of every option.

A field of `Settings` is an option: its name, default, type, limits, unit and help stand here and nowhere else. From them
come the flag (`--join-timeout`), the environment variable (`RIG_JOIN_TIMEOUT`), the key in rig.toml (`join_timeout`) and
the click options. What must stay true: `Settings()` without arguments is a valid set. The order is that
of `--help`.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from rig.config.about import AUTH, CONNECT, EVERY, JSON, LISTEN, PUSH, RUN, STATE, About
from rig.config.cores import usable_cores
from rig.routing import Overflow

_KIB, _MIB, _GIB = 1024, 1024**2, 1024**3

Seconds = Annotated[float, Meta(ge=0.01, le=86_400)]
SecondsOrZero = Annotated[float, Meta(ge=0, le=86_400)]
Vsn = Literal["2.0.0", "1.0.0"]
TransportMode = Literal["websocket", "longpoll", "auto"]
WorkerCount = Annotated[int, Meta(ge=1, le=1024)] | Literal["auto"]
_TARGET = {"run": "[MODULE:APP]", "check": "[MODULE:APP]"}
_URL = {"listen": "URL", "push": "URL"}
_URL_FORM = "ws://HOST/socket or wss://HOST/socket (http:// and https:// are accepted)"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What a command runs with."""

    target: Annotated[str, About("the application to run", spellings=_TARGET, expected="MODULE:APP")] = "rig.demo:app"
    url: Annotated[
        tuple[str, ...],
        About(
            "the Phoenix socket, with or without /websocket at the end; repeatable: others are for when the first is not well",
            CONNECT,
            spellings=_URL,
            holds="url",
            metavar="URL",
            expected=_URL_FORM,
        ),
    ] = ()

    event: Annotated[tuple[str, ...], About("only events whose name fits the glob; repeatable", LISTEN, metavar="GLOB")] = ()
    count: Annotated[Annotated[int, Meta(ge=1)] | None, About("end after so many events", LISTEN, metavar="N")] = None
    format: Annotated[str | None, About("how to print an event: '{topic} {event} {payload}'", LISTEN)] = None
    raw: Annotated[bool, About("print frames as they came", LISTEN)] = False
    timestamps: Annotated[bool, About("add the time of arrival to each line", LISTEN)] = False

    join_payload: Annotated[str, About("payload of each join", (*LISTEN, *PUSH), metavar="JSON")] = "{}"
    reply: Annotated[bool, About("wait for the reply and print it", PUSH)] = True
    durable: Annotated[
        bool, About("store it in the state directory, for the run there to send, print its idempotency key, and end", PUSH)
    ] = False

    app_dir: Annotated[str, About("where the application is looked for", holds="directory")] = "."
    factory: Annotated[bool, About("the target is a function that returns the application")] = False
    workers: Annotated[
        WorkerCount,
        About(
            "worker processes; auto is one for each core that the io processes leave, at least 1",
            short="-w",
            variables=("WEB_CONCURRENCY",),
            metavar="N|auto",
        ),
    ] = "auto"
    io_processes: Annotated[
        int,
        Meta(ge=1, le=64),
        About("processes that talk to the server; topics are spread over them, each has a connection of its own"),
    ] = 1
    concurrency: Annotated[int, Meta(ge=1, le=1024), About("lanes in a worker: events that it handles at the same time")] = 16
    retries: Annotated[int, Meta(ge=0, le=1000), About("how often an event whose handler raised is tried again")] = 3
    retry_backoff: Annotated[Seconds, About("pause before the first retry; it doubles with each further one", unit="s")] = 0.1
    graceful_timeout: Annotated[
        SecondsOrZero,
        About("how long a run may take to end after SIGTERM or Ctrl-C; handlers have most of it, sending the rest", unit="s"),
    ] = 30.0

    max_events_per_worker: Annotated[
        int,
        Meta(ge=0, le=10**15),
        About("a worker is replaced by a fresh one after about so many events, one worker at a time; 0 for never"),
    ] = 0
    max_worker_rss: Annotated[
        int, Meta(ge=0, le=1024 * _GIB), About("likewise when it has taken so much memory; 0 for never", unit="bytes")
    ] = 0
    stall_timeout: Annotated[
        SecondsOrZero,
        About("until a worker that handles nothing, and has events to handle, is reported with its stacks; 0 for never", unit="s"),
    ] = 60.0
    stall_action: Annotated[Literal["report", "restart"], About("whether it is only reported, or killed and started again too")] = (
        "report"
    )

    overflow: Annotated[
        Overflow,
        About(
            "what happens to events when a worker cannot keep up: spill keeps them on disk, block lets the server wait, the others "
            "drop some: the oldest, the newest, or all but the latest of each key"
        ),
    ] = "spill"
    pause_limit: Annotated[
        SecondsOrZero,
        About("how long reading may pause for a worker that cannot keep up, before its events are spilled to disk", unit="s"),
    ] = 10.0
    ring_bytes: Annotated[
        int,
        Meta(ge=64 * _KIB, le=_GIB),
        About("size of each of the four rings between an io process and a worker; a power of two", unit="bytes"),
    ] = 4 * _MIB

    state_dir: Annotated[
        str | None,
        About(
            "where pushes that must not be lost, dead letters, cursors and spilled events are kept; one for each run; without it "
            "the platform's place for state, by the name of the application",
            STATE,
            holds="folder",
            variables=("STATE_DIRECTORY",),
        ),
    ] = None
    store_sync: Annotated[
        Literal["full", "normal"],
        About(
            "when a durable push counts as stored: full, once the disk has it; normal, once the system has it, which is quicker, "
            "but a loss of power may take the newest",
            (*RUN, *PUSH),
        ),
    ] = "full"
    idempotency_field: Annotated[
        str,
        About(
            "field of a durable push's payload that holds its key, which stays the same however often it is sent; empty for none",
            (*RUN, *PUSH),
            metavar="NAME",
        ),
    ] = "idempotency_key"
    outbox_ttl: Annotated[
        SecondsOrZero,
        About(
            "after which a durable push is not sent any more but put with the dead letters; 0 for never", (*RUN, *PUSH), unit="s"
        ),
    ] = 0.0
    outbox_max_bytes: Annotated[
        int,
        Meta(ge=_MIB, le=1024 * _GIB),
        About("what the outbox may hold; above it, durable pushes are refused", (*RUN, *PUSH), unit="bytes"),
    ] = _GIB
    outbox_window: Annotated[
        int,
        Meta(ge=1, le=10_000),
        About(
            "durable pushes of a topic that are sent before the server has answered; 1 keeps the order even where it refuses some"
        ),
    ] = 64
    outbox_on_error: Annotated[
        Literal["dead-letter", "retry"], About("what becomes of a durable push that the server answers with an error")
    ] = "dead-letter"
    outbox_retries: Annotated[
        int, Meta(ge=0, le=1_000_000), About("with retry, how often a durable push is sent again that the server refuses")
    ] = 10

    cursor_field: Annotated[
        Annotated[str, Meta(min_length=1)],
        About("where a join payload has the newest cursor of its topic, for the server to send what was missed"),
    ] = "last_seen_id"
    resumed_field: Annotated[
        Annotated[str, Meta(min_length=1)],
        About("where the answer to a join says whether what was missed follows: true or false"),
    ] = "resumed"

    transport: Annotated[
        TransportMode,
        About("how frames travel; auto takes longpoll where the WebSocket upgrade is blocked", CONNECT),
    ] = "websocket"
    fallback_timeout: Annotated[Seconds, About("until --transport auto takes longpoll instead", CONNECT, unit="s")] = 2.5
    failback_interval: Annotated[
        SecondsOrZero,
        About("while not at the first URL, time between two looks whether it is well again; 0 stays where it is", unit="s"),
    ] = 60.0
    vsn: Annotated[Vsn, About("version of the Phoenix serializer", CONNECT)] = "2.0.0"
    param: Annotated[
        dict[str, str],
        About(
            "connect parameter; repeatable; other users of this machine see it on the command line, so for a token use --auth",
            CONNECT,
            holds="pairs",
            metavar="K=V",
            expected="K=V",
            secret=True,
        ),
    ] = msgspec.field(default_factory=dict)
    header: Annotated[
        tuple[tuple[str, str], ...],
        About(
            "HTTP header of the upgrade request; repeatable; other users of this machine see it on the command line, so for a "
            "token use --auth",
            CONNECT,
            holds="headers",
            metavar="K:V",
            expected="K: V",
            secret=True,
        ),
    ] = ()
    proxy: Annotated[
        str | None,
        About(
            "HTTP or SOCKS proxy; env takes it from HTTPS_PROXY, ALL_PROXY and NO_PROXY",
            CONNECT,
            metavar="URL|env",
            expected="http://HOST:PORT, socks5://HOST:PORT, socks4://HOST:PORT or env",
            secret=True,
        ),
    ] = None

    auth: Annotated[
        Annotated[str, Meta(pattern=r"^(none|(env|file|command|keyring):.+)$")],
        About(
            "where the token comes from; asked before every connect and every join",
            AUTH,
            holds="auth",
            metavar="none|env:VAR|file:PATH|command:CMD|keyring:NAME",
            expected="none, env:VAR, file:PATH, command:CMD or keyring:NAME",
        ),
    ] = "none"
    auth_mode: Annotated[
        Annotated[str, Meta(pattern=r"^(subprotocol|header|(param|header|join):.+)$")],
        About(
            "how the token travels: as phoenix.js sends authToken, as a connect parameter, as a header (Authorization: Bearer, or "
            "as it is in the header named), or in the payload of every join",
            CONNECT,
            metavar="subprotocol|param:NAME|header|header:NAME|join:NAME",
            expected="subprotocol, param:NAME, header, header:NAME or join:NAME",
        ),
    ] = "subprotocol"
    auth_timeout: Annotated[Seconds, About("until the provider must have given the token", AUTH, unit="s")] = 10.0
    auth_failure: Annotated[
        Literal["retry", "exit"],
        About("what follows when the server refuses a fresh token too: try again once a minute, or end with exit code 4"),
    ] = "retry"

    ca: Annotated[str | None, About("authority that signed the server's certificate (PEM)", CONNECT, holds="file")] = None
    cert: Annotated[str | None, About("client certificate (PEM)", CONNECT, holds="file")] = None
    key: Annotated[str | None, About("private key of the client certificate (PEM)", CONNECT, holds="file")] = None
    pin: Annotated[
        tuple[str, ...],
        About(
            "accept only this certificate: sha256//BASE64 of its public key, or its SHA-256 in hex; repeatable",
            CONNECT,
            metavar="SHA256",
        ),
    ] = ()
    insecure: Annotated[
        bool, About("do not check the server's certificate, and let a token travel without TLS to another host", CONNECT)
    ] = False

    connect_timeout: Annotated[Seconds, About("until name, TCP, TLS and upgrade must be done", CONNECT, unit="s")] = 5.0
    join_timeout: Annotated[Seconds, About("until a join must be answered", CONNECT, unit="s")] = 10.0
    join_rate: Annotated[
        float,
        Meta(ge=0, le=1_000_000),
        About("joins sent in a second, in bursts of 20; 0 sends all at once", (*RUN, *LISTEN), unit="joins/s", metavar="RATE"),
    ] = 1000.0
    push_timeout: Annotated[
        Seconds, About("until a push must be answered", (*RUN, *PUSH), unit="s", spellings={"push": "--timeout"})
    ] = 10.0
    heartbeat_interval: Annotated[Seconds, About("time between two heartbeats", CONNECT, unit="s")] = 15.0
    heartbeat_timeout: Annotated[Seconds, About("until a heartbeat without a sign of life counts as lost", CONNECT, unit="s")] = 5.0
    max_frame_bytes: Annotated[
        int, Meta(ge=_KIB, le=_GIB // 8), About("larger frames are dropped and counted", CONNECT, unit="bytes")
    ] = 512 * _KIB

    status_interval: Annotated[SecondsOrZero, About("time between two status lines; 0 prints none", unit="s")] = 5.0
    flight_frames: Annotated[
        int,
        Meta(ge=0, le=100_000),
        About(
            "frames that the flight recorder keeps, without their payloads; written to DIR/flight when a connection is lost; "
            "0 turns it off"
        ),
    ] = 256
    mock_rate: Annotated[
        float,
        Meta(ge=0, le=1_000_000),
        About("traffic of the bundled mock server, which runs when there is no URL", unit="events/s"),
    ] = 50.0

    json: Annotated[bool, About("print JSON", JSON)] = False

    config: Annotated[
        str | None,
        About("read this file instead of rig.toml in the current directory", EVERY, holds="file", in_file=False),
    ] = None
    env_file: Annotated[
        str | None,
        About("read environment variables from this file, for the application too", EVERY, holds="file", in_file=False),
    ] = None
    log_level: Annotated[Literal["debug", "info", "warning", "error"], About("the least severe message to log", AUTH)] = "info"
    log_format: Annotated[Literal["text", "json"], About("how log lines look", AUTH)] = "text"
    debug: Annotated[bool, About("show the traceback of an unexpected error", EVERY)] = False

    def resolve_workers(self, cores: int | None = None) -> int:
        """
        Say how many worker processes "auto" means: each io process has a core to itself.

        Args:
            cores: Cores that may be used; None asks the system.

        Raises:
            Nothing.
        """
        return max(1, (cores or usable_cores()) - self.io_processes) if self.workers == "auto" else self.workers
