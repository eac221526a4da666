"""Messages of JSON-RPC behind headers with their length, as editors send and read them. Sans-IO."""

import json
from collections.abc import Iterator
from typing import Final

from phextsync.errors import ProtocolError
from phextsync.gateways.editor_positions import Json

HEADER_BYTES_MAX: Final = 4 << 10
"""Bytes of the headers of one message."""
BODY_BYTES_MAX: Final = 64 << 20
"""Bytes of one message: a file of the largest size as JSON, whose characters may take six each."""

_END: Final = b"\r\n\r\n"
_LENGTH: Final = b"content-length"


class Messages:
    """Finds messages in what comes. ProtocolError when the next one cannot be found."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._length: int | None = None

    def feed(self, data: bytes | bytearray) -> Iterator[bytes]:
        """Take what came, and give the messages that are whole by now."""
        self._data += data
        while True:
            if self._length is None:
                end = self._data.find(_END, 0, HEADER_BYTES_MAX)
                if end < 0:
                    break
                self._length = _length_of(bytes(self._data[:end]))
                del self._data[: end + len(_END)]
            if len(self._data) < self._length:
                return
            message = bytes(self._data[: self._length])
            del self._data[: self._length]
            self._length = None
            yield message
        if len(self._data) >= HEADER_BYTES_MAX:
            raise ProtocolError(f"expected headers of at most {HEADER_BYTES_MAX} bytes, found more")

    @property
    def is_between(self) -> bool:
        """Whether all that came were whole messages."""
        return self._length is None and not self._data


def _length_of(headers: bytes) -> int:
    for line in headers.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.strip().lower() == _LENGTH:
            digits = value.strip()
            if not digits.isdigit() or len(digits) > len(str(BODY_BYTES_MAX)):
                break
            if int(digits) > BODY_BYTES_MAX:
                break
            return int(digits)
    raise ProtocolError(
        f"expected Content-Length with at most {BODY_BYTES_MAX}, found {headers!r:.80}"
    )


def framed(value: Json) -> bytes:
    """Return a message with its headers."""
    body = json.dumps(value, separators=(",", ":")).encode()  # ASCII: it takes half a character too
    return b"Content-Length: %d\r\n\r\n" % len(body) + body
