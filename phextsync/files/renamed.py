"""Renamed: which of the files that are gone others are now.

A file is told by its number and the time when it was made, by its text, or by a text that is like
it. One that is gone may have another at its path by now.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Final

from phextsync.edits import likeness
from phextsync.files.absences import Absences
from phextsync.files.reading import LIKE, File, is_unlike
from phextsync.files.records import Guise, Record, Records, digest_of
from phextsync.index import Coordinate

_LIKE_STRANGER: Final = 0.8  # how much of its text one has kept that is another by its number
_COMPARED_MAX: Final = 64
_COMPARED_ALL_MAX: Final = 16  # files that may have changed places are compared each with each
_KIN: Final[tuple[Callable[[str, int | None, int], object], ...]] = (
    lambda path, inode, born_ns: (inode, born_ns),
    lambda path, inode, born_ns: tuple(path.split("/")[-2:]),
    lambda path, inode, born_ns: path.rpartition("/")[2],
    lambda path, inode, born_ns: None,
)
"""What files with one text share that are the same: from what proves it to what suggests it."""


class GoneFiles:
    """The files that are gone, to find the one that another is now. Their texts are read once."""

    def __init__(self, absences: Absences, records: Records) -> None:
        self._absences = absences
        self._records = records
        gone = *absences.missing, *absences.unsure
        self._gone = {c: r for c in gone if (r := records.get(c)) is not None}
        self._by_inode = {r.mark.inode: c for c, r in self._gone.items() if r.mark is not None}
        self._guises = {c: g for c in self._gone if (g := absences.guise(c)) is not None}
        self._by_inode |= {guise.inode: c for c, guise in self._guises.items()}
        self._by_path = {guise.path: c for c, guise in self._guises.items()}
        self._texts: dict[Coordinate, str] = {}

    def with_inode(self, inode: int | None) -> Coordinate | None:
        """Return the scroll of the file that is gone and had a number."""
        return None if inode is None else self._by_inode.get(inode)

    def those_of(self, files: Mapping[str, File]) -> dict[str, Coordinate]:
        """Return the scrolls of the files that are gone and that these, by path, seem to be. Of
        those with one text it is the same file by its number, or one whose name ends alike."""
        if not self._gone:
            return {}
        were: dict[str, Coordinate] = {}
        digests = {path: digest_of(file.text) for path, file in files.items()}
        for kin in _KIN:
            wanted = {digest for path, digest in digests.items() if path not in were}
            by_kin: dict[tuple[bytes, object], deque[Coordinate]] = {}
            for coordinate, record in self._gone.items():
                if record.digest not in wanted:
                    continue
                inode = None if record.mark is None else record.mark.inode
                key = record.digest, kin(record.path, inode, record.born_ns)
                by_kin.setdefault(key, deque()).append(coordinate)
            for path, file in files.items():
                key = digests[path], kin(path, file.mark.inode, file.born_ns)
                candidates = by_kin.get(key)
                while candidates and path not in were:
                    coordinate = candidates.popleft()
                    if self._absences.seems_renamed(coordinate, path):
                        were[path] = coordinate
        for path, file in files.items():
            if path not in were and (like := self._like(path, file)) is not None:
                were[path] = like
        for path in files:  # what is saved where a file was seen is that file
            seen = self._by_path.get(path)
            if path not in were and seen is not None and self._absences.seems_renamed(seen, path):
                were[path] = seen
        return were

    def _like(self, path: str, file: File) -> Coordinate | None:
        """Return the scroll of the file that is gone and whose text this one has much of."""
        same = self._by_inode.get(file.mark.inode, self._by_path.get(path))
        if same is not None and self._share(same, file) >= _LIKE_STRANGER:
            others = [same]
        else:
            others = [*([] if same is None else [same]), *islice(self._gone, _COMPARED_MAX)]
        shares = {c: self._share(c, file) for c in others}
        for coordinate, share in sorted(shares.items(), key=lambda found: -found[1]):
            is_enough = share >= (LIKE if coordinate == same else _LIKE_STRANGER)
            if is_enough and self._absences.seems_renamed(coordinate, path):
                return coordinate
        return None

    def _share(self, coordinate: Coordinate, file: File) -> float:
        """Return how much of the text of a file that is gone this one has."""
        text = self._texts.get(coordinate)
        if text is None:
            text = self._texts[coordinate] = self._records.base(coordinate)
        guise = self._guises.get(coordinate)
        return _share(self._gone[coordinate], text, guise, file)


def displaced(
    records: Records,
    absences: Absences,
    others: Mapping[Coordinate, File],
    strangers: Mapping[str, File],
    now: float,
) -> list[Coordinate]:
    """Return which of the files that have `others` at their path now seem to be among `strangers`,
    or at the path of another such file: several may have changed places. One that was seen
    elsewhere and left that path too is looked for as long as it could come back."""
    held = {c: record for c in others if (record := records.get(c)) is not None}
    paths = {record.path: others[c] for c, record in held.items()}
    lie_at: dict[Coordinate, set[str] | None] = {}  # None: it is looked for
    for coordinate, record in held.items():
        guise = absences.guise(coordinate)
        if guise is not None and not absences.is_due(coordinate, now):
            lie_at[coordinate] = None
            continue
        base = records.base(coordinate)
        lie_at[coordinate] = {
            path
            for path, other in [
                *islice(strangers.items(), _COMPARED_MAX),
                *_compared(record, paths),
            ]
            if path != record.path
            and _share(record, base, guise, other) >= _enough(guise, path, other)
        }
    while True:
        places = {*strangers, *(held[c].path for c in lie_at)}
        there = [c for c, at in lie_at.items() if at is not None and not at & places]
        if not there:
            return list(lie_at)
        for coordinate in there:
            del lie_at[coordinate]


def _compared(record: Record, files: Mapping[str, File]) -> Iterator[tuple[str, File]]:
    """Give those of many files that another may be: of more than a few, by their numbers alone."""
    for path, file in files.items():
        inode = None if record.mark is None else record.mark.inode
        if len(files) <= _COMPARED_ALL_MAX or file.mark.inode == inode:
            yield path, file


def is_another(records: Records, coordinate: Coordinate, file: File) -> bool:
    """Whether a file is not the one that was in the place of a scroll's, nor like it."""
    record = records.get(coordinate)
    is_it = record is not None and _is_it(record, file)
    return not is_it and is_unlike(records.base(coordinate), file.text)


def seems_to_be(record: Record, base: str, file: File) -> bool:
    """Whether a file with the number of one that held `base` seems to be that one."""
    return _share(record, base, None, file) >= LIKE


def _enough(guise: Guise | None, path: str, file: File) -> float:
    """Return how like a file has to be: less if it was seen. What lies where it was seen is what it
    was saved as, whatever that is."""
    if guise is not None and guise.path == path:
        return 0
    return LIKE if guise is not None and guise.inode == file.mark.inode else _LIKE_STRANGER


def _is_it(record: Record, file: File) -> bool:
    """Whether a file has the number of another, and nothing says that it was made later."""
    is_same = record.mark is not None and record.mark.inode == file.mark.inode
    return is_same and record.born_ns == file.born_ns


def _share(record: Record, text: str, guise: Guise | None, file: File) -> float:
    """Return how much of a text, or of what it was in some guise, a file has. A tiny one that has
    grown is that file still, though most of the text is new: every line is there. So is one with
    its number that was made when it was, whatever is in it."""
    share = likeness(text, file.text)
    if guise is not None and (since := likeness(guise.text, file.text)) > share:
        text, share = guise.text, since  # it was changed since it was renamed
    is_it = _is_it(record, file) and record.born_ns > 0
    return max(share, _LIKE_STRANGER) if is_it or _has_lines_of(text, file.text) else share


def _has_lines_of(text: str, other: str) -> bool:
    """Whether a text has lines, and another has each of them as often, but for empty ones."""
    lines, others = (
        Counter(line for line in map(str.strip, of.split("\n")) if line) for of in (text, other)
    )
    return bool(lines) and lines <= others
