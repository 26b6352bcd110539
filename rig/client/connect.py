"""How a client comes about."""

import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

from rig.client.client import Client
from rig.client.pool import Pool
from rig.config import Settings
from rig.errors import ConfigError
from rig.phoenix import Socket
from rig.phoenix.serializer import SERIALIZERS
from rig.transport import Endpoint, Transport, TransportOwner, dial

_DEFAULTS = Settings()
MAX_QUEUED = 10_000
"""Events that wait for an iteration before reading pauses."""


@asynccontextmanager
async def connect(
    url: str,
    *,
    params: Mapping[str, str] | Callable[[], Mapping[str, str]] | None = None,
    headers: Sequence[tuple[str, str]] = (),
    vsn: str = _DEFAULTS.vsn,
    auth_token: str | None = None,
    ca: str | None = None,
    cert: str | None = None,
    key: str | None = None,
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
        url: `ws://` or `wss://…/socket`, with or without `/websocket`; `http://` and `https://` are accepted.
        params: Connect params; a callable is asked for each connection.
        headers: HTTP headers of the upgrade.
        vsn: Serializer version, "2.0.0" or "1.0.0".
        auth_token: Sent as Phoenix's `authToken`, in the `Sec-WebSocket-Protocol` header.
        ca: File with the authority that signed the server's certificate (PEM).
        cert: Client certificate (PEM).
        key: Its private key (PEM).
        insecure: True does not check the server's certificate.
        connect_timeout: Seconds for name, TCP, TLS and upgrade together.
        join_timeout: Seconds that a join may take.
        push_timeout: Seconds that a push may take, if it does not say.
        heartbeat_interval: Seconds between heartbeats.
        heartbeat_timeout: Seconds in which a heartbeat's reply, or anything else, must come.
        max_frame_bytes: Larger frames are dropped.
        max_queued: Events that may wait for an iteration before reading pauses.
        pool: Connections over which the topics are spread; see `Pool`.

    Raises:
        ConfigError: If the URL, a file or `vsn` cannot be used, or `pool` is less than 1.
        ConnectError: If the first connection, or any of the pool's, does not come about; later ones are tried for ever.
    """
    if vsn not in SERIALIZERS:
        raise ConfigError(f"vsn {vsn!r} is unknown: Phoenix speaks {' and '.join(SERIALIZERS)}")
    if pool < 1:
        raise ConfigError(f"pool={pool} is no number of connections: use 1 or more")
    endpoint = Endpoint(
        url=url,
        params={} if callable(params) else dict(params or {}),
        headers=tuple(headers),
        vsn=vsn,
        ca_file=ca,
        cert_file=cert,
        key_file=key,
        insecure=insecure,
        auth_token=auth_token,
    )

    async def dialler(owner: TransportOwner) -> Transport:
        target = replace(endpoint, params=params()) if callable(params) else endpoint
        return await dial(target, owner, connect_timeout=connect_timeout, max_frame_bytes=max_frame_bytes)

    def one() -> Client:
        socket = Socket(
            random=random.random,
            vsn=vsn,
            heartbeat_interval=heartbeat_interval,
            heartbeat_timeout=heartbeat_timeout,
            join_timeout=join_timeout,
        )
        return Client(
            endpoint, socket, push_timeout=push_timeout, join_timeout=join_timeout, max_queued=max_queued, dialler=dialler
        )

    client = one() if pool == 1 else Pool([one() for _ in range(pool)])
    client._start()
    try:
        await client._opened
        yield client
    finally:
        await client._close()
