"""Which messages of a box wait for whoever reads it: pure functions of its scrolls and a clock."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from phextsync.agents.mail_layout import (
    Book,
    Box,
    Cover,
    Message,
    Receipts,
    is_implied,
    is_to_several,
    message_at,
    place_of,
    read_cover,
    read_message,
    read_receipts,
    receipt_line,
    receipts_at,
)
from phextsync.index import Coordinate

EXPIRED_KEPT_MS: Final = 86_400_000
"""An expired message is emptied so long after it expired, as clocks differ."""

Texts = Mapping[Coordinate, str]


@dataclass(frozen=True, slots=True)
class Inbox:
    """What is not acknowledged: `messages` in the order of their sending, each sender's own order
    first; `waiting` are those that came before one that their sender sent earlier."""

    messages: tuple[Message, ...]
    waiting: tuple[Message, ...] = ()


class BoxState:
    """A box as its scrolls say, with those of all addresses whose messages it gets."""

    def __init__(self, box: Box, texts: Texts) -> None:
        self.box = box
        self.receipts_at = receipts_at(box.series)
        self.receipts_text = texts.get(self.receipts_at, "")
        self.receipts: Receipts = read_receipts(self.receipts_text)
        self._covers: dict[Book, Cover] = {}
        self._messages: dict[Book, dict[int, Message]] = {}
        for at, text in texts.items():
            if at.collection != 1:
                self._take(at, text)

    def _take(self, at: Coordinate, text: str) -> None:
        book, number = place_of(at)
        if number:
            self._messages.setdefault(book, {})[number] = read_message(at, text)
        elif (cover := read_cover(text)) is not None:
            self._covers[book] = cover

    def inbox(self, now_ms: int) -> Inbox:
        """Return what is not acknowledged and has not expired."""
        here: list[tuple[int, Book, int, Message]] = []
        waiting: list[Message] = []
        for book, messages in self._messages.items():
            ready = self._ready(book)
            time_ms = 0
            for number, message in sorted(messages.items()):
                time_ms = max(time_ms, message.sent_ms)
                if not self._is_shown(book, number, message, now_ms):
                    continue
                if number < ready:
                    here.append((time_ms, book, number, message))
                else:
                    waiting.append(message)
        return Inbox(tuple(row[-1] for row in sorted(here, key=lambda r: r[:3])), tuple(waiting))

    def _ready(self, book: Book) -> int:
        """Return the least number that is neither here nor over: what was sent after it waits."""
        messages = self._messages[book]
        number = self._floor(book)
        while number in messages or self.receipts.has(book, number):
            number += 1
        return number

    def _floor(self, book: Book) -> int:
        """Return a number below which all are over."""
        cover = self._covers.get(book)
        return max(self.receipts.up_to.get(book, 0) + 1, cover.over if cover else 1)

    def _is_shown(self, book: Book, number: int, message: Message, now_ms: int) -> bool:
        is_ours = is_to_several(message.to) and message.sender == self.box.name
        is_for_us = not message.to or (message.to in self.box.addresses and not is_ours)
        is_over = self.receipts.has(book, number) or message.is_expired(now_ms)
        return is_for_us and not is_over

    def is_known(self, at: Coordinate) -> bool:
        """Whether a message stands there, or has stood there."""
        book, number = place_of(at)
        cover = self._covers.get(book)
        is_here = number in self._messages.get(book, ())
        return number > 0 and (is_here or (cover is not None and number <= cover.last))

    def is_acknowledged(self, at: Coordinate) -> bool:
        """Whether a message is acknowledged."""
        return self.receipts.has(*place_of(at))

    def is_own(self, at: Coordinate) -> bool:
        """Whether a message is to this box alone, so that nobody needs it once it is read."""
        return at.parts[:3] == self.box.series

    def long_expired(self, now_ms: int) -> list[Coordinate]:
        """Return the messages to this box alone that nobody needs any more."""
        return [
            message.coordinate
            for messages in self._messages.values()
            for message in messages.values()
            if message.is_expired(now_ms - EXPIRED_KEPT_MS) and self.is_own(message.coordinate)
        ]

    def receipts_with(self, new: list[Coordinate]) -> tuple[list[tuple[int, int]], str]:
        """Return how new acknowledgements are written: which parts of the text go, the last one
        first, as their lines follow from others, and what is added at the end."""
        said: dict[Book, set[int]] = {}
        for at in new:
            book, number = place_of(at)
            said.setdefault(book, set()).add(number)
        added: list[str] = []
        ends: dict[Book, int] = {}
        for book, numbers in said.items():
            end = first = self._floor(book)
            while end in numbers or self.receipts.has(book, end):
                end += 1
            if end > first:
                ends[book] = end - 1
                added.append(receipt_line(book, end - 1, up_to=True))
            added += [receipt_line(book, n, up_to=False) for n in sorted(numbers) if n >= end]
        text = self.receipts_text
        start = "\n" if text and not text.endswith("\n") else ""
        return _implied(text, ends), start + "".join(f"{line}\n" for line in added)

    def next_of(self, at: Coordinate) -> Coordinate:
        """Return where what is missing before a message that waits has to stand."""
        book, _ = place_of(at)
        return message_at(book, self._ready(book))


def _implied(text: str, ends: Mapping[Book, int]) -> list[tuple[int, int]]:
    """Return the parts of a text whose lines follow from others, the last one first."""
    parts: list[tuple[int, int]] = []
    start = 0
    for line in text.splitlines(keepends=True):
        if is_implied(line, ends.items()):
            parts.append((start, start + len(line)))
        start += len(line)
    return parts[::-1]
