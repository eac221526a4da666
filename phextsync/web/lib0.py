"""Messages of Yjs' protocols as bytes: integers, and bytes and texts behind their lengths."""

from typing import Final

from phextsync.errors import ProtocolError
from phextsync.varints import varints

_SAFE_MAX: Final = 1 << 53  # the first integer that JavaScript does not tell from the next


class Reader:
    """Reads a message from its beginning. ProtocolError when it is not what is expected."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def integer(self) -> int:
        """Read an unsigned integer below 2^53."""
        value = shift = 0
        while self._at < len(self._data) and shift < 56:
            byte = self._data[self._at]
            self._at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                if value >= _SAFE_MAX:
                    break
                return value
        raise ProtocolError("expected an integer below 2**53, found other bytes or the end")

    @property
    def is_at_end(self) -> bool:
        """Whether all was read."""
        return self._at >= len(self._data)

    def bytes(self) -> bytes:
        """Read bytes behind their length."""
        end = self.integer() + self._at
        if end > len(self._data):
            found = len(self._data) - self._at
            raise ProtocolError(f"expected {end - self._at} bytes, found {found}")
        piece, self._at = self._data[self._at : end], end
        return piece

    def text(self) -> str:
        """Read a text behind the length of its UTF-8."""
        try:
            return self.bytes().decode()
        except UnicodeDecodeError as error:
            raise ProtocolError("expected a text in UTF-8, found other bytes") from error


def sized(data: bytes) -> bytes:
    """Return bytes behind their length."""
    return varints(len(data)) + data


def sized_text(text: str) -> bytes:
    """Return a text behind the length of its UTF-8."""
    return sized(text.encode())
