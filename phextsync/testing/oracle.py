"""Oracle: what must hold, from what users wrote and were told, and from the texts that they read.

Users write tokens, `q17z`, each once: one word each, since changed lines merge word by word, and
told apart even when two who replaced one word are left side by side. The oracle remembers where
each was written, whether a node said that it was durable, and whether somebody deleted it. It
knows nothing of versions, fingerprints or acknowledgements between nodes.

* While time passes: no node shows a token twice, or one again that it had shown and lost.
* In the end: every node shows the same; each durable token that nobody deleted is there, where it
  was written; no token is there whose deletion was durable.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from phextsync.index import Coordinate

_TOKEN: Final = re.compile(r"q\d+z")


class Violation(AssertionError):
    """Something happened that must not."""


@dataclass(slots=True)
class _Seen:
    """What one node has shown since it started."""

    shown: dict[Coordinate, dict[str, None]] = field(default_factory=dict)
    gone: dict[str, None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Edit:
    """Tokens that one edit wrote and deleted."""

    written: tuple[str, ...]
    deleted: tuple[str, ...]


class Oracle:
    """Told of every edit, of every batch that became durable, and of every text that changed."""

    def __init__(self) -> None:
        self.places: dict[str, Coordinate] = {}
        self.durable: dict[str, None] = {}
        self.deleted: dict[str, None] = {}  # by anybody, durable or not
        self.deleted_durably: dict[str, None] = {}
        self.violation: Violation | None = None
        self._waiting: dict[int, list[Edit]] = {}  # edits that the next batch of a node takes
        self._taken: dict[int, list[Edit]] = {}
        self._disks: dict[int, dict[str, bool]] = {}  # whether a token is there, as the node said
        self._seen: dict[int, _Seen] = {}

    def token(self) -> str:
        """Return a token that nobody has written."""
        return f"q{len(self.places)}z"

    def edited(self, node: int, place: Coordinate, before: str, after: str) -> None:
        """A node's user changed a text."""
        self._waiting.setdefault(node, []).append(self.asked(place, before, after))
        self.changed(node, place, after)

    def asked(self, place: Coordinate, before: str, after: str) -> Edit:
        """A user asked a node to change a text. What comes of it is not known before `answered`:
        what it writes may appear and what it deletes may go, and neither is owed."""
        old, new = _tokens(before), _tokens(after)
        written = tuple(token for token in new if token not in self.places)
        deleted = tuple(sorted({*old} - {*new}))
        self.places.update((token, place) for token in written)
        self.deleted.update(dict.fromkeys(deleted))
        return Edit(written, deleted)

    def answered(self, node: int, edit: Edit) -> None:
        """A node told a user that an edit is on its disk."""
        self.durable.update(dict.fromkeys(edit.written))
        self.deleted_durably.update(dict.fromkeys(edit.deleted))
        disk = self._disks.setdefault(node, {})
        disk.update(dict.fromkeys(edit.written, True))
        disk.update(dict.fromkeys(edit.deleted, False))

    def taken(self, node: int) -> None:
        """A node began to write a batch, with everything that was edited so far."""
        self._taken.setdefault(node, []).extend(self._waiting.pop(node, ()))

    def committed(self, node: int) -> None:
        """What a node began to write is durable."""
        for edit in self._taken.pop(node, ()):
            self.answered(node, edit)

    def started(self, node: int) -> None:
        """A node started anew: what was not durable is no longer promised."""
        self._waiting.pop(node, None)
        self._taken.pop(node, None)
        self._seen.pop(node, None)

    def check_disk(self, node: int, texts: Mapping[Coordinate, str]) -> None:
        """A node that ended would start with these texts. Violation when they are not what it said
        was on its disk."""
        present = {token for text in texts.values() for token in _tokens(text)}
        for token, is_there in self._disks.get(node, {}).items():
            if is_there and token not in present and token not in self.deleted:
                raise Violation(f"{token} was on the disk of {node} and is lost from it")
            if not is_there and token in present:
                raise Violation(f"{token} was deleted from the disk of {node} and is on it")

    def destroyed(self, node: int, left: Iterable[Mapping[Coordinate, str]]) -> None:
        """The disk of a node is gone; these texts are on the others. What was on it alone is no
        longer owed."""
        self._disks.pop(node, None)
        present = {token for texts in left for text in texts.values() for token in _tokens(text)}
        self.durable = {token: None for token in self.durable if token in present}
        self.deleted_durably = {t: None for t in self.deleted_durably if t not in present}

    def changed(self, node: int, place: Coordinate, text: str) -> None:
        """A node shows another text. A violation is kept: subscribers must not raise."""
        try:
            self._check_text(node, place, text)
        except Violation as violation:
            self.violation = self.violation or violation

    def _check_text(self, node: int, place: Coordinate, text: str) -> None:
        tokens = _tokens(text)
        shown = dict.fromkeys(tokens)
        if len(shown) < len(tokens):
            twice = next(token for token in shown if tokens.count(token) > 1)
            raise Violation(f"{twice} stands {tokens.count(twice)} times at {place} on {node}")
        seen = self._seen.setdefault(node, _Seen())
        for token in shown:
            if token in seen.gone:
                raise Violation(f"{token} came back at {place} on {node}")
            if self.places.get(token) != place:
                raise Violation(f"{token} is at {place} on {node}, where nobody wrote it")
        for token in seen.shown.get(place, ()):
            if token not in shown:
                seen.gone[token] = None
        seen.shown[place] = shown

    def claimed(
        self, shown: Mapping[Coordinate, str], disks: Iterable[Mapping[Coordinate, str]]
    ) -> None:
        """A node said that each of these disks has all that it shows."""
        for disk in disks:
            for place, text in shown.items():
                there = _tokens(disk.get(place, ""))
                for token in _tokens(text):
                    if token not in there and token not in self.deleted:
                        broken = Violation(
                            f"{token} was acknowledged, and the peer's disk lacks it"
                        )
                        self.violation = self.violation or broken

    def check(self) -> None:
        """Raise the first violation, if there was one."""
        if self.violation is not None:
            raise self.violation

    def finish(self, texts: Sequence[Mapping[Coordinate, str]]) -> None:
        """Check what all nodes show in the end. Violation when it is not what was promised."""
        self.check()
        first = texts[0]
        for number, other in enumerate(texts):
            if other != first:
                places = sorted(c for c in {*first, *other} if first.get(c) != other.get(c))
                raise Violation(f"nodes 0 and {number} differ at {places[0]}")
        present = {token for text in first.values() for token in _tokens(text)}
        for token in self.durable:
            if token not in present and token not in self.deleted:
                raise Violation(f"{token} was durable and is lost from {self.places[token]}")
        for token in self.deleted_durably:
            if token in present:
                raise Violation(f"{token} was deleted durably and is at {self.places[token]}")


def _tokens(text: str) -> list[str]:
    return _TOKEN.findall(text)
