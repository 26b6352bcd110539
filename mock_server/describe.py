"""What the control API tells of a connected client: everything it said when it connected, secrets masked."""

import re
from typing import Any
from urllib.parse import parse_qsl, urlencode

from mock_server.joins import Join
from mock_server.socket import RequestRecord, Socket

MASK = "***"

_SECRET = re.compile(r"token|secret|password|authorization|cookie|api[-_]?key|csrf", re.IGNORECASE)
_BEARER = re.compile(r"(base64url\.bearer\.phx\.)[^\s,]+")


def describe(socket: Socket) -> dict[str, Any]:
    """Describe a client."""
    connection, identity = socket.connection, socket.identity
    return {
        "client": connection.id,
        "mount": identity.mount.path,
        "transport": connection.transport,
        "socket_id": identity.socket_id,
        "params": {name: _masked(name, value) for name, value in identity.params.items()},
        "request": _describe_request(identity.request),
        "serializer": socket.serializer.version,
        "channels": [channel.topic for channel in socket.channels],
        "connected_at": connection.connected_at,
        "bytes_received": connection.bytes_received,
        "bytes_sent": connection.bytes_sent,
    }


def describe_join(join: Join) -> dict[str, Any]:
    """Describe a join; a payload that is an object has its secrets masked."""
    payload = join.payload
    if isinstance(payload, dict):
        payload = {name: _masked(name, value) for name, value in payload.items()}
    return {"at": join.at, "client": join.client, "topic": join.topic, "payload": payload}


def _describe_request(request: RequestRecord) -> dict[str, Any]:
    query = [(name, _masked(name, value)) for name, value in parse_qsl(request.query, keep_blank_values=True)]
    headers = [[name, _BEARER.sub(rf"\1{MASK}", _masked(name, value))] for name, value in request.headers]
    return {"path": request.path, "query": urlencode(query, safe="*"), "headers": headers, "peer": request.peer}


def _masked(name: str, value: Any) -> Any:
    return MASK if _SECRET.search(name) else value
