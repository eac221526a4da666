"""Merging: how the change of a file is done to its scroll, and what is remembered of it.

A change that may be made elsewhere unseen (a machine is away, a version-control checkout moved) is
imported: the same change on two machines is then one. A client id for each such change stays in
the scroll for ever, so what is made in sight of all is an edit under this node's own id, and a
file that is saved very often goes over to edits.
"""

from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from typing import Final

from phextsync.crdt import is_import
from phextsync.edits import apply_edits, missing_lines
from phextsync.files.alike import lines_twice, shared_base
from phextsync.files.entries import as_scroll, entries_of, entry_edits, merged_entries, with_entries
from phextsync.files.ignoring import IGNORE_FILE
from phextsync.files.presets import PLAIN, Preset
from phextsync.files.reading import File
from phextsync.files.records import Record
from phextsync.files.rules import merged_rules, whole_lines
from phextsync.files.twins import Twins
from phextsync.index import EMPTY_VERSION, Coordinate, root_clients
from phextsync.merges import blanks_too_many, glued_words, merged_text, missing_ends
from phextsync.replica.changes import writing_as
from phextsync.replica.replica import Replica
from phextsync.texts import check_text

APART_BYTES_MAX: Final = 20_000
"""Bytes of a scroll's version up to which changes that others may make unseen are imported: about
a thousand saves."""
TOGETHER_BYTES_MAX: Final = 300
"""The same for files that were replaced in sight of all, which others may do at that moment too."""


class Merging:
    """Does to the scrolls of a replica what was done to their files."""

    def __init__(
        self, replica: Replica, is_apart: Callable[[], bool], preset: Preset = PLAIN
    ) -> None:
        self._replica = replica
        self._is_apart = is_apart
        self._preset = preset

    def take(
        self, coordinate: Coordinate, record: Record, base: str, file: File, *, is_unseen: bool
    ) -> None:
        """Do to the scroll what made the file's text of `base`. `is_unseen`: it happened while
        nobody looked, or a version-control checkout moved. TextError for a text that no scroll
        may hold; PermissionDeniedError."""
        check_text(file.text)
        scroll = self._replica.get(coordinate, "")
        limit = self._import_limit(record, base, file, is_unseen=is_unseen)
        if record.path == IGNORE_FILE:
            self._take_rules(coordinate, base, file.text, limit)
            return
        if self._preset.is_list(record.path):
            self._take_entries(coordinate, record.path, base, file.text)
            return
        shared = shared_base(base, scroll, file.text)
        with _writing(record.path):
            if len(self._replica.version(coordinate)) > limit:
                self._replica.edit_from(coordinate, shared, file.text)
            else:
                whole = merged_text(shared, scroll, file.text)
                self._replica.import_text(coordinate, whole, version_bytes_max=limit)

    def take_late(self, coordinate: Coordinate, path: str, before: str, now: str) -> None:
        """Do what somebody did to a file that was replaced while they had it open."""
        self._edit(coordinate, path, before, now)

    def delete(self, coordinate: Coordinate, path: str, base: str) -> None:
        """Delete what the file held; lines that came to the scroll meanwhile stay."""
        self._edit(coordinate, path, base, "")

    def _edit(self, coordinate: Coordinate, path: str, base: str, text: str) -> None:
        if path == IGNORE_FILE:
            self._take_rules(coordinate, base, text)
            return
        if self._preset.is_list(path):
            self._take_entries(coordinate, path, base, text)
            return
        with _writing(path):
            self._replica.edit_from(coordinate, base, text)

    def _take_rules(self, coordinate: Coordinate, base: str, text: str, limit: int = -1) -> None:
        whole = merged_rules(base, self._replica.get(coordinate, ""), text)
        with _writing(IGNORE_FILE):
            self._replica.import_text(coordinate, whole, version_bytes_max=limit, by_lines=True)

    def _take_entries(self, coordinate: Coordinate, path: str, base: str, text: str) -> None:
        whole = merged_entries(base, self._replica.get(coordinate, ""), text)
        self._set_entries(coordinate, path, whole)

    def _set_entries(self, coordinate: Coordinate, path: str, whole: str) -> None:
        """Make of a scroll what differs of its entries, each whole. Nothing is imported: entries
        that two put in apart are told from each other by their texts."""
        edits = entry_edits(self._replica.get(coordinate, ""), whole)
        if edits:
            with _writing(path):
                self._replica.splice(coordinate, edits)

    def order_entries(self, coordinate: Coordinate, path: str) -> None:
        """Let each entry of a list stand once, with its mark, whoever put it in and how."""
        self._set_entries(coordinate, path, as_scroll(self._replica.get(coordinate, "")))

    def meet(self, coordinate: Coordinate, path: str, text: str, older: str = "") -> None:
        """Bring a file to a scroll that it never agreed with: every line of both stays. Those that
        the file had at an `older` time are not put in."""
        check_text(text)
        if self._preset.is_list(path):
            known = entries_of(older)
            entries = [entry for entry in entries_of(text) if entry not in known]
            whole = with_entries(self._replica.get(coordinate, ""), entries)
            self._set_entries(coordinate, path, whole)
            return
        are_rules = path == IGNORE_FILE
        text = whole_lines(text) if are_rules else text
        scroll = self._replica.get(coordinate, "")
        if text != scroll:
            is_alone = not scroll and not older
            edits = missing_lines(scroll, text, older)
            whole = text if is_alone else apply_edits(scroll, edits)
            with _writing(path):
                self._replica.import_text(coordinate, whole, by_lines=are_rules)

    def _import_limit(self, record: Record, base: str, file: File, *, is_unseen: bool) -> int:
        """Return up to which bytes of the scroll's version a change is imported; -1: never."""
        has_inode = record.mark is not None and record.mark.inode == file.mark.inode
        is_same = has_inode and record.born_ns == file.born_ns  # a number is given again at once
        is_apart = is_unseen or self._is_apart()
        if is_apart:
            # Where files have no time of birth, an inode may be that of another file.
            has_appended = is_same and file.born_ns != 0 and file.text.startswith(base)
            return -1 if has_appended else APART_BYTES_MAX  # two that append wrote two lines
        return -1 if is_same else TOGETHER_BYTES_MAX

    def tidy(self, coordinate: Coordinate, path: str, base: str, mine: str) -> None:
        """Delete blanks that stand twice since what made `mine` of `base` met other changes."""
        doubled = blanks_too_many(base, mine, self._replica.get(coordinate, ""))
        if doubled:
            with _writing(path):
                self._replica.splice(coordinate, doubled)

    def end_lines(self, coordinate: Coordinate, path: str, base: str, mine: str) -> None:
        """End last lines behind which stands what others, who did not know what made `mine` of
        `base`, put there."""
        scroll = self._replica.get(coordinate, "")
        ends = missing_ends(base, mine, scroll)
        if ends:
            with _writing(path):
                self._replica.import_text(coordinate, apply_edits(scroll, ends))

    def part_words(self, coordinate: Coordinate, path: str, base: str, mine: str) -> None:
        """Part words that stand glued together since others, who did not know what made `mine` of
        `base`, put some in at the same place. All who see that make the same of it."""
        scroll = self._replica.get(coordinate, "")
        apart = glued_words(base, mine, scroll)
        if apart:
            with _writing(path):
                self._replica.import_text(coordinate, apply_edits(scroll, apart))

    def join_alike(self, coordinate: Coordinate, path: str, base: str, mine: str) -> None:
        """Delete lines that stand twice since others, who did not know what made `mine` of `base`,
        made much the same of it."""
        twice = lines_twice(base, mine, self._replica.get(coordinate, ""))
        if twice:
            with _writing(path):
                self._replica.splice(coordinate, twice)

    # -- scrolls that were begun twice -------------------------------------------------------

    def roots(self, coordinate: Coordinate) -> tuple[int, ...]:
        """Return the imports that were made into the empty scroll."""
        state = self._replica.difference(coordinate, EMPTY_VERSION)
        return () if state is None else tuple(filter(is_import, root_clients(state)))

    def join_twins(
        self, coordinate: Coordinate, record: Record, base: str, roots: tuple[int, ...]
    ) -> None:
        """Make one text of what two machines began apart, by `roots` as they are now: see
        `twins`."""
        new = set(roots) - set(record.roots)
        if new:
            glued = self._twins(coordinate, record.roots, new, base).glued()
            with _writing(record.path):
                if glued:
                    whole = apply_edits(self._replica.get(coordinate, ""), glued)
                    self._replica.import_text(coordinate, whole)
                doubled = self._twins(coordinate, record.roots, new, base).doubled()
                if doubled:
                    self._replica.splice(coordinate, doubled)

    def _twins(
        self, coordinate: Coordinate, known: Collection[int], new: Collection[int], base: str
    ) -> Twins:
        state = self._replica.difference(coordinate, EMPTY_VERSION)
        assert state is not None
        return Twins(coordinate, state, known, new, base)


def _writing(path: str) -> AbstractContextManager[None]:
    return writing_as(f"file:{path}", durable_first=True)
