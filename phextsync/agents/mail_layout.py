"""Where messages stand, and how they are written: pure functions of texts and coordinates.

A phext has the boxes. Its first scroll is their directory, a line a box. A box is one series
(`L.S.S/*`); in it every node that sends has a book of its own, in which scroll 1.1.1 is its cover
and each message stands at its number: no two nodes ever write one scroll. `docs/reference/mail.md`
says the same for programs that read and write plain scrolls.
"""

import re
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final, TypeAlias

from phextsync.agents.times import time_ms, time_text
from phextsync.errors import PhextsyncError
from phextsync.index import Coordinate
from phextsync.texts import first_line

MAIL: Final = "mail"
"""The phext of boxes and messages, unless another is named."""
DIRECTORY: Final = Coordinate(1, 1, 1, 1, 1, 1, 1, 1, 1)
"""The scroll that lists the boxes."""
ALL: Final = "all"
ROLE: Final = "role:"
NUMBER_MAX: Final = 999**3 - 1
"""Messages of one node to one address: a book has room for no more."""

_NAME_CHARACTERS: Final = 64
_NAME: Final = re.compile(rf"[\w.-]{{1,{_NAME_CHARACTERS}}}")
_PARTS: Final = 999
_LINE_CHARACTERS: Final = 60

Series: TypeAlias = tuple[int, int, int]
"""Library, shelf and series: the range of a box, or of an address of several."""
Book: TypeAlias = tuple[int, int, int, int, int, int]
"""A series with collection, volume and book: where one node writes."""


# -- boxes ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Box:
    """A box: its name, the series that it is, and the roles of whoever reads it."""

    name: str
    series: Series
    roles: tuple[str, ...] = ()

    @property
    def range(self) -> str:
        """The range of its messages."""
        return range_of(self.series)

    @property
    def addresses(self) -> tuple[str, ...]:
        """The addresses whose messages it gets."""
        return (self.name, ALL, *(f"{ROLE}{role}" for role in self.roles))

    def to_line(self) -> str:
        """Return its line in the directory, without the end."""
        return " ".join(["box", self.name, self.range, *self.roles])


def read_boxes(text: str) -> dict[str, Box]:
    """Return the boxes of a directory by name, in order; a line that cannot be read does not count.

    The order of lines has no meaning: of two lines of one name the least series counts, and the
    roles of both.
    """
    found: dict[str, Box] = {}
    for line in text.splitlines():
        match line.split():
            case ["box", name, range_, *roles] if is_name(name) and all(map(is_name, roles)):
                series = _series_in(range_)
                if series is None:
                    continue
                known = found.get(name, Box(name, series))
                both = tuple(sorted({*known.roles, *roles}))
                found[name] = Box(name, min(known.series, series), both)
    return dict(sorted(found.items()))


def is_to_several(address: str) -> bool:
    """Whether an address is none of a single box."""
    return address == ALL or address.startswith(ROLE)


def is_name(text: str) -> bool:
    """Whether a box or a role can be called so."""
    return text != ALL and _NAME.fullmatch(text) is not None


def checked_name(text: str, what: str, node: str = "") -> str:
    """Return the name of a box, a role or a worker, that of the node if none is given.
    PhextsyncError when nothing can be called so."""
    if not is_name(text or node):
        found = repr(text) if text or not node else f"none, and the node is called {node!r}"
        raise PhextsyncError(
            f"expected the name of a {what}: up to {_NAME_CHARACTERS} letters, digits, '_', '.' or"
            f" '-', and not {ALL!r}; found {found:.120}"
        )
    return text or node


def series_of(address: str, boxes: dict[str, Box]) -> Series:
    """Return the series of an address. PhextsyncError when there is no such box or role."""
    if address in boxes:
        return boxes[address].series
    role = address.removeprefix(ROLE)
    roles = {role for box in boxes.values() for role in box.roles}
    if address == ALL or (address.startswith(ROLE) and role in roles):
        return new_series(address)
    known = [*boxes, *(f"{ROLE}{role}" for role in sorted(roles)), ALL]
    raise PhextsyncError(
        f"there is no box {address!r:.80}; there are {', '.join(known)}; "
        f"`phextsync box NAME` makes one"
    )


def new_series(address: str, taken: Container[Series] = ()) -> Series:
    """Return the series that an address gets; all machines choose the same, if none is taken."""
    for attempt in range(_PARTS):
        library, shelf, series = _digest_parts(f"{address}\n{attempt}".encode())
        if (1 + library, shelf, series) not in taken:
            return 1 + library, shelf, series
    raise PhextsyncError(f"expected room for {address!r:.80} among the boxes, found none")


def range_of(series: Series) -> str:
    """Return a series as a range."""
    library, shelf, number = series
    return f"{library}.{shelf}.{number}/*"


def _series_in(range_: str) -> Series | None:
    start = range_.removesuffix("/*").removesuffix("/*.*.*").removesuffix("/*.*.*")
    parts = start.split(".")
    if not all(part.isascii() and part.isdigit() and len(part) <= 3 for part in parts):
        return None
    numbers = [*map(int, parts)]
    if len(numbers) != 3 or not 2 <= numbers[0] <= _PARTS or not all(n >= 1 for n in numbers):
        return None
    return numbers[0], numbers[1], numbers[2]


def _digest_parts(of: bytes) -> Series:
    """Return three parts from 1 to 998."""
    number = int.from_bytes(blake2b(of, digest_size=16, person=b"phextsync mail").digest())
    first, second, third = (number // (_PARTS - 1) ** i % (_PARTS - 1) for i in range(3))
    return 1 + first, 1 + second, 1 + third


# -- the books of senders ------------------------------------------------------------------


def books_of(series: Series, node_id: str) -> Iterator[Book]:
    """Iterate over the books in which a node may write, until it comes to one that no other has.
    The first collection is the receiver's own."""
    for attempt in range(_PARTS):
        collection, volume, book = _digest_parts(f"{node_id}\n{attempt}".encode())
        yield (*series, 1 + collection, volume, book)


def message_at(book: Book, number: int) -> Coordinate:
    """Return where message `number` of a book stands; 0 is the cover. After each 999 scrolls comes
    the next section, and after 999 of these the next chapter."""
    if number > NUMBER_MAX:
        raise PhextsyncError(f"expected at most {NUMBER_MAX} messages to one address")
    rest, scroll = divmod(number, _PARTS)
    chapter, section = divmod(rest, _PARTS)
    return Coordinate(*book, 1 + chapter, 1 + section, 1 + scroll)


def place_of(at: Coordinate) -> tuple[Book, int]:
    """Return the book and the number of a message."""
    *_, chapter, section, scroll = at.parts
    a, b, c, d, e, f = at.parts[:6]
    return (a, b, c, d, e, f), ((chapter - 1) * _PARTS + section - 1) * _PARTS + scroll - 1


def receipts_at(series: Series) -> Coordinate:
    """Return where whoever reads a box says what is acknowledged."""
    return Coordinate(*series, 1, 1, 1, 1, 1, 1)


@dataclass(frozen=True, slots=True)
class Cover:
    """What the cover of a book says: whose it is, the number of the last message, and below which
    number all are over."""

    node_id: str
    last: int = 0
    over: int = 1

    def to_text(self) -> str:
        """Return the text of the cover."""
        return f"node {self.node_id}\nlast {self.last}\nover {self.over}\n"


def read_cover(text: str) -> Cover | None:
    """Return what a cover says, None for none. Of two lines the greater number counts."""
    nodes: list[str] = []
    numbers = {"last": 0, "over": 1}
    for line in text.splitlines():
        word, _, rest = line.partition(" ")
        if word == "node":
            nodes.append(rest)
        elif word in numbers and rest.isascii() and rest.isdigit() and len(rest) <= 9:
            numbers[word] = max(numbers[word], int(rest))
    return Cover(min(nodes), numbers["last"], numbers["over"]) if nodes else None


# -- messages ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Message:
    """A message. Times are what the sender's clock said, in milliseconds since 1970;
    `expires_ms` is None for one that does not expire."""

    coordinate: Coordinate
    sender: str
    to: str
    sent_ms: int
    expires_ms: int | None
    text: str

    def is_expired(self, now_ms: int) -> bool:
        """Whether it has expired by a clock."""
        return self.expires_ms is not None and now_ms >= self.expires_ms

    def line(self) -> str:
        """Return it as lists show it: where it stands, when and by whom it was sent, first line."""
        sender = self.sender[:_NAME_CHARACTERS]  # anybody may have written anything
        to = f" to {self.to[: len(ROLE) + _NAME_CHARACTERS]}" if is_to_several(self.to) else ""
        start = first_line(self.text, _LINE_CHARACTERS)
        return f"{self.coordinate}  {time_text(self.sent_ms)}  {sender}{to}  {start}"

    def to_text(self) -> str:
        """Return the text of its scroll."""
        lines = [f"from {self.sender}", f"to {self.to}", f"sent {time_text(self.sent_ms)}"]
        if self.expires_ms is not None:
            lines.append(f"expires {time_text(self.expires_ms)}")
        return "\n".join([*lines, "", self.text])


def read_message(at: Coordinate, text: str) -> Message:
    """Return the message of a scroll: lines of a word and what follows it, an empty line, and the
    text. What has no line `from` is a text of nobody, and is all text."""
    facts_text, _, body = text.partition("\n\n")
    facts = dict(
        reversed([_fact(line) for line in facts_text.splitlines()])
    )  # the first one counts
    if "from" not in facts:
        return Message(at, "", "", 0, None, text)
    sent, expires = facts.get("sent", ""), facts.get("expires")
    expires_ms = None if expires is None else time_ms(expires)
    return Message(at, facts["from"], facts.get("to", ""), time_ms(sent) or 0, expires_ms, body)


def _fact(line: str) -> tuple[str, str]:
    word, _, rest = line.partition(" ")
    return word, rest.strip()


# -- acknowledgements ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Receipts:
    """What is acknowledged: in each book all up to a number, and single ones beyond it."""

    up_to: dict[Book, int]
    single: dict[Book, frozenset[int]]

    def has(self, book: Book, number: int) -> bool:
        """Whether a message is acknowledged."""
        return number <= self.up_to.get(book, 0) or number in self.single.get(book, ())


def read_receipts(text: str) -> Receipts:
    """Return what the lines of a box say: `acked COORDINATE` of one message, `acked-to COORDINATE`
    of it and all before it in its book. Nothing that is said is ever taken back."""
    up_to: dict[Book, int] = {}
    single: dict[Book, set[int]] = {}
    for line in text.splitlines():
        if (said := receipt_in(line)) is not None:
            word, book, number = said
            if word == _ALL_UP_TO:
                up_to[book] = max(number, up_to.get(book, 0))
            else:
                single.setdefault(book, set()).add(number)
    return Receipts(up_to, {book: frozenset(numbers) for book, numbers in single.items()})


_ONE: Final = "acked"
_ALL_UP_TO: Final = "acked-to"


def receipt_in(line: str) -> tuple[str, Book, int] | None:
    """Return what a line acknowledges, None for one that cannot be read."""
    word, _, rest = line.strip().partition(" ")
    try:
        return (word, *place_of(Coordinate.parse(rest))) if word in (_ONE, _ALL_UP_TO) else None
    except PhextsyncError:
        return None


def receipt_line(book: Book, number: int, *, up_to: bool) -> str:
    """Return the line that acknowledges a message, or it and all before it, without the end."""
    return f"{_ALL_UP_TO if up_to else _ONE} {message_at(book, number)}"


def is_implied(line: str, by: Iterable[tuple[Book, int]]) -> bool:
    """Whether what a line says follows from others that say more: all up to a greater number, or
    for one message up to its own. One that says the same stays: two that each remove the other's
    equal line would leave none."""
    said = receipt_in(line)
    if said is None:
        return False
    word, book, number = said
    least = number + 1 if word == _ALL_UP_TO else number
    return any(book == other and least <= up_to for other, up_to in by)
