"""Requests and answers as bytes: CBOR arrays, one a frame.

* `[number, received, operation, argument, ...]`: numbers ascend, but for `attach` and `cancel`,
  which have 0; all answers up to `received` have come;
* `[number, "ok", value]` or `[number, "error", kind, message, line, ...]`, in any order; the lines
  are what `NotSyncedError` says of single peers;
* `[0, "ok", "sent away"]`, the last: others need the room, and no request without an answer was
  taken up. The process comes back when it has one.
"""

from typing import Final, TypeAlias

from phextsync import errors
from phextsync.errors import NotSyncedError, PhextsyncError, ProtocolError, TextError
from phextsync.index import cbor_bytes
from phextsync.sync.fields import load_array
from phextsync.texts import sendable

LOCAL_FRAME_BYTES_MAX: Final = 128 << 20
"""One answer may hold one whole scroll; only processes of the folder's owner get here."""

SENT_AWAY: Final = (0, "sent away")
"""What `decode_answer` makes of the last frame to a process that has to give way to others."""

_DEPTH_MAX: Final = 5  # of arrays, as in a batch of imports
_HEAD_BYTES: Final = 9
_REQUEST_BYTES_MAX: Final = LOCAL_FRAME_BYTES_MAX - 64  # the rest is for its numbers

Value: TypeAlias = "bool | int | float | str | bytes | list[Value] | None"
Answer: TypeAlias = "Value | Exception"


def encode_request(number: int, received: int, request: list[Value]) -> bytes:
    """Return the frame of a request. See `check_request`."""
    return cbor_bytes([number, received, *request])


def decode_request(frame: bytes) -> tuple[int, int, list[Value]]:
    """Return number, received and the operation with its arguments. ProtocolError for all else."""
    match plain(load_array(frame)):
        case [int(number), int(received), *request] if request:
            return number, received, request
        case other:
            raise ProtocolError(f"expected a request, found {other!r:.80}")


def encode_answer(number: int, value: Value) -> bytes:
    """Return the frame that answers a request."""
    return cbor_bytes([number, "ok", value])


def encode_error(number: int, error: Exception) -> bytes:
    """Return the frame that says that a request failed."""
    message = str(error.args[0]) if isinstance(error, KeyError) else str(error)
    lacks = error.lacks if isinstance(error, NotSyncedError) else ()
    return cbor_bytes([number, "error", type(error).__name__, sendable(message), *lacks])


def decode_answer(frame: bytes) -> tuple[int, Answer]:
    """Return the number of the request, and its answer or its error."""
    match plain(load_array(frame)):
        case [int(number), "ok", answer]:
            return number, answer
        case [int(number), "error", "NotSyncedError", str(message), *lacks]:
            return number, NotSyncedError(message, tuple(map(str, lacks)))
        case [int(number), "error", str(kind), str(message)]:
            return number, _ERRORS.get(kind, PhextsyncError)(message)
        case other:
            raise ProtocolError(f"expected an answer, found {other!r:.80}")


_ERRORS: Final[dict[str, type[Exception]]] = {
    "IndexError": IndexError,
    "KeyError": KeyError,
    **{
        name: kind
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, PhextsyncError)
    },
}


def plain(array: list[object]) -> list[Value]:
    """Check that an array holds nothing but what a request or an answer may hold."""
    values: list[Value] = []
    for item in array:
        if isinstance(item, list):
            values.append(plain(item))
        elif item is None or isinstance(item, bool | int | float | str | bytes):
            values.append(item)
        else:
            raise ProtocolError(f"expected a plain value, found {type(item).__name__}")
    return values


def check_request(request: list[Value]) -> None:
    """PhextsyncError for what cannot be sent, or not be read at the other end: where the caller
    is, since what fails on the way there or back is of no one request."""
    size = _size(request, _DEPTH_MAX)
    if size > _REQUEST_BYTES_MAX:
        raise PhextsyncError(
            f"expected a request of at most {_REQUEST_BYTES_MAX} bytes, found {size}"
        )


def _size(value: Value, depth: int) -> int:
    """Return at most how many bytes a value takes that may be sent."""
    match value:
        case str():
            try:
                return _HEAD_BYTES + len(value if value.isascii() else value.encode())
            except UnicodeEncodeError as error:
                found = f"a lone surrogate (U+{ord(value[error.start]):04X})"
                raise TextError(
                    f"expected text in UTF-8, found {found} at offset {error.start}"
                ) from error
        case bytes():
            return _HEAD_BYTES + len(value)
        case None | float():
            return _HEAD_BYTES
        case int() if -(1 << 64) <= value < 1 << 64:
            return _HEAD_BYTES
        case list() if depth > 0:
            size = _HEAD_BYTES
            for item in value:
                if isinstance(item, str) and item.isascii():  # as nearly always
                    size += _HEAD_BYTES + len(item)
                else:
                    size += _size(item, depth - 1)
            return size
        case _:
            found = str(value) if isinstance(value, int) else type(value).__name__
            raise PhextsyncError(f"expected texts, bytes and numbers of 64 bits, found {found:.40}")
