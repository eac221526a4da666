"""Exchange: an HTTP request and its answer, as values."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote_plus, unquote_to_bytes

ALLOW: Final = ("Access-Control-Allow-Origin", "*")


@dataclass(frozen=True, slots=True)
class Request:
    """An HTTP request. `query` is what follows the first `?`, as it came; `body` is whole.
    `headers` are names in lower case and values, in the order in which they came."""

    method: str
    path: str
    query: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | bytearray = b""
    is_longer: bool = False
    """Whether more came than was announced, so that `body` is not all that was meant."""

    @property
    def parameters(self) -> dict[str, str]:
        """Names and values of the query, decoded; of equal names the last one counts."""
        return {unquote_plus(name): unquote_plus(value) for name, value in self._pairs()}

    def strictly(self, wanted: str) -> str | None:
        """Return the value of a parameter, None when it is not there. UnicodeDecodeError when it
        is not UTF-8."""
        value = self.raw(wanted)
        return None if value is None else value.decode()

    def raw(self, wanted: str) -> bytes | None:
        """Return the value of a parameter as its bytes, None when it is not there."""
        found = [value for name, value in self._pairs() if unquote_plus(name) == wanted]
        return unquote_to_bytes(found[-1].replace("+", " ")) if found else None

    def _pairs(self) -> Iterator[list[str]]:
        return (piece.split("=", 1) for piece in self.query.split("&") if "=" in piece)


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP response. What `has_changed` something is to be sent when it is on disk; a `warning`
    is for the operator."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = (ALLOW,)
    has_changed: bool = False
    warning: str = ""
