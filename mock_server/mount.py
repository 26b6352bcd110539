"""The sockets of the application: one `Mount` for each `socket "/path", …` line of a Phoenix endpoint."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mount:
    """
    The options of one socket.

    Args:
        path: Where; may have several segments, and variables such as `{user}`, which join the parameters.
        idle_timeout: Seconds of silence that close a WebSocket.
        max_frame_bytes: The longest frame; None for the version's default.
        compression: permessage-deflate is accepted if offered.
        window: Seconds that a long-poll request waits.
        auth_token: The client's token in `Sec-WebSocket-Protocol` or `x-phoenix-authtoken` is looked at.
        subprotocols: A client that offers subprotocols has to offer one of these.
        origins: Allowed origins such as `//host`, `http://host:8080` or `//*.host`; empty for all.
        custom_errors: A refusal is HTTP 429 with a body.
        max_channels: Topics one connection may join; None for the version's default.
        websocket_path: What follows `path` for WebSockets.
        longpoll_path: What follows `path` for long-poll.
    """

    path: str
    idle_timeout: float = 60.0
    max_frame_bytes: int | None = None
    compression: bool = False
    window: float = 10.0
    auth_token: bool = False
    subprotocols: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    custom_errors: bool = False
    max_channels: int | None = None
    websocket_path: str = "/websocket"
    longpoll_path: str = "/longpoll"


RECORDED_MOUNTS = (
    Mount("/socket", max_frame_bytes=8_000_000, window=2.0, auth_token=True),
    Mount("/default"),
    Mount("/short", idle_timeout=3.0),
    Mount("/limit", max_frame_bytes=65_536, compression=True),
    Mount("/origin", origins=("//good.example", "http://port.example:8080", "//*.wild.example")),
    Mount("/err", custom_errors=True),
)

FURTHER_MOUNTS = (
    Mount("/ws/admin"),
    Mount("/custom/{user}", websocket_path="/live", longpoll_path="/poll"),
    Mount("/subprotocols", subprotocols=("sip", "mqtt")),
    Mount("/few", max_channels=2),
)

MOUNTS = RECORDED_MOUNTS + FURTHER_MOUNTS
