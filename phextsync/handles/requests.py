"""What handles of every kind put into requests, and read out of answers in the same way."""

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Final

from phextsync.control import answers
from phextsync.control.answers import fact_rows
from phextsync.control.frames import Value
from phextsync.control.operations import OPERATIONS, Operation, digest
from phextsync.errors import NotSyncedError, PhextsyncError, ProtocolError
from phextsync.files.finding import current_folder, whole_path
from phextsync.replica.views import Key, Range, as_coordinate, as_range

_IMPORTED_AT_ONCE: Final = 1000
_GRACE_S: Final = 5.0


def about_file(name: str) -> tuple[str, str]:
    """Return what a request says of a file that is named as seen from the current folder."""
    return name, whole_path(name, current_folder())


def at(key: Key) -> str:
    """Return a coordinate as requests have it. TypeError when it is neither one nor a text."""
    return key if isinstance(key, str) else str(as_coordinate(key))


def text_of(range_: Range) -> str:
    """Return a range as requests have it. TypeError when it is neither one nor a text."""
    return range_ if isinstance(range_, str) else f"{as_range(range_)}"


def with_grace(wait_s: float | None) -> float | None:
    """Return how long to wait for the node to say that a time is over."""
    return None if wait_s is None else wait_s + _GRACE_S


def as_not_synced(error: TimeoutError) -> NotSyncedError:
    """Return what to raise when the node said that time is over, or said nothing."""
    if isinstance(error, NotSyncedError):
        return error
    reason = "this node has not answered in time"
    return NotSyncedError(f"expected peers to have it on their disks: {reason}", (reason,))


def closed_history(coordinate: str) -> PhextsyncError:
    return PhextsyncError(f"{coordinate}: expected an open history, found a closed one")


def seen_as(text: str | None) -> bytes:
    """Return what stands for the text that a change is based on. TypeError when it is no text."""
    if not isinstance(text, str | None):
        raise TypeError(f"expected the text that was seen, found {type(text).__name__}")
    return b"" if text is None else digest(text)


def told_as(facts: Mapping[str, str | int]) -> list[Value]:
    """Return facts as requests have them. TypeError when they are none."""
    if not isinstance(facts, Mapping):
        raise TypeError(f"expected facts by their names, found {type(facts).__name__}")
    return fact_rows(facts.items())


def import_rows(source: Iterator[tuple[Key, str]]) -> list[Value]:
    """Take the next scrolls of many for a request."""
    return [[at(key), text] for key, text in islice(source, _IMPORTED_AT_ONCE)]


def kept_where(kept_ms: int | None, phext: str | None, range_: Range) -> list[Value]:
    """Return where history is to be kept so long, as requests have it: nothing for everywhere."""
    where: list[Value] = [] if phext is None else [phext, text_of(range_), False]
    if not where and (kept_ms is None or not as_range(range_).is_everything):
        raise PhextsyncError("expected a time for the whole folder, or a phext and a range")
    return where


def named(request: tuple[Value, ...]) -> Operation[Value]:
    """Return the operation that a request names, its answer as it is sent. ProtocolError when there
    is none."""
    match request:
        case [str(name), *_] if name in OPERATIONS:
            return OPERATIONS[name].read_as(answers.ANY)
    raise ProtocolError(f"expected an operation, found {request!r:.80}")
