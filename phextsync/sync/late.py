"""Late: what a comparison brought before the tree did, where nodes are not all linked.

A comparison finds what is on its way just now as well as what was lost. If each of them had all
other links compared, one would make many, as long as anybody edits. So what it brought waits for a
while: nearly all comes live, too, and is passed on then.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from phextsync.replica.listener import NewUpdate
from phextsync.sync.branch import Branch, update_id
from phextsync.sync.messages import ScrollId
from phextsync.sync.news import Sources
from phextsync.sync.tree import Tree

_WAITS_S: Final = 0.5


class Late:
    """Scrolls, at most `scrolls_max`, since when they wait, and which link brought them. Until they
    have come live or were compared, they are noted on each branch as left."""

    def __init__(self, tree: Tree, *, scrolls_max: int) -> None:
        self._tree = tree
        self._scrolls_max = scrolls_max
        self._waiting: dict[ScrollId, tuple[float, int | None]] = {}

    def takes(self, branch: Branch, new: NewUpdate) -> bool:
        """Whether a link is told by the tree of what a comparison brought, if it is new there."""
        has_room = len(self._waiting) < self._scrolls_max and not branch.is_full
        is_brought = new.source is not None and not new.entry.origin
        return self._tree.is_grown and branch.is_open and is_brought and has_room

    def note(self, now: float, branch: Branch, new: NewUpdate) -> None:
        """A comparison brought something that the peer of a branch may lack."""
        scroll = (new.phext, new.coordinate)
        branch.leave(update_id(*scroll, b""), scroll)
        self._waiting.setdefault(scroll, (now, new.source))

    def came(self, scroll: ScrollId, branches: Iterable[Branch]) -> None:
        """Something of a scroll came live that was here: it is passed on now."""
        if self._waiting.pop(scroll, None) is not None:
            for branch in branches:
                branch.hear(update_id(*scroll, b""))

    def overdue(self, now: float) -> Iterator[tuple[str, Sources]]:
        """Iterate over the phexts of which something did not come live, with the links that brought
        it; it waits no longer."""
        found: dict[str, Sources] = {}
        while self._waiting:
            scroll, (since, source) = next(iter(self._waiting.items()))
            if now - since < _WAITS_S:
                break
            del self._waiting[scroll]
            found.setdefault(scroll[0], {})[source] = None
        yield from found.items()
