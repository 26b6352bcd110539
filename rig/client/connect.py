"""How a client comes about."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

from rig.auth import GetToken, TokenSource, provider
from rig.client.client import Client
from rig.client.pool import Pool
from rig.config import Settings, TransportMode, Vsn, check
from rig.connection import make_socket
from rig.dialling import Dialler
from rig.errors import ConfigError

_DEFAULTS = Settings()
MAX_QUEUED = 10_000
"""Events that wait for an iteration before reading pauses."""


@asynccontextmanager
async def connect(
    url: str | Sequence[str],
    *,
    params: Mapping[str, str] | Callable[[], Mapping[str, str]] | None = None,
    headers: Sequence[tuple[str, str]] = (),
    vsn: Vsn = _DEFAULTS.vsn,
    auth: str | GetToken = _DEFAULTS.auth,
    auth_mode: str = _DEFAULTS.auth_mode,
    transport: TransportMode = _DEFAULTS.transport,
    proxy: str | None = None,
    ca: str | None = None,
    cert: str | None = None,
    key: str | None = None,
    pin: Sequence[str] = (),
    insecure: bool = _DEFAULTS.insecure,
    connect_timeout: float = _DEFAULTS.connect_timeout,
    join_timeout: float = _DEFAULTS.join_timeout,
    push_timeout: float = _DEFAULTS.push_timeout,
    heartbeat_interval: float = _DEFAULTS.heartbeat_interval,
    heartbeat_timeout: float = _DEFAULTS.heartbeat_timeout,
    max_frame_bytes: int = _DEFAULTS.max_frame_bytes,
    max_queued: int = MAX_QUEUED,
    pool: int = 1,
) -> AsyncIterator[Client | Pool]:
    """
    Connect to a Phoenix socket.

    Args:
        url: `ws://` or `wss://…/socket`, with or without `/websocket`; `http://` and `https://` are accepted. Of several the first
            is preferred, and the others are for when it is not well.
        params: Connect params; a callable is asked for each connection.
        headers: HTTP headers of the upgrade.
        vsn: Serializer version, "2.0.0" or "1.0.0".
        auth: Where the token comes from: a function, plain or async, that returns it, or "env:VAR", "file:PATH", "command:CMD",
            "keyring:NAME". It is asked before each connection, and before the token expires.
        auth_mode: How the token travels: "subprotocol" (as phoenix.js sends `authToken`), "param:NAME", "header",
            "header:NAME", or "join:NAME" for the payload of every join.
        transport: "websocket", "longpoll", or "auto" for long-poll where a WebSocket does not get through.
        proxy: URL of an HTTP or SOCKS proxy, or "env" for what HTTPS_PROXY, ALL_PROXY and NO_PROXY say.
        ca: File with the authority that signed the server's certificate (PEM).
        cert: Client certificate (PEM).
        key: Its private key (PEM).
        pin: Accept only these certificates: "sha256//BASE64" of the public key, or the certificate's SHA-256 in hex.
        insecure: True does not check the server's certificate, and sends a token without TLS to another host.
        connect_timeout: Seconds for name, TCP, TLS and upgrade together.
        join_timeout: Seconds that a join may take.
        push_timeout: Seconds that a push may take, if it does not say.
        heartbeat_interval: Seconds between heartbeats.
        heartbeat_timeout: Seconds in which a heartbeat's reply, or anything else, must come.
        max_frame_bytes: Larger frames are dropped.
        max_queued: Events that may wait for an iteration before reading pauses.
        pool: Connections over which the topics are spread; see `Pool`.

    Raises:
        ConfigError: If a setting cannot be used.
        ConnectError: If the first connection, or any of the pool's, does not come about; later ones are tried for ever.
    """
    settings = check(
        Settings(
            url=(url,) if isinstance(url, str) else tuple(url),
            param={} if callable(params) else dict(params or {}),
            header=tuple(headers),
            vsn=vsn,
            auth=auth if isinstance(auth, str) else _DEFAULTS.auth,
            auth_mode=auth_mode,
            transport=transport,
            proxy=proxy,
            ca=ca,
            cert=cert,
            key=key,
            pin=tuple(pin),
            insecure=insecure,
            connect_timeout=connect_timeout,
            join_timeout=join_timeout,
            push_timeout=push_timeout,
            heartbeat_interval=heartbeat_interval,
            heartbeat_timeout=heartbeat_timeout,
            max_frame_bytes=max_frame_bytes,
        )
    )
    ask = params if callable(params) else None
    async with connect_with(settings, auth=auth, params=ask, max_queued=max_queued, pool=pool) as client:
        yield client


@asynccontextmanager
async def connect_with(
    settings: Settings,
    *,
    auth: str | GetToken | None = None,
    params: Callable[[], Mapping[str, str]] | None = None,
    max_queued: int = MAX_QUEUED,
    pool: int = 1,
) -> AsyncIterator[Client | Pool]:
    """
    Connect to the Phoenix socket that the settings describe.

    Args:
        settings: With a URL at least.
        auth: Instead of what the settings say; see `connect`.
        params: Asked for the connect params of each connection, instead of those in the settings.
        max_queued: As in `connect`.
        pool: As in `connect`.

    Raises:
        ConfigError: If a setting cannot be used, or `pool` is less than 1.
        ConnectError: If the first connection, or any of the pool's, does not come about.
    """
    if pool < 1:
        raise ConfigError(f"pool={pool} is no number of connections: use 1 or more")
    tokens = TokenSource(provider(auth or settings.auth, timeout=settings.auth_timeout))
    clients = [_client(settings, Dialler.of(settings, tokens=tokens, params=params), max_queued) for _ in range(pool)]
    client = clients[0] if pool == 1 else Pool(clients)
    client._start()
    try:
        await client._opened
        yield client
    finally:
        try:
            await client._close()
        finally:
            await tokens.close()


def _client(settings: Settings, dialler: Dialler, max_queued: int) -> Client:
    socket = make_socket(settings)
    return Client(socket, dialler, push_timeout=settings.push_timeout, join_timeout=settings.join_timeout, max_queued=max_queued)
