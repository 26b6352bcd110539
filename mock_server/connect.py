"""
What both transports do before there is a socket: the origin, the version, and the application's `connect/3`.

Source: Phoenix.Socket, `__connect__/3`; Plug.Conn.Query.
"""

import asyncio
import re
from urllib.parse import parse_qsl

from aiohttp import hdrs, web

from mock_server.answers import crash, refuse
from mock_server.mount import Mount
from mock_server.origin import origin_allowed
from mock_server.serializer import SERIALIZERS, Serializer
from mock_server.socket import Environment, Identity, RequestRecord

_LOOK_AGAIN = 0.02
"""Seconds after which a connection that hangs looks whether it still has to."""
_VERSIONS = re.compile(r"([12])\.0\.(0|[1-9]\d*)(\+.*)?")


def check_request(request: web.Request, mount: Mount, environment: Environment) -> None:
    """
    Refuse what never reaches the socket: all, if a fault says so, and foreign origins.

    Raises:
        Refused: With the fault's status, or 403.
    """
    if environment.faults.refuse_connections is not None:
        refuse(environment.faults.refuse_connections)
    if not origin_allowed(request.headers.get(hdrs.ORIGIN), mount.origins):
        refuse(403)


async def hang(request: web.Request, environment: Environment) -> None:
    """Wait as long as a fault says, or the client: aiohttp does not tell a handler that it has gone."""
    faults, upgrade = environment.faults, "websocket" in request.headers.get(hdrs.UPGRADE, "").lower()
    while (faults.hang_connections or (upgrade and faults.hang_websockets)) and request.transport is not None:  # noqa: ASYNC110
        await asyncio.sleep(_LOOK_AGAIN)


def connect(request: web.Request, mount: Mount, environment: Environment, *, auth_token: str | None) -> tuple[Serializer, Identity]:
    """
    Accept or refuse a client as the application does.

    Args:
        request: The upgrade, or the first poll.
        mount: The socket.
        environment: What the server's sockets share.
        auth_token: The client's token, where it is not among the parameters.

    Raises:
        Refused: With 403 or the mount's own error where the client is refused, 500 where `connect/3` raises.
    """
    params = {**dict(parse_qsl(request.rel_url.raw_query_string, keep_blank_values=True)), **request.match_info}
    if "vsn[]" in params and environment.behaviour.list_vsn_status == 500:
        crash()
    serializer = _choose_serializer(params)
    _accept(params, mount, environment, auth_token)
    socket_id = f"user:{params['user']}" if "user" in params else None
    headers = tuple((str(name), value) for name, value in request.headers.items())
    record = RequestRecord(request.path, request.rel_url.raw_query_string, headers, request.remote)
    return serializer, Identity(mount, params, auth_token, socket_id, record)


def _choose_serializer(params: dict[str, str]) -> Serializer:
    """Return the serializer that `vsn` asks for; without one it is 1.0.0."""
    match = _VERSIONS.fullmatch("" if "vsn[]" in params else params.get("vsn", "1.0.0"))
    if match is None:
        refuse(403)
    return SERIALIZERS[match[1]]


def _accept(params: dict[str, str], mount: Mount, environment: Environment, auth_token: str | None) -> None:
    """Do what the application's `connect/3` does: refuse by `token`, and tokens that have expired."""
    refusal = (429, b'{"reason":"slow down"}') if mount.custom_errors else (403, b"")
    token = params.get("token")
    match token:
        case "bad":
            refuse(403)
        case "reason":
            refuse(*refusal)
        case "raise":
            crash()
    tokens = environment.tokens
    for shown in (auth_token, token):
        if shown is not None and not tokens.is_session(shown) and not tokens.show(shown):
            refuse(*refusal)
