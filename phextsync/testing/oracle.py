"""Oracle: what must hold, from what users wrote and were told, and from the texts that they read.

Users write tokens, `q17z`, each once: one word each, since changed lines merge word by word, and
told apart even when two who replaced one word are left side by side. The oracle remembers where
each was written, whether somebody deleted it, and on whose disk it is because that node said so.
It knows nothing of versions, fingerprints or updates; what nodes claim of each other it checks.

* While time passes: no node shows a token twice, or one again that it had shown and lost, or where
  nobody wrote it; none disappears that nobody deleted, and after a start all of a disk is there.
  Who is taken for complete has on its disk whatever the other shows.
* Where nodes hold parts: who gives a token up leaves it on as many other disks as were asked for,
  of nodes from which others may take it. None shows, keeps or is sent what it does not hold or
  may not read, nor what was written by one that may not write it there.
* In the end: every node shows the same of what it holds; each token on a disk that nobody deleted
  is there, where it was written; no token is there whose deletion is on a disk.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

from phextsync.index import EVERYTHING, Coordinate, CoordinateRange, contains
from phextsync.ranges import Ranges
from phextsync.testing.territory import Territory
from phextsync.testing.visits import Visits

_TOKEN: Final = re.compile(r"q\d+z")
_SOMEBODY: Final = -1
_ValueT = TypeVar("_ValueT")


class Violation(AssertionError):
    """Something happened that must not."""


@dataclass(frozen=True, slots=True)
class Edit:
    """Tokens that one edit wrote and deleted."""

    written: tuple[str, ...]
    deleted: tuple[str, ...]


@dataclass(slots=True)
class _Seen:
    """What one node shows: since its start, on its way to its disk, and what it said is there.

    `rotten`: places whose stored value was damaged; nothing is asked of them on this node.
    """

    shown: dict[Coordinate, dict[str, None]] = field(default_factory=dict)
    gone: dict[str, None] = field(default_factory=dict)
    waiting: dict[str, bool] = field(default_factory=dict)  # token: whether it is there
    taken: dict[str, bool] = field(default_factory=dict)
    disk: dict[str, bool] = field(default_factory=dict)
    given_up: dict[str, None] = field(default_factory=dict)  # that were on its disk
    rotten: dict[Coordinate, None] = field(default_factory=dict)
    is_replaced: bool = False  # another disk took the place of the one that others know


class Oracle:
    """Told of every edit, of every batch that became durable, and of every text that changed."""

    def __init__(self) -> None:
        self.places: dict[str, Coordinate] = {}
        self.deleted: dict[str, None] = {}  # by anybody, durable or not
        self.violation: Violation | None = None
        self.are_claims_exact = True
        self.territory = Territory()
        self.visits = Visits()
        self._writers: dict[str, int] = {}
        self._copies: dict[str, int] = {}  # that somebody left elsewhere who gave it up
        self._is_tampered = False
        self._nodes: dict[int, _Seen] = {}

    def token(self) -> str:
        """Return a token that nobody has written. All have one width: else one could be another
        with something put in, and who replaces a line would keep a part of its token."""
        return f"q{len(self.places):06}z"

    def edited(self, node: int, place: Coordinate, before: str, after: str) -> tuple[str, ...]:
        """A node's user changed a text; return the tokens that it had not shown there."""
        edit = self.asked(place, before, after)
        self._writers.update(dict.fromkeys(edit.written, node))
        return self.changed(node, place, after)

    def asked(self, place: Coordinate, before: str, after: str) -> Edit:
        """A user asked a node to change a text. The outcome is not known before `answered`:
        what it writes may appear and what it deletes may go, and neither is owed."""
        old, new = _tokens(before), _tokens(after)
        written = tuple(token for token in new if token not in self.places)
        deleted = tuple(token for token in old if token not in new)
        self.places.update(dict.fromkeys(written, place))
        self.deleted.update(dict.fromkeys(deleted))
        return Edit(written, deleted)

    def answered(self, node: int, edit: Edit) -> None:
        """A node told a user that an edit is on its disk."""
        disk = self._of(node).disk
        disk.update(dict.fromkeys(edit.written, True))
        disk.update(dict.fromkeys(edit.deleted, False))

    def changed(self, node: int, place: Coordinate, text: str) -> tuple[str, ...]:
        """A node shows another text; return the tokens that it had not shown there.

        A violation is kept, for `check`: subscribers must not raise.
        """
        tokens = _tokens(text)
        shown = dict.fromkeys(tokens)
        seen = self._of(node)
        before = seen.shown.get(place, {})
        seen.shown[place] = shown
        came = tuple(token for token in shown if token not in before)
        went = tuple(token for token in before if token not in shown)
        seen.waiting.update(dict.fromkeys(came, True))
        seen.waiting.update((token, False) for token in went if token in self.deleted)
        if len(shown) < len(tokens):
            twice = next(token for token in shown if tokens.count(token) > 1)
            self._found(f"{twice} stands {tokens.count(twice)} times at {place} on {node}")
        if came:
            self._check_came(node, place, came)
        for token in came:
            if token in seen.gone and place not in seen.rotten:
                self._found(f"{token} came back at {place} on {node}")
            if self.places.get(token) != place:
                self._found(f"{token} is at {place} on {node}, where nobody wrote it")
        for token in went:
            if place not in seen.rotten:
                seen.gone[token] = None
                if token not in self.deleted:
                    self._found(f"{token} disappeared from {place} on {node}; nobody deleted it")
        return came

    def visited(self, node: int, place: Coordinate, text: str) -> None:
        """A node shows a place that it does not hold, to a user who asked for it."""
        lost = self.visits.read(node, place, _tokens(text), self.deleted)
        if lost is not None:
            self._found(f"{node} has shown {lost} at {place}, and shows less now")
        if text and not self.territory.may_read(node, place):
            self._found(f"{node} shows {place}, which it may not read")

    def _check_came(self, node: int, place: Coordinate, came: tuple[str, ...]) -> None:
        territory = self.territory
        if not territory.is_held(node, place):
            self._found(f"{node} shows {came[0]} at {place}, which it does not hold")
        if not territory.may_read(node, place):
            self._found(f"{node} shows {came[0]} at {place}, which it may not read")
        for token in came:
            writer = self._writers.get(token)
            if writer is not None and not territory.may_write(writer, place):
                self._found(f"{token} is at {place} on {node}: {writer} may not write there")

    # -- what is held ----------------------------------------------------------------------

    def holds(self, node: int, ranges: Ranges, copies: int = 1) -> None:
        """A node holds these ranges from now on, and others have what it gives up: all that is on
        its disk is on those of `copies` others from which it may be taken."""
        if not self.territory.hold(node, ranges):
            return
        seen, somebody = self._of(node), self._of(_SOMEBODY).disk
        for token, is_there in self._leaving(node, seen.disk).items():
            if is_there and token not in self.deleted:
                self._check_copies(node, token, copies)
            somebody[token] = is_there and somebody.get(token, True)
            seen.given_up[token] = None
            del seen.disk[token]
        for some in (seen.waiting, seen.taken, seen.gone):
            for token in self._leaving(node, some):
                del some[token]
        seen.shown = {p: t for p, t in seen.shown.items() if self.territory.is_held(node, p)}

    def took_in(self, node: int, place: Coordinate, text: str, on_disk: str) -> None:
        """A node holds a place that it was asked for before, and has something of it."""
        self.changed(node, place, text)
        seen = self._of(node)
        for token in _tokens(on_disk):
            if seen.waiting.pop(token, False):
                seen.disk[token] = True

    def _leaving(self, node: int, some: Mapping[str, _ValueT]) -> dict[str, _ValueT]:
        is_held, places = self.territory.is_held, self.places
        return {token: value for token, value in some.items() if not is_held(node, places[token])}

    def _check_copies(self, node: int, token: str, copies: int) -> None:
        """Somebody else who gave it up at about the same time may have counted on fewer."""
        place = self.places[token]
        copies = self._copies[token] = min(copies, self._copies.get(token, copies))
        others = [
            other
            for other, its in self._nodes.items()
            if other not in (node, _SOMEBODY)
            and its.disk.get(token)
            and self.territory.may_write(other, place)
        ]
        if len(others) < copies:
            self._found(
                f"{node} gives up {token} at {place}, which is on {len(others)} other disks, "
                f"expected {copies}"
            )

    def kept(self, node: int, texts: Iterable[Coordinate], leaving: Ranges = ()) -> None:
        """These places are on the disk of a node, which is about to drop what is `leaving`."""
        for place in texts:
            is_guest = self.visits.is_visited(node, place)
            is_held = self.territory.is_held(node, place) or contains(leaving, place)
            if not is_held and not is_guest:
                self._found(f"{node} keeps {place}, which it does not hold")

    # -- disks -----------------------------------------------------------------------------

    def taken(self, node: int) -> None:
        """A node began to write a batch, with everything that it shows so far."""
        seen = self._of(node)
        seen.taken.update(seen.waiting)
        seen.waiting = {}
        self.visits.taken(node)

    def committed(self, node: int) -> None:
        """What a node began to write is durable."""
        seen = self._of(node)
        seen.disk.update(seen.taken)
        for token in seen.taken if seen.given_up else ():
            seen.given_up.pop(token, None)
        seen.taken = {}
        self.visits.committed(node)

    def started(self, node: int, texts: Mapping[Coordinate, str] | None = None) -> None:
        """A node started. It shows `texts`: what was on its disk must be there, and all else that
        is there is on its disk. None: it is not known what it shows."""
        before = self._of(node)
        self.visits.started(node)
        seen = self._nodes[node] = _Seen(
            disk=before.disk,
            given_up=before.given_up,
            rotten=before.rotten,
            is_replaced=before.is_replaced,
        )
        if texts is not None:
            self._compare_disk(node, texts)
            for place, text in texts.items():
                seen.shown[place] = dict.fromkeys(_tokens(text))
                seen.disk.update(dict.fromkeys(seen.shown[place], True))

    def check_disk(self, node: int, texts: Mapping[Coordinate, str]) -> None:
        """A node that ended would start with these texts. Violation when they are not what it said
        was on its disk."""
        self._compare_disk(node, texts)
        self.check()

    def _compare_disk(self, node: int, texts: Mapping[Coordinate, str]) -> None:
        seen = self._of(node)
        there = {token for text in texts.values() for token in _tokens(text)}
        for token, is_there in seen.disk.items():
            if is_there and token not in there and token not in self.deleted:
                if self.places[token] not in seen.rotten:
                    self._found(f"{token} was on the disk of {node} and is lost from it")
            elif not is_there and token in there:
                self._found(f"{token} was deleted from the disk of {node} and is on it")

    def destroyed(self, node: int, left: Iterable[Mapping[Coordinate, str]] | None = None) -> None:
        """The disk of a node is gone. What was on it alone is no longer owed; where nodes do not
        tell of all that they write, `left` is what is on the other disks."""
        lost = self._of(node).disk
        self._nodes[node] = _Seen(is_replaced=True)
        if left is not None:
            present = {
                token for texts in left for text in texts.values() for token in _tokens(text)
            }
            kept = {token: there for token, there in lost.items() if there == (token in present)}
            self._of(_SOMEBODY).disk.update(kept)

    def damaged(self, node: int, place: Coordinate) -> None:
        """What a node's disk holds of one scroll can no longer be read."""
        seen = self._of(node)
        seen.rotten[place] = None
        seen.disk = {t: there for t, there in seen.disk.items() if self.places[t] != place}

    def rotten(self, node: int) -> tuple[Coordinate, ...]:
        """Return the places of a node that were damaged."""
        return tuple(self._of(node).rotten)

    # -- checks ----------------------------------------------------------------------------

    def tampered(self) -> None:
        """A member wrote what they liked: from now on only equality is asked of the texts."""
        self._is_tampered = True
        self.are_claims_exact = False
        self.violation = None

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

    def check_claim(self, node: int, peer: int, range_: CoordinateRange = EVERYTHING) -> None:
        """A node takes a peer for complete in a range. Not asked of a peer whose disk was damaged
        or replaced, nor where frames were doubled, reordered or changed: they may be
        acknowledgements."""
        seen, its = self._of(node), self._of(peer)
        if not self.are_claims_exact or its.rotten or its.is_replaced:
            return
        for place, shown in seen.shown.items():
            for token in shown if place in range_ else ():
                # What it has given up since it may not yet have told.
                is_there = its.disk.get(token) or token in its.given_up
                if not is_there and token not in self.deleted:
                    self._found(f"{token} was acknowledged to {node} and is not on disk {peer}")

    def is_current(self, place: Coordinate, text: str) -> bool:
        """Whether a text has every token that is on somebody's disk there, if not deleted."""
        return all(
            token in text or token in self.deleted
            for seen in self._nodes.values()
            for token in seen.shown.get(place, ())
            if seen.disk.get(token)
        )

    def fewest(self, nodes: Sequence[int]) -> tuple[int, str]:
        """Return on how many disks of these nodes, which are to keep it, the token is that is on
        the fewest, and which that is. What is only on the disks of others nobody can copy."""
        durable = {
            token
            for seen in map(self._of, nodes)
            for token, is_there in seen.disk.items()
            if is_there and token not in self.deleted
        }
        found = len(nodes), ""
        for token in sorted(durable):
            place = self.places[token]
            holders = self.territory.holders(nodes, place)
            copies = sum(self._of(node).disk.get(token, False) for node in holders)
            found = min(found, (copies, f"{token} at {place}"))
        return found

    def finish(self, texts: Sequence[Mapping[Coordinate, str]]) -> None:
        """Check what all nodes show in the end. Violation when it is not what was promised."""
        self.check()
        for place in sorted({place for shown in texts for place in shown}):
            self._compare(place, [shown.get(place) for shown in texts])
        if self._is_tampered:
            return
        present = {token for shown in texts for text in shown.values() for token in _tokens(text)}
        for token, place in self.visits.owed.items():
            is_kept = token in present or token in self.deleted
            if not is_kept and self.territory.holders(range(len(texts)), place):
                raise Violation(f"{token} was written at {place} from elsewhere, and is lost")
        for node, seen in self._nodes.items():
            for token, is_there in seen.disk.items():
                if is_there and token not in present and token not in self.deleted:
                    raise Violation(
                        f"{token} was durable on {node} and is lost from {self.places[token]}"
                    )
                if not is_there and token in present:
                    raise Violation(
                        f"{token} was deleted durably on {node} and is at {self.places[token]}"
                    )

    def _compare(self, place: Coordinate, texts: Sequence[str | None]) -> None:
        """Compare what nodes show in the end: what they hold is alike. One that may not write there
        may show more: nobody takes that from it."""
        territory, first = self.territory, None
        for node, text in enumerate(texts):
            if not territory.is_held(node, place):
                if text is not None:
                    raise Violation(f"{node} shows {place}, which it does not hold")
            elif first is None and territory.may_write(node, place):
                first = node
        for node, text in enumerate(texts) if first is not None else ():
            assert first is not None
            expected, shown = texts[first], _tokens(text or "")
            is_alike = text == expected
            if not territory.may_write(node, place):
                is_alike = all(token in shown for token in _tokens(expected or ""))
            if not is_alike and territory.is_held(node, place):
                raise Violation(f"nodes {first} and {node} differ at {place}")

    def _of(self, node: int) -> _Seen:
        return self._nodes.setdefault(node, _Seen())

    def _found(self, what: str) -> None:
        if self.violation is None and not self._is_tampered:
            self.violation = Violation(what)


def _tokens(text: str) -> list[str]:
    return _TOKEN.findall(text)
