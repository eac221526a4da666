"""Comparison: what two nodes say in turn until both know in which scrolls of a phext they differ.

The rules of this file:

* A side that knows that the roots differ, and holds the whole phext as the other does, opens with a
  sketch. Cells that do not suffice are answered by more of one's own; each time there are more,
  and there is a most.
* What a sketch found is named with the digest of the rest. Where that does not agree, or no
  sketch suffices, ranges are compared, which always find everything (`reconcile`).
* Where it is not known whether anything differs, the roots are said, however few scrolls there
  are: who gets an empty answer to a root knows that nothing differs.
* An audit draws a key from two nonces and compares ranges under it: sums that somebody made equal
  on purpose differ under a key that he could not know.
* An empty body ends a comparison; in the form CUT it ends before everything was compared.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

from phextsync.errors import ProtocolError
from phextsync.index import SKETCH_CELLS, CoordinateIndex, CoordinateRange
from phextsync.sync import reconcile, sketch
from phextsync.sync.reconcile import Differences, Parameters

RANGES, SKETCH, FOUND, AUDIT, CUT = range(5)
_NONCE_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class Turn:
    """What one side says: the form of the body and the body, empty at the end; and the
    differences that it found meanwhile."""

    form: int
    body: bytes
    found: Differences | None = None

    @property
    def is_last(self) -> bool:
        return not self.body


_END: Final = Turn(RANGES, b"")
_ALL_NAMED: Final = Turn(RANGES, b"", Differences([], [], [], [], has_told_all=True))


class Comparison:
    """One side of a comparison of one index with a peer's, within `scope`: nothing that it says
    depends on what lies outside.

    `nonce` is random, 16 bytes; only an audit uses it.
    """

    def __init__(
        self,
        index: CoordinateIndex,
        scope: Sequence[CoordinateRange],
        parameters: Parameters,
        nonce: bytes,
    ) -> None:
        self._index = index
        self._scope = scope
        self._parameters = parameters
        self._nonce = nonce
        self._key: bytes | None = None  # of an audit
        self._is_first = True  # nothing was said
        self._is_auditing = False
        self._cells = 0  # of the sketches so far
        self._is_found_due = False  # whether the peer may name what it found

    def begin(self, theirs: int | None) -> Turn:
        """Open with what suits a peer that announced `theirs` scrolls and another digest than
        ours; None: it is not known whether there is a difference."""
        self._is_first = False
        if theirs is not None and self._may_sketch(theirs):
            return self._open_sketch()
        return self._open_ranges(has_lists=theirs is not None)

    def begin_audit(self) -> Turn:
        """Open an audit."""
        self._is_first = False
        self._is_auditing = True
        return Turn(AUDIT, self._nonce)

    def answer(self, form: int, body: bytes) -> Turn:
        """Take a turn of the peer that does not end the comparison, and answer it. ProtocolError
        when it is malformed or out of order."""
        is_first, self._is_first = self._is_first, False
        if form == RANGES:
            theirs = reconcile.count_of_root(body) if is_first else None
            if theirs is not None and self._may_sketch(theirs):
                return self._answer_root(body)
            return self._answer_ranges(body)
        if form == SKETCH and self._is_whole:
            return self._answer_sketch(body)
        if form == FOUND and self._is_found_due:
            self._is_found_due = False
            return _ALL_NAMED if sketch.is_all(self._index, body) else self._open_ranges()
        if form == AUDIT and len(body) >= _NONCE_BYTES and (is_first or self._is_auditing):
            return self._answer_audit(body, is_first)
        raise ProtocolError(f"expected another turn of a comparison, found form {form}")

    @property
    def _is_whole(self) -> bool:
        return len(self._scope) == 1 and self._scope[0].is_everything

    def _may_sketch(self, theirs: int) -> bool:
        return self._is_whole and sketch.is_worth(len(self._index), theirs)

    def _open_ranges(self, *, has_lists: bool = True) -> Turn:
        index, scope, parameters = self._index, self._scope, self._parameters
        body = reconcile.first_step(index, scope, parameters, self._key, has_lists=has_lists)
        return Turn(RANGES, body)

    def _answer_ranges(self, body: bytes) -> Turn:
        answer, found = reconcile.next_step(
            self._index, self._scope, body, self._parameters, self._key
        )
        return Turn(RANGES, answer or b"", found)

    def _open_sketch(self) -> Turn:
        body = sketch.opening(self._index)
        return self._say_cells(body, len(body) - sketch.STRATA_BYTES)

    def _say_cells(self, body: bytes, size: int) -> Turn:
        self._cells = size // sketch.CELL_BYTES
        self._is_found_due = True
        return Turn(SKETCH, body)

    def _answer_root(self, body: bytes) -> Turn:
        """Answer a root that differs by a sketch instead of splitting it."""
        if body == self._open_ranges(has_lists=False).body:
            return _END
        return self._open_sketch()

    def _answer_sketch(self, body: bytes) -> Turn:
        strata, cells = b"", body
        if self._cells == 0:
            strata, cells = sketch.split_opening(body)
        count = len(cells) // sketch.CELL_BYTES
        if count <= self._cells:
            raise ProtocolError(f"expected more than {self._cells} cells, found {count}")
        found = sketch.read(self._index, cells)
        if found is not None:
            self._is_found_due = False
            return Turn(FOUND, sketch.name_found(self._index, found), found)
        wanted: int | None = 2 * count if 2 * count <= SKETCH_CELLS else None
        if strata:
            ours = self._index.sketch_strata()
            wanted = sketch.cells_for(ours, strata, len(self._index))
        is_large = wanted is not None and wanted * sketch.CELL_BYTES > self._parameters.bytes_max
        if wanted is None or wanted <= count or is_large:
            return self._open_ranges()
        more = self._index.sketch_cells(wanted)
        return self._say_cells(more, len(more))

    def _answer_audit(self, body: bytes, is_first: bool) -> Turn:
        theirs, body = body[:_NONCE_BYTES], body[_NONCE_BYTES:]
        nonces = (theirs, self._nonce) if is_first else (self._nonce, theirs)
        self._key = blake2b(b"".join(nonces), digest_size=16).digest()
        self._is_auditing = False
        if is_first:
            return Turn(AUDIT, self._nonce + self._open_ranges(has_lists=False).body)
        return self._answer_ranges(body)
