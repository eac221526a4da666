"""Fields: a frame as one CBOR array, and its items taken in order, each checked.

Reading accepts definite-length arrays, unsigned integers, byte strings, text strings and null, and
nothing else.
"""

from collections.abc import Iterable
from typing import Final, NoReturn

import cbor2

from phextsync.errors import ProtocolError
from phextsync.index import Coordinate, CoordinateRange, cbor_array, cbor_size
from phextsync.phext_names import is_phext_name
from phextsync.sync.limits import Limits

KEY_BYTES: Final = 12

# CBOR tags that cbor2 would interpret by itself; a tag that is not here reaches the tag hook.
_KNOWN_TAGS: Final = (
    *range(6),
    *(25, 28, 29, 30, 35, 36, 37, 52, 54, 100, 256, 258, 260, 261, 1004, 43000, 55799),
)


def load_array(frame: bytes) -> list[object]:
    """Read one non-empty CBOR array that fills `frame`, in the subset that this wire allows."""
    array = cbor_array(frame)  # as nearly always; for all else it is known here what is wrong
    if array:
        return array
    try:
        value = cbor2.loads(
            frame,
            tag_hook=_refuse_tag,
            semantic_decoders=_SEMANTIC_DECODERS,
            max_depth=6,
            allow_indefinite=False,
            allow_duplicate_keys=False,
        )
    except (cbor2.CBORError, UnicodeDecodeError, ValueError) as error:
        raise ProtocolError(f"expected a CBOR array, found {error}"[:200]) from error
    size = cbor_size(frame)
    if size != len(frame):
        raise ProtocolError(
            f"expected {size} bytes in a frame, found {len(frame)}: something is left over"
        )
    if type(value) is not list or not value:
        raise ProtocolError(f"expected a CBOR array, found {type(value).__name__}")
    return value


def _refuse_tag(*_: object) -> NoReturn:
    raise ValueError("a CBOR tag")


_SEMANTIC_DECODERS = {tag: _refuse_tag for tag in _KNOWN_TAGS}


class Fields:
    """Takes the fields of one message in order, checking type and size of each."""

    __slots__ = ("_array", "_next", "limits")

    def __init__(self, array: list[object], limits: Limits, start: int = 1) -> None:
        self._array = array
        self._next = start
        self.limits = limits

    def _take(self, expected: str) -> object:
        if self._next >= len(self._array):
            raise ProtocolError(f"expected {expected} as field {self._next}, found the end")
        self._next += 1
        return self._array[self._next - 1]

    def end(self) -> None:
        """Check that nothing follows."""
        if self._next != len(self._array):
            raise ProtocolError(f"expected {self._next} fields, found {len(self._array)}")

    def skip_rest(self) -> None:
        """Let anything follow."""
        self._next = len(self._array)

    @property
    def left(self) -> int:
        return len(self._array) - self._next

    def integer(self, below: int = 1 << 63) -> int:
        value = self._take("an integer")
        if type(value) is not int or not 0 <= value < below:
            raise ProtocolError(f"expected an integer below {below}, found {value!r:.40}")
        return value

    def octets(self, size_max: int, size_min: int = 0) -> bytes:
        value = self._take("bytes")
        if type(value) is not bytes or not size_min <= len(value) <= size_max:
            found = f"{len(value)} bytes" if type(value) is bytes else type(value).__name__
            raise ProtocolError(f"expected {size_min} to {size_max} bytes, found {found}")
        return value

    def text(self) -> str:
        value = self._take("a text")
        if type(value) is not str:
            raise ProtocolError(f"expected a text, found {type(value).__name__}")
        size = len(value) if value.isascii() else len(value.encode())
        if size > self.limits.name_bytes_max:
            raise ProtocolError(
                f"expected a text of at most {self.limits.name_bytes_max} bytes, found {size}"
            )
        return value

    def text_or_integer(self) -> str | int:
        if self.left and type(self._array[self._next]) is int:
            return self.integer()
        return self.text()

    def phext(self) -> str:
        name = self.text()
        if not is_phext_name(name):
            raise ProtocolError(f"expected the name of a phext, found {name!r:.60}")
        return name

    def coordinate(self) -> Coordinate:
        key = self.octets(KEY_BYTES, KEY_BYTES)
        try:
            return Coordinate.from_key(key)
        except ValueError as error:
            raise ProtocolError(str(error)) from error

    def upper(self) -> Coordinate | None:
        """Return an upper bound, None where there is none."""
        key = self.octets(KEY_BYTES)
        try:
            return Coordinate.from_key(key) if key else None
        except ValueError as error:
            raise ProtocolError(str(error)) from error

    def ranges(self) -> tuple[CoordinateRange, ...]:
        return tuple(map(_range, self.arrays(self.limits.ranges_max)))

    def array(self, count_max: int) -> list[object]:
        value = self._take("an array")
        if type(value) is not list or len(value) > count_max:
            found = f"{len(value)} items" if type(value) is list else type(value).__name__
            raise ProtocolError(f"expected an array of at most {count_max} items, found {found}")
        return value

    def arrays(self, count_max: int) -> "list[Fields]":
        """Return readers of an array of arrays."""
        return [Fields(_checked_array(a), self.limits, 0) for a in self.array(count_max)]


def ranges_written(ranges: Iterable[CoordinateRange]) -> list[object]:
    """Return ranges as `Fields.ranges` reads them."""
    keys = [range_.to_keys() for range_ in ranges]
    return [[lower, upper or b""] for lower, upper in keys]


def _range(fields: Fields) -> CoordinateRange:
    lower, upper = fields.coordinate(), fields.upper()
    fields.end()
    try:
        return CoordinateRange(lower, upper)
    except ValueError as error:
        raise ProtocolError(str(error)) from error


def _checked_array(value: object) -> list[object]:
    if type(value) is not list:
        raise ProtocolError(f"expected an array, found {type(value).__name__}")
    return value
