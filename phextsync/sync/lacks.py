"""Lacks: what the linked peers are known to have on their disks, and what they are not."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from typing import Final

from phextsync.index import EVERYTHING, Coordinate, CoordinateRange
from phextsync.ranges import Ranges, holds, intersection, subtract, without
from phextsync.replica.replicas import ReplicaSet
from phextsync.sync.link import Link
from phextsync.sync.rights import Interest

_SCROLLS_LOOKED_AT_MAX: Final = 1000  # by one question that is asked for every file that is saved


@dataclass(frozen=True, slots=True)
class Lack:
    """What a connected peer is not known to have on its disk: how many scrolls, why, and how many
    bytes their texts have; of a scroll that it has in part, only the difference is to be sent.
    While it is compared, what it lacks is not known and both are 0."""

    peer_id: bytes
    scrolls: int
    reason: str
    name: str = ""
    text_bytes: int = 0

    def __str__(self) -> str:
        who = self.name or self.peer_id.hex()[:8]
        scrolls = "1 scroll" if self.scrolls == 1 else f"{self.scrolls} scrolls"
        what = f"{scrolls} ({self.text_bytes} bytes)" if self.scrolls else "something"
        return f"{who} lacks {what}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Progress:
    """How many scrolls of a phext, and bytes of their text, are durable here, and the most that
    a peer announced when it was last compared."""

    phext: str
    scrolls: int
    scrolls_of: int
    text_bytes: int
    text_bytes_of: int


class Lacks:
    """Questions about what the peers have. Asking changes nothing."""

    def __init__(self, links: Mapping[int, Link], replicas: ReplicaSet, interest: Interest) -> None:
        self._links = links
        self._replicas = replicas
        self._interest = interest

    def progress(self) -> list[Progress]:
        """Return for each phext what we have of the most that a peer announced that holds no more
        of it than we do, by name."""
        most: dict[str, tuple[int, int]] = {}
        for link in self._links.values():
            for phext, summary in link.announcements.theirs.items():
                scrolls, text_bytes = most.get(phext, (0, 0))
                if all(holds(self._interest.of(phext), range_) for range_ in summary.interest):
                    most[phext] = (max(scrolls, summary.count), max(text_bytes, summary.text_bytes))
        indexes = {phext: self._replicas.phext(phext).index for phext in sorted(most)}
        return [
            Progress(phext, len(index), most[phext][0], index.text_bytes, most[phext][1])
            for phext, index in indexes.items()
        ]

    def holding(self, phext: str, range_: CoordinateRange) -> list[Link]:
        """Return the links whose peers hold all of a range and give up nothing of it."""
        return [
            link
            for link in self._links.values()
            if link.holds(phext, range_)
            and not intersection((range_,), link.promises.given_up(phext))
        ]

    def told(self, phext: str) -> Ranges:
        """Return the ranges of a phext that linked peers hold, each as one of them tells it."""
        links = [link for link in self._links.values() if link.is_ready]
        return tuple(range_ for link in links for range_ in link.rights.told.get(phext, ()))

    def whose(self, phext: str, coordinate: Coordinate) -> str:
        """Say which peers that are linked hold a scroll."""
        links = self.holding(phext, CoordinateRange.of(coordinate))
        names = ", ".join(sorted(link.name for link in links))
        return f"it is on {names}" if names else "no linked peer has it"

    def of(
        self, link: Link, phext: str, range_: CoordinateRange, *, with_left: bool = False
    ) -> Lack | None:
        """Return what a peer lacks of a range, None when it has all of it; `with_left` also what
        it should have from others."""
        lack = Lack(link.peer_id, 0, "", link.name)
        if link.comparisons.is_comparing(phext):
            return replace(lack, reason="still comparing")
        if link.comparisons.is_withheld(phext):
            reason = "our certificate does not allow writing what it lacks"
            return replace(lack, reason=reason)
        if link.ledger.lacks_some(phext):
            return replace(lack, reason="not yet on its disk")
        replica = self._replicas.phext(phext)
        index = replica.index
        coordinates = dict.fromkeys(self._under_way(link, phext, range_, with_left=with_left))
        streamed = sum(index.count(part) for part in link.outgoing.streams_of(phext, range_))
        if not coordinates and not streamed:
            return None
        reasons, waiting = link.refusals.reasons, "not yet on its disk"
        reason = next(
            (reasons[phext, c] for c in sorted(coordinates) if (phext, c) in reasons), waiting
        )
        text_bytes = sum(replica.read_size(coordinate) for coordinate in coordinates)
        text_bytes += index.text_bytes * streamed // max(1, len(index))
        scrolls = len(coordinates) + streamed
        return replace(lack, scrolls=scrolls, reason=reason, text_bytes=text_bytes)

    def lacks_some(self, link: Link, phext: str, range_: CoordinateRange) -> bool:
        """Whether a peer lacks something of a range. Costs little while it lacks much."""
        return (
            link.comparisons.is_comparing(phext)
            or link.comparisons.is_withheld(phext)
            or link.ledger.lacks_some(phext)
            or self._is_under_way(link, phext, range_)
        )

    def under_way(self, link: Link, phext: str) -> set[Coordinate]:
        """Return the scrolls of a phext that a peer is not known to have on its disk."""
        return set(self._under_way(link, phext, EVERYTHING, with_left=True))

    def _is_under_way(self, link: Link, phext: str, range_: CoordinateRange) -> bool:
        under_way = self._under_way(link, phext, range_, with_left=True)
        streams = link.outgoing.streams_of(phext, range_)
        return next(under_way, None) is not None or next(streams, None) is not None

    def _under_way(
        self, link: Link, phext: str, range_: CoordinateRange, *, with_left: bool
    ) -> Iterator[Coordinate]:
        """Iterate over the scrolls that the peer is not known to have, some more than once."""
        numbered = link.ledger.under_way(phext)
        for coordinate in chain(self._replicas.phext(phext).uncommitted(), numbered):
            if coordinate in range_:
                yield coordinate
        yield from link.outgoing.under_way(phext, range_)
        left = chain(link.lazy.left, link.branch.left.values()) if with_left else ()
        written = chain(link.lazy.written, (scroll for scroll, _ in link.branch.written.values()))
        noted = (link.requests.under_way(), link.refusals.reasons, written, left)
        for name, coordinate in chain(*noted):
            if name == phext and coordinate in range_:
                yield coordinate

    # -- of all peers ----------------------------------------------------------------------

    def even_peers(self, phext: str, range_: CoordinateRange) -> set[bytes]:
        """Return the linked peers that have all that we know of `range_`, and we all that they
        told; also those that hold nothing of it.

        Only what a comparison has seen since the link began counts. Costs microseconds: a link
        with much under way is left out without a closer look.
        """
        if not holds(self._interest.of(phext), range_):
            return set()
        return {
            link.peer_id
            for link in self._links.values()
            if link.is_ready
            and (
                not link.announcements.may_hold(phext, range_) or self._is_even(link, phext, range_)
            )
        }

    def compared_peers(self, phext: str, range_: CoordinateRange) -> set[bytes]:
        """Return the linked peers that were compared since the link began, so that each hears of
        the other's changes at once; also those that hold nothing of a range."""
        return {
            link.peer_id
            for link in self._links.values()
            if link.is_ready
            and (
                not link.comparisons.is_comparing(phext)
                or not link.announcements.may_hold(phext, range_)
            )
        }

    def _is_even(self, link: Link, phext: str, range_: CoordinateRange) -> bool:
        if not link.comparisons.found_none(phext):
            return False
        if link.ledger.lacks_some(phext) or link.assembly.is_open:
            return False
        if link.scrolls > _SCROLLS_LOOKED_AT_MAX or self._is_under_way(link, phext, range_):
            return False
        coming = chain(link.ledger.gaps, link.requests.adopting())
        return not any(name == phext and coordinate in range_ for name, coordinate in coming)

    def of_link(self, link: Link) -> tuple[tuple[str, Lack], ...]:
        """Return what the peer of a link lacks of each phext, in the ranges that both hold."""
        found: list[tuple[str, Lack]] = []
        for phext in sorted(link.rights.told) if link.is_ready else ():
            parts = [self.of(link, phext, range_) for range_ in link.rights.scope(phext)]
            lacks = [lack for lack in parts if lack is not None]
            if lacks:
                scrolls = sum(lack.scrolls for lack in lacks)
                text_bytes = sum(lack.text_bytes for lack in lacks)
                found.append((phext, replace(lacks[0], scrolls=scrolls, text_bytes=text_bytes)))
        return tuple(found)

    def unheld(self, phext: str) -> tuple[CoordinateRange, ...]:
        """Return the parts of our interest in which there are scrolls and that no peer here holds:
        nobody else has what is written there."""
        held = [
            range_
            for link in self._links.values()
            if link.is_ready
            for range_ in without(link.rights.told.get(phext, ()), link.promises.given_up(phext))
        ]
        index = self._replicas.phext(phext).index
        return tuple(
            part
            for ours in self._interest.of(phext)
            for part in subtract(ours, held)
            if index.count(part)
        )
