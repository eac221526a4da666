"""Limits: what clients of the web server can make a node hold, and for how long."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WebLimits:
    """Every size and time that a client could otherwise choose."""

    connections_max: int = 1024
    """For one more that which has waited for longest for its client is closed; it is answered 503
    where none waits."""
    head_bytes_max: int = 32 << 10
    head_s: float = 30.0
    """From the first byte that is awaited to the end of a header; also how long a connection is
    kept for the next request."""
    handshake_s: float = 5.0
    """For TLS."""
    body_bytes_max: int = 16 << 20
    body_s: float = 60.0
    message_bytes_max: int = 16 << 20
    """A message over a web socket: the first one of a client may be its whole scroll."""
    under_way_bytes_max: int = 64 << 20
    """All bodies and messages that are under way, beside the largest of them."""
    small_bytes: int = 16 << 10
    """A body, a message or an answer for which there is always room."""
    answers_bytes_max: int = 256 << 20
    """All answers and messages that clients have not taken yet, beside the largest of them."""
    send_s: float = 15.0
    """For a client to take what is sent at once."""
    ping_s: float = 5.0
    """A web socket on which nothing came for so long is asked whether it lives."""
    silent_s: float = 15.0
    """A web socket on which nothing came for so long has ended."""
    streams_max: int = 64
    """Streams of changes."""
    scrolls_max: int = 256
    """Scrolls that a client has open over one web socket."""
    token_s: float = 10.0
    """For a client that came without a token to show one in its first message."""
