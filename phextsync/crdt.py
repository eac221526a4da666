"""Scroll: one pycrdt document with one text: edits, updates, versions and fingerprints.

The only place that calls pycrdt. A scroll's text is a plain string; formats that a foreign peer
put on it stay in the document and do not show. Public offsets count characters of the string;
pycrdt counts bytes of UTF-8. A document is used in one thread.

Client ids have at most 53 bits. Those of nodes have bit 52 clear. An import has bit 52 set and
the other bits from the coordinate, the version it is made on and the new text: whoever makes
the same change to the same version makes the same update. One id never stands for two contents.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from hashlib import blake2b
from typing import Final, NoReturn

import pycrdt
from pycrdt import Doc, Snapshot, Subscription, Text, Transaction, TransactionEvent

from phextsync.errors import ScrollError, TextError
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
_WORDS: Final = re.compile(r"\w+|\s+|[^\w\s]+")
_LINES: Final = re.compile(r"[^\n]*\n|[^\n]+")
# Comparing two pieces costs at most about this many steps; beyond, one replaces the other.
_COMPARE_MAX: Final = 1 << 14


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
        edits = []
        ours, theirs = _LINES.findall(old), _LINES.findall(text)
        offsets = _offsets(ours)
        for a, b, c, d in _changed_blocks(ours, theirs):
            present = set(ours[a:b])
            missing = "".join(line for line in theirs[c:d] if line not in present)
            if missing:
                edits.append((offsets[b], offsets[b], missing))
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

    def _splice(self, old: str, edits: Sequence[tuple[int, int, str]]) -> bytes | None:
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


def minimal_edits(old: str, new: str) -> list[tuple[int, int, str]]:
    """Return ascending edits (start, stop, replacement) in offsets of `old` that make `new`.

    Whole words are replaced in lines that changed, so that two people's edits do not interleave
    letters. Costs O(n log n) and a bounded number of comparisons; pieces too large for that are
    replaced whole.
    """
    start, stop = _common_ends(old, new)
    a, b = old[start : len(old) - stop], new[start : len(new) - stop]
    if not a or not b:
        return [(start, start + len(a), b)] if a or b else []
    start, stop = _to_words(old, new, start, stop)
    a, b = old[start : len(old) - stop], new[start : len(new) - stop]
    edits: list[tuple[int, int, str]] = []
    ours, theirs = _LINES.findall(a), _LINES.findall(b)
    offsets = _offsets(ours)
    for i, j, k, n in _changed_blocks(ours, theirs):
        _word_edits("".join(ours[i:j]), "".join(theirs[k:n]), start + offsets[i], edits)
    return edits


def _word_edits(old: str, new: str, offset: int, edits: list[tuple[int, int, str]]) -> None:
    ours, theirs = _WORDS.findall(old), _WORDS.findall(new)
    if len(ours) * len(theirs) > _COMPARE_MAX:
        edits.append((offset, offset + len(old), new))
        return
    offsets = _offsets(ours)
    for tag, i, j, k, n in SequenceMatcher(None, ours, theirs, autojunk=False).get_opcodes():
        if tag != "equal":
            edits.append((offset + offsets[i], offset + offsets[j], "".join(theirs[k:n])))


def _changed_blocks(ours: Sequence[str], theirs: Sequence[str]) -> list[tuple[int, int, int, int]]:
    """Return blocks (a, b, c, d): ours[a:b] became theirs[c:d]; what lies between is equal.

    Lines that are unique on both sides, in the longest run that has one order, hold the two
    together (B. Cohen, patience diff); what lies between them is compared when it is small.
    """
    blocks: list[tuple[int, int, int, int]] = []
    a = c = 0
    for i, k in [*_anchors(ours, theirs), (len(ours), len(theirs))]:
        b, d = i, k
        while a < b and c < d and ours[a] == theirs[c]:
            a, c = a + 1, c + 1
        while a < b and c < d and ours[b - 1] == theirs[d - 1]:
            b, d = b - 1, d - 1
        if (b - a) * (d - c) > _COMPARE_MAX:
            blocks.append((a, b, c, d))
        elif a < b or c < d:
            matcher = SequenceMatcher(None, ours[a:b], theirs[c:d], autojunk=False)
            for tag, w, x, y, z in matcher.get_opcodes():
                if tag != "equal":
                    blocks.append((a + w, a + x, c + y, c + z))
        a, c = i + 1, k + 1
    return blocks


def _anchors(ours: Sequence[str], theirs: Sequence[str]) -> list[tuple[int, int]]:
    """Return the longest ascending sequence of lines that occur once on each side."""
    places = _unique(theirs)
    pairs = [(i, places[line]) for line, i in _unique(ours).items() if line in places]
    piles: list[int] = []  # the pair on top of each pile, by its second number
    before: list[int] = []
    for number, (_, k) in enumerate(pairs):
        low, high = 0, len(piles)
        while low < high:
            middle = (low + high) // 2
            if pairs[piles[middle]][1] < k:
                low = middle + 1
            else:
                high = middle
        before.append(piles[low - 1] if low else -1)
        piles[low : low + 1] = [number]
    chain: list[tuple[int, int]] = []
    number = piles[-1] if piles else -1
    while number >= 0:
        chain.append(pairs[number])
        number = before[number]
    return chain[::-1]


def _unique(lines: Sequence[str]) -> dict[str, int]:
    """Return the lines that occur once, in order, with their places."""
    places: dict[str, int] = {}
    for i, line in enumerate(lines):
        places[line] = -1 if line in places else i
    return {line: i for line, i in places.items() if i >= 0}


def _common_ends(old: str, new: str) -> tuple[int, int]:
    """Return how many characters are equal at the start, and behind that at the end."""
    limit = min(len(old), len(new))
    start = _longest(limit, lambda n: old[:n] == new[:n])
    limit -= start
    stop = _longest(limit, lambda n: old[len(old) - n :] == new[len(new) - n :])
    return start, stop


def _longest(limit: int, holds: Callable[[int], bool]) -> int:
    """Return the largest number up to `limit` for which `holds`, true up to some number."""
    low, high = 0, limit
    while low < high:
        middle = (low + high + 1) // 2
        if holds(middle):
            low = middle
        else:
            high = middle - 1
    return low


def _to_words(old: str, new: str, start: int, stop: int) -> tuple[int, int]:
    """Shorten equal ends to the edges of words, so that words are replaced whole."""
    while start and not _is_edge(old, start) and not _is_edge(new, start):
        start -= 1
    while stop and not _is_edge(old, len(old) - stop) and not _is_edge(new, len(new) - stop):
        stop -= 1
    return start, stop


def _is_edge(text: str, offset: int) -> bool:
    return offset >= len(text) or text[offset - 1].isspace() or text[offset].isspace()


def _offsets(pieces: Sequence[str]) -> list[int]:
    """Return where each piece begins, and the end."""
    offsets = [0]
    for piece in pieces:
        offsets.append(offsets[-1] + len(piece))
    return offsets


def _byte_offsets(text: str, edits: Sequence[tuple[int, int, str]]) -> list[tuple[int, int, str]]:
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
