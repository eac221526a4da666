"""Sending, reading and acknowledging, step by step: see `plans`."""

from dataclasses import dataclass
from typing import Final

from phextsync.agents.mail_layout import (
    DIRECTORY,
    Book,
    Box,
    Cover,
    Message,
    books_of,
    checked_name,
    is_to_several,
    message_at,
    new_series,
    range_of,
    read_boxes,
    read_cover,
    read_message,
    series_of,
)
from phextsync.agents.mail_state import EXPIRED_KEPT_MS, BoxState, Inbox
from phextsync.agents.plans import Plan, asks, scrolls_of, splice_if_unchanged, text_of
from phextsync.control import operations
from phextsync.control.frames import Value
from phextsync.control.operations import digest
from phextsync.errors import ConflictError, PhextsyncError
from phextsync.index import Coordinate
from phextsync.texts import check_text

DAY_S: Final = 86_400
BROADCAST_S: Final = 30 * DAY_S
"""A message to several expires after so long, unless it is said otherwise: nobody knows when all
have read it."""
EXPIRES_MAX_S: Final = 36_500 * DAY_S

_OVER_AT_ONCE: Final = 8  # messages of before that one sending looks at


@dataclass(frozen=True, slots=True)
class Sender:
    """Who sends: the node, in hexadecimal, and the box that answers go to."""

    node_id: str
    name: str


def who(name: str) -> Plan[Sender]:
    """Return who is asked, by the name of its node unless it is given one."""
    status = yield from asks(operations.STATUS)
    return Sender(status.node_id, checked_name(name, "box", status.name))


def boxes(phext: str) -> Plan[dict[str, Box]]:
    """Return the boxes by name."""
    return read_boxes((yield from text_of(phext, DIRECTORY)))


def make_box(phext: str, name: str, roles: tuple[str, ...]) -> Plan[Box]:
    """Make a box, or give one more roles; return it."""
    checked_name(name, "box")
    for role in roles:
        checked_name(role, "role")
    while True:
        text = yield from text_of(phext, DIRECTORY)
        known = read_boxes(text)
        if name in known and {*known[name].roles} >= {*roles}:
            return known[name]
        taken = {box.series for box in known.values()}
        series = known[name].series if name in known else new_series(name, taken)
        line = Box(name, series, tuple(sorted({*roles}))).to_line()
        end = "\n" if text and not text.endswith("\n") else ""
        yield from splice_if_unchanged(
            phext, DIRECTORY, text, [(len(text), len(text), f"{end}{line}\n")]
        )


def send(
    phext: str, sender: Sender, to: str, text: str, expires_after_s: float | None, now_ms: int
) -> Plan[Message]:
    """Send a message, and return it as it stands in the receiver's box, on this node's disk."""
    check_text(text)
    if not text.strip():
        raise PhextsyncError("expected a text to send, found none")
    if not isinstance(to, str):
        raise TypeError(f"expected the name of a box, found {type(to).__name__}")
    series = series_of(to, (yield from boxes(phext)))
    if expires_after_s is None and is_to_several(to):
        expires_after_s = BROADCAST_S
    if expires_after_s is not None and not 0 < expires_after_s <= EXPIRES_MAX_S:
        raise PhextsyncError(
            "expected to expire after 1 second to 100 years, found "
            f"{min(expires_after_s, 1e99):g} s"
        )
    expires_ms = None if expires_after_s is None else now_ms + round(1000 * expires_after_s)
    while True:
        book, before = yield from _book(phext, series, sender.node_id)
        cover = read_cover(before) or Cover(sender.node_id)
        at = message_at(book, cover.last + 1)
        message = Message(at, sender.name, to, now_ms, expires_ms, text)
        over, gone = yield from _over(phext, book, cover, now_ms)
        after = Cover(sender.node_id, cover.last + 1, over)
        rows: list[Value] = [
            ["splice", str(message_at(book, 0)), 0, len(before), after.to_text(), digest(before)],
            ["set", str(at), message.to_text()],
        ]
        rows += [["remove", str(each)] for each in gone]
        try:
            # Told late: what peers have heard of cannot be forgotten here, and its number not be
            # given twice.
            yield from asks(operations.BATCH, phext, rows, True)
        except ConflictError:
            continue  # another process of this node was faster
        return message


def _book(phext: str, series: tuple[int, int, int], node_id: str) -> Plan[tuple[Book, str]]:
    """Return the book of a node in a series, and the text of its cover."""
    for book in books_of(series, node_id):
        text = yield from text_of(phext, message_at(book, 0))
        cover = read_cover(text)
        if cover is None or cover.node_id == node_id:
            return book, text
    raise PhextsyncError(f"expected room for a sender in {range_of(series)}, found none")


def _over(phext: str, book: Book, cover: Cover, now_ms: int) -> Plan[tuple[int, list[Coordinate]]]:
    """Return below which number all messages of a book are over, looking at a few more, and which
    of these have to be emptied: those that expired."""
    gone: list[Coordinate] = []
    over = cover.over
    while over <= cover.last and over < cover.over + _OVER_AT_ONCE:
        at = message_at(book, over)
        text = yield from text_of(phext, at)
        if text and not read_message(at, text).is_expired(now_ms - EXPIRED_KEPT_MS):
            break
        over += 1
        if text:
            gone.append(at)
    return over, gone


def state(phext: str, name: str) -> Plan[BoxState]:
    """Return a box as it is. PhextsyncError when there is none of that name."""
    known = yield from boxes(phext)
    if name not in known:
        raise PhextsyncError(
            f"there is no box {name!r:.80}; there are {', '.join(known) or 'none'}; "
            "`phextsync box NAME` makes one"
        )
    texts: dict[Coordinate, str] = {}
    for address in known[name].addresses:
        texts |= yield from scrolls_of(phext, range_of(series_of(address, known)))
    return BoxState(known[name], texts)


def inbox(phext: str, name: str, now_ms: int) -> Plan[Inbox]:
    """Return what is not acknowledged in a box."""
    return (yield from state(phext, name)).inbox(now_ms)


def read(phext: str, at: Coordinate) -> Plan[Message]:
    """Return the message at a coordinate. PhextsyncError when there is none."""
    text = yield from text_of(phext, at)
    if not text or at.collection == 1:
        raise PhextsyncError(
            f"there is no message at {at} in {phext}: it was acknowledged, has expired, or is not"
            " here yet"
        )
    return read_message(at, text)


def ack(phext: str, name: str, places: list[Coordinate], now_ms: int) -> Plan[list[Coordinate]]:
    """Acknowledge messages for a box; return those that nobody had acknowledged."""
    while True:
        box = yield from state(phext, name)
        for at in places:
            if not box.is_known(at):
                raise PhextsyncError(f"there is no message at {at} to the box {name}")
        new = [at for at in dict.fromkeys(places) if not box.is_acknowledged(at)]
        over = [at for at in box.long_expired(now_ms) if not box.is_acknowledged(at)]
        if not new and not over:
            return []
        parts, added = box.receipts_with([*dict.fromkeys([*new, *over])])
        end = len(box.receipts_text)
        changes = [(end, end, added), *((start, stop, "") for start, stop in parts)]
        gone = [at for at in [*new, *over] if box.is_own(at)]
        if (
            yield from splice_if_unchanged(phext, box.receipts_at, box.receipts_text, changes, gone)
        ):
            return new
