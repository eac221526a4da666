"""Changes: what happened to the texts of a phext, who did it, and feeds that stay small.

A `ChangeFeed` holds what a slow reader has not taken yet. It grows with the coordinates that
changed, not with the changes, up to a bound; beyond it, one change stands for its whole range.
"""

from collections.abc import Callable, Iterable
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import islice
from typing import Final, NamedTuple, TypeAlias

from phextsync.errors import PhextsyncError
from phextsync.index import Coordinate, CoordinateRange
from phextsync.phext_names import is_reserved

COORDINATES_MAX: Final = 10_000
"""Coordinates that a feed holds unless told otherwise: about 2 MB."""
STAMP_CHARACTERS_MAX: Final = 64
"""Characters of a label up to which what its writer writes can be told from what others write."""
TEXTS_MAX: Final = 1 << 20
"""Characters of old texts that a feed holds, and of texts in one change that it gives."""

_FILES: Final = "file"  # file:notes.md, and the map of names

Source: TypeAlias = tuple[bytes | None, str]

_writer: ContextVar[tuple[str, bytes, bool]] = ContextVar("writer", default=("", b"", False))


class writing_as:
    """Name the writer of this block, for its changes and for undoing: `file:notes.md`.

    Writers of one label in two `session`s (processes at one node) are undone apart; None: in the
    one that it is. Peers hear of changes that are `durable_first` when they are on the disk here:
    of those that are made once more after a crash that took them, as from a file, and would then
    be there twice. PhextsyncError for a label that is no UTF-8.
    """

    __slots__ = ("_token", "_writer")

    def __init__(
        self, label: str, session: bytes | None = None, *, durable_first: bool = False
    ) -> None:
        try:
            label.encode()
        except UnicodeEncodeError as error:  # others are to be told of it
            raise PhextsyncError(f"expected a label in UTF-8, found {label!r:.80}") from error
        session = current_session() if session is None else session
        self._writer = label, session, durable_first

    def __enter__(self) -> None:
        self._token = _writer.set(self._writer)

    def __exit__(self, *_: object) -> None:
        _writer.reset(self._token)


def current_writer() -> str:
    """Return the label under which this task or thread writes; the empty text by default."""
    return _writer.get()[0]


def is_stamp(label: str) -> bool:
    """Whether what is written under a label can be told for ever from what others write. Not that
    of files: nobody knows which program wrote what is in them."""
    is_short = 0 < len(label) <= STAMP_CHARACTERS_MAX
    return is_short and label.isprintable() and not label.startswith(_FILES)


def current_stamp(phext: str, label: str | None = None) -> str:
    """Return the label that what is written in a phext now keeps for ever, "" for none; or what is
    written under another label."""
    label = _writer.get()[0] if label is None else label
    return label if label and not is_reserved(phext) and is_stamp(label) else ""


def current_session() -> bytes:
    """Return for which process this task or thread writes; nothing for the node's own."""
    return _writer.get()[1]


def is_durable_first() -> bool:
    """Return whether peers hear of what this task or thread writes when it is durable here."""
    return _writer.get()[2]


def current_author() -> str:
    """Return what tells this writer from all others, of any session."""
    label, session, _ = _writer.get()
    return f"{label}\0{session.hex()}" if session else label


@dataclass(frozen=True, slots=True)
class TextChange:
    """What a scroll's text was and is. `old` is None when it was not kept."""

    old: str | None
    new: str


@dataclass(frozen=True, slots=True)
class Change:
    """Scrolls of `phext` whose text changed, in the order in which they changed first.

    `origin` is the node id of the peer that brought it, None for here; `label` is the peer's
    name, or how the writer here calls itself (`writing_as`). `texts` has a member for each
    coordinate when the subscriber asked for texts. When `missed` is not None, more happened than
    a feed holds, or this node has ceased to hold that range: any scroll in it may have changed or
    gone from here, and `coordinates` is empty.
    """

    phext: str
    coordinates: tuple[Coordinate, ...]
    origin: bytes | None = None
    label: str = ""
    texts: tuple[TextChange, ...] = ()
    missed: CoordinateRange | None = None


class FeedStatistics(NamedTuple):
    """How many coordinates wait in a feed, and how many old texts it keeps, with their characters
    in all."""

    waiting: int
    texts: int
    characters: int


class ReplicaStatistics(NamedTuple):
    """How many subscribers a replica has, of which scrolls histories are open, and under which
    client id it writes (None: it has none yet)."""

    subscribers: int
    tracked: tuple[Coordinate, ...]
    client_id: int | None


class ChangeFeed:
    """What waits of the changes in a range of a phext, made by `Replica.feed`.

    Whenever something comes, `on_ready` is called; `take` gives it, until it gives None. A scroll
    that changes again before it is taken waits once for each origin, and its old text is the one
    that the reader knows.
    """

    def __init__(
        self,
        phext: str,
        range_: CoordinateRange,
        subscribe: Callable[[Callable[[Change], None]], Callable[[], None]],
        *,
        read: Callable[[Coordinate], str] | None,
        coordinates_max: int,
        texts_max: int,
    ) -> None:
        """`subscribe` takes what is to be called at a change and returns what ends that; `read`
        gives a text as it is now, and is None when texts were not asked for."""
        self.phext = phext
        self.range = range_
        self.on_ready: Callable[[], object] = _nothing
        self._read = read
        self._coordinates_max = coordinates_max
        self._texts_max = texts_max
        self._waiting: dict[Source, dict[Coordinate, None]] = {}
        self._count = 0
        self._old: dict[Coordinate, str | None] = {}
        self._old_size = 0
        self._has_missed = False
        self._unsubscribe = subscribe(self._push)

    def __len__(self) -> int:
        """How many coordinates are waiting, each counted once for each origin."""
        return self._count

    def statistics(self) -> FeedStatistics:
        """Return what can be counted of this feed."""
        return FeedStatistics(self._count, len(self._old), self._old_size)

    def take(self) -> Change | None:
        """Return the next change, None when nothing is waiting."""
        if self._has_missed:
            self._has_missed = False
            return Change(self.phext, (), missed=self.range)
        for source, group in self._waiting.items():
            texts = [] if self._read is None else self._take_texts(group, self._read)
            coordinates = tuple(group) if self._read is None else tuple(islice(group, len(texts)))
            for coordinate in coordinates:
                del group[coordinate]
            self._count -= len(coordinates)
            if not group:
                del self._waiting[source]
            return Change(self.phext, coordinates, *source, texts=tuple(texts))
        return None

    def miss(self) -> None:
        """Say that anything in the range may have changed, in place of all that waits."""
        self._miss()
        self.on_ready()

    def close(self) -> None:
        """End the subscription and forget what was not taken."""
        self._unsubscribe()
        self._clear()

    def _push(self, change: Change) -> None:
        if change.missed is not None:
            self._miss()
        elif not self._has_missed:
            group = self._waiting.setdefault((change.origin, change.label), {})
            before = len(group)
            group.update(dict.fromkeys(change.coordinates))
            self._count += len(group) - before
            for coordinate, text in zip(change.coordinates, change.texts, strict=False):
                if coordinate not in self._old:
                    self._keep(coordinate, text.old)
            if self._count > self._coordinates_max:
                self._miss()
        self.on_ready()

    def _miss(self) -> None:
        self._clear()
        self._has_missed = True

    def _take_texts(
        self, group: Iterable[Coordinate], read: Callable[[Coordinate], str]
    ) -> list[TextChange]:
        """Return the texts of the first coordinates of `group`, as many as fit in one change."""
        texts: list[TextChange] = []
        size = 0
        for coordinate in group:
            text = TextChange(self._old.pop(coordinate, None), read(coordinate))
            texts.append(text)
            self._old_size -= len(text.old or "")
            if sum(coordinate in others for others in self._waiting.values()) > 1:
                self._keep(coordinate, text.new)
            size += len(text.old or "") + len(text.new)
            if size > self._texts_max:
                break
        return texts

    def _keep(self, coordinate: Coordinate, old: str | None) -> None:
        kept = old if self._old_size + len(old or "") <= self._texts_max else None
        self._old[coordinate] = kept
        self._old_size += len(kept or "")

    def _clear(self) -> None:
        self._waiting.clear()
        self._old.clear()
        self._count = self._old_size = 0


def _nothing() -> None:
    """Nobody listens."""
