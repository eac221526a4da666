"""Scroll: one pycrdt document with one text: edits, updates, versions and fingerprints.

The only place that calls pycrdt, but for `steps`. A scroll's text is a plain string; formats that a
foreign peer put on it stay in the document and do not show. Public offsets count characters of the
string; pycrdt counts bytes of UTF-8. A document is used in one thread.

Client ids have at most 53 bits. Those of nodes have bit 52 clear. An import has bit 52 set and
the other bits from the coordinate, the version it is made on and the new text: any node that makes
the same change to the same version makes the same update. One id never stands for two contents.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from hashlib import blake2b
from typing import Final, NamedTuple, NoReturn

import pycrdt
from pycrdt import (
    Assoc,
    Doc,
    Snapshot,
    StickyIndex,
    Subscription,
    Text,
    Transaction,
    TransactionEvent,
)

from phextsync.edits import (
    Edit,
    apply_edits,
    in_hunks,
    in_steps,
    is_line_end,
    lines_of,
    minimal_edits,
    missing_lines,
    whole_line_edits,
    with_blanks,
    without_end,
)
from phextsync.errors import PositionError, ScrollError, TextError
from phextsync.index import (
    EMPTY_VERSION,
    Coordinate,
    after_news,
    appended,
    check_update,
    clean_update,
    clock_of,
    covers,
    encode_plain_insert,
    fits,
    insert_behind,
    snapshot_version,
    state_vector,
    strip_deletes,
    update_clock,
    update_version,
    version_behind,
)
from phextsync.merges import merged_edits
from phextsync.steps import Steps
from phextsync.texts import check_size, check_text
from phextsync.varints import read_varints, varints

ROOT: Final = "text"
"""The one root of a scroll's document."""

IMPORTED_VERSION_BYTES_MAX: Final = 2_000
"""Bytes of a version up to which a scroll is imported into: about a hundred imports."""

IMPORTED_HUNKS_MAX: Final = 8
"""Pieces of a text up to which an import has a client id for each; with more it has one for all."""

_KNOWN_BYTES_MAX: Final = 256  # that an update may have besides what is new in it

_HUNKS_WORK_MAX: Final = 1 << 20  # for each, two copies are made; one of 1 MiB takes some 10 ms
_VERSION_BYTE_WORK: Final = 40  # it takes as long to copy as so many bytes of text

_IMPORT_BIT: Final = 1 << 52
_DIGEST_BITS: Final = 50  # of the id of an import, below its rank
_LINES, _WORDS, _ENDS = range(3)  # ranks of imports: what they put in at one place stands so
_LINES_AT_A_TIME: Final = 256
_MARK: Final = "."
_NO_UPDATE: Final = b"\0\0"
_WAITING_MAX: Final = 64  # updates: to merge them takes the square of how many there are
_ADDED_MAX: Final = 1024  # texts behind one that is kept
_POSITION: Final = re.compile(r"([<>])(?:([0-9a-f]{1,14})\.([0-9a-f]{1,8})\.([12]))?")


class Applied(NamedTuple):
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


_Character = tuple[int, int]  # of a text: its client and its clock


class Scroll:
    """The text at one coordinate, made of updates; every change gives the update it made.

    What is added behind all of the text is known without Yrs: it waits, and the document takes
    it, with all that waits, as soon as anything else is asked of it.
    """

    __slots__ = (
        "_added",
        "_document",
        "_end",
        "_observed",
        "_root",
        "_since",
        "_size",
        "_state_vector",
        "_steps",
        "_subscription",
        "_tail",
        "_text",
        "_version",
        "_waiting",
        "coordinate",
    )

    def __init__(
        self, coordinate: Coordinate, client_id: int, updates: Iterable[bytes] = ()
    ) -> None:
        """Open a scroll that writes as `client_id`. ScrollError when `updates` do not make one."""
        self.coordinate = coordinate
        self._waiting: list[bytes] = []  # updates that the document has not taken
        self._document: Doc[Text] = Doc(client_id=client_id)
        self._root = self._document.get(ROOT, type=Text)
        self._observed: list[bytes] = []
        self._subscription: Subscription | None = None
        self._text: str | None = None
        self._added: list[str] = []  # what stands behind `_text`
        self._size: int | None = None
        self._version: bytes | None = None
        self._since: list[bytes] = []  # what was added since `_version`
        self._state_vector: bytes | None = None  # as `after_news` told it of the last change
        self._tail: bytes | None = None  # what was appended here last, if nothing came after it
        self._end: _Character | None = None  # of the text, if it came from others and is known
        self._steps: Steps | None = None  # nobody asked to have them remembered
        for update in updates:
            self._apply(update)

    def __del__(self) -> None:
        # The subscription holds the document, through Rust, where Python's collector cannot see.
        if getattr(self, "_subscription", None) is not None:  # an interrupt may leave it unmade
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
        elif self._added:
            self._text, self._added = self._text + "".join(self._added), []
        return self._text

    @property
    def size(self) -> int:
        """Bytes of the text in UTF-8."""
        if self._size is None:
            self._size = len(self._yrs)
        return self._size

    def edit(self, text: str) -> bytes | None:
        """Make `text` the text by the smallest change of lines and words; see `minimal_edits`."""
        check_text(text)
        old = self.text
        if text == old:
            return None
        edits = minimal_edits(old, text)
        self._check_growth(edits)
        return self._change(edits)

    def edit_from(self, base: str, text: str) -> bytes | None:
        """Do here what made `text` of `base`, an older text of this scroll; see `merged_edits`."""
        check_text(text)
        edits = merged_edits(base, self.text, text)
        self._check_growth(edits)
        return self._change(edits) if edits else None

    def splice(self, edits: Sequence[Edit]) -> bytes | None:
        """Do `edits`, ascending, to the text. IndexError when one is outside of it."""
        size, at = len(self.text), 0
        for start, stop, replacement in edits:
            check_text(replacement)
            if not at <= start <= stop <= size:
                raise IndexError(f"expected an edit within {at} to {size}, found {start} to {stop}")
            at = stop
        self._check_growth(edits)
        return self._splice(self.text, list(edits)) if edits else None

    def replace(self, old: str, new: str, count: int | None) -> bytes | None:
        """Replace the `count` places where exactly `old` stands (None: all there are, at least
        one). TextError when there are not that many."""
        check_text(new)
        text = self.text
        found = text.count(old) if old else 0
        if found != (count or found or 1):
            wanted = f"{count}" if count else "at least 1"
            raise TextError(
                f"{self.coordinate}: expected {wanted} of {old!r:.60}, found {found} in the text"
            )
        starts = [0]
        for piece in text.split(old)[:-1]:
            starts.append(starts[-1] + len(piece) + len(old))
        # What both have in common stays: of two insertions after one line, that line comes once.
        changed = minimal_edits(old, new)
        edits = [
            (end - len(old) + start, end - len(old) + stop, replacement)
            for end in starts[1:]
            for start, stop, replacement in changed
        ]
        self._check_growth(edits)
        return self._change(edits) if edits else None

    def insert(self, offset: int, text: str) -> bytes | None:
        """Insert `text` before character `offset`. IndexError when there is no such place."""
        check_text(text)
        old = self.text
        if not 0 <= offset <= len(old):
            raise IndexError(f"expected an offset from 0 to {len(old)}, found {offset}")
        edits = [(offset, offset, text)]
        self._check_growth(edits)
        return self._splice(old, edits) if text else None

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
        data, size = text.encode(), self.size
        check_size(self.coordinate, size, size + len(data))
        update = None if self._tail is None else insert_behind(self._tail, data)
        if update is not None:
            # What Yrs would make of it is known.
            self._add(update, text, is_ours=True)
        else:
            with self._transaction():
                self._yrs.insert(size, text)
            update = self._take_observed()
        self._size = size + len(data)
        self._tail = update
        return update

    def stamp(self, update: bytes) -> bytes:
        """Return an update made here, and, if it inserts nothing, a character that came and went
        with it: it tells who deleted."""
        if update_clock(update, self.client_id):
            return update
        with self._transaction():
            size = len(self._yrs)
            self._yrs.insert(size, _MARK)
            del self._yrs[size : size + 1]
        return merged_update([update, self._take_observed()])

    def clear(self) -> bytes | None:
        """Delete the whole text. What others type meanwhile survives."""
        size = len(self._yrs)
        if not size:
            return None
        with self._transaction():
            del self._yrs[0:size]
        return self._take_observed()

    def import_text(
        self,
        text: str,
        version_bytes_max: int = IMPORTED_VERSION_BYTES_MAX,
        *,
        by_lines: bool = False,
    ) -> bytes | None:
        """Make `text` the text such that the same import on the same version is the same update.
        Of few pieces each is one with the same piece put in elsewhere at the same place, whatever
        else the two texts have. Above `version_bytes_max` by `edit`, since each import stays in the
        version for ever. `by_lines`: a line that changed is another one, of which no word stays."""
        check_text(text)
        if text == self.text:
            return None
        check_size(self.coordinate, self.size, len(text.encode()))
        old, version = self.text, self.version()
        if len(version) > version_bytes_max:
            return self._splice(old, whole_line_edits(old, text)) if by_lines else self.edit(text)
        if version == EMPTY_VERSION:
            client_id = _import_client_id(self.coordinate.key, version, text)
            update = encode_plain_insert(client_id, ROOT, text.encode())
            return self.apply(update, is_ours=True).update
        steps = [text] if by_lines else in_steps(old, text)
        return merged_update([self._import_text(step, by_lines=by_lines) for step in steps])

    def _import_text(self, text: str, *, by_lines: bool) -> bytes | None:
        old, version = self.text, self.version()
        if text == old:
            return None
        edits = (
            whole_line_edits(old, text) if by_lines else with_blanks(old, minimal_edits(old, text))
        )
        hunks = in_hunks(old, edits)
        work = len(hunks) * (self.size + _VERSION_BYTE_WORK * len(version))
        if len(hunks) > IMPORTED_HUNKS_MAX or work > _HUNKS_WORK_MAX:
            client_id = _import_client_id(self.coordinate.key, version, text, _rank_of(old, edits))
            return self._import(edits, client_id)
        return merged_update([self._import_hunk(hunk) for hunk in reversed(hunks)])

    def union(self, text: str) -> bytes | None:
        """Insert the lines of `text` that are missing here, and delete nothing."""
        check_text(text)
        old = self.text
        edits = missing_lines(old, text)
        return self._splice(old, edits) if edits else None

    def apply(self, update: bytes, *, is_ours: bool = False) -> Applied:
        """Merge an update; `is_ours`: the writer can undo it. Applying twice changes nothing.

        What is here already stays part of what took effect, if it is little: a deletion that two
        made apart tells what each of them had.

        One that builds on text that is not here is not covered, and nothing of it takes effect:
        Yrs would keep it, show parts of it, and count none of them in its state vector.
        UpdateError when it is not an update of a text. ScrollError when the document failed: it
        must not be used any more.
        """
        check_update(update, ROOT)
        update = clean_update(update)
        before = self._state_vector or self._doc.get_state()
        after = after_news(before, update)
        if after is not None:
            # All of it takes effect.
            behind = appended(update)
            if behind is not None and behind[0] == (self._end or self._last_character()):
                _, end, data = behind
                size = self._size
                self._add(update, data.decode(), is_ours=is_ours)
                self._end = end
                if size is not None:
                    self._size = size + len(data)
            else:
                self._apply_unobserved(update, is_ours=is_ours)
                self._changed()
            self._state_vector = after
            return Applied(update, covered=True, changed=True)
        if not fits(before, update):
            return Applied(None, covered=False, changed=False)
        self._observe()
        self._apply(update, is_ours=is_ours)
        observed = self._take_observed()
        took = observed
        if observed is not None and len(update) <= len(observed) + _KNOWN_BYTES_MAX:
            took = update
        return Applied(took, covered=True, changed=observed is not None)

    def state(self) -> bytes:
        """Return one update with everything: `Scroll(..., [state])` is the same scroll."""
        return clean_update(self._doc.get_update())

    def version(self) -> bytes:
        """Return state vector and delete set in canonical form; kept until the next change."""
        if self._version is None:
            self._version = snapshot_version(Snapshot.from_doc(self._doc).encode())
        elif self._since:
            self._version, self._since = version_behind(self._version, self._since), []
        return self._version

    def difference(self, version: bytes) -> bytes | None:
        """Return an update with exactly what `version` lacks, None when it lacks nothing."""
        if covers(version, self.version()):
            return None
        update = self._doc.get_update(state_vector(version))
        return strip_deletes(clean_update(update), version)

    def lines(self) -> list[tuple[str, list[tuple[int, int, int]]]]:
        """Return the lines without their ends, and the runs of characters (client, clock, units)
        that each is made of; an empty line is made of its end. O(size + lines * items).

        Yrs tells the ids of characters when they are deleted: so they are, in a copy. To each place
        it walks from the beginning, through what was deleted too, and it cuts a run in a time that
        grows with the run: so the last lines are deleted first, some at a time.
        """
        copy = self._copy(self.client_id)
        found = lines_of(self.text)
        at = len(self.text.encode())
        pieces = []
        for first in reversed(range(0, len(found), _LINES_AT_A_TIME)):
            some = found[first : first + _LINES_AT_A_TIME]
            at -= len("".join(some).encode())
            pieces.append(copy._take_lines(some, at))
        return [line for piece in reversed(pieces) for line in piece]

    def line_ends(self) -> list[list[tuple[int, int, int]]]:
        """Return the runs of characters that the end of each line is made of, none for a last line
        without one. Costs what `lines` does."""
        copy = self._copy(self.client_id)
        at = len(self.text.encode())
        ends: list[list[tuple[int, int, int]]] = []
        for line in reversed(lines_of(self.text)):
            size = len(line) - len(without_end(line))
            with copy._transaction():
                del copy._yrs[at - size : at]
            ends.append(_deleted(copy._take_observed() or _NO_UPDATE))
            at -= len(line.encode())
        return ends[::-1]

    def _take_lines(self, some: list[str], at: int) -> list[tuple[str, list[tuple[int, int, int]]]]:
        """Delete lines that begin at a byte; the ends of those that have more than an end stay."""
        lines = []
        for line in some:
            content = without_end(line)
            with self._transaction():
                del self._yrs[at : at + len(content.encode() or line)]
            lines.append((content, _deleted(self._take_observed() or _NO_UPDATE)))
            at += len(line) - len(content) if content else 0
        return lines

    def fingerprint(self, fingerprinter: Fingerprinter) -> bytes:
        """Return the scroll's fingerprint, 32 bytes."""
        text = self.text.encode()
        self._size = len(text)
        return fingerprinter.of(self.coordinate.key, self.version(), text)

    # -- positions -------------------------------------------------------------------------

    def position(self, offset: int, *, after: bool) -> str:
        """Name the place before character `offset` such that it is found again whatever others
        write: with `after` it stays before the character that follows, else after the one before
        it. O(size).

        pycrdt has such positions and finds them by offsets in two units, which agree in ASCII
        alone; the character's own id comes from what a copy of the document says of its deletion.
        """
        size = len(self.text)
        if not 0 <= offset <= size:
            raise IndexError(f"expected an offset from 0 to {size}, found {offset}")
        side = ">" if after else "<"
        if offset == (size if after else 0):
            return side
        first = offset if after else offset - 1
        update = self._copy(self.client_id).delete(first, first + 1)
        assert update is not None
        _, _, client, _, clock, units = read_varints(update)[:6]
        return f"{side}{client:x}.{clock:x}.{units}"

    def offset(self, position: str) -> int:
        """Return the offset at which `position` is now. O(size).

        PositionError when it is not a position, or in text that is not here."""
        match = _POSITION.fullmatch(position)
        if match is None:
            raise PositionError(f"expected a position in a scroll, found {position!r:.60}")
        if match[2] is None:
            return 0 if match[1] == "<" else len(self.text)
        client, clock, units = int(match[2], 16), int(match[3], 16), int(match[4])
        if clock + units > clock_of(self.version(), client):
            raise PositionError(f"{self.coordinate}: expected text at {position}, found none yet")
        copy = self._copy(self.client_id)
        # Without its character the place is the start of an item, where both units agree.
        is_there = copy.apply(varints(0, 1, client, 1, clock, units)).changed
        item = {"item": {"client": client, "clock": clock}, "assoc": 0}
        try:
            place = StickyIndex.from_json(item, copy._yrs).get_index()
        except BaseException as error:
            _translate(self.coordinate, error)
        offset = len(copy.text.encode()[:place].decode())
        return offset + 1 if is_there and match[1] == "<" else offset

    def _copy(self, client_id: int) -> "Scroll":
        return Scroll(self.coordinate, client_id, [self.state()])

    # -- undoing ---------------------------------------------------------------------------

    @property
    def steps(self) -> Steps:
        """What writers did here whose steps are remembered."""
        if self._steps is None:
            self._steps = Steps(self._yrs)
        return self._steps

    def undo(self, writer: str) -> bytes | None:
        """Take back the last step of `writer`: what others wrote stays."""
        return self._travel(partial(self.steps.undo, writer))

    def redo(self, writer: str) -> bytes | None:
        """Do again what `undo` took back last."""
        return self._travel(partial(self.steps.redo, writer))

    def _travel(self, step: Callable[[], None]) -> bytes | None:
        self._observe()
        try:
            step()
        except BaseException as error:
            _translate(self.coordinate, error)
        return self._take_observed()

    # -- pycrdt ----------------------------------------------------------------------------

    @property
    def _doc(self) -> Doc[Text]:
        """The document, with all that was waiting."""
        self._take_waiting()
        return self._document

    @property
    def _yrs(self) -> Text:
        """Its text."""
        self._take_waiting()
        return self._root

    def _take_waiting(self) -> None:
        if self._waiting:
            if self._subscription is not None:
                self._stop_observing()
            try:
                self._document.apply_update(merge_updates(self._waiting))
            except BaseException as error:
                _translate(self.coordinate, error)
            self._waiting = []  # not before: an interrupt must not lose what others have heard of

    def _add(self, update: bytes, text: str, *, is_ours: bool) -> None:
        """An update adds text behind all that is visible. No document is asked, but one that
        remembers steps. Size, vector and end are forgotten before, so that whatever interrupts it
        leaves nothing old, such as a clock that would be given twice."""
        self._size = self._state_vector = self._tail = self._end = None
        try:
            if self._steps is not None:
                self._apply_unobserved(update, is_ours=is_ours)
                self._changed()
                return
            if len(self._waiting) >= _WAITING_MAX:
                self._take_waiting()
                if self._since:
                    self.version()
                if len(self._added) >= _ADDED_MAX:  # nobody asks for the text
                    self._text = None
                    self._added.clear()
            self._waiting.append(update)
            if self._text is not None:
                self._added.append(text)
            if self._version is not None:
                self._since.append(update)
        except BaseException:
            self._changed()  # however much of it was done: the document is asked
            raise

    def _last_character(self) -> _Character | None:
        """Return the last character of the text, None when there is none or Yrs cannot tell which
        it is: it counts the units of clocks as bytes. What stands behind it, and has nothing to
        its right, ends the text, whatever was deleted there."""
        if self._tail is not None:
            behind = appended(self._tail)
            self._end = None if behind is None else behind[1]
        elif self._text and self._text.isascii():  # at hand as soon as it was asked for
            place = self._yrs.sticky_index(self.size, Assoc.BEFORE).to_json()["item"]
            self._end = place["client"], place["clock"]
        return self._end

    def _check_growth(self, edits: Sequence[Edit]) -> None:
        """TextError when edits would make the text too large: nothing has to be taken back."""
        before, old = self.size, self.text
        after = before
        for start, stop, words in edits:
            after += len(words.encode()) - (len(old[start:stop].encode()) if start < stop else 0)
        check_size(self.coordinate, before, after)

    def _change(self, edits: Sequence[Edit]) -> bytes | None:
        """Do the edits that make another text of this one, such that what others write meanwhile
        stays whole.

        New line ends come first and are an import: made on two machines they are there once, and
        what others add to a line comes before its new end, for their ids are the largest.
        After very many conversions they are an edit as the others.
        """
        old = self.text
        ends = [edit for edit in edits if is_line_end(old, edit)]
        if ends and len(self.version()) > IMPORTED_VERSION_BYTES_MAX:
            ends = []
        updates = [self.import_text(apply_edits(old, ends))] if ends else []
        others: list[Edit] = []
        gained = 0
        for edit in edits:
            start, stop, replacement = edit
            if ends and is_line_end(old, edit):
                gained += len(replacement) - (stop - start)
            else:
                others.append((start + gained, stop + gained, replacement))
        if others:
            updates.append(self._splice(self.text, with_blanks(self.text, others)))
        return merged_update(updates)

    def _import_hunk(self, edits: Sequence[Edit]) -> bytes | None:
        """Do edits of lines that follow each other, such that who puts the same between the same
        characters makes the same update: its client id is a digest of what it inserts, and where.

        To insert it again, after it was deleted, is to insert it elsewhere: before what it was.
        """
        if not any(words for _, _, words in edits):
            return self._splice(self.text, edits)
        rank = _rank_of(self.text, edits)
        trial = self._copy(_IMPORT_BIT)
        update = trial._splice(trial.text, edits)
        assert update is not None
        key = self.coordinate.key
        client_id = _import_client_id(key, strip_deletes(update, trial.version()), "", rank)
        if clock_of(self.version(), client_id):
            client_id = _import_client_id(key, self.version(), trial.text, rank)
        return self._import(edits, client_id)

    def _import(self, edits: Sequence[Edit], client_id: int) -> bytes | None:
        copy = self._copy(client_id)
        update = copy._splice(copy.text, edits)
        return self.apply(update, is_ours=True).update if update is not None else None

    def _splice(self, old: str, edits: Sequence[Edit]) -> bytes | None:
        """Apply ascending edits (start, stop, replacement) as one transaction.

        The one in the middle comes first, then those after it, then those before: what Yrs walks
        over, and what it parts, stays small. Costs O(n log n) for n edits.
        """
        located = _byte_offsets(old, edits)
        left = [(0, len(located), 0)]  # ranges of edits, and what their offsets gained
        with self._transaction():
            while left:
                first, last, gained = left.pop()
                middle = (first + last) // 2
                start, stop, replacement = located[middle]
                start, stop = start + gained, stop + gained
                # After what it replaces: a line that somebody puts before that stays whole. But the
                # end of a line stays before what somebody puts after that line.
                at = start if is_line_end(old, edits[middle]) else stop
                if replacement:
                    self._yrs.insert(at, replacement)
                size = len(replacement.encode())
                if stop > start:
                    begin = start + size if at == start else start
                    del self._yrs[begin : begin + stop - start]
                if first < middle:
                    left.append((first, middle, gained))
                if middle + 1 < last:
                    left.append((middle + 1, last, gained + size - (stop - start)))
        return self._take_observed()

    def _transaction(self) -> Transaction:
        self._observe()
        return self._doc.transaction(origin=self._steps and self._steps.origin)

    def _observe(self) -> None:
        """Keep the updates of transactions from now on: a scroll that is only read need not."""
        document = self._doc  # before it is asked: what was waiting ends observing
        if self._subscription is None:
            observed = self._observed

            def observe(event: TransactionEvent) -> None:
                observed.append(event.update)

            self._subscription = document.observe(observe)

    def _stop_observing(self) -> None:
        subscription, self._subscription = self._subscription, None
        assert subscription is not None
        self._document.unobserve(subscription)

    def _changed(self) -> None:
        """Forget what was computed before a change."""
        self._text = self._size = self._version = self._state_vector = None
        self._tail = self._end = None
        self._added.clear()
        self._since.clear()

    def _apply(self, update: bytes, *, is_ours: bool = False) -> None:
        try:
            if is_ours and self._steps is not None and self._steps.origin is not None:
                with self._doc.transaction(origin=self._steps.origin):
                    self._doc.apply_update(update)
            else:
                self._doc.apply_update(update)
        except BaseException as error:
            _translate(self.coordinate, error)

    def _apply_unobserved(self, update: bytes, *, is_ours: bool = False) -> None:
        """Apply what is known to take effect as it is: to observe that takes longer."""
        if self._subscription is not None:
            self._stop_observing()
        self._apply(update, is_ours=is_ours)

    def _take_observed(self) -> bytes | None:
        """Return what the last transaction did, and forget what was computed before it."""
        updates = [update for update in self._observed if update != _NO_UPDATE]
        self._observed.clear()
        if not updates:
            return None
        self._changed()
        return clean_update(merge_updates(updates))


def load() -> None:
    """Load what documents need in the event loop that runs here: tens of milliseconds, for which
    else the first edit waits."""
    pycrdt.Doc[pycrdt.Text]()


def is_import(client_id: int) -> bool:
    """Whether a client id is that of an import."""
    return bool(client_id & _IMPORT_BIT)


def merge_updates(updates: Sequence[bytes]) -> bytes:
    """Return one update that is worth all of `updates`, at least one."""
    return updates[0] if len(updates) == 1 else pycrdt.merge_updates(*updates)


def merged_update(updates: Iterable[bytes | None]) -> bytes:
    """Return one update that is worth those of `updates` that are there, at least one."""
    return clean_update(merge_updates([update for update in updates if update is not None]))


def client_clocks(update: bytes) -> dict[int, int]:
    """Return the clients of which an update brings something, and the clocks that follow."""
    values = read_varints(state_vector(update_version(update)))
    return dict(zip(values[1::2], values[2::2], strict=True))


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


def _import_client_id(key: bytes, version: bytes, text: str, rank: int = _WORDS) -> int:
    hasher = blake2b(key + len(version).to_bytes(4, "big") + version, digest_size=8)
    hasher.update(text.encode())
    digest = int.from_bytes(hasher.digest(), "big") >> 64 - _DIGEST_BITS
    return _IMPORT_BIT | rank << _DIGEST_BITS | digest


def _rank_of(text: str, edits: Sequence[Edit]) -> int:
    """Return the rank of an import of edits of `text`."""
    if all(is_line_end(text, edit) for edit in edits):
        return _ENDS
    return _LINES if all(_puts_lines(text, edit) for edit in edits) else _WORDS


def _puts_lines(text: str, edit: Edit) -> bool:
    """Whether an edit of `text` puts whole lines before a line."""
    start, stop, words = edit
    return start == stop and words.endswith("\n") and text[start - 1 : start] in ("", "\n")


def _deleted(update: bytes) -> list[tuple[int, int, int]]:
    """Return what an update without insertions deletes: clients, clocks, units."""
    values = iter(read_varints(update))
    assert next(values) == 0
    return [
        (client, next(values), next(values))
        for client, count in ((next(values), next(values)) for _ in range(next(values)))
        for _ in range(count)
    ]


def _translate(coordinate: Coordinate, error: BaseException) -> NoReturn:
    """Raise what a failure of pycrdt means here. A panic of Yrs is not an `Exception`."""
    if isinstance(error, Exception) or type(error).__name__ == "PanicException":
        raise ScrollError(f"{coordinate}: its document failed: {error}") from error
    raise error
