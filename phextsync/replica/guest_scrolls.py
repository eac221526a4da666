"""Guest scrolls: what is done to the guests of one phext, with their texts and documents."""

from typing import Final, NamedTuple

from phextsync.crdt import ROOT, Scroll
from phextsync.errors import UpdateError
from phextsync.index import (
    EVERYTHING,
    Coordinate,
    CoordinateIndex,
    check_update,
    clean_update,
    fits,
    plain_text,
    update_version,
)
from phextsync.ranges import subtract
from phextsync.replica.contents import Contents
from phextsync.replica.documents import Documents
from phextsync.replica.merging import Merging
from phextsync.replica.publisher import Publisher
from phextsync.replica.shared import Shared
from phextsync.store.contract import LogEntry

_NOTHING: Final = b"\0"  # a state vector
_NOBODY: Final = 0  # a client id under which nothing is written


class Taken(NamedTuple):
    """The version that a peer gave of a guest, and whether the text is another than was shown."""

    version: bytes
    is_news: bool


class GuestScrolls:
    """The guests of one phext. Those that the store brought from an earlier run are stale."""

    def __init__(
        self,
        phext: str,
        index: CoordinateIndex,
        documents: Documents,
        contents: Contents,
        merging: Merging,
        publisher: Publisher,
        shared: Shared,
    ) -> None:
        self._phext = phext
        self._documents = documents
        self._contents = contents
        self._merging = merging
        self._publisher = publisher
        self._guests = shared.holding.guests
        holding = shared.holding
        held = holding.of(phext)
        if held != (EVERYTHING,):
            for range_ in subtract(EVERYTHING, (*held, *holding.hold(phext).dropping)):
                for coordinate in index.coordinates(range_):
                    if (phext, coordinate) not in self._guests:
                        self._guests.admit((phext, coordinate))
                    self._guests.measure((phext, coordinate), index.size_of(coordinate))

    def take(self, coordinate: Coordinate, state: bytes, fingerprint: bytes, source: int) -> Taken:
        """Merge the whole state of a scroll that the peer of link `source` holds, if it is what the
        fingerprint says. UpdateError when it is not."""
        check_update(state, ROOT)
        state = clean_update(state)
        if not fits(_NOTHING, state):
            raise UpdateError(f"expected the whole of {coordinate}, found a part of it")
        text, version = plain_text(state), update_version(state)
        if text is None:
            scroll = Scroll(coordinate, _NOBODY, [state])
            text, version = scroll.text.encode(), scroll.version()
        if self._contents.fingerprinter.of(coordinate.key, version, text) != fingerprint:
            raise UpdateError(f"expected another text of {coordinate} by its fingerprint")
        is_news, is_guest = False, (self._phext, coordinate) in self._guests
        if version == self._contents.version(coordinate):
            if fingerprint != self._contents.fingerprint(coordinate):
                self._merging.adopt(coordinate, state)  # somebody wrote a client id twice
        else:
            was_shown = not is_guest or self._documents.is_known(coordinate)
            applied = self._merging.apply(coordinate, LogEntry(state, b"", 0), source)
            is_news = was_shown and applied.changed
            if not is_news:
                self._publisher.forget_before(coordinate)
        if is_guest:
            self._guests.measure((self._phext, coordinate), self._contents.size(coordinate))
        return Taken(version, is_news)

    def hide(self, coordinate: Coordinate) -> None:
        """Let each read of a guest ask whether it may be shown."""
        self._documents.hide(coordinate)

    def text(self, coordinate: Coordinate) -> str:
        """Return the text of a scroll, a guest or not, "" when there is none. That of a stale guest
        is not kept at hand."""
        is_closed = self._contents.is_closed(coordinate)
        text = (
            self._contents.stored_text(coordinate) if is_closed else self._contents.text(coordinate)
        )
        if self._guests.is_stale((self._phext, coordinate)):
            self._documents.hide(coordinate)
        return text

    def may_leave(self, coordinate: Coordinate) -> bool:
        """Whether a guest may go now: all of it is in the store, nobody may undo anything of it,
        and nobody has read it since this was asked last."""
        return self._documents.is_idle(coordinate)
