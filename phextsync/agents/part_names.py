"""Names of parts: what people call the dimensions of a phext, and the numbers in them.

They are lines of one scroll, so that every machine has them: `PHEXT DIMENSION NAME` says what a
dimension is there (`memory shelf node`), `PHEXT PREFIX NAME` what begins with some numbers (`memory
1.2 anna`). Of two lines about one thing the last counts, and what is no such line is left alone.
Coordinates stay numbers: nothing of the library depends on a name.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from phextsync.agents.plans import Plan, splice_if_unchanged, text_of
from phextsync.errors import CoordinateError, PhextsyncError
from phextsync.index import ORIGIN, Coordinate
from phextsync.prefixes import Prefix, prefix_of, prefix_text
from phextsync.texts import DIMENSIONS

NAMES: Final = "names"
"""The phext that names stand in, at the first coordinate."""
NAME_CHARACTERS_MAX: Final = 100
"""Characters of one name."""

_BETWEEN: Final = " / "


class _Line(NamedTuple):
    """A line, where it is with its end, and what it names: a dimension by its place, or a
    prefix."""

    start: int
    stop: int
    phext: str
    what: int | Prefix
    name: str


@dataclass(frozen=True, slots=True)
class PartNames:
    """The names of one phext: of dimensions by their place, 0 to 8, and of prefixes."""

    dimensions: Mapping[int, str] = field(default_factory=dict)
    parts: Mapping[Prefix, str] = field(default_factory=dict)

    def dimension(self, level: int) -> str:
        """Return what a dimension is called, its usual name if it has none of its own."""
        return self.dimensions.get(level, DIMENSIONS[level])

    def path(self, at: Coordinate) -> str:
        """Return the names on the way to a coordinate, such as `people / anna`; "" for none."""
        if not self.parts:
            return ""
        prefixes = (at.parts[: level + 1] for level in range(len(DIMENSIONS)))
        return _BETWEEN.join(self.parts[each] for each in prefixes if each in self.parts)

    def rows(self) -> Iterator[tuple[str, str]]:
        """Give what has a name and the name: dimensions, then prefixes in order."""
        for level in sorted(self.dimensions):
            yield DIMENSIONS[level], self.dimensions[level]
        for prefix in sorted(self.parts):
            yield prefix_text(prefix), self.parts[prefix]


def read_names(text: str, phext: str) -> PartNames:
    """Read the names of a phext from the scroll that has those of all."""
    dimensions: dict[int, str] = {}
    parts: dict[Prefix, str] = {}
    for line in _lines(text):
        if line.phext == phext and isinstance(line.what, int):
            dimensions[line.what] = line.name
        elif line.phext == phext and isinstance(line.what, tuple):
            parts[line.what] = line.name
    return PartNames(dimensions, parts)


def names_of(phext: str) -> Plan[PartNames]:
    """Return the names of a phext."""
    return read_names((yield from text_of(NAMES, ORIGIN)), phext)


def give_name(phext: str, what: str, name: str) -> Plan[None]:
    """Name a dimension, or all that begins with a prefix; no name takes it away.

    PhextsyncError when the name is too long or has several lines, CoordinateError when there is no
    such dimension or prefix.
    """
    wanted = _what(what)
    if wanted is None:
        raise CoordinateError(
            f"expected one of {', '.join(DIMENSIONS)}, or up to nine numbers, found {what!r:.60}"
        )
    if name != name.strip() or not (name.isprintable() and len(name) <= NAME_CHARACTERS_MAX):
        raise PhextsyncError(
            f"expected a name of one line with at most {NAME_CHARACTERS_MAX} characters, "
            f"found {name!r:.60}"
        )
    while True:
        text = yield from text_of(NAMES, ORIGIN)
        changes = [
            (line.start, line.stop, "")
            for line in _lines(text)
            if (line.phext, line.what) == (phext, wanted)
        ]
        if name:
            shown = what if isinstance(wanted, int) else prefix_text(wanted)
            end = "\n" if text and not text.endswith("\n") else ""
            changes.append((len(text), len(text), f"{end}{_quoted(phext)} {shown} {name}\n"))
        last_first = reversed(changes)
        if not changes or (yield from splice_if_unchanged(NAMES, ORIGIN, text, last_first)):
            return


def _lines(text: str) -> Iterator[_Line]:
    """Give the lines that name something."""
    stop = 0
    for line in text.splitlines(keepends=True):
        start, stop = stop, stop + len(line)
        phext, _, rest = line.strip().partition(" ")
        word, _, name = rest.strip().partition(" ")
        what = _what(word)
        if what is not None and name:
            yield _Line(start, stop, _unquoted(phext), what, name.strip()[:NAME_CHARACTERS_MAX])


def _what(word: str) -> int | Prefix | None:
    """Return what a word means: the place of a dimension, or a prefix; None for neither."""
    if word in DIMENSIONS:
        return DIMENSIONS.index(word)
    try:
        return prefix_of(word) or None
    except CoordinateError:
        return None


def _quoted(phext: str) -> str:
    """Return the name of a phext as a line begins with it: without blanks."""
    return phext.replace("%", "%25").replace(" ", "%20")


def _unquoted(word: str) -> str:
    return word.replace("%20", " ").replace("%25", "%")
