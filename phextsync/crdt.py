"""Scroll: one pycrdt document with one text: edits, updates, versions and fingerprints.

The only place that calls pycrdt. A scroll's text is a plain string; formats that a foreign peer
put on it stay in the document and do not show. Public offsets count characters of the string;
pycrdt counts bytes of UTF-8. A document is used in one thread.

Client ids have at most 53 bits. Those of nodes have bit 52 clear. An import has bit 52 set and
the other bits from the coordinate, the version it is made on and the new text: whoever makes
the same change to the same version makes the same update. One id never stands for two contents.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final, NoReturn

import pycrdt
from pycrdt import Doc, Snapshot, Subscription, Text, Transaction, TransactionEvent

from phextsync.edits import Edit, merged_edits, minimal_edits, missing_lines
from phextsync.errors import PositionError, ScrollError, TextError
from phextsync.index import (
    EMPTY_VERSION,
    Coordinate,
    check_update,
    clean_update,
    covers,
    encode_plain_insert,
    fits,
    insert_behind,
    is_news,
    snapshot_version,
    state_vector,
    strip_deletes,
)

ROOT: Final = "text"
"""The one root of a scroll's document."""

BREAKS: Final = "\x17\x18\x19\x1a\x1c\x1d\x1e\x1f\x01"
"""The characters that end a scroll, section, ..., library in a .phext file."""

_IMPORT_BIT: Final = 1 << 52
_NO_UPDATE: Final = b"\0\0"
_BREAK_NAMES: Final = (
    *("scroll", "section", "chapter", "book"),
    *("volume", "collection", "series", "shelf", "library"),
)
_FORBIDDEN: Final = re.compile(f"[{BREAKS}\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of a peer's update: what took effect (to be stored and relayed; None when
    nothing did), whether all of it did, and whether the text may have changed."""

    update: bytes | None
    covered: bool
    changed: bool


class Fingerprinter:
    """Fingerprints for the scrolls of one phext.

    BLAKE2b-256 with the digest of the phext's name as key, personalised as `phextsync1`, over
    key, length of the version (4 bytes, big-endian), version and text in UTF-8. The text is part
    of it because equal versions of different texts prove that a client id was used twice.
    """

    def __init__(self, phext: str) -> None:
        key = blake2b(phext.encode(), digest_size=32).digest()
        self._base = blake2b(key=key, digest_size=32, person=b"phextsync1")

    def of(self, key: bytes, version: bytes, text: bytes) -> bytes:
        """Return the 32 bytes for one scroll. About 1 us and 1 us per KiB."""
        hasher = self._base.copy()
        hasher.update(key + len(version).to_bytes(4, "big") + version)
        hasher.update(text)
        return hasher.digest()


class Scroll:
    """The text at one coordinate, made of updates; every change gives the update it made."""

    __slots__ = (
        "_doc",
        "_observed",
        "_subscription",
        "_tail",
        "_text",
        "_version",
        "_yrs",
        "coordinate",
    )

    def __init__(
        self, coordinate: Coordinate, client_id: int, updates: Iterable[bytes] = ()
    ) -> None:
        """Open a scroll that writes as `client_id`. ScrollError when `updates` are no document."""
        self.coordinate = coordinate
        self._doc: Doc[Text] = Doc(client_id=client_id)
        self._yrs = self._doc.get(ROOT, type=Text)
        self._observed: list[bytes] = []
        self._subscription: Subscription | None = None
        self._text: str | None = None
        self._version: bytes | None = None
        self._tail: bytes | None = None  # what was appended here last, if nothing came after it
        for update in updates:
            self._apply(update)

    def __del__(self) -> None:
        # The subscription holds the document, through Rust, where Python's collector cannot see.
        self._stop_observing()

    @property
    def client_id(self) -> int:
        """The client id under which this scroll is edited."""
        return self._doc.client_id

    @property
    def text(self) -> str:
        """The text; the empty string when the scroll was never written, or cleared."""
        if self._text is None:
            self._text = str(self._yrs)
        return self._text

    @property
    def size(self) -> int:
        """Bytes of the text in UTF-8."""
        return len(self._yrs)

    def edit(self, text: str) -> bytes | None:
        """Make `text` the text by the smallest change of lines and words; see `minimal_edits`."""
        check_text(text)
        old = self.text
        if text == old:
            return None
        return self._splice(old, minimal_edits(old, text))

    def insert(self, offset: int, text: str) -> bytes | None:
        """Insert `text` before character `offset`. IndexError when there is no such place."""
        check_text(text)
        old = self.text
        if not 0 <= offset <= len(old):
            raise IndexError(f"expected an offset from 0 to {len(old)}, found {offset}")
        return self._splice(old, [(offset, offset, text)]) if text else None

    def delete(self, start: int, stop: int) -> bytes | None:
        """Delete characters from `start` to `stop`. IndexError when the range is not there."""
        old = self.text
        if not 0 <= start <= stop <= len(old):
            raise IndexError(f"expected a range within 0 to {len(old)}, found {start} to {stop}")
        return self._splice(old, [(start, stop, "")]) if start < stop else None

    def append(self, text: str) -> bytes | None:
        """Add `text` at the end. Costs the same however long the scroll is."""
        check_text(text)
        if not text:
            return None
        update = None if self._tail is None else insert_behind(self._tail, text.encode())
        if update is not None:
            # What Yrs would make of it is known: it has not to be observed, which takes longer.
            self._stop_observing()
            self._apply(update)
            self._changed()
        else:
            with self._transaction():
                self._yrs.insert(len(self._yrs), text)
            update = self._take_observed()
        self._tail = update
        return update

    def clear(self) -> bytes | None:
        """Delete the whole text. What others type meanwhile survives."""
        size = len(self._yrs)
        if not size:
            return None
        with self._transaction():
            del self._yrs[0:size]
        return self._take_observed()

    def import_text(self, text: str) -> bytes | None:
        """Make `text` the text such that the same import on the same version is the same update."""
        check_text(text)
        if text == self.text:
            return None
        version = self.version()
        client_id = _import_client_id(self.coordinate.key, version, text)
        if version == EMPTY_VERSION:
            update: bytes | None = encode_plain_insert(client_id, ROOT, text.encode())
        else:
            update = Scroll(self.coordinate, client_id, [self.state()]).edit(text)
        return self.apply(update).update if update is not None else None

    def union(self, text: str) -> bytes | None:
        """Insert the lines of `text` that are missing here, and delete nothing."""
        check_text(text)
        old = self.text
        edits = missing_lines(old, text)
        return self._splice(old, edits) if edits else None

    def apply(self, update: bytes) -> Applied:
        """Merge an update. Applying twice changes nothing.

        One that builds on text that is not here is not covered, and nothing of it takes effect:
        Yrs would keep it, show parts of it, and count none of them in its state vector.
        UpdateError when it is no update of a text. ScrollError when the document failed: it must
        not be used any more.
        """
        check_update(update, ROOT)
        update = clean_update(update)
        before = self._doc.get_state()
        if is_news(before, update):
            # All of it takes effect: there is no need to observe what does.
            self._stop_observing()
            self._apply(update)
            self._changed()
            return Applied(update, covered=True, changed=True)
        if not fits(before, update):
            return Applied(None, covered=False, changed=False)
        self._observe()
        self._apply(update)
        observed = self._take_observed()
        return Applied(observed, covered=True, changed=observed is not None)

    def state(self) -> bytes:
        """Return one update with everything: `Scroll(..., [state])` is the same scroll."""
        return clean_update(self._doc.get_update())

    def version(self) -> bytes:
        """Return state vector and delete set in canonical form; kept until the next change."""
        if self._version is None:
            self._version = snapshot_version(Snapshot.from_doc(self._doc).encode())
        return self._version

    def difference(self, version: bytes) -> bytes | None:
        """Return an update with exactly what `version` lacks, None when it lacks nothing."""
        if covers(version, self.version()):
            return None
        update = self._doc.get_update(state_vector(version))
        return strip_deletes(clean_update(update), version)

    def fingerprint(self, fingerprinter: Fingerprinter) -> bytes:
        """Return the scroll's fingerprint, 32 bytes."""
        return fingerprinter.of(self.coordinate.key, self.version(), self.text.encode())

    def _splice(self, old: str, edits: Sequence[Edit]) -> bytes | None:
        """Apply ascending edits (start, stop, replacement) as one transaction."""
        located = _byte_offsets(old, edits)
        with self._transaction():
            for start, stop, replacement in reversed(located):
                if stop > start:
                    del self._yrs[start:stop]
                if replacement:
                    self._yrs.insert(start, replacement)
        return self._take_observed()

    def _transaction(self) -> Transaction:
        self._observe()
        return self._doc.transaction()

    def _observe(self) -> None:
        """Keep the updates of transactions from now on: a scroll that is only read need not."""
        if self._subscription is None:
            observed = self._observed

            def observe(event: TransactionEvent) -> None:
                observed.append(event.update)

            self._subscription = self._doc.observe(observe)

    def _stop_observing(self) -> None:
        if self._subscription is not None:
            self._doc.unobserve(self._subscription)
            self._subscription = None

    def _changed(self) -> None:
        """Forget what was computed before a change."""
        self._text = self._version = self._tail = None

    def _apply(self, update: bytes) -> None:
        try:
            self._doc.apply_update(update)
        except BaseException as error:
            _translate(self.coordinate, error)

    def _take_observed(self) -> bytes | None:
        """Return what the last transaction did, and forget what was computed before it."""
        updates = [update for update in self._observed if update != _NO_UPDATE]
        self._observed.clear()
        if not updates:
            return None
        self._changed()
        return clean_update(merge_updates(updates))


def check_text(text: str) -> None:
    """TextError when `text` has a break character or a lone surrogate, which no scroll can hold."""
    found = _FORBIDDEN.search(text)
    if found is None:
        return
    offset, character = found.start(), found[0]
    if character in BREAKS:
        name = _BREAK_NAMES[BREAKS.index(character)]
        what = f"a {name} break (U+{ord(character):04X})"
    else:
        what = f"a lone surrogate (U+{ord(character):04X})"
    raise TextError(f"expected text without breaks, found {what} at offset {offset}")


def merge_updates(updates: Sequence[bytes]) -> bytes:
    """Return one update that is worth all of `updates`, at least one."""
    return updates[0] if len(updates) == 1 else pycrdt.merge_updates(*updates)


def import_update(key: bytes, text: str) -> bytes:
    """Return what `import_text` makes of `text` in a scroll without history, and no document."""
    client_id = _import_client_id(key, EMPTY_VERSION, text)
    return encode_plain_insert(client_id, ROOT, text.encode())


def _byte_offsets(text: str, edits: Sequence[Edit]) -> list[Edit]:
    """Turn the offsets of ascending edits from characters into bytes of UTF-8."""
    if text.isascii():
        return list(edits)
    located = []
    at = at_bytes = 0
    for start, stop, replacement in edits:
        start_bytes = at_bytes + len(text[at:start].encode())
        stop_bytes = start_bytes + len(text[start:stop].encode())
        located.append((start_bytes, stop_bytes, replacement))
        at, at_bytes = stop, stop_bytes
    return located


def _import_client_id(key: bytes, version: bytes, text: str) -> int:
    hasher = blake2b(key + len(version).to_bytes(4, "big") + version, digest_size=8)
    hasher.update(text.encode())
    return _IMPORT_BIT | int.from_bytes(hasher.digest(), "big") >> 12


def _translate(coordinate: Coordinate, error: BaseException) -> NoReturn:
    """Raise what a failure of pycrdt means here. A panic of Yrs is no `Exception`."""
    if isinstance(error, Exception) or type(error).__name__ == "PanicException":
        raise ScrollError(f"{coordinate}: its document failed: {error}") from error
    raise error
